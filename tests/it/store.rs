//! Our event store and stock postgres-es behave alike, and leave the same events.

use std::collections::{BTreeMap, HashMap};

use cqrs_es::{AggregateContext, AggregateError, CqrsFramework, EventStore, persist::PersistedEventStore};
use jangbu::{log::Log, store::LogStore};
use jangbu_domain::{
    Decide,
    product::{Product, ProductCommand, ProductError, ProductStatus},
    stock_item::{StockCommand, StockItem},
};
use jangbu_events::{
    AggregateId, Money, OrderId, ProductEvent, ProductId, ReleaseReason, Sku, StockItemId, StoreId, TaxClass,
    samples::moment,
};
use postgres_es::PostgresEventRepository;
use rand::{Rng, SeedableRng, rngs::StdRng};
use sqlx::PgPool;
use uuid::Uuid;

use crate::{
    database::{Database, pool, surroundings},
    invariants,
};

/// As postgres-es documents it (`db/init.sql`).
const STOCK_TABLE: &str = "
    create schema stock;
    create table stock.events (
        aggregate_type text                         not null,
        aggregate_id   text                         not null,
        sequence       bigint check (sequence >= 0) not null,
        event_type     text                         not null,
        event_version  text                         not null,
        payload        json                         not null,
        metadata       json                         not null,
        primary key (aggregate_type, aggregate_id, sequence)
    )";

async fn stock_pool(database: &Database) -> PgPool {
    sqlx::raw_sql(STOCK_TABLE)
        .execute(&database.pool)
        .await
        .expect("the table is made");
    pool(&database.options.clone().options([("search_path", "stock")])).await
}

fn theirs<A: Decide>(db: &PgPool) -> PersistedEventStore<PostgresEventRepository, A> {
    PersistedEventStore::new_event_store(PostgresEventRepository::new(db.clone()))
}

fn ours<A: Decide>(log: &Log) -> LogStore<A> {
    LogStore::new(log.clone(), |id: A::Id, _| id.uuid())
}

async fn open(database: &Database) -> Log {
    Log::open(database.options.clone(), database.pool.clone(), surroundings())
        .await
        .expect("the log opens")
}

fn sku(n: u8) -> Sku {
    format!("SKU-{n}").parse().expect("a valid sku")
}

fn register(n: u8) -> ProductCommand {
    ProductCommand::Register {
        sku: sku(n),
        name: format!("상품 {n}"),
        category: "드라이버".to_owned(),
        price: Money::won(39_000),
        tax_class: TaxClass::Taxable,
        attributes: BTreeMap::from([("brand".to_owned(), "한빛 \"\u{1F3CC}\"".to_owned())]),
    }
}

fn renamed(name: &str) -> ProductEvent {
    ProductEvent::Renamed { name: name.to_owned() }
}

