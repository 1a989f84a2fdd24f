//! Read tables made again: `jangbu rebuild`, `jangbu verify`, `jangbu builds`.

use std::{
    io::IsTerminal as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jangbu::{
    clock::Surroundings,
    config::Config,
    embedded::Embedded,
    node::{self, Connected},
    rebuild::{
        self, Goal, Order, Progress, Rebuilt, Site, Stage, list,
        verify::{self, Kind, Verified},
    },
    workers,
};
use jangbu_projections::{Registered, analyst::admit};
use sqlx::PgPool;

use super::{Usage, stop_signal};

/// Where nobody watches a bar, a line is written this often.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// One reads, four write, one asks how it stands.
const CONNECTIONS: u32 = 6;

#[derive(Args)]
pub struct RebuildArgs {
    /// Which: catalog, order_history, sales, stock_levels, or one in SQL.
    projection: String,
    /// Into how many partitions: 1, 2, 4, 8, 16, 32 or 64. As JANGBU_PARTITIONS by default.
    #[arg(long, value_name = "N", value_parser = partitions, conflicts_with = "rollback")]
    partitions: Option<i16>,
    /// Copy at most so many events of the log a second, and leave the rest of the machine to the shop.
    #[arg(long, value_name = "EVENTS_PER_SECOND", value_parser = clap::value_parser!(u32).range(1..),
        conflicts_with = "rollback")]
    throttle: Option<u32>,
    /// Go back to the build that was read before; it catches up first.
    #[arg(long)]
    rollback: bool,
    /// Print the summary as JSON.
    #[arg(long)]
    json: bool,
}

fn partitions(text: &str) -> Result<i16, String> {
    text.parse()
        .ok()
        .filter(|number: &i16| (1..=64).contains(number) && number.count_ones() == 1)
        .ok_or_else(|| "it must be 1, 2, 4, 8, 16, 32 or 64".to_owned())
}

#[derive(Args)]
pub struct VerifyArgs {
    /// Which: catalog, order_history, sales, stock_levels, or one in SQL.
    projection: String,
    /// If a row differs, rebuild the projection, switch to that, and verify again.
    #[arg(long)]
    repair: bool,
    /// Print the summary as JSON; with --repair and a difference, one line each for before and after.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BuildsArgs {
    /// Print JSON, one line each.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    what: Option<BuildsCommand>,
}

#[derive(Subcommand)]
enum BuildsCommand {
    /// Drop a build that queries do not read, and its tables.
    ///
    /// Refuses the build that queries of its code version read, one that a rebuild fills at this moment,
    /// and one that a process still uses.
    Drop {
        /// Its schema, as `jangbu builds` lists it.
        schema: String,
        /// Even if queries of its code version read it, which must not be this program's: a program of
        /// that version then has to build it from the beginning.
        #[arg(long)]
        old_version: bool,
    },
}

struct Connection {
    db: PgPool,
    embedded: Option<Embedded>,
}

impl Connection {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let Connected { options, embedded } = node::connect(config).await?;
        let db = node::pool(&options, CONNECTIONS).await?;
        node::migrate(&db).await?;
        Ok(Self { db, embedded })
    }

    async fn close(self) -> anyhow::Result<()> {
        self.db.close().await;
        if let Some(embedded) = self.embedded {
            embedded.stop().await?;
        }
        Ok(())
    }
}

/// The projection of this name.
fn named(name: &str) -> Result<&'static Registered, Usage> {
    let names = [name.to_owned()];
    let found = workers::named(&names).map_err(|error| Usage(error.to_string()))?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| Usage(format!("there is no projection `{name}`")))
}

/// `jangbu rebuild`.
pub async fn rebuild(config: &Config, args: RebuildArgs) -> anyhow::Result<ExitCode> {
    let projection = named(&args.projection)?;
    let goal = if args.rollback {
        Goal::RollBack
    } else {
        Goal::Rebuild {
            partitions: args.partitions.unwrap_or_else(|| node::partitions(config)),
        }
    };
    let order = Order {
        projection,
        goal,
        events_per_second_max: args.throttle,
    };
    let connection = Connection::open(config).await?;
    let site = Site {
        db: connection.db.clone(),
        surroundings: Surroundings::system(),
        stop: stop_signal(),
    };
    let outcome = run(&site, &order).await;
    connection.close().await?;
    let Some(rebuilt) = outcome? else {
        eprintln!("jangbu: stopped before the end; the same command goes on");
        return Ok(ExitCode::FAILURE);
    };
    if args.json {
        println!("{}", serde_json::to_string(&rebuilt)?);
    } else {
        print!("{}", told(&rebuilt, goal));
    }
    Ok(ExitCode::SUCCESS)
}

