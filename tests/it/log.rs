//! The log: order, conflicts, duplicates, lost replies.

use std::time::Duration;

use jangbu::log::{Log, NewCommand, NewEvent, Outcome};
use jangbu_events::{AggregateId, ProductId, Slot, StoreId};
use uuid::Uuid;

use crate::database::{Database, surroundings};

const DEADLINE: Duration = Duration::from_secs(10);

fn renamed(stream: u128, expected: i64, events: usize) -> NewCommand {
    let id = ProductId::from_uuid(Uuid::from_u128(stream));
    let surroundings = surroundings();
    NewCommand {
        command_id: surroundings.ids.uuid(),
        store_id: StoreId::DEFAULT,
        aggregate_type: "product",
        aggregate_id: id.to_string(),
        slot: Slot::of(id.uuid()),
        expected_sequence: expected,
        events: (0..events)
            .map(|n| NewEvent {
                event_type: "product.renamed".into(),
                event_version: "1".into(),
                payload: format!(r#"{{"type":"product.renamed","name":"{n}"}}"#),
            })
            .collect(),
        metadata: r#"{"actor_kind":"system","channel":"test"}"#.into(),
        causation_id: None,
        correlation_id: None,
        occurred_at: surroundings.now(),
        body_hash: None,
        unique_keys: vec![],
        personal_keys: vec![],
    }
}

async fn open(database: &Database) -> Log {
    Log::open(database.options.clone(), database.pool.clone(), surroundings())
        .await
        .expect("the log opens")
}

#[tokio::test]
async fn commands_get_dense_positions_and_sequences() {
    let database = Database::create().await;
    let log = open(&database).await;
    let first = log.append(renamed(1, 0, 2), DEADLINE).await.expect("an answer");
    let second = log.append(renamed(1, 2, 3), DEADLINE).await.expect("an answer");
    let (Outcome::Appended(first), Outcome::Appended(second)) = (first, second) else {
        panic!("both are appended")
    };
    assert_eq!((first.sequence, first.position), (2, 2));
    assert_eq!((second.sequence, second.position), (5, 5));
    let events = log.read(0, 100).await.expect("the log reads");
    assert_eq!(
        events.iter().map(|e| (e.position, e.sequence)).collect::<Vec<_>>(),
        (1..=5).map(|n| (n, n)).collect::<Vec<_>>()
    );
    assert!(matches!(
        log.append(renamed(1, 4, 1), DEADLINE).await,
        Ok(Outcome::Conflict { current: 5 })
    ));
}
