//! Relays and workers as processes, and a log that grows all the time. Everything the workers do to
//! their tables is written down, so that twice, never and out of order all show.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use jangbu::{feed, log::Log};
use jangbu_projections::builds;
use rustix::process::Signal;
use sqlx::{ConnectOptions as _, Executor as _, PgPool};
use tokio::sync::MutexGuard;

use super::{
    child::{Child, Said},
    queues,
    shop::{ONE_AT_A_TIME, PARTITIONS},
    sound,
    source::Source,
};
use crate::{
    database::{self, Database},
    fanout::probe::eventually,
    invariants,
    web::JWT_SECRET,
};

/// How long everything may take to come to rest.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes down every step of a checkpoint, and every row that a step touches.
const AUDIT: &str = "
    create schema audit;
    create table audit.moves (
        n bigint generated always as identity, tx xid8, projection text, partition smallint,
        old_position bigint, position bigint, epoch bigint
    );
    create table audit.rows (tx xid8, projection text, id text);
    create table audit.relays (n bigint generated always as identity, old_position bigint, position bigint, epoch bigint);
    create function audit.moved() returns trigger language plpgsql as $$
        begin
            insert into audit.moves (tx, projection, partition, old_position, position, epoch)
            values (pg_current_xact_id(), new.projection, new.partition, old.position, new.position, new.epoch);
            return null;
        end $$;
    create function audit.touched() returns trigger language plpgsql as $$
        begin
            insert into audit.rows values (pg_current_xact_id(), tg_argv[0], to_jsonb(new) ->> tg_argv[1]);
            return null;
        end $$;
    create function audit.relayed() returns trigger language plpgsql as $$
        begin
            insert into audit.relays (old_position, position, epoch) values (old.position, new.position, new.epoch);
            return null;
        end $$;
    create trigger moved after update on checkpoints for each row
        when (new.position <> old.position) execute function audit.moved();
    create trigger relayed after update on relay_checkpoint for each row
        when (new.position <> old.position) execute function audit.relayed()";

/// Tables of which every row comes from one event, what names the row, and what names it in the event.
const TOUCHED: [(&str, &str, &str, &str, &str); 3] = [
    (
        "order_history",
        "order_history",
        "order_id",
        "order.imported",
        "e.aggregate_id",
    ),
    (
        "catalog",
        "catalog_products",
        "product_id",
        "product.registered",
        "e.aggregate_id",
    ),
    (
        "stock_levels",
        "stock_levels",
        "sku",
        "stock.received",
        "e.payload ->> 'sku'",
    ),
];

pub struct Fleet {
    pub database: Database,
    pub log: Log,
    amqp_url: String,
    directory: PathBuf,
    children: BTreeMap<String, Child>,
    said: BTreeMap<String, Said>,
    client: reqwest::Client,
    _turn: MutexGuard<'static, ()>,
}