/// What cqrs-es asks of any event store.
async fn conforms<S: EventStore<Product>>(make: impl Fn() -> S) {
    let store = make();
    let id = ProductId::of(StoreId::DEFAULT, &sku(0)).to_string();
    assert!(store.load_events(&id).await.expect("it loads").is_empty());
    let mut nothing = store.load_aggregate(&id).await.expect("it loads");
    assert_eq!(*nothing.aggregate(), Product::NotRegistered);
    let committed = store
        .commit(vec![], nothing, HashMap::new())
        .await
        .expect("nothing is committed");
    assert!(committed.is_empty());

    let framework = CqrsFramework::new(make(), vec![], ());
    framework.execute(&id, register(0)).await.expect("it is registered");
    let metadata = HashMap::from([("request_id".to_owned(), "r-1".to_owned())]);
    let revise = ProductCommand::Revise {
        name: Some("새 이름".to_owned()),
        price: Some(Money::won(35_000)),
        status: Some(ProductStatus::Published),
    };
    framework
        .execute_with_metadata(&id, revise, metadata)
        .await
        .expect("it is revised");
    let refused = framework
        .execute(
            &id,
            ProductCommand::Revise {
                name: None,
                price: Some(Money::won(-1)),
                status: None,
            },
        )
        .await;
    assert!(matches!(
        refused,
        Err(AggregateError::UserError(ProductError::PriceOutOfRange))
    ));

    let events = store.load_events(&id).await.expect("it loads");
    assert_eq!(events.iter().map(|e| e.sequence).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(events.iter().all(|event| event.aggregate_id == id));
    assert_eq!(events[1].payload, renamed("새 이름"));
    assert_eq!(events[1].metadata["request_id"], "r-1");

    // Two who decided on the same state: the second is told.
    let mut first = store.load_aggregate(&id).await.expect("it loads");
    let second = store.load_aggregate(&id).await.expect("it loads");
    assert!(matches!(
        first.aggregate(),
        Product::Registered {
            status: ProductStatus::Published,
            ..
        }
    ));
    let committed = store.commit(vec![renamed("하나")], first, HashMap::new()).await;
    assert_eq!(
        committed.expect("the first is in time").first().map(|e| e.sequence),
        Some(5)
    );
    let late = store.commit(vec![renamed("둘")], second, HashMap::new()).await;
    assert!(matches!(late, Err(AggregateError::AggregateConflict)), "{late:?}");
    assert_eq!(store.load_events(&id).await.expect("it loads").len(), 5);
}

#[tokio::test]
async fn both_stores_do_what_cqrs_es_asks() {
    let database = Database::create().await;
    let log = open(&database).await;
    let stock = stock_pool(&database).await;
    conforms(|| theirs(&stock)).await;
    conforms(|| ours(&log)).await;
    assert_eq!(invariants::check(&database.pool).await.events, 5);
}

#[tokio::test]
async fn an_id_of_another_kind_is_refused() {
    let database = Database::create().await;
    let log = open(&database).await;
    let loaded = ours::<Product>(&log).load_aggregate("ord_1").await;
    assert!(matches!(loaded, Err(AggregateError::UnexpectedError(_))));
}

fn product_command(random: &mut StdRng, n: u8) -> ProductCommand {
    match random.random_range(0..4) {
        0 => register(n),
        1 => ProductCommand::Revise {
            name: Some(format!("이름 {}", random.random_range(0..3))),
            price: None,
            status: None,
        },
        _ => ProductCommand::Revise {
            name: random.random_bool(0.3).then(|| "a\\\"b\n".to_owned()),
            price: Some(Money::won(random.random_range(-1..50) * 1_000)),
            status: match random.random_range(0..12) {
                0..4 => Some(ProductStatus::Published),
                4..8 => Some(ProductStatus::Hidden),
                8 => Some(ProductStatus::Draft),
                9 => Some(ProductStatus::Archived),
                _ => None,
            },
        },
    }
}

fn stock_command(random: &mut StdRng, n: u8) -> StockCommand {
    let order_id = OrderId::from_uuid(Uuid::from_u128(random.random_range(1..6)));
    match random.random_range(0..6) {
        0 => StockCommand::Receive {
            sku: sku(n),
            quantity: random.random_range(0..5),
        },
        1 => StockCommand::Adjust {
            sku: sku(n),
            delta: random.random_range(-3..3),
            reason: jangbu_events::AdjustReason::Count,
        },
        2 => StockCommand::Hold {
            sku: sku(n),
            order_id,
            quantity: random.random_range(1..4),
            backstop_at: moment(),
        },
        3 => StockCommand::Release {
            order_id,
            reason: ReleaseReason::OrderExpired,
        },
        4 => StockCommand::Commit { order_id },
        _ => StockCommand::Return { order_id, quantity: 1 },
    }
}

/// The same command to both; whether they agree on what came of it.
async fn both<A: Decide>(
    ours: &CqrsFramework<A, LogStore<A>>,
    theirs: &CqrsFramework<A, PersistedEventStore<PostgresEventRepository, A>>,
    id: A::Id,
    command: A::Command,
) {
    let mine = ours.execute(&id.to_string(), command.clone()).await;
    let stock = theirs.execute(&id.to_string(), command.clone()).await;
    match (mine, stock) {
        (Ok(()), Ok(())) => {}
        (Err(AggregateError::UserError(mine)), Err(AggregateError::UserError(stock))) => assert_eq!(mine, stock),
        different => panic!("{command:?} gives {different:?}"),
    }
}

#[tokio::test]
async fn the_same_commands_leave_the_same_events_as_with_postgres_es() {
    let database = Database::create().await;
    let log = open(&database).await;
    let stock = stock_pool(&database).await;
    let products = (
        CqrsFramework::new(ours::<Product>(&log), vec![], ()),
        CqrsFramework::new(theirs::<Product>(&stock), vec![], ()),
    );
    let items = (
        CqrsFramework::new(ours::<StockItem>(&log), vec![], ()),
        CqrsFramework::new(theirs::<StockItem>(&stock), vec![], ()),
    );
    let mut random = StdRng::seed_from_u64(20_260_302);
    for _ in 0..300 {
        let n = random.random_range(0..4);
        if random.random() {
            let command = product_command(&mut random, n);
            both(
                &products.0,
                &products.1,
                ProductId::of(StoreId::DEFAULT, &sku(n)),
                command,
            )
            .await;
        } else {
            let command = stock_command(&mut random, n);
            both(
                &items.0,
                &items.1,
                StockItemId::from_uuid(ProductId::of(StoreId::DEFAULT, &sku(n)).uuid()),
                command,
            )
            .await;
        }
    }
    let different: Vec<String> = sqlx::query_scalar(
        "with ours as (
            select aggregate_type, aggregate_id, sequence, event_type, event_version, payload::jsonb
            from public.events
        ), theirs as (
            select aggregate_type, aggregate_id, sequence, event_type, event_version, payload::jsonb
            from stock.events
        )
        select d::text
        from ((table ours except table theirs) union all (table theirs except table ours)) as d",
    )
    .fetch_all(&database.pool)
    .await
    .expect("both are read");
    assert!(different.is_empty(), "{different:#?}");
    let size = invariants::check(&database.pool).await;
    assert!(size.events > 100, "there was something to compare: {size:?}");
}
