//! Commands end to end below HTTP: caches of several processes, repeats, preconditions, hot streams.

mod chains;
mod snapshots;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use jangbu::{
    executor::{CommandEnvelope, Committed, ExecuteError, Executor},
    log::{Log, UniqueKey},
};
use jangbu_domain::{
    Decide,
    product::{Product, ProductCommand, ProductError, ProductStatus},
    stock_item::{StockCommand, StockError, StockItem},
};
use jangbu_events::{
    AggregateId, Metadata, Money, OrderId, ProductId, Sku, StockEvent, StockItemId, StoreId, TaxClass, samples::moment,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::Uuid;

use crate::{
    database::{Database, pool, surroundings},
    invariants,
    proxy::{Fault, Proxy},
};

fn sku() -> Sku {
    "DRIVER-10.5".parse().expect("a valid sku")
}

fn product() -> ProductId {
    ProductId::of(StoreId::DEFAULT, &sku())
}

fn item() -> StockItemId {
    StockItemId::from_uuid(product().uuid())
}

fn order(n: u128) -> OrderId {
    OrderId::from_uuid(Uuid::from_u128(n))
}

/// Around a command that nobody sent before.
fn fresh() -> CommandEnvelope {
    let metadata = Metadata {
        actor_kind: "system".to_owned(),
        channel: "test".to_owned(),
        ..Metadata::default()
    };
    CommandEnvelope::new(surroundings().ids.uuid(), metadata, moment())
}

fn register(price: i64) -> ProductCommand {
    ProductCommand::Register {
        sku: sku(),
        name: "드라이버".to_owned(),
        category: "드라이버".to_owned(),
        price: Money::won(price),
        tax_class: TaxClass::Taxable,
        attributes: BTreeMap::new(),
    }
}

fn reprice(price: i64) -> ProductCommand {
    ProductCommand::Revise {
        name: None,
        price: Some(Money::won(price)),
        status: None,
    }
}

fn receive(quantity: u32) -> StockCommand {
    StockCommand::Receive { sku: sku(), quantity }
}

fn hold(order_id: OrderId, quantity: u32) -> StockCommand {
    StockCommand::Hold {
        sku: sku(),
        order_id,
        quantity,
        backstop_at: moment(),
    }
}

fn price(state: &Product) -> i64 {
    match state {
        Product::Registered { price, .. } => price.amount,
        Product::NotRegistered => panic!("it is registered"),
    }
}

/// Carries out a command that goes well.
async fn done<A: Decide>(executor: &Executor, id: A::Id, command: A::Command) -> Committed<A> {
    let committed = executor.execute::<A>(id, command, fresh()).await;
    committed.expect("the command is carried out")
}

/// Two processes on one database.
async fn two(database: &Database) -> [Executor; 2] {
    [
        database.executor(surroundings()).await,
        database.executor(surroundings()).await,
    ]
}

/// What is kept in memory is what the log says.
async fn memory_agrees_with_the_log<A: Decide + std::fmt::Debug + PartialEq>(
    database: &Database,
    executors: &[Executor],
    id: A::Id,
) {
    let cold = database
        .executor(surroundings())
        .await
        .load::<A>(id)
        .await
        .expect("it folds");
    for executor in executors {
        let warm = executor.load::<A>(id).await.expect("it folds");
        assert_eq!(
            (warm.state, warm.sequence, warm.position),
            (cold.state.clone(), cold.sequence, cold.position)
        );
    }
}

#[tokio::test]
async fn a_command_answers_with_state_place_and_events() {
    let database = Database::create().await;
    let executor = database.executor(surroundings()).await;
    let registered = done::<Product>(&executor, product(), register(39_000)).await;
    assert_eq!(
        (registered.sequence, registered.position, registered.duplicate),
        (1, 1, false)
    );
    let revised = done::<Product>(
        &executor,
        product(),
        ProductCommand::Revise {
            name: Some("새 드라이버".to_owned()),
            price: Some(Money::won(35_000)),
            status: Some(ProductStatus::Published),
        },
    )
    .await;
    assert_eq!((revised.sequence, revised.position), (4, 4));
    assert_eq!(price(&revised.state), 35_000);
    // The events in the answer are those that the log has.
    let stored = executor
        .log()
        .stream("product", &product().to_string(), 1)
        .await
        .expect("it reads");
    assert_eq!(stored.len(), 3);
    for (told, stored) in revised.events.iter().zip(&stored) {
        let told = told.clone().with(());
        assert_eq!(told, stored.clone().with(()));
    }
    let loaded = executor
        .load_many::<Product>(&[product(), product()])
        .await
        .expect("they fold");
    assert!(
        loaded
            .iter()
            .all(|loaded| loaded.sequence == 4 && loaded.state == revised.state)
    );
    let cold = database.executor(surroundings()).await;
    let loaded = cold
        .load_many::<Product>(&[product(), product()])
        .await
        .expect("they fold");
    assert!(
        loaded
            .iter()
            .all(|loaded| loaded.sequence == 4 && loaded.state == revised.state)
    );
}

#[tokio::test]
async fn restocked_here_bought_there() {
    let database = Database::create().await;
    let [a, b] = two(&database).await;
    done::<StockItem>(&a, item(), receive(1)).await;
    done::<StockItem>(&b, item(), hold(order(1), 1)).await;
    let sold_out = done::<StockItem>(&b, item(), hold(order(2), 1)).await;
    assert!(matches!(sold_out.events[0].payload, StockEvent::HoldRefused { .. }));
    done::<StockItem>(&a, item(), receive(5)).await;
    let held = done::<StockItem>(&b, item(), hold(order(2), 1)).await;
    assert!(
        matches!(held.events[0].payload, StockEvent::Held { .. }),
        "{:?}",
        held.events
    );
    memory_agrees_with_the_log::<StockItem>(&database, &[a, b], item()).await;
}

#[tokio::test]
async fn no_refusal_and_no_nothing_to_do_rests_on_memory_alone() {
    let database = Database::create().await;
    let [a, b] = two(&database).await;
    done::<StockItem>(&b, item(), receive(1)).await;
    let take = StockCommand::Adjust {
        sku: sku(),
        delta: -5,
        reason: jangbu_events::AdjustReason::Count,
    };
    let refused = b.execute::<StockItem>(item(), take.clone(), fresh()).await;
    assert!(matches!(
        refused,
        Err(ExecuteError::Refused(StockError::BelowHeld { on_hand: 1, held: 0 }))
    ));
    done::<StockItem>(&a, item(), receive(9)).await;
    assert_eq!(done::<StockItem>(&b, item(), take).await.state.on_hand, 5);

    done::<Product>(&b, product(), register(1_000)).await;
    done::<Product>(&a, product(), reprice(2_000)).await;
    // In b's memory it costs 1,000 already.
    let repriced = done::<Product>(&b, product(), reprice(1_000)).await;
    assert_eq!(
        (repriced.events.len(), repriced.sequence, price(&repriced.state)),
        (1, 3, 1_000)
    );
    let nothing = done::<Product>(&a, product(), reprice(1_000)).await;
    assert_eq!(
        (nothing.events.len(), nothing.sequence, price(&nothing.state)),
        (0, 3, 1_000)
    );
    memory_agrees_with_the_log::<Product>(&database, &[a, b], product()).await;
    assert_eq!(invariants::check(&database.pool).await.events, 6);
}

#[tokio::test]
async fn if_match_is_held_against_the_log() {
    let database = Database::create().await;
    let [a, b] = two(&database).await;
    let on = |sequence| CommandEnvelope {
        expected_sequence: Some(sequence),
        ..fresh()
    };
    done::<Product>(&b, product(), register(1_000)).await;
    done::<Product>(&a, product(), reprice(2_000)).await;
    // b remembers 1, the log says 2.
    let fresh_one = b.execute::<Product>(product(), reprice(3_000), on(2)).await;
    assert_eq!(fresh_one.expect("2 is what the log says").sequence, 3);
    done::<Product>(&a, product(), reprice(4_000)).await;
    let stale = b.execute::<Product>(product(), reprice(5_000), on(3)).await;
    assert!(matches!(stale, Err(ExecuteError::Stale { current: 4 })), "{stale:?}");
    // A refusal too is only for whom the state is known to.
    let refused = a.execute::<Product>(product(), reprice(-1), on(3)).await;
    assert!(matches!(refused, Err(ExecuteError::Stale { current: 4 })));
    let refused = a.execute::<Product>(product(), reprice(-1), on(4)).await;
    assert!(matches!(
        refused,
        Err(ExecuteError::Refused(ProductError::PriceOutOfRange))
    ));
    // A repeat of what went in is answered, though its version is no longer the current one.
    let envelope = on(4);
    let first = a
        .execute::<Product>(product(), reprice(6_000), envelope.clone())
        .await
        .expect("4 is current");
    done::<Product>(&b, product(), reprice(7_000)).await;
    for executor in [&a, &b] {
        let again = executor
            .execute::<Product>(product(), reprice(6_000), envelope.clone())
            .await;
        let again = again.expect("it was carried out");
        assert_eq!((again.sequence, again.duplicate), (first.sequence, true));
    }
}

#[tokio::test]
async fn a_repeat_is_answered_as_the_first_was_however_far_the_stream_has_gone() {
    let database = Database::create().await;
    let [a, b] = two(&database).await;
    done::<StockItem>(&a, item(), receive(10)).await;
    let with = |command| {
        (
            command,
            CommandEnvelope {
                body_hash: Some([1; 32]),
                ..fresh()
            },
        )
    };
    let commands = [
        with(hold(order(1), 2)),
        // Nothing to do: it holds two already.
        with(hold(order(1), 2)),
        with(StockCommand::Commit { order_id: order(1) }),
        with(receive(5)),
    ];
    let mut firsts = Vec::new();
    for (command, envelope) in &commands {
        let first = a.execute::<StockItem>(item(), command.clone(), envelope.clone()).await;
        firsts.push(first.expect("it is carried out"));
    }
    for round in 0..2 {
        for executor in [&a, &b, &database.executor(surroundings()).await] {
            for ((command, envelope), first) in commands.iter().zip(&firsts) {
                let again = executor
                    .execute::<StockItem>(item(), command.clone(), envelope.clone())
                    .await;
                let again = again.unwrap_or_else(|error| panic!("round {round}, {command:?}: {error}"));
                assert!(again.duplicate);
                assert_eq!(
                    (again.state, again.sequence, again.position, again.events),
                    (
                        first.state.clone(),
                        first.sequence,
                        first.position,
                        first.events.clone()
                    ),
                );
                let replayed = executor.replayed::<StockItem>(item(), envelope).await;
                let replayed = replayed.expect("it reads").expect("it was carried out");
                assert_eq!(
                    (replayed.sequence, replayed.events),
                    (first.sequence, first.events.clone())
                );
            }
        }
        done::<StockItem>(&b, item(), receive(1)).await;
    }
    assert_eq!(
        invariants::check(&database.pool).await,
        invariants::Size { events: 6, commands: 7 }
    );
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    let database = Database::create().await;
    let [a, b] = two(&database).await;
    let envelope = CommandEnvelope {
        body_hash: Some([1; 32]),
        ..fresh()
    };
    a.execute::<StockItem>(item(), receive(10), envelope.clone())
        .await
        .expect("it is carried out");
    let other_body = CommandEnvelope {
        body_hash: Some([2; 32]),
        ..envelope.clone()
    };
    for executor in [&a, &b] {
        let reused = executor
            .execute::<StockItem>(item(), receive(11), other_body.clone())
            .await;
        assert!(matches!(reused, Err(ExecuteError::KeyReused)), "{reused:?}");
        // A refusal does not hide it.
        let commit = StockCommand::Commit { order_id: order(1) };
        let reused = executor.execute::<StockItem>(item(), commit, other_body.clone()).await;
        assert!(matches!(reused, Err(ExecuteError::KeyReused)), "{reused:?}");
        let elsewhere = StockItemId::from_uuid(Uuid::from_u128(1));
        let reused = executor
            .execute::<StockItem>(elsewhere, receive(10), envelope.clone())
            .await;
        assert!(matches!(reused, Err(ExecuteError::KeyReused)), "{reused:?}");
        let reused = executor
            .execute::<Product>(product(), register(1), envelope.clone())
            .await;
        assert!(matches!(reused, Err(ExecuteError::KeyReused)), "{reused:?}");
    }
    assert_eq!(invariants::check(&database.pool).await.events, 1);
}

#[tokio::test]
async fn a_repeat_is_answered_after_the_hash_of_its_request_was_forgotten() {
    let database = Database::create().await;
    let executor = database.executor(surroundings()).await;
    let envelope = CommandEnvelope {
        body_hash: Some([1; 32]),
        ..fresh()
    };
    let first = executor
        .execute::<StockItem>(item(), receive(10), envelope.clone())
        .await;
    sqlx::query("update commands set body_hash = null")
        .execute(&database.pool)
        .await
        .expect("a hash may be forgotten");
    let again = executor.execute::<StockItem>(item(), receive(10), envelope).await;
    let (first, again) = (first.expect("it is carried out"), again.expect("it was carried out"));
    assert_eq!(
        (again.sequence, again.events, again.duplicate),
        (first.sequence, first.events, true)
    );
}

#[tokio::test]
async fn a_value_that_must_be_unique_is_claimed_with_the_events() {
    let database = Database::create().await;
    let [a, b] = two(&database).await;
    let claiming = |owner: StockItemId| CommandEnvelope {
        unique_keys: vec![UniqueKey {
            scope: "shelf",
            value: "A-1".to_owned(),
            owner: owner.to_string(),
        }],
        ..fresh()
    };
    let other = StockItemId::from_uuid(Uuid::from_u128(1));
    a.execute::<StockItem>(item(), receive(1), claiming(item()))
        .await
        .expect("it is free");
    let taken = b.execute::<StockItem>(other, receive(1), claiming(other)).await;
    assert!(
        matches!(taken, Err(ExecuteError::KeyTaken { scope: "shelf" })),
        "{taken:?}"
    );
    assert_eq!(b.load::<StockItem>(other).await.expect("it folds").sequence, 0);
    done::<StockItem>(&b, other, receive(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_key_at_the_same_time_waits_for_the_first() {
    let database = Database::create().await;
    let nodes = two(&database).await;
    for round in 1..=5 {
        let envelope = fresh();
        let answers = join_all((0..30).map(|n| {
            let (executor, envelope) = (nodes[n % 2].clone(), envelope.clone());
            tokio::spawn(async move { executor.execute::<StockItem>(item(), receive(1), envelope).await })
        }))
        .await;
        let answers: Vec<_> = answers
            .into_iter()
            .map(|answer| answer.expect("the task ends").expect("it is carried out"))
            .collect();
        assert_eq!(answers.iter().filter(|answer| !answer.duplicate).count(), 1);
        for answer in &answers {
            assert_eq!((answer.sequence, answer.state.on_hand), (i64::from(round), round));
            assert_eq!(answer.events, answers[0].events);
        }
    }
    memory_agrees_with_the_log::<StockItem>(&database, &nodes, item()).await;
    invariants::check(&database.pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hot_item_is_sold_exactly_out_and_nobody_sees_a_conflict() {
    const STOCK: u32 = 60;
    const BUYERS: usize = 100;
    let database = Database::create().await;
    let nodes = two(&database).await;
    done::<StockItem>(&nodes[0], item(), receive(STOCK)).await;
    let answers = join_all((0..BUYERS).map(|n| {
        let executor = nodes[n % 2].clone();
        let envelope = CommandEnvelope { tries: 200, ..fresh() };
        tokio::spawn(async move {
            let command = hold(order(1 + n as u128), 1);
            executor.execute::<StockItem>(item(), command, envelope).await
        })
    }))
    .await;
    let mut held = 0;
    for answer in answers {
        let answer = answer.expect("the task ends").expect("nobody sees a conflict");
        held += u32::from(matches!(answer.events[0].payload, StockEvent::Held { .. }));
    }
    assert_eq!(held, STOCK);
    let state = nodes[0].load::<StockItem>(item()).await.expect("it folds").state;
    assert_eq!((state.held(), state.available()), (STOCK, 0));
    memory_agrees_with_the_log::<StockItem>(&database, &nodes, item()).await;
    invariants::check(&database.pool).await;
}

async fn through(proxy: &Proxy, database: &Database) -> Executor {
    let log = Log::open(
        proxy.options(&database.options),
        pool(&database.options).await,
        surroundings(),
    );
    Executor::new(log.await.expect("the log opens"))
}

#[tokio::test]
async fn a_command_whose_reply_was_lost_is_not_told_that_it_is_done_already() {
    let database = Database::create().await;
    let proxy = Proxy::start(&database.options).await;
    let executor = through(&proxy, &database).await;
    done::<StockItem>(&executor, item(), receive(3)).await;
    done::<StockItem>(&executor, item(), hold(order(1), 2)).await;

    // The appender's reply is cut: the caller notices nothing.
    proxy.arm(Fault::AfterCommit);
    let held = done::<StockItem>(&executor, item(), hold(order(2), 1)).await;
    assert_eq!((proxy.cuts(), held.duplicate, held.state.held()), (1, false, 3));

    // The caller's own patience ends. Committing twice would be refused: it holds nothing any more.
    proxy.stall();
    let commit = StockCommand::Commit { order_id: order(1) };
    let envelope = fresh();
    let impatient = CommandEnvelope {
        deadline: Duration::from_millis(100),
        ..envelope.clone()
    };
    let unknown = executor.execute::<StockItem>(item(), commit.clone(), impatient).await;
    assert!(matches!(unknown, Err(ExecuteError::OutcomeUnknown)), "{unknown:?}");
    proxy.resume();
    let again = executor.execute::<StockItem>(item(), commit.clone(), envelope).await;
    let again = again.expect("it was carried out the first time");
    assert!(again.duplicate);
    assert!(matches!(again.events[..], [ref event] if matches!(event.payload, StockEvent::Committed { .. })));
    let anew = executor.execute::<StockItem>(item(), commit, fresh()).await;
    assert!(
        matches!(anew, Err(ExecuteError::Refused(StockError::NoHold))),
        "{anew:?}"
    );
    memory_agrees_with_the_log::<StockItem>(&database, &[executor], item()).await;
    invariants::check(&database.pool).await;
}

#[tokio::test]
async fn a_client_that_hangs_up_leaves_neither_a_lock_nor_a_wrong_memory() {
    let database = Database::create().await;
    let proxy = Proxy::start(&database.options).await;
    let executor = through(&proxy, &database).await;
    done::<StockItem>(&executor, item(), receive(3)).await;
    proxy.stall();
    let envelope = fresh();
    // Dropped in the middle of the append.
    let hung_up = tokio::time::timeout(
        Duration::from_millis(50),
        executor.execute::<StockItem>(item(), receive(1), envelope.clone()),
    )
    .await;
    assert!(hung_up.is_err());
    proxy.resume();
    let next = done::<StockItem>(&executor, item(), hold(order(1), 4)).await;
    assert!(
        matches!(next.events[0].payload, StockEvent::Held { available: 0, .. }),
        "{next:?}"
    );
    let again = executor.execute::<StockItem>(item(), receive(1), envelope).await;
    let again = again.expect("it was carried out");
    assert_eq!((again.duplicate, again.sequence, again.state.on_hand), (true, 2, 4));
    memory_agrees_with_the_log::<StockItem>(&database, &[executor], item()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_agrees_with_the_log_whatever_was_done_by_whom() {
    let database = Database::create().await;
    let proxy = Arc::new(Proxy::start(&database.options).await);
    let nodes = [
        through(&proxy, &database).await,
        database.executor(surroundings()).await,
    ];
    let clients = (0..8_u64).map(|seed| {
        let (executor, proxy) = (
            nodes[usize::try_from(seed % 2).expect("0 or 1")].clone(),
            Arc::clone(&proxy),
        );
        tokio::spawn(async move {
            let mut random = StdRng::seed_from_u64(seed);
            for _ in 0..40 {
                if random.random_bool(0.05) {
                    proxy.arm([Fault::AfterCommit, Fault::BeforeExecution][random.random_range(0..2)]);
                }
                let order_id = order(random.random_range(1..5));
                let command = match random.random_range(0..5) {
                    0 => receive(random.random_range(0..3)),
                    1 | 2 => hold(order_id, 1),
                    3 => StockCommand::Commit { order_id },
                    _ => StockCommand::Return { order_id, quantity: 1 },
                };
                let envelope = CommandEnvelope { tries: 100, ..fresh() };
                // Some clients hang up, and some of those ask again.
                let patience = Duration::from_millis(if random.random_bool(0.1) { 1 } else { 10_000 });
                let execution = executor.execute::<StockItem>(item(), command.clone(), envelope.clone());
                if let Ok(answer) = tokio::time::timeout(patience, execution).await {
                    assert!(
                        matches!(answer, Ok(_) | Err(ExecuteError::Refused(_))),
                        "{command:?} gives {answer:?}"
                    );
                } else if random.random() {
                    let answer = executor.execute::<StockItem>(item(), command.clone(), envelope).await;
                    assert!(matches!(answer, Ok(_) | Err(ExecuteError::Refused(_))), "{answer:?}");
                }
            }
        })
    });
    for client in join_all(clients).await {
        client.expect("the client ends");
    }
    // Whatever a client hung up on has gone in by then: the appender answers in order.
    for node in &nodes {
        done::<StockItem>(node, item(), receive(1)).await;
    }
    memory_agrees_with_the_log::<StockItem>(&database, &nodes, item()).await;
    invariants::check(&database.pool).await;
}