/// The same with a bar.
async fn run(site: &Site, order: &Order) -> anyhow::Result<Option<Rebuilt>> {
    // One in SQL may have been changed, or be wrong.
    admit(&site.db, order.projection).await?;
    let mut bar = Bar::new(order.projection.name);
    let done = rebuild::run(site, order, |progress| bar.tell(progress)).await;
    bar.shown.finish_and_clear();
    Ok(done?)
}

fn told(rebuilt: &Rebuilt, goal: Goal) -> String {
    let replaced = rebuilt
        .replaced
        .as_ref()
        .map_or_else(String::new, |replaced| format!(" in place of {replaced}"));
    let what = match goal {
        Goal::RollBack => format!("{} is read again", rebuilt.schema),
        Goal::Rebuild { .. } => format!("{} is read", rebuilt.schema),
    };
    let resumed = if rebuilt.resumed {
        "it went on with what another had begun\n"
    } else {
        ""
    };
    format!(
        "{what}{replaced}, up to position {}\n{resumed}{} events in {:.1} s, {} positions a second; the switch took \
         {:.1} ms\n",
        rebuilt.position, rebuilt.events, rebuilt.seconds, rebuilt.positions_per_second, rebuilt.switch_ms
    )
}

/// `jangbu verify`. Fails if anything differs and is not repaired.
pub async fn verify(config: &Config, args: VerifyArgs) -> anyhow::Result<ExitCode> {
    let projection = named(&args.projection)?;
    let connection = Connection::open(config).await?;
    let site = Site {
        db: connection.db.clone(),
        surroundings: Surroundings::system(),
        stop: stop_signal(),
    };
    let proven = verify_at(&site, projection, &args).await;
    connection.close().await?;
    match proven? {
        Some(true) => Ok(ExitCode::SUCCESS),
        Some(false) => Ok(ExitCode::FAILURE),
        None => {
            eprintln!("jangbu: stopped before the end; nothing was changed");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Whether everything is as the log says at the end; `None` if it was stopped.
async fn verify_at(site: &Site, projection: &'static Registered, args: &VerifyArgs) -> anyhow::Result<Option<bool>> {
    admit(&site.db, projection).await?;
    let Some(verified) = verify_once(site, projection, args.json).await? else {
        return Ok(None);
    };
    if verified.is_proven() || !args.repair {
        return Ok(Some(verified.is_proven()));
    }
    let partitions = i16::try_from(verified.positions.len())?;
    let order = Order {
        projection,
        goal: Goal::Rebuild { partitions },
        events_per_second_max: None,
    };
    let Some(rebuilt) = run(site, &order).await? else {
        return Ok(None);
    };
    if !args.json {
        print!("{}", told(&rebuilt, order.goal));
    }
    let again = verify_once(site, projection, args.json).await?;
    Ok(again.map(|verified| verified.is_proven()))
}

async fn verify_once(site: &Site, projection: &'static Registered, json: bool) -> anyhow::Result<Option<Verified>> {
    let mut bar = Bar::new(projection.name);
    let verified = verify::run(site, projection, |progress| bar.tell(progress)).await;
    bar.shown.finish_and_clear();
    let verified = verified?;
    if let Some(verified) = &verified {
        if json {
            println!("{}", serde_json::to_string(verified)?);
        } else {
            print!("{}", found(verified)?);
        }
    }
    Ok(verified)
}

fn found(verified: &Verified) -> anyhow::Result<String> {
    let parked = match verified.parked {
        0 => String::new(),
        parked => format!("{parked} parked aggregates were left out; `jangbu parked list` has them\n"),
    };
    let positions: Vec<String> = verified.positions.iter().map(ToString::to_string).collect();
    let Some(difference) = &verified.difference else {
        return Ok(format!(
            "{} is what the log says, with its partitions at {}\n{parked}",
            verified.schema,
            positions.join(", ")
        ));
    };
    let what = match difference.kind {
        Kind::Missing => "is missing".to_owned(),
        Kind::Surplus => "should not be there".to_owned(),
        Kind::Differs => format!("differs in {}", difference.columns.join(", ")),
    };
    let differing: Vec<String> = verified.differing.iter().map(ToString::to_string).collect();
    Ok(format!(
        "{} is not what the log says, in its partitions {}\nthe first row: in {} {} {what} (partition {} at position {})\n\
         {parked}",
        verified.schema,
        differing.join(", "),
        difference.table,
        serde_json::to_string(&difference.key)?,
        difference.partition,
        difference.position
    ))
}

/// `jangbu builds`.
pub async fn builds(config: &Config, args: BuildsArgs) -> anyhow::Result<ExitCode> {
    let connection = Connection::open(config).await?;
    let done = match args.what {
        None => print_list(&connection.db, args.json).await,
        Some(BuildsCommand::Drop { schema, old_version }) => {
            let dropped = list::drop(&connection.db, &schema, old_version).await;
            dropped
                .map(|()| println!("{schema} is dropped"))
                .map_err(anyhow::Error::from)
        }
    };
    connection.close().await?;
    done.map(|()| ExitCode::SUCCESS)
}

async fn print_list(db: &PgPool, json: bool) -> anyhow::Result<()> {
    let entries = list::list(db).await?;
    for entry in &entries {
        if json {
            println!("{}", serde_json::to_string(entry)?);
        } else {
            println!(
                "{:<28} {:<8} {:<6} {:>3} partitions, position {}, {} behind",
                entry.schema,
                entry.phase,
                if entry.active { "active" } else { "" },
                entry.partitions,
                entry.position,
                entry.lag
            );
        }
    }
    if entries.is_empty() && !json {
        println!("nothing was built yet");
    }
    Ok(())
}

/// A bar on stderr, or a line now and then where stderr is no terminal.
struct Bar {
    shown: ProgressBar,
    name: &'static str,
    stage: Option<Stage>,
    began: (Instant, i64),
    said: Instant,
}

impl Bar {
    fn new(name: &'static str) -> Self {
        let target = if std::io::stderr().is_terminal() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        let style = ProgressStyle::with_template("{prefix} [{bar:30}] {percent}% {per_sec} {eta} left");
        bar.set_style(style.expect("the template is right").progress_chars("=> "));
        let now = Instant::now();
        Self {
            shown: bar,
            name,
            stage: None,
            began: (now, 0),
            said: now,
        }
    }

    fn tell(&mut self, progress: Progress) {
        let Progress { stage, done, all } = progress;
        let verb = match stage {
            Stage::Copying => "copying",
            Stage::Indexing => "indexing",
            Stage::CatchingUp => "catching up",
            Stage::Verifying => "verifying",
        };
        let first = self.stage != Some(stage);
        if first {
            self.stage = Some(stage);
            self.began = (Instant::now(), done);
            self.shown.set_prefix(format!("{verb} {}", self.name));
            self.shown.reset();
        }
        self.shown.set_length(all.unsigned_abs());
        self.shown.set_position(done.unsigned_abs());
        if self.shown.is_hidden() && (first || self.said.elapsed() >= LINE_EVERY) {
            self.said = Instant::now();
            match stage {
                Stage::Indexing => eprintln!("{verb} {}", self.name),
                Stage::Copying | Stage::CatchingUp | Stage::Verifying => eprintln!("{}", self.line(verb, done, all)),
            }
        }
    }

    fn line(&self, verb: &str, done: i64, all: i64) -> String {
        let (since, from) = self.began;
        let us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX).max(1);
        let rate = u64::try_from(done - from).unwrap_or(0).saturating_mul(1_000_000) / us;
        let left = u64::try_from(all - done).unwrap_or(0);
        let seconds = left
            .checked_div(rate)
            .map_or_else(String::new, |s| format!(", {s} s left"));
        format!(
            "{verb} {}: {done} of {all} positions, {rate} a second{seconds}",
            self.name
        )
    }
}
