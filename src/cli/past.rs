//! Commands that look back.

use std::{
    io::IsTerminal as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jangbu::{
    as_of,
    clock::Surroundings,
    config::Config,
    explain,
    log::Log,
    node::{self, Connected},
    replay::{self, Order, Replayed, Workshop},
};

use super::{ReplayArgs, stop_signal};

/// Where nobody watches a bar, a line is written this often.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Of a replay: one reads, and four write.
const CONNECTIONS: u32 = 5;

/// Makes a schema of a moment of the past.
pub async fn replay(config: &Config, args: ReplayArgs) -> anyhow::Result<ExitCode> {
    let Connected { options, embedded } = node::connect(config).await?;
    let pool = node::pool(&options, CONNECTIONS).await?;
    node::migrate(&pool).await?;
    let workshop = Workshop {
        db: pool.clone(),
        surroundings: Surroundings::system(),
        stop: stop_signal(),
    };
    let order = Order {
        projection: args.projection,
        as_of: args.as_of,
        into: args.into,
        grant: args.grant,
        replace: args.replace,
        partitions: node::partitions(config),
    };
    let mut progress = Progress::new(&order.projection);
    let made = replay::replay(&workshop, &order, |done, all| progress.tell(done, all)).await;
    progress.bar.finish_and_clear();
    pool.close().await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    let Some(made) = made? else {
        eprintln!("jangbu: stopped before the end; nothing was made");
        return Ok(ExitCode::FAILURE);
    };
    if args.json {
        println!("{}", serde_json::to_string(&made)?);
    } else {
        print!("{}", told(&made));
    }
    Ok(ExitCode::SUCCESS)
}

/// Says how an order came to be what it is.
pub async fn explain(config: &Config, order: &str, json: bool) -> anyhow::Result<()> {
    let Connected { options, embedded } = node::connect(config).await?;
    let pool = node::pool(&options, 2).await?;
    node::migrate(&pool).await?;
    let log = Log::open(options, pool.clone(), Surroundings::system()).await?;
    let explained = async { explain::explain(&log, explain::find(&log, order).await?).await };
    let explained = explained.await;
    drop(log);
    pool.close().await;
    if let Some(embedded) = embedded {
        embedded.stop().await?;
    }
    let explained = explained?;
    if json {
        println!("{}", serde_json::to_string(&explained)?);
    } else {
        print!("{}", explain::Told(&explained));
    }
    Ok(())
}

fn told(made: &Replayed) -> String {
    let rows: Vec<String> = made
        .rows
        .iter()
        .map(|(table, rows)| format!("{table} {rows}"))
        .collect();
    let when = made.as_of.recorded_at.map_or_else(
        || "before the first event".to_owned(),
        |at| format!("recorded at {}", as_of::exactly(at)),
    );
    let readers = if made.granted.is_empty() {
        String::new()
    } else {
        format!("readable by {}\n", made.granted.join(", "))
    };
    format!(
        "{} as of position {} ({when}) is in the schema {}\n{} events; rows: {}\n{readers}",
        made.projection,
        made.as_of.position,
        made.schema,
        made.events,
        rows.join(", ")
    )
}

/// A bar on stderr, or a line now and then where stderr is no terminal.
struct Progress {
    bar: ProgressBar,
    said: Instant,
}

impl Progress {
    fn new(projection: &str) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {percent}% {per_sec} {eta} left");
        bar.set_style(style.expect("the template is right").progress_chars("=> "));
        bar.set_prefix(format!("replaying {projection}"));
        Self {
            bar,
            said: Instant::now(),
        }
    }

    fn tell(&mut self, done: i64, all: i64) {
        self.bar.set_length(all.unsigned_abs());
        self.bar.set_position(done.unsigned_abs());
        if self.bar.is_hidden() && self.said.elapsed() >= LINE_EVERY {
            self.said = Instant::now();
            eprintln!("{}: {done} of {all} positions", self.bar.prefix());
        }
    }
}
