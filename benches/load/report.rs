//! All figures of one run, with what they were taken on.

use anyhow::Context as _;
use jangbu::clock::korean_time;
use jangbu_events::Timestamp;
use serde::Serialize;

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

/// One run.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How to take it again.
    command: &'static str,
    /// When it ended, in Korea.
    measured_at: String,
    machine: Machine,
    figures: Vec<Figure>,
}

/// What it was taken on.
#[derive(Debug, Serialize)]
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
            command: "make bench",
            measured_at: korean_time(now).format("%Y-%m-%dT%H:%M%:z").to_string(),
            machine: Machine {
                cores: cores(),
                memory_gib: memory_kib.div_ceil(1024 * 1024),
                postgresql: server_version().await?,
            },
            figures,
        })
    }

    /// Whether every verdict is.
    pub fn is_clean(&self) -> bool {
        self.figures
            .iter()
            .filter_map(|figure| figure.verdict)
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
            table(&self.figures)
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
        tokio::fs::write(CHART, chart::draw(&self.figures)).await?;
        Ok(())
    }
}
