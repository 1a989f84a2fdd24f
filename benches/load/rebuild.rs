//! What making read tables again takes: how fast the log is read with all of its types, how fast an indexed table
//! is filled from it, how long the switch takes, and how late live tables are meanwhile.

use std::time::Duration;

use futures_util::TryStreamExt as _;
use jangbu::{
    clock::Surroundings,
    feed,
    rebuild::{
        self, Goal, Order, Site,
        copy::{Done, Job, Without, copy},
    },
    workers,
};
use jangbu_events::{Event, Recorded, event::CURRENT_VERSIONS};
use jangbu_projections::{Projection, Registered, builds};
use sqlx::{
    Connection as _, Executor as _, PgConnection,
    postgres::{PgConnectOptions, PgPoolCopyExt as _},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    beside,
    books::{BASKETS_QUICK, import_once, write_past},
    database::Database,
    figure::{Against, Figure, Goal as Wanted},
    measure::{Pace, Run, median},
    verdict::Verdict,
};

/// Of the log that is read and rebuilt.
const EVENTS: i64 = 1_000_000;
const EVENTS_QUICK: i64 = 20_000;
const PARTITIONS: i16 = 4;
/// Before lags are measured, and how long without a rebuild.
const WARM_UP: Duration = Duration::from_secs(5);
const ALONE: Duration = Duration::from_secs(15);

/// Reads every event and keeps nothing: what is left is copying out and decoding.
struct Reader;

const fn every_type() -> [&'static str; CURRENT_VERSIONS.len()] {
    let mut types = [""; CURRENT_VERSIONS.len()];
    let mut at = 0;
    while at < types.len() {
        types[at] = CURRENT_VERSIONS[at].0;
        at += 1;
    }
    types
}

const EVERY: [&str; CURRENT_VERSIONS.len()] = every_type();

impl Projection for Reader {
    const NAME: &'static str = "reader";
    const CODE_VERSION: i32 = 1;
    const SCHEMA: &'static str = "";
    const EVENT_TYPES: &'static [&'static str] = &EVERY;

    async fn apply(_: &mut PgConnection, _: i16, _: &[Recorded<Event>]) -> sqlx::Result<()> {
        Ok(())
    }
}

static READER: Registered = Registered::of::<Reader>();

/// Row 7.
pub async fn replay(surroundings: &Surroundings, pace: Pace, quick: bool) -> anyhow::Result<Vec<Figure>> {
    let database = Database::create(surroundings).await?;
    let measured = replay_in(&database, surroundings, pace, quick).await;
    database.drop().await?;
    measured.map(|figure| vec![figure])
}

async fn replay_in(
    database: &Database,
    surroundings: &Surroundings,
    pace: Pace,
    quick: bool,
) -> anyhow::Result<Figure> {
    let head = seed(database, surroundings, quick).await?;
    let (mut runs, mut limits) = (Vec::new(), Vec::new());
    for _ in 0..pace.times {
        limits.push(copied_out(database, head).await?);
        let job = Job {
            projection: &READER,
            schema: "public".to_owned(),
            partitions: PARTITIONS,
            from: vec![0; usize::from(PARTITIONS.unsigned_abs())],
            up_to: vec![head; usize::from(PARTITIONS.unsigned_abs())],
            build: None,
            without: Without::default(),
            events_per_second_max: None,
        };
        let started = Instant::now();
        let told = copy(&database.pool, job, surroundings, &std::sync::Arc::new(Done::default())).await?;
        runs.push(rate(head, started.elapsed())?);
        anyhow::ensure!(i64::try_from(told)? == head, "{told} of {head} events were read");
    }
    Ok(Figure {
        row: "replay".into(),
        measure: format!("the log read with all of its types, {head} events"),
        value: median(runs.clone()),
        unit: "/s".into(),
        runs,
        limit: Some(Against {
            what: "COPY out of the same columns, looked at by nobody".to_owned(),
            value: median(limits),
        }),
        goal: Wanted::TimesAtLeast(70),
        verdict: Some(Verdict::of_log(&database.pool).await?),
        notes: format!("past orders of 5 lines, decoded in {PARTITIONS} partitions"),
    })
}

/// Row 8.
pub async fn rebuild(surroundings: &Surroundings, pace: Pace, quick: bool) -> anyhow::Result<Vec<Figure>> {
    let database = Database::create(surroundings).await?;
    let measured = rebuild_in(&database, surroundings, pace, quick).await;
    database.drop().await?;
    measured
}

