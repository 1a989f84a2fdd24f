//! Five usual ways to order or tail an events table, each shown to lose or invert events, and the
//! log under the same interleaving. Every step is placed by hand; nothing is left to luck.

use sqlx::{Connection, PgConnection};

use super::*;
use crate::database::server;

/// A table as it is usually made: numbered by a sequence, with the writing transaction beside it.
/// The sequence is unlogged only so that drawing a number never assigns a transaction id.
const NAIVE: &str = "
    create unlogged sequence numbers;
    create table naive (
        position bigint primary key default nextval('numbers'),
        xid      xid8   not null default pg_current_xact_id(),
        stream   text   not null,
        sequence bigint not null
    )";

/// Reads what an xmin horizon lets through after a position.
const BELOW_THE_HORIZON: &str = "
    select position
    from naive
    where position > $1 and xid < pg_snapshot_xmin(pg_current_snapshot())
    order by position";

async fn connect(database: &Database) -> PgConnection {
    PgConnection::connect_with(&database.options)
        .await
        .expect("the test database answers")
}

async fn run(db: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(statements)
        .execute(db)
        .await
        .unwrap_or_else(|error| panic!("{statements}: {error}"));
}

async fn positions(db: &mut PgConnection, query: &str, after: i64) -> Vec<i64> {
    sqlx::query_scalar(query)
        .bind(after)
        .fetch_all(db)
        .await
        .unwrap_or_else(|error| panic!("{query}: {error}"))
}

/// As another process's append under way: takes the next position in a transaction of its own.
pub async fn insert_at_head(db: &mut PgConnection, stream: u128) -> sqlx::Result<()> {
    sqlx::query(&format!(
        "with e as (
            insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                metadata, slot, store_id, event_id, command_id, occurred_at, recorded_at)
            select coalesce(max(position), 0) + 1, 'product', '{stream}',
                coalesce(max(sequence) filter (where aggregate_id = '{stream}'), 0) + 1, 'product.published', '1',
                '{{\"type\":\"product.published\"}}', '{{\"actor_kind\":\"system\",\"channel\":\"test\"}}', 0,
                gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now(),
                greatest(max(recorded_at), clock_timestamp())
            from events
            returning *
        )
        insert into commands (command_id, store_id, aggregate_type, aggregate_id, sequence, position, events,
            recorded_at)
        select command_id, store_id, aggregate_type, aggregate_id, sequence, position, 1, recorded_at
        from e"
    ))
    .execute(db)
    .await
    .map(drop)
}

/// Tails the log as every reader does: the checkpoint is the last position it was given.
struct Tail {
    log: Log,
    checkpoint: i64,
}

impl Tail {
    async fn positions(&mut self) -> Vec<i64> {
        let events = self.log.read(self.checkpoint, 100).await.expect("the log reads");
        self.checkpoint = events.last().map_or(self.checkpoint, |event| event.position);
        events.iter().map(|event| event.position).collect()
    }
}

/// The log where writer `a` has taken the next position and not committed, and writer `b`, our
/// appender, has come after it.
struct Overtaking {
    a: PgConnection,
    b: tokio::task::JoinHandle<Result<Outcome, AppendError>>,
    tail: Tail,
}

impl Overtaking {
    async fn begin(database: &Database) -> Self {
        let log = open(database).await;
        let mut a = connect(database).await;
        run(&mut a, "begin").await;
        insert_at_head(&mut a, 1).await.expect("the next position is free");
        let b = tokio::spawn({
            let log = log.clone();
            async move { log.append(renamed(2, 0, 1), DEADLINE).await }
        });
        until_blocked(&database.pool, "transactionid", 1).await;
        Self {
            a,
            b,
            tail: Tail { log, checkpoint: 0 },
        }
    }

    /// `b` cannot be read before `a`, whichever way `a` ends.
    async fn prove_harmless(mut self, a_ends: &str) {
        assert_eq!(self.tail.positions().await, [0_i64; 0], "b waits for a");
        run(&mut self.a, a_ends).await;
        let b = appended(self.b.await.expect("the task ends"));
        let expected = if a_ends == "commit" { vec![1, 2] } else { vec![1] };
        assert_eq!(Some(&b.position), expected.last());
        assert_eq!(
            self.tail.positions().await,
            expected,
            "nothing is lost, nothing is left out"
        );
        invariants::check(self.tail.log.pool()).await;
    }
}

