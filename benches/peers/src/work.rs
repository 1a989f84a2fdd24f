//! What every store has to do, and how it is judged.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::Serialize;
use sqlx::PgPool;
use tokio::{task::JoinSet, time::Instant};

use crate::database::Database;

/// Clients that each wait for an answer before they send the next command.
pub const CLIENTS: usize = 32;
/// Products of one client, renamed in turn. With 16 streams stay short, so that whoever reads them whole for every
/// command reads little; with 1 they grow by hundreds of events, as those of a product with a busy stock do.
pub const PRODUCTS: [usize; 2] = [16, 1];
/// Bytes of a name, which is what an event is made of.
pub const NAME_BYTES: usize = 260;
/// Connections a store may use.
pub const CONNECTIONS: u32 = 32;

/// A store under test.
pub trait Peer: Send + Sync + Sized + 'static {
    /// Its name and version.
    const NAME: &'static str;

    /// Ready for commands, with its tables in an empty database.
    fn open(database: &Database) -> impl Future<Output = anyhow::Result<Self>> + Send;

    /// Loads the product, decides, and returns once the event is durable: `false` if another writer was in the way.
    fn rename(&self, product: u64, name: String) -> impl Future<Output = anyhow::Result<bool>> + Send;

    /// Every product's names, in the order of the store's log.
    fn renamed(&self, db: &PgPool) -> impl Future<Output = anyhow::Result<Vec<(u64, String)>>> + Send;
}

/// How long and how often.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Before anything counts.
    pub warm_up: Duration,
    /// What counts.
    pub measured: Duration,
    /// Runs, each in a database of its own; the median is reported.
    pub times: usize,
}

/// What came of it, over all runs.
#[derive(Debug, Default, Serialize)]
pub struct Score {
    /// Which store.
    pub name: &'static str,
    /// How many products each client renames in turn.
    pub products: usize,
    /// The median.
    pub commands_per_second: u64,
    /// Each run.
    pub runs: Vec<u64>,
    /// The median latency in microseconds, of the last run.
    pub p50_us: u64,
    /// 99 of 100, of the last run.
    pub p99_us: u64,
    /// Commands sent again because another writer was in the way.
    pub conflicts: u64,
    /// Acknowledged and not stored.
    pub lost: u64,
    /// Stored and never acknowledged, or stored twice.
    pub duplicated: u64,
    /// Stored in another order than acknowledged, within one product.
    pub reordered: u64,
}

impl Score {
    /// Whether everything is there once and in order.
    pub const fn is_clean(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.reordered == 0
    }
}

#[derive(Default)]
struct Told {
    latencies_us: Vec<u64>,
    conflicts: u64,
    acknowledged: Vec<(u64, String)>,
}

/// Lets all clients work, as often as the pace says.
pub async fn measure<P: Peer>(products: usize, pace: Pace) -> anyhow::Result<Score> {
    let mut score = Score {
        name: P::NAME,
        products,
        ..Score::default()
    };
    for _ in 0..pace.times {
        let database = Database::create().await?;
        let ran = once::<P>(&database, pace, &mut score).await;
        database.drop().await?;
        ran?;
    }
    let mut sorted = score.runs.clone();
    sorted.sort_unstable();
    score.commands_per_second = sorted[sorted.len() / 2];
    Ok(score)
}

async fn once<P: Peer>(database: &Database, pace: Pace, score: &mut Score) -> anyhow::Result<()> {
    let peer = Arc::new(P::open(database).await?);
    let begin = Instant::now() + pace.warm_up;
    let end = begin + pace.measured;
    let mut running = JoinSet::new();
    for client in 0..CLIENTS {
        running.spawn(work(peer.clone(), client, score.products, begin, end));
    }
    let mut told = Vec::new();
    while let Some(ended) = running.join_next().await {
        told.push(ended??);
    }
    let mut latencies_us: Vec<u64> = told.iter().flat_map(|told| told.latencies_us.clone()).collect();
    latencies_us.sort_unstable();
    let at = |hundredths: usize| {
        let last = latencies_us.len().saturating_sub(1);
        latencies_us.get(last * hundredths / 100).copied().unwrap_or(0)
    };
    (score.p50_us, score.p99_us) = (at(50), at(99));
    let measured_ms = u64::try_from(pace.measured.as_millis())?;
    score.runs.push(latencies_us.len() as u64 * 1_000 / measured_ms);
    score.conflicts += told.iter().map(|told| told.conflicts).sum::<u64>();
    let stored = peer.renamed(&database.pool).await?;
    judge(told.into_iter().flat_map(|told| told.acknowledged), stored, score);
    Ok(())
}

async fn work<P: Peer>(
    peer: Arc<P>,
    client: usize,
    products: usize,
    begin: Instant,
    end: Instant,
) -> anyhow::Result<Told> {
    let mut told = Told::default();
    for turn in 0.. {
        let sent = Instant::now();
        if sent >= end {
            break;
        }
        let product = (client * products + turn % products) as u64;
        let mut name = format!("{product:06} {turn:012} ");
        name.extend(std::iter::repeat_n('x', NAME_BYTES - name.len()));
        while !peer.rename(product, name.clone()).await? {
            told.conflicts += 1;
        }
        told.acknowledged.push((product, name));
        let answered = Instant::now();
        if (begin..end).contains(&answered) {
            told.latencies_us.push(u64::try_from((answered - sent).as_micros())?);
        }
    }
    Ok(told)
}

fn judge(acknowledged: impl Iterator<Item = (u64, String)>, stored: Vec<(u64, String)>, score: &mut Score) {
    let mut wanted: HashMap<u64, Vec<String>> = HashMap::new();
    for (product, name) in acknowledged {
        wanted.entry(product).or_default().push(name);
    }
    let mut found: HashMap<u64, Vec<String>> = HashMap::new();
    for (product, name) in stored {
        found.entry(product).or_default().push(name);
    }
    for (product, names) in &wanted {
        let theirs = found.remove(product).unwrap_or_default();
        let mut counts: HashMap<&String, u64> = HashMap::new();
        for name in &theirs {
            *counts.entry(name).or_default() += 1;
        }
        let lost = names.iter().filter(|name| !counts.contains_key(name)).count() as u64;
        score.lost += lost;
        let kept = names.len() as u64 - lost;
        score.duplicated += theirs.len() as u64 - kept;
        // Names count up, so their order is that of the acknowledgements.
        score.reordered += theirs.windows(2).filter(|pair| pair[0] > pair[1]).count() as u64;
    }
    score.duplicated += found.values().map(|names| names.len() as u64).sum::<u64>();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(acknowledged: &[&str], stored: &[&str]) -> (u64, u64, u64) {
        let named = |names: &[&str]| names.iter().map(|name| (1, (*name).to_owned())).collect::<Vec<_>>();
        let mut score = Score::default();
        judge(named(acknowledged).into_iter(), named(stored), &mut score);
        (score.lost, score.duplicated, score.reordered)
    }

    #[test]
    fn what_is_lost_doubled_or_out_of_order_is_counted() {
        assert_eq!(judged(&["a", "b", "c"], &["a", "b", "c"]), (0, 0, 0));
        assert_eq!(judged(&["a", "b", "c"], &["a", "c"]), (1, 0, 0));
        assert_eq!(judged(&["a", "b"], &["a", "b", "b"]), (0, 1, 0));
        assert_eq!(judged(&["a", "b"], &["b", "a"]), (0, 0, 1));
        assert_eq!(judged(&[], &["a"]), (0, 1, 0));
    }
}
