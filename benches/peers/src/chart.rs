//! Bars, as an SVG that reads on light and dark pages.

use std::fmt::Write as _;

use crate::work::Score;

const WIDTH: u64 = 720;
const LEFT: u64 = 270;
const RIGHT: u64 = 110;
const BAR: u64 = 26;
const GAP: u64 = 14;
const TOP: u64 = 44;

/// Commands a second of each store, the longest bar across.
pub fn draw(scores: &[Score]) -> String {
    let most = scores
        .iter()
        .map(|score| score.commands_per_second)
        .max()
        .unwrap_or(1)
        .max(1);
    let height = TOP + scores.len() as u64 * (BAR + GAP) + GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"14\">\n\
         <title>Commands a second, 32 clients</title>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" rx=\"8\" fill=\"#ffffff\"/>\n\
         <text x=\"20\" y=\"28\" font-weight=\"600\" fill=\"#17202b\">Commands a second, 32 clients (longer is better)</text>\n"
    );
    for (index, score) in scores.iter().enumerate() {
        let y = TOP + index as u64 * (BAR + GAP);
        let width = (score.commands_per_second * (WIDTH - LEFT - RIGHT) / most).max(2);
        let streams = if score.products == 1 { "long" } else { "short" };
        let fill = if score.name == scores[0].name {
            "#0b6e4f"
        } else {
            "#9aa7b5"
        };
        let middle = y + BAR * 2 / 3;
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\" fill=\"#17202b\">{}, {streams} streams</text>\n\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{width}\" height=\"{BAR}\" rx=\"3\" fill=\"{fill}\"/>\n\
             <text x=\"{}\" y=\"{middle}\" fill=\"#17202b\">{}</text>",
            LEFT - 12,
            score.name,
            LEFT + width + 8,
            crate::report::thousands(score.commands_per_second),
        )
        .expect("a string takes everything");
    }
    svg.push_str("</svg>\n");
    svg
}
