//! The figures as a table, as JSON and as a chart.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::Context as _;

use crate::{chart, work::Score};

const BEGIN: &str = "<!-- peers: written by `make bench-peers` -->";
const END: &str = "<!-- end of peers -->";

/// A Markdown table.
pub fn table(scores: &[Score]) -> String {
    let mut table = String::from(
        "| store | products a client | commands/s | Jangbu does | p50 | p99 | sent again | lost / duplicated / reordered |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
    );
    for score in scores {
        // Jangbu is the first of each kind of work.
        let ours = scores
            .iter()
            .find(|other| other.products == score.products)
            .map_or(0, |ours| ours.commands_per_second);
        let times = ours * 10 / score.commands_per_second.max(1);
        writeln!(
            table,
            "| {} | {} | {} | {}.{} x | {} µs | {} µs | {} | {} / {} / {} |",
            score.name,
            score.products,
            thousands(score.commands_per_second),
            times / 10,
            times % 10,
            thousands(score.p50_us),
            thousands(score.p99_us),
            thousands(score.conflicts),
            score.lost,
            score.duplicated,
            score.reordered,
        )
        .expect("a string takes everything");
    }
    table
}

/// `benchmarks-peers.json`, `benchmarks-peers.svg`, and the table between the marks of `benchmarks.md`.
pub fn write(docs: &Path, scores: &[Score]) -> anyhow::Result<()> {
    fs::write(
        docs.join("benchmarks-peers.json"),
        serde_json::to_string_pretty(scores)? + "\n",
    )?;
    fs::write(docs.join("benchmarks-peers.svg"), chart::draw(scores))?;
    let page = docs.join("benchmarks.md");
    let text = fs::read_to_string(&page)?;
    let (before, rest) = text.split_once(BEGIN).context("benchmarks.md has no place for peers")?;
    let (_, after) = rest.split_once(END).context("the place for peers has no end")?;
    let chart = "![Commands a second of each store](benchmarks-peers.svg)";
    fs::write(
        &page,
        format!("{before}{BEGIN}\n\n{chart}\n\n{}\n{END}{after}", table(scores)),
    )?;
    Ok(())
}

/// `12,345`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