async fn rebuild_in(
    database: &Database,
    surroundings: &Surroundings,
    pace: Pace,
    quick: bool,
) -> anyhow::Result<Vec<Figure>> {
    let head = seed(database, surroundings, quick).await?;
    let projection = jangbu_projections::built_in()
        .iter()
        .find(|known| known.name == "order_history");
    let projection = projection.ok_or_else(|| anyhow::anyhow!("order_history is not registered"))?;
    let (mut runs, mut limits, mut switches) = (Vec::new(), Vec::new(), Vec::new());
    let mut verdict = Verdict::default();
    for _ in 0..pace.times {
        let started = Instant::now();
        let rebuilt = made(database, surroundings, projection).await?;
        let elapsed = started.elapsed();
        let schema = rebuilt.schema.as_str();
        let rows: i64 = sqlx::query_scalar(&format!("select count(*) from {schema}.order_history"))
            .fetch_one(&database.pool)
            .await?;
        // Every event but those of products is one order.
        verdict.lost += u64::try_from(i64::try_from(rebuilt.events)? - rows)?;
        runs.push(rate(rows, elapsed)?);
        switches.push(tenths(rebuilt.switch_ms));
        limits.push(copied_in(database, &database.options, schema).await?);
    }
    let speed = Figure {
        row: "rebuild".into(),
        measure: format!("order_history made again, indexed, caught up and switched to, of {head} events, rows"),
        value: median(runs.clone()),
        unit: "/s".into(),
        runs,
        limit: Some(Against {
            what: "COPY in of the same rows into a table with the same indexes".to_owned(),
            value: median(limits),
        }),
        goal: Wanted::TimesAtLeast(60),
        verdict: Some(verdict),
        notes: "reading the log, decoding, indexes, statistics and the switch included".to_owned(),
    };
    let live = live(database, surroundings, projection).await?;
    switches.push(live.switch);
    let late = |hundredths, goal| Figure {
        row: "rebuild".into(),
        measure: format!(
            "how late stock_levels is while order_history is made again beside 500 commands/s, p{hundredths}"
        ),
        value: live.beside.percentile_us(hundredths),
        unit: "µs".into(),
        runs: vec![live.beside.percentile_us(hundredths)],
        limit: Some(Against {
            what: "the same with no rebuild".to_owned(),
            value: live.alone.percentile_us(hundredths),
        }),
        goal,
        verdict: None,
        notes: format!(
            "no broker; {} commands/s meanwhile, {} reads of order_history, none failed",
            live.beside.per_second, live.reads
        ),
    };
    Ok(vec![
        speed,
        Figure {
            row: "rebuild".into(),
            measure: "the switch, in which the old build's workers wait".to_owned(),
            value: median(switches.clone()) * 100,
            unit: "µs".into(),
            runs: switches.iter().map(|switch| switch * 100).collect(),
            limit: None,
            goal: Wanted::AtMost(10_000),
            verdict: None,
            notes: format!("{} µs with all projections fed and written to", live.switch * 100),
        },
        late(50, Wanted::None),
        late(99, Wanted::TimesAtMost(200)),
    ])
}

async fn made(
    database: &Database,
    surroundings: &Surroundings,
    projection: &'static Registered,
) -> anyhow::Result<rebuild::Rebuilt> {
    let site = Site {
        db: database.pool.clone(),
        surroundings: surroundings.clone(),
        stop: CancellationToken::new(),
    };
    let order = Order {
        projection,
        goal: Goal::Rebuild { partitions: PARTITIONS },
        events_per_second_max: None,
    };
    let rebuilt = rebuild::run(&site, &order, |_| {}).await?;
    rebuilt.ok_or_else(|| anyhow::anyhow!("the rebuild was stopped"))
}

/// Imported past orders, then as many again as are missing: the same with other ids.
async fn seed(database: &Database, surroundings: &Surroundings, quick: bool) -> anyhow::Result<i64> {
    let directory = std::env::temp_dir().join(format!("jangbu_bench_{}", surroundings.ids.uuid().simple()));
    tokio::fs::create_dir(&directory).await?;
    let imported = async {
        write_past(&directory, BASKETS_QUICK).await?;
        import_once(database, &directory, BASKETS_QUICK).await
    };
    let imported = imported.await;
    tokio::fs::remove_dir_all(&directory).await?;
    imported?;
    let imported = feed::head(&database.pool).await?;
    let wanted = if quick { EVENTS_QUICK } else { EVENTS };
    sqlx::query(
        "insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
            metadata, slot, store_id, event_id, command_id, occurred_at, recorded_at)
        select $1 + n, o.aggregate_type, 'ord_' || replace(gen_random_uuid()::text, '-', ''), 1, o.event_type,
            o.event_version, o.payload, o.metadata, (n * 37) % 256, o.store_id, gen_random_uuid(), gen_random_uuid(),
            o.occurred_at, o.latest
        from generate_series(1, $2) as n
        join (
            select row_number() over (order by position) - 1 as nth, count(*) over () as orders, max(recorded_at) over ()
                as latest, e.*
            from events as e
            where event_type = 'order.imported'
        ) as o on o.nth = n % o.orders",
    )
    .bind(imported)
    .bind((wanted - imported).max(0))
    .execute(&database.pool)
    .await?;
    database.pool.execute("vacuum analyze events").await?;
    Ok(feed::head(&database.pool).await?)
}

