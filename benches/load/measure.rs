//! Clients that send one thing after the other, and what they took. Whole numbers only: a rate is per second, a
//! latency is in microseconds.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// How long and how often everything is measured.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Before anything counts: caches fill, plans are prepared, pages are touched.
    pub warm_up: Duration,
    /// What counts.
    pub measured: Duration,
    /// Times that a figure is taken; the median is reported.
    pub times: usize,
}

impl Pace {
    /// Medians of three runs of five seconds.
    pub const FULL: Self = Self {
        warm_up: Duration::from_secs(1),
        measured: Duration::from_secs(5),
        times: 3,
    };
    /// One run of a second and a half: enough to see that something is badly wrong.
    pub const QUICK: Self = Self {
        warm_up: Duration::from_millis(500),
        measured: Duration::from_millis(1_500),
        times: 1,
    };
}

/// One client: it sends the next when the last is answered.
pub trait Client: Send + 'static {
    /// Sends one and waits for its answer. An error ends the run.
    fn step(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What many clients did in one measured time.
#[derive(Debug, Default)]
pub struct Run {
    /// Answers a second.
    pub per_second: u64,
    /// Of each answer, sorted, in microseconds.
    latencies_us: Vec<u64>,
}

impl Run {
    /// From every latency of a time.
    pub fn new(mut latencies_us: Vec<u64>, measured: Duration) -> Self {
        latencies_us.sort_unstable();
        Self {
            per_second: per_second(latencies_us.len() as u64, measured),
            latencies_us,
        }
    }

    /// The latency that so many hundredths of the answers did not pass; 0 for no answers.
    pub fn percentile_us(&self, hundredths: usize) -> u64 {
        let last = self.latencies_us.len().saturating_sub(1);
        self.latencies_us.get(last * hundredths / 100).copied().unwrap_or(0)
    }
}

/// How many a second that is.
pub fn per_second(count: u64, elapsed: Duration) -> u64 {
    let elapsed_us = elapsed.as_micros().max(1);
    u64::try_from(u128::from(count) * 1_000_000 / elapsed_us).unwrap_or(u64::MAX)
}

/// Whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The middle one; of an even number, the lower.
pub fn median(values: impl IntoIterator<Item = u64>) -> u64 {
    let mut values: Vec<u64> = values.into_iter().collect();
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0)
}

/// Lets all clients run for the warm-up and the measured time, and gives them back with what they did.
pub async fn run<C: Client>(clients: Vec<C>, pace: Pace) -> anyhow::Result<(Run, Vec<C>)> {
    let begin = Instant::now() + pace.warm_up;
    let end = begin + pace.measured;
    let mut running = JoinSet::new();
    for mut client in clients {
        running.spawn(async move {
            let mut latencies_us = Vec::new();
            loop {
                let sent = Instant::now();
                if sent >= end {
                    return anyhow::Ok((client, latencies_us));
                }
                client.step().await?;
                let answered = Instant::now();
                if (begin..end).contains(&answered) {
                    latencies_us.push(micros(answered - sent));
                }
            }
        });
    }
    sleep_until(end).await;
    let (mut clients, mut latencies_us) = (Vec::new(), Vec::new());
    while let Some(ended) = running.join_next().await {
        let (client, its) = ended??;
        clients.push(client);
        latencies_us.extend(its);
    }
    Ok((Run::new(latencies_us, pace.measured), clients))
}