impl Fleet {
    /// Nothing runs yet.
    pub async fn open(amqp_url: String) -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let database = Database::create().await;
        let surroundings = database::surroundings();
        for projection in jangbu_projections::all() {
            let build = builds::ensure(&database.pool, projection, PARTITIONS, surroundings.now());
            build.await.expect("a build");
        }
        database.pool.execute(AUDIT).await.expect("the audit is set up");
        for (projection, table, id, ..) in TOUCHED {
            let trigger = format!(
                "create trigger touched after insert or update on {projection}_v1_b1.{table}
                 for each row execute function audit.touched('{projection}', '{id}')"
            );
            database.pool.execute(trigger.as_str()).await.expect("a trigger");
        }
        let directory = std::env::temp_dir().join(&database.name);
        std::fs::create_dir(&directory).expect("a directory can be made");
        let log = Log::open(database.options.clone(), database.pool.clone(), surroundings).await;
        Self {
            log: log.expect("the log opens"),
            database,
            amqp_url,
            directory,
            children: BTreeMap::new(),
            said: BTreeMap::new(),
            client: reqwest::Client::builder().no_proxy().build().expect("a client"),
            _turn: turn,
        }
    }

    /// Starts `relay 1`, `project 2` and the like.
    pub fn start(&mut self, name: &str) {
        let variables = [
            ("DATABASE_URL", self.database.options.to_url_lossy().to_string()),
            ("AMQP_URL", self.amqp_url.clone()),
            ("JANGBU_JWT_SECRET", JWT_SECRET.to_owned()),
            ("JANGBU_MASTER_KEY", "07".repeat(32)),
            ("JANGBU_DB_POOL_MAX", "5".to_owned()),
            ("JANGBU_PARTITIONS", PARTITIONS.to_string()),
            // Each has connections of its own, and here are many processes.
            ("JANGBU_SQL_PROJECTIONS", "none".to_owned()),
            ("JANGBU_METRICS_BIND", "127.0.0.1:0".to_owned()),
            ("RUST_LOG", "info,jangbu::leases=debug,lapin=warn,sqlx=warn".to_owned()),
        ];
        let (role, _) = name.split_once(' ').expect("a role and a number");
        let said = self.said.entry(name.to_owned()).or_default();
        let child = Child::start(name, &[role.to_owned()], &variables, &self.directory, said);
        assert!(
            self.children.insert(name.to_owned(), child).is_none(),
            "{name} runs already"
        );
    }

    /// Waits until it does its work.
    pub async fn running(&mut self, name: &str) {
        self.child(name).says("running").await;
    }

    fn child(&mut self, name: &str) -> &mut Child {
        self.children.get_mut(name).expect("it was started")
    }

    /// Whether all that were started do their work.
    pub fn all_run(&mut self) -> bool {
        self.children.values_mut().all(|child| {
            child.assert_alive();
            child.has_said("running")
        })
    }

    /// `kill -9`.
    pub fn kill(&mut self, name: &str) {
        self.children.remove(name).expect("it runs").kill();
    }

    /// `kill -STOP` or `kill -CONT`.
    pub fn signal(&self, name: &str, signal: Signal) {
        self.children[name].signal(signal);
    }

    /// What a metric's series that begin so add up to; `None` while the process does not answer.
    pub async fn metric(&self, name: &str, series: &str) -> Option<u64> {
        let address = self.children.get(name)?.said_after("metrics.address=")?;
        let answer = self.client.get(format!("http://{address}/metrics")).send().await.ok()?;
        let text = answer.text().await.ok()?;
        let values = text.lines().filter(|line| line.starts_with(series));
        Some(
            values
                .filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok())
                .sum(),
        )
    }

    /// Waits until a metric is at least so much.
    pub async fn counts(&self, name: &str, series: &str, least: u64, within: Duration) {
        eventually(&format!("{series} of {name} is {least}"), within, async || {
            self.metric(name, series).await.is_some_and(|value| value >= least)
        })
        .await;
    }

    /// Which of two relays leads.
    pub async fn leader(&self) -> (&'static str, &'static str) {
        let mut found = None;
        eventually("one relay leads", PATIENCE, async || {
            for (leader, other) in [("relay 1", "relay 2"), ("relay 2", "relay 1")] {
                if self.metric(leader, "jangbu_leases_held").await == Some(1) {
                    found = Some((leader, other));
                }
            }
            found.is_some()
        })
        .await;
        found.expect("one leads")
    }

    /// Waits until `members` workers hold an equal part of the partitions each.
    pub async fn until_shared(&self, members: usize) {
        let partitions = jangbu_projections::all().len() * usize::try_from(PARTITIONS).expect("four");
        let share = u64::try_from(partitions / members).expect("few");
        for member in 1..=members {
            let name = format!("project {member}");
            eventually(&format!("{name} has its share"), PATIENCE, async || {
                self.metric(&name, "jangbu_leases_held").await == Some(share)
            })
            .await;
        }
    }

    /// The end of the log.
    pub async fn head(&self) -> i64 {
        feed::head(&self.database.pool).await.expect("a head")
    }

    /// Waits until every partition of every projection has gone beyond a position.
    pub async fn beyond(&self, position: i64, within: Duration) {
        eventually("every partition goes on", within, async || {
            least(&self.database.pool, "select min(position) from checkpoints").await > position
        })
        .await;
    }

    /// Appends while `trouble` is made; then everything must come to the head and be right.
    pub async fn suffer(mut self, events_per_second: u32, trouble: impl AsyncFnOnce(&mut Self)) {
        let (log, stop, mut source) = (self.log.clone(), AtomicBool::new(false), Source::default());
        tokio::join!(source.feed(&log, events_per_second, &stop), async {
            trouble(&mut self).await;
            stop.store(true, Ordering::Relaxed);
        });
        let head = self.head().await;
        self.beyond(head - 1, PATIENCE).await;
        eventually("the relay is at the head", PATIENCE, async || {
            least(&self.database.pool, "select position from relay_checkpoint").await >= head
        })
        .await;
        for (name, mut child) in std::mem::take(&mut self.children) {
            child.assert_alive();
            let status = child.stop().await;
            assert!(status.success(), "{name} stopped with {status}");
        }
        check(&self.database.pool).await;
        queues::delete(&self.database.pool).await;
    }
}