/// What COPY out alone takes.
async fn copied_out(database: &Database, head: i64) -> anyhow::Result<u64> {
    let started = Instant::now();
    let mut out = database
        .pool
        .copy_out_raw(
            "copy (select position, slot, sequence, occurred_at, recorded_at, store_id, event_id, command_id, \
             causation_id, correlation_id, aggregate_type, aggregate_id, event_type, event_version, payload, metadata \
             from events order by position) to stdout (format binary)",
        )
        .await?;
    let mut bytes = 0;
    while let Some(piece) = out.try_next().await? {
        bytes += piece.len();
    }
    anyhow::ensure!(bytes > 0, "nothing was copied");
    rate(head, started.elapsed())
}

/// What COPY takes for the rows of a read table.
async fn copied_in(database: &Database, options: &PgConnectOptions, schema: &str) -> anyhow::Result<u64> {
    let mut db = PgConnection::connect_with(options).await?;
    db.execute(
        format!("create table copied (like {schema}.order_history including indexes including defaults)").as_str(),
    )
    .await?;
    let mut rows = Vec::new();
    {
        let copy = format!("copy {schema}.order_history to stdout (format binary)");
        let mut out = database.pool.copy_out_raw(&copy).await?;
        while let Some(bytes) = out.try_next().await? {
            rows.extend_from_slice(&bytes);
        }
    }
    let started = Instant::now();
    let mut copy = db.copy_in_raw("copy copied from stdin (format binary)").await?;
    for chunk in rows.chunks(1 << 16) {
        copy.send(chunk).await?;
    }
    let copied = copy.finish().await?;
    let elapsed = started.elapsed();
    db.execute("drop table copied").await?;
    db.close().await?;
    rate(i64::try_from(copied)?, elapsed)
}

/// A rebuild beside live traffic.
struct Live {
    alone: Run,
    beside: Run,
    /// Tenths of milliseconds.
    switch: u64,
    reads: u64,
}

/// How late a live table is without and with a rebuild beside it.
async fn live(
    database: &Database,
    surroundings: &Surroundings,
    projection: &'static Registered,
) -> anyhow::Result<Live> {
    let executor = database.executor(surroundings).await?;
    let stop = CancellationToken::new();
    let all: Vec<&'static Registered> = jangbu_projections::built_in().iter().collect();
    // The fast way to the head; order_history is there already.
    for other in all.iter().filter(|other| other.name != projection.name) {
        builds::ensure(&database.pool, other, PARTITIONS, surroundings.now()).await?;
        made(database, surroundings, other).await?;
    }
    let context = feed::Context {
        db: executor.log().pool().clone(),
        surroundings: surroundings.clone(),
        amqp_url: None,
        partitions: PARTITIONS,
        head: Some(executor.log().watch()),
        lease_ttl: jangbu::leases::TTL,
    };
    let feeding = tokio::spawn(workers::run(context, all, stop.clone()));
    let stock = builds::ensure(&database.pool, stock_levels()?, PARTITIONS, surroundings.now()).await?;
    let quiet = async |time| {
        sleep(time).await;
        anyhow::Ok(())
    };
    // Workers have to have their leases, and streams to be there.
    beside::lags(&executor, surroundings, &stock, quiet(WARM_UP)).await?;
    let (alone, ()) = beside::lags(&executor, surroundings, &stock, quiet(ALONE)).await?;
    let (end, over) = watch::channel(false);
    let reading = beside::read(database, over);
    let rebuilding = async {
        let rebuilt = beside::lags(
            &executor,
            surroundings,
            &stock,
            made(database, surroundings, projection),
        )
        .await;
        end.send_replace(true);
        rebuilt
    };
    let (reads, rebuilt) = tokio::join!(reading, rebuilding);
    let (beside, rebuilt) = rebuilt?;
    stop.cancel();
    feeding.await?;
    executor.log().pool().close().await;
    Ok(Live {
        alone,
        beside,
        switch: tenths(rebuilt.switch_ms),
        reads: reads?,
    })
}

fn stock_levels() -> anyhow::Result<&'static Registered> {
    let mut all = jangbu_projections::built_in().iter();
    all.find(|known| known.name == "stock_levels")
        .ok_or_else(|| anyhow::anyhow!("stock_levels is not registered"))
}

/// Milliseconds as whole tenths.
#[expect(clippy::float_arithmetic, reason = "a figure for people is taken back")]
fn tenths(ms: f64) -> u64 {
    let took = Duration::try_from_secs_f64(ms / 1_000.0).unwrap_or_default();
    u64::try_from(took.as_micros() / 100).unwrap_or(u64::MAX)
}

fn rate(count: i64, elapsed: Duration) -> anyhow::Result<u64> {
    let micros = u64::try_from(elapsed.as_micros())?.max(1);
    Ok(u64::try_from(count)? * 1_000_000 / micros)
}
