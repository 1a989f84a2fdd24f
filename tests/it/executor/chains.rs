//! Commands decided on what others on their way will leave.

use cqrs_es::Aggregate as _;
use futures_util::StreamExt as _;
use jangbu_events::AdjustReason;

use super::*;

/// Wants of a stock item that is now and then filled up and taken away, by as many tasks at as many
/// nodes as there are; what is wanted depends on the number alone.
fn want(n: u64) -> StockCommand {
    match n % 10 {
        3 => receive(2),
        7 => StockCommand::Adjust {
            sku: sku(),
            delta: -1,
            reason: AdjustReason::Lost,
        },
        _ => hold(order(u128::from(n) + 1), 1 + u32::try_from(n % 2).expect("it is small")),
    }
}

/// Carries out every want at a node of its own choice, sixteen at a time each.
async fn carry_out(executors: &[Executor], wants: u64) {
    let running = executors.iter().enumerate().map(|(node, executor)| {
        let mine = (0..wants).filter(move |n| n % executors.len() as u64 == node as u64);
        futures_util::stream::iter(mine).for_each_concurrent(16, async move |n| {
            loop {
                match executor.execute::<StockItem>(item(), want(n), fresh()).await {
                    Ok(_) | Err(ExecuteError::Refused(_)) => return,
                    Err(ExecuteError::Conflict { .. } | ExecuteError::OutcomeUnknown) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
    });
    join_all(running).await;
}

/// Every event is what its command decides on the stream before it: nothing was decided on what never
/// came to be. Gives the stream's last state.
async fn decided_on_what_came_before(executor: &Executor) -> StockItem {
    let raw = executor
        .log()
        .stream(StockItem::TYPE, &item().to_string(), 0)
        .await
        .expect("the stream reads");
    let mut state = StockItem::default();
    for row in raw {
        let event = match row.decode().expect("it decodes").remove(0).payload {
            jangbu_events::Event::Stock(event) => event,
            other => panic!("{other:?}"),
        };
        let command = match &event {
            StockEvent::Received { quantity, .. } => receive(*quantity),
            StockEvent::Adjusted { delta, reason, .. } => StockCommand::Adjust {
                sku: sku(),
                delta: *delta,
                reason: *reason,
            },
            StockEvent::Held { order_id, quantity, .. } => hold(*order_id, *quantity),
            StockEvent::HoldRefused {
                order_id, requested, ..
            } => hold(*order_id, *requested),
            other => panic!("{other:?}"),
        };
        let again = state.decide(&command).expect("it was carried out");
        assert_eq!(again, std::slice::from_ref(&event), "at sequence {}", row.sequence);
        state.apply(event);
        assert!(state.held() <= state.on_hand, "more is held than there is: {state:?}");
    }
    state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_decided_on_what_another_process_kept_from_happening() {
    let database = Database::create().await;
    let executors = two(&database).await;
    done::<StockItem>(&executors[0], item(), receive(100)).await;
    carry_out(&executors, 4_000).await;
    decided_on_what_came_before(&executors[0]).await;
    memory_agrees_with_the_log::<StockItem>(&database, &executors, item()).await;
    invariants::check(&database.pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nor_while_replies_are_cut_off() {
    let database = Database::create().await;
    let proxy = Proxy::start(&database.options).await;
    let executors = [
        through(&proxy, &database).await,
        database.executor(surroundings()).await,
    ];
    done::<StockItem>(&executors[0], item(), receive(100)).await;
    let cutting = async {
        for _ in 0..8 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            proxy.arm(Fault::AfterCommit);
        }
    };
    tokio::join!(carry_out(&executors, 600), cutting);
    decided_on_what_came_before(&executors[1]).await;
    invariants::check(&database.pool).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn queued_commands_of_one_item_share_commits() {
    let database = Database::create().await;
    let executor = database.executor(surroundings()).await;
    done::<StockItem>(&executor, item(), receive(1_000)).await;
    let before = commits(&database).await;
    let all = (0..500).map(|n| executor.execute::<StockItem>(item(), hold(order(n + 1), 1), fresh()));
    for committed in join_all(all).await {
        committed.expect("there is enough");
    }
    let used = commits(&database).await - before;
    assert!(used < 50, "500 commands took {used} commits");
    let state = decided_on_what_came_before(&executor).await;
    assert_eq!((state.on_hand, state.held()), (1_000, 500));
}

/// Moments at which the log has something: everything of one commit has the same.
async fn commits(database: &Database) -> i64 {
    sqlx::query_scalar("select count(distinct xmin::text) from events")
        .fetch_one(&database.pool)
        .await
        .expect("commits can be counted")
}
