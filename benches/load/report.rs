//! All figures of one run, with what they were taken on.

use std::collections::BTreeSet;

use anyhow::Context as _;
use jangbu::clock::korean_time;
use jangbu_events::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    chart,
    database::server_version,
    figure::{Figure, table},
    limit::cores,
    verdict::Verdict,
};

/// Between these two lines of the page, figures are written anew.
const BEGIN: &str = "<!-- figures: written by `make bench` -->";
const END: &str = "<!-- end of figures -->";

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.md");
const JSON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.json");
const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/benchmarks.svg");

/// One run, perhaps with rows of an earlier one.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// How to take it again.
    command: String,
    /// When it ended, in Korea.
    measured_at: String,
    machine: Machine,
    figures: Vec<Measured>,
}

/// A figure of some run.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    /// When that run ended, in Korea; of the report's own run if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    measured_at: Option<String>,
    #[serde(flatten)]
    figure: Figure,
}

/// What it was taken on.
#[derive(Debug, Serialize, Deserialize)]
struct Machine {
    cores: usize,
    memory_gib: u64,
    postgresql: String,
}

impl Report {
    /// Of a run that ended `now`.
    pub async fn new(figures: Vec<Figure>, now: Timestamp) -> anyhow::Result<Self> {
        let memory = tokio::fs::read_to_string("/proc/meminfo").await?;
        let memory_kib: u64 = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok())
            .context("the kernel tells how much memory there is")?;
        Ok(Self {
            command: "make bench".to_owned(),
            measured_at: korean_time(now).format("%Y-%m-%dT%H:%M%:z").to_string(),
            machine: Machine {
                cores: cores(),
                memory_gib: memory_kib.div_ceil(1024 * 1024),
                postgresql: server_version().await?,
            },
            figures: figures
                .into_iter()
                .map(|figure| Measured {
                    measured_at: None,
                    figure,
                })
                .collect(),
        })
    }

    /// With the rows of the page that this run did not measure, where they were.
    pub async fn in_place_of_older(mut self) -> anyhow::Result<Self> {
        let older: Self = serde_json::from_str(&tokio::fs::read_to_string(JSON).await?)?;
        let mut new = std::mem::take(&mut self.figures);
        let is_new: BTreeSet<_> = new.iter().map(|new| new.figure.row.clone()).collect();
        let mut figures = Vec::new();
        for mut old in older.figures {
            if is_new.contains(&old.figure.row) {
                // All of the row, where the first of it was.
                figures.extend(new.extract_if(.., |new| new.figure.row == old.figure.row));
            } else {
                old.measured_at.get_or_insert_with(|| older.measured_at.clone());
                figures.push(old);
            }
        }
        figures.append(&mut new);
        self.figures = figures;
        Ok(self)
    }

    /// As they are shown: those of an earlier run say so.
    fn shown(&self) -> Vec<Figure> {
        let shown = self.figures.iter().map(|measured| {
            let mut figure = measured.figure.clone();
            if let Some(at) = &measured.measured_at {
                let space = if figure.notes.is_empty() { "" } else { "; " };
                figure.notes = format!("{}{space}measured {at}", figure.notes);
            }
            figure
        });
        shown.collect()
    }

    /// Whether every verdict is.
    pub fn is_clean(&self) -> bool {
        self.figures
            .iter()
            .filter_map(|measured| measured.figure.verdict)
            .all(Verdict::is_clean)
    }

    /// For people.
    pub fn markdown(&self) -> String {
        let Machine {
            cores,
            memory_gib,
            postgresql,
        } = &self.machine;
        format!(
            "`{}`, {}; {cores} cores shared by everything, {memory_gib} GiB of memory, PostgreSQL {postgresql} with \
             default settings (fsync on).\n\n{}",
            self.command,
            self.measured_at,
            table(&self.shown())
        )
    }

    /// For programs.
    pub fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Into the repository.
    pub async fn write(&self) -> anyhow::Result<()> {
        let page = tokio::fs::read_to_string(PAGE).await?;
        let (head, rest) = page
            .split_once(BEGIN)
            .context("docs/benchmarks.md has a place for figures")?;
        let (_, tail) = rest
            .split_once(END)
            .context("docs/benchmarks.md has an end of figures")?;
        let page = format!(
            "{head}{BEGIN}\n\n![Every figure beside its goal](benchmarks.svg)\n\n{}\n{END}{tail}",
            self.markdown()
        );
        tokio::fs::write(PAGE, page).await?;
        tokio::fs::write(JSON, self.json()?).await?;
        tokio::fs::write(CHART, chart::draw(&self.shown())).await?;
        Ok(())
    }
}