#[tokio::test]
async fn a_sequence_lets_a_higher_number_be_read_first() {
    let database = Database::create().await;
    let (mut a, mut b) = (connect(&database).await, connect(&database).await);
    run(&mut a, NAIVE).await;
    let tail = "select position from naive where position > $1 order by position";

    run(&mut a, "begin; insert into naive (stream, sequence) values ('a', 1)").await;
    run(&mut b, "insert into naive (stream, sequence) values ('b', 1)").await;
    assert_eq!(positions(&mut b, tail, 0).await, [2]);
    run(&mut a, "commit").await;
    assert_eq!(positions(&mut b, tail, 2).await, [0_i64; 0]);
    assert_eq!(positions(&mut b, tail, 0).await, [1, 2], "1 was never read");

    Overtaking::begin(&database).await.prove_harmless("commit").await;
}

#[tokio::test]
async fn a_sequence_leaves_a_hole_that_looks_like_one_who_is_late() {
    let database = Database::create().await;
    let (mut a, mut b) = (connect(&database).await, connect(&database).await);
    run(&mut a, NAIVE).await;
    run(&mut a, "begin; insert into naive (stream, sequence) values ('a', 1)").await;
    run(&mut b, "insert into naive (stream, sequence) values ('b', 1)").await;
    run(&mut a, "rollback").await;
    let all = "select position from naive where position > $1 order by position";
    assert_eq!(
        positions(&mut b, all, 0).await,
        [2],
        "1 will never come, and nobody can tell"
    );

    Overtaking::begin(&database).await.prove_harmless("rollback").await;
}

