//! How far each figure is from its goal, as an SVG that reads on light and dark pages.

use std::fmt::Write as _;

use crate::figure::Figure;

const WIDTH: u64 = 960;
const LEFT: u64 = 470;
const RIGHT: u64 = 150;
const BAR: u64 = 16;
const GAP: u64 = 9;
const TOP: u64 = 62;
/// Where the goal is, in pixels from the left end of the bars; they end at [`MOST`] times that.
const GOAL: u64 = (WIDTH - LEFT - RIGHT) * 100 / MOST;
/// Per cent of the goal that a bar shows at most.
const MOST: u64 = 200;

/// A bar for each figure that has a goal: to the line or beyond it, the goal is met.
pub fn draw(figures: &[Figure]) -> String {
    let bars: Vec<_> = figures
        .iter()
        .filter_map(|figure| Some((figure, figure.percent_of_goal()?)))
        .collect();
    let height = TOP + bars.len() as u64 * (BAR + GAP) + GAP;
    let line = LEFT + GOAL;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\">\n\
         <title>Every figure beside its goal</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\"/>\n\
         <text x=\"20\" y=\"28\" font-size=\"14\" font-weight=\"600\" fill=\"#17202b\">Every figure beside its goal \
         (longer is better)</text>\n\
         <text x=\"{line}\" y=\"50\" text-anchor=\"middle\" fill=\"#17202b\">goal</text>\n"
    );
    for (index, (figure, percent)) in bars.into_iter().enumerate() {
        let y = TOP + index as u64 * (BAR + GAP);
        let width = (percent.min(MOST) * GOAL / 100).max(2);
        let fill = if figure.is_met() == Some(true) {
            "#0b6e4f"
        } else {
            "#c2762b"
        };
        let middle = y + BAR * 3 / 4;
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\" fill=\"#17202b\">{}</text>\n\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width}\" height=\"{BAR}\" rx=\"2\" fill=\"{fill}\"/>\n\
             <text x=\"{}\" y=\"{middle}\" fill=\"#17202b\">{}</text>",
            LEFT - 10,
            escaped(&figure.measure),
            LEFT + width.max(GOAL) + 8,
            escaped(&figure.said()),
        )
        .expect("a string takes everything");
    }
    writeln!(
        svg,
        "<line x1=\"{line}\" y1=\"{}\" x2=\"{line}\" y2=\"{}\" stroke=\"#17202b\" stroke-dasharray=\"3 3\"/>\n</svg>",
        TOP - 6,
        height - GAP
    )
    .expect("a string takes everything");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