async fn least(db: &PgPool, query: &str) -> i64 {
    sqlx::query_scalar(query).fetch_one(db).await.expect("a position")
}

/// Nothing lost, nothing twice, nothing out of order, nothing under an old epoch.
async fn check(db: &PgPool) {
    let size = invariants::check(db).await;
    let none = async |what: &str, query: String| {
        let found: Vec<String> = sqlx::query_scalar(&query).fetch_all(db).await.expect("the audit reads");
        assert!(
            found.is_empty(),
            "{what}: {} times, first {:?}",
            found.len(),
            found.first()
        );
    };
    let chain = |table: &str, of: &str| {
        format!(
            "select m::text
             from (
                 select *, lag(position) over chain as before, lag(epoch) over chain as epoch_before
                 from audit.{table}
                 window chain as ({of} order by n)
             ) as m
             where old_position <> coalesce(before, 0) or position <= old_position or epoch < epoch_before"
        )
    };
    let of = "partition by projection, partition";
    none("a step does not follow on the one before it", chain("moves", of)).await;
    none(
        "a relay's step does not follow on the one before it",
        chain("relays", ""),
    )
    .await;
    for (projection, _, _, event_type, id) in TOUCHED {
        let steps = format!(
            "select e.position || ' in ' || count(distinct m.tx) || ' steps'
             from events e
             left join audit.rows r on r.projection = '{projection}' and r.id = {id}
             left join audit.moves m on m.tx = r.tx and m.projection = r.projection
                 and m.old_position < e.position and e.position <= m.position
             where e.event_type = '{event_type}' and coalesce(e.payload ->> 'sku', '') not like 'RENAMED-%'
             group by e.position
             having count(distinct m.tx) <> 1 or count(distinct r.tx) filter (where m.tx is null) > 0"
        );
        none(&format!("{projection} did not see an event in its one step"), steps).await;
    }
    let missed: i64 = sqlx::query_scalar(
        "select (select count(*) from events where event_type = 'order.imported')
            - (select coalesce(sum(orders), 0)::bigint from sales_v1_b1.sales_by_hour)",
    )
    .fetch_one(db)
    .await
    .expect("the sums read");
    assert_eq!(missed, 0, "every order counts once");
    sound::check_rebuilt(db).await;
    let (steps, relayed): (i64, i64) =
        sqlx::query_as("select (select count(*) from audit.moves), (select count(*) from audit.relays)")
            .fetch_one(db)
            .await
            .expect("the audit counts");
    let epochs: i64 = least(db, "select sum(epochs)::bigint from (select count(distinct epoch) as epochs from audit.moves group by projection, partition) as e").await;
    println!(
        "{} events in {steps} steps of 16 partitions under {epochs} epochs, {relayed} steps of the relay: \
         0 lost, 0 twice, 0 out of order; every table is what the log says",
        size.events
    );
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for (name, child) in std::mem::take(&mut self.children) {
            // One that is stopped could not end.
            drop(child);
            if std::thread::panicking() {
                self.said[&name].show(&name);
            }
        }
        _ = std::fs::remove_dir_all(&self.directory);
    }
}