#[tokio::test]
async fn an_xmin_horizon_does_not_hold_back_who_has_drawn_a_number_only() {
    let database = Database::create().await;
    let (mut a, mut b) = (connect(&database).await, connect(&database).await);
    run(&mut a, NAIVE).await;

    // An insert draws its number before it is given a transaction id; here the moment between is long.
    run(&mut a, "begin").await;
    let drawn: i64 = sqlx::query_scalar("select nextval('numbers')")
        .fetch_one(&mut a)
        .await
        .expect("a number");
    run(&mut b, "insert into naive (stream, sequence) values ('b', 1)").await;
    // Other databases of the server may hold the horizon back for a while.
    let read = loop {
        let read = positions(&mut b, BELOW_THE_HORIZON, 0).await;
        if !read.is_empty() {
            break read;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    assert_eq!(read, [2]);
    run(
        &mut a,
        &format!("insert into naive (position, stream, sequence) values ({drawn}, 'a', 1); commit"),
    )
    .await;
    let tail = "select position from naive where position > $1 order by position";
    assert_eq!(positions(&mut b, tail, 0).await, [1, 2]);
    assert_eq!(
        positions(&mut b, tail, 2).await,
        [0_i64; 0],
        "1 is below every checkpoint for ever"
    );

    Overtaking::begin(&database).await.prove_harmless("commit").await;
}

#[tokio::test]
async fn the_order_of_transaction_ids_inverts_a_stream() {
    let database = Database::create().await;
    let (mut a, mut b) = (connect(&database).await, connect(&database).await);
    run(&mut a, NAIVE).await;

    run(&mut a, "begin; select pg_current_xact_id()").await;
    run(&mut b, "insert into naive (stream, sequence) values ('s', 1)").await;
    run(&mut a, "insert into naive (stream, sequence) values ('s', 2); commit").await;
    let by_xid: Vec<i64> = sqlx::query_scalar("select sequence from naive where stream = 's' order by xid, position")
        .fetch_all(&mut b)
        .await
        .expect("it reads");
    assert_eq!(by_xid, [2, 1], "the second event comes first");

    // The same two writers at the log: a's transaction is older, b's event comes first.
    let log = open(&database).await;
    run(&mut a, "begin; select pg_current_xact_id()").await;
    appended(log.append(renamed(1, 0, 1), DEADLINE).await);
    let id = ProductId::from_uuid(Uuid::from_u128(1)).to_string();
    run(
        &mut a,
        &format!(
            "insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                metadata, slot, store_id, event_id, command_id, occurred_at, recorded_at)
            select position + 1, aggregate_type, aggregate_id, sequence + 1, event_type, event_version, payload,
                metadata, slot, store_id, gen_random_uuid(), command_id, occurred_at, recorded_at
            from events
            where aggregate_id = '{id}';
            commit"
        ),
    )
    .await;
    let events = log.read(0, 100).await.expect("the log reads");
    assert_eq!(
        events.iter().map(|e| (e.position, e.sequence)).collect::<Vec<_>>(),
        [(1, 1), (2, 2)]
    );
}

/// Waits at a gate that the test keeps shut; stands for any delay after a statement took its snapshot.
const GATE: &str = "
    create function pass_gate() returns boolean language plpgsql volatile as $$
    begin
        perform pg_advisory_xact_lock_shared(5);
        return true;
    end
    $$";

#[tokio::test]
async fn a_high_water_mark_inside_the_reading_statement_sees_more_than_the_statement() {
    let database = Database::create().await;
    let (mut gate, mut b) = (connect(&database).await, connect(&database).await);
    run(&mut b, NAIVE).await;
    run(&mut b, GATE).await;
    run(
        &mut b,
        "create function high_water() returns bigint language plpgsql volatile as $$
        begin
            perform pass_gate();
            return (select coalesce(max(position), 0) from naive);
        end
        $$;
        insert into naive (stream, sequence) values ('b', 1)",
    )
    .await;

    run(&mut gate, "select pg_advisory_lock(5)").await;
    let reader = tokio::spawn({
        let db = database.pool.clone();
        async move {
            sqlx::query_as::<_, (i64, Vec<i64>)>(
                "with mark as materialized (select high_water() as position)
                select mark.position, array(select position from naive where naive.position <= mark.position)
                from mark",
            )
            .fetch_one(&db)
            .await
        }
    });
    until_blocked(&database.pool, "advisory", 1).await;
    run(&mut b, "insert into naive (stream, sequence) values ('b', 2)").await;
    run(&mut gate, "select pg_advisory_unlock(5)").await;
    let (mark, read) = reader.await.expect("the task ends").expect("it reads");
    assert_eq!(
        (mark, read),
        (2, vec![1]),
        "the checkpoint moves past an event that was not read"
    );

    // Our reader, held up at the same moment: through a view that waits at the gate.
    run(
        &mut b,
        "create schema slow;
        create view slow.events as
            select e.* from (select pass_gate() as passed offset 0) as gate, public.events e where gate.passed",
    )
    .await;
    let log = open(&database).await;
    let slow = pool(&database.options.clone().options([("search_path", "slow,public")])).await;
    let reading = Log::open(database.options.clone(), slow, surroundings())
        .await
        .expect("the log opens");
    let mut tail = Tail {
        log: reading,
        checkpoint: 0,
    };
    appended(log.append(renamed(1, 0, 1), DEADLINE).await);
    run(&mut gate, "select pg_advisory_lock(5)").await;
    let reader = tokio::spawn(async move { (tail.positions().await, tail) });
    until_blocked(&database.pool, "advisory", 1).await;
    appended(log.append(renamed(1, 1, 1), DEADLINE).await);
    run(&mut gate, "select pg_advisory_unlock(5)").await;
    let (read, mut tail) = reader.await.expect("the task ends");
    assert_eq!((read, tail.checkpoint), (vec![1], 1));
    assert_eq!(tail.positions().await, [2], "what was not read is still to come");
}

#[tokio::test]
async fn an_xmin_horizon_stands_still_while_anybody_anywhere_writes() {
    let database = Database::create().await;
    let mut elsewhere = PgConnection::connect_with(&server()).await.expect("the server answers");
    let mut b = connect(&database).await;
    run(&mut b, NAIVE).await;
    run(&mut elsewhere, "begin; select pg_current_xact_id()").await;

    run(&mut b, "insert into naive (stream, sequence) values ('b', 1)").await;
    assert_eq!(
        positions(&mut b, BELOW_THE_HORIZON, 0).await,
        [0_i64; 0],
        "a transaction in another database hides a committed event"
    );
    let log = open(&database).await;
    appended(log.append(renamed(1, 0, 1), DEADLINE).await);
    let mut tail = Tail { log, checkpoint: 0 };
    assert_eq!(tail.positions().await, [1], "our reader does not care");
    run(&mut elsewhere, "rollback").await;
    while positions(&mut b, BELOW_THE_HORIZON, 0).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
