//! A whole shop in one process, without HTTP: its log, the checkout, PortOne's simulator.

use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use jangbu::{
    checkout::{CheckOutRequest, CheckedOut, CheckoutError, CheckoutService},
    clock::{ManualClock, Surroundings, SystemIds},
    executor::{CommandEnvelope, Executor},
    payments::{Payments, Settled, Shop as PortoneShop},
    portone::{Client, ClientConfig, Rereader, RereaderConfig, Secret},
    processes,
    sealing::Sealer,
    timers::Timers,
};
use jangbu_domain::{
    Cart, CartCommand, Decide, Order, Product, ProductCommand, ProductStatus, StockCommand, StockItem,
};
use jangbu_events::{
    AggregateId, CartId, LineId, Metadata, Money, Orderer, Owner, PayMethod, PaymentId, ProductId, Recipient, Sku,
    StoreId, TaxClass, Timestamp,
};
use jangbu_sandbox::{Running, SandboxConfig};
use serde_json::{Value, json};

use crate::database::Database;

pub const API_SECRET: &str = "sandbox-api-secret";
pub const STORE: &str = "store-test";

pub struct Shop {
    pub database: Database,
    pub clock: Arc<ManualClock>,
    pub executor: Executor,
    pub payments: Payments,
    pub checkout: CheckoutService,
    pub timers: Timers,
    pub sandbox: Running,
    pub http: reqwest::Client,
    epoch: Mutex<i64>,
}

pub fn sku(text: &str) -> Sku {
    text.parse().expect("a sku")
}

/// Seoul, 2026-03-02 13:00.
pub fn noon() -> Timestamp {
    "2026-03-02T04:00:00Z".parse().expect("a moment")
}

pub fn metadata() -> Metadata {
    Metadata {
        actor_kind: "guest".into(),
        channel: "test".into(),
        ..Metadata::default()
    }
}

pub fn request() -> CheckOutRequest {
    CheckOutRequest {
        orderer: Orderer {
            name: "홍길동".parse().expect("a name"),
            phone: "010-9876-5432".parse().expect("a phone"),
            email: "hong.gildong@example.com".parse().expect("an e-mail"),
        },
        recipient: Recipient {
            name: "성춘향".parse().expect("a name"),
            phone: "010-1111-2222".parse().expect("a phone"),
            postcode: "06236".parse().expect("a postcode"),
            road: "서울특별시 강남구 테헤란로 152".parse().expect("a road"),
            detail: Some("9층 904호".parse().expect("a detail")),
        },
        pay_method: PayMethod::Card,
        expected_total: None,
        redirect_url: None,
    }
}

impl Shop {
    pub async fn open() -> Self {
        Self::open_as(false).await
    }

    pub async fn open_as(live: bool) -> Self {
        let database = Database::create().await;
        let sandbox = jangbu_sandbox::start(
            SandboxConfig::new(API_SECRET, STORE),
            "127.0.0.1:0".parse().expect("an address"),
        )
        .await
        .expect("the sandbox starts");
        let clock = Arc::new(ManualClock::new(noon()));
        let surroundings = Surroundings {
            clock: clock.clone(),
            ids: Arc::new(SystemIds),
        };
        let executor = database.executor(surroundings).await;
        let client = Client::try_new(&ClientConfig::new(
            sandbox.base_url(),
            Secret::new(API_SECRET),
            STORE,
            1,
        ))
        .expect("the settings make sense");
        let sealer = Sealer::new(&[7; 32]);
        let portone = PortoneShop {
            rereader: Rereader::new(client.clone(), RereaderConfig::default()),
            client,
            store_id: STORE.into(),
            channel_key: "channel-key-test".into(),
        };
        let payments = Payments::new(executor.clone(), sealer.clone(), Some(portone), live);
        let checkout = CheckoutService::new(executor.clone(), sealer, payments.clone(), TimeDelta::minutes(30));
        let timers = Timers::new(payments.clone());
        let http = reqwest::Client::new();
        Self {
            database,
            clock,
            executor,
            payments,
            checkout,
            timers,
            sandbox,
            http,
            epoch: Mutex::new(0),
        }
    }

    pub fn envelope(&self) -> CommandEnvelope {
        let surroundings = self.executor.log().surroundings();
        CommandEnvelope::new(surroundings.ids.uuid(), metadata(), surroundings.now())
    }

    /// Sends a command that must go through.
    pub async fn execute<A: Decide>(&self, id: A::Id, command: A::Command) {
        self.executor
            .execute::<A>(id, command, self.envelope())
            .await
            .expect("the command goes through");
    }

    /// A published product with so many in stock.
    pub async fn product(&self, name: &str, price: i64, stock: u32) -> ProductId {
        let sku = sku(name);
        let id = ProductId::of(StoreId::DEFAULT, &sku);
        let register = ProductCommand::Register {
            sku: sku.clone(),
            name: format!("{name} 상품"),
            category: "골프채".into(),
            price: Money::won(price),
            tax_class: TaxClass::Taxable,
            attributes: std::collections::BTreeMap::new(),
        };
        self.execute::<Product>(id, register).await;
        let publish = ProductCommand::Revise {
            name: None,
            price: None,
            status: Some(ProductStatus::Published),
        };
        self.execute::<Product>(id, publish).await;
        if stock > 0 {
            self.execute::<StockItem>(id.stock_item(), StockCommand::Receive { sku, quantity: stock })
                .await;
        }
        id
    }

    /// A guest's cart with so many of each.
    pub async fn cart(&self, lines: &[(&str, u32)]) -> CartId {
        let id = CartId::from_uuid(self.executor.log().surroundings().ids.uuid());
        self.execute::<Cart>(
            id,
            CartCommand::Open {
                owner: Owner::Guest {
                    token_hash: "00".repeat(32),
                },
            },
        )
        .await;
        let mut new = Vec::new();
        for (name, quantity) in lines {
            let sku = sku(name);
            let product_id = ProductId::of(StoreId::DEFAULT, &sku);
            let product = self
                .executor
                .load::<Product>(product_id)
                .await
                .expect("the product loads");
            let Product::Registered { name, price, .. } = &*product.state else {
                panic!("{sku} is registered")
            };
            new.push(jangbu_domain::cart::NewLine {
                line_id: LineId::of(id, &sku),
                product_id,
                sku,
                name: name.clone(),
                unit_price: *price,
                quantity: *quantity,
            });
        }
        self.execute::<Cart>(id, CartCommand::AddLines { lines: new }).await;
        id
    }

    pub async fn check_out(&self, cart: CartId) -> Result<CheckedOut, CheckoutError> {
        self.checkout.check_out(cart, request(), self.envelope()).await
    }

    /// What the shopper, the bank or bad luck does at PortOne.
    pub async fn at_portone(&self, payment: PaymentId, action: &str, body: Value) -> Value {
        let url = format!(
            "{}/_sim/payments/{}/{action}",
            self.sandbox.base_url(),
            payment.portone()
        );
        let answer = self
            .http
            .post(url)
            .json(&body)
            .send()
            .await
            .expect("the sandbox answers");
        assert!(
            answer.status().is_success(),
            "{action}: {}",
            answer.text().await.unwrap_or_default()
        );
        answer.json().await.expect("JSON")
    }

    pub async fn faults(&self, faults: Value) {
        let url = format!("{}/_sim/faults", self.sandbox.base_url());
        let answer = self
            .http
            .post(url)
            .json(&faults)
            .send()
            .await
            .expect("the sandbox answers");
        assert!(
            answer.status().is_success(),
            "{}",
            answer.text().await.unwrap_or_default()
        );
    }

    /// The simulator's own view of a payment.
    pub async fn seen_at_portone(&self, payment: PaymentId) -> Value {
        let url = format!("{}/_sim/payments/{}", self.sandbox.base_url(), payment.portone());
        self.http
            .get(url)
            .send()
            .await
            .expect("the sandbox answers")
            .json()
            .await
            .expect("JSON")
    }

    pub async fn settle(&self, payment: PaymentId) -> Settled {
        self.payments
            .settle(payment, metadata())
            .await
            .expect("it settles")
            .expect("the payment is ours")
    }

    /// Lets the process manager and the timers run until nothing is left to do now.
    pub async fn run(&self) {
        loop {
            let epoch = {
                let mut epoch = self.epoch.lock().expect("not poisoned");
                *epoch += 1;
                *epoch
            };
            let now = self.executor.log().surroundings().now();
            let head = self.executor.log().head().await.expect("a head").position;
            let events = processes::round(&self.executor, epoch, head)
                .await
                .expect("the round goes through");
            let timers = self.timers.round(now).await.expect("the timers go through");
            if events + timers == 0 {
                return;
            }
        }
    }

    pub async fn order(&self, id: jangbu_events::OrderId) -> Arc<Order> {
        self.executor.load::<Order>(id).await.expect("the order loads").state
    }

    pub async fn stock(&self, name: &str) -> (u32, u32) {
        let id = ProductId::of(StoreId::DEFAULT, &sku(name)).stock_item();
        let stock = self
            .executor
            .load::<StockItem>(id)
            .await
            .expect("the stock loads")
            .state;
        (stock.on_hand, stock.available())
    }

    /// Types of all events of the log, in order.
    pub async fn event_types(&self) -> Vec<String> {
        let events = self.executor.log().read(0, 100_000).await.expect("the log reads");
        events.into_iter().map(|event| event.payload.event_type).collect()
    }

    /// How many timers of a kind are set.
    pub async fn timers_of(&self, kind: &str) -> i64 {
        sqlx::query_scalar("select count(*) from timers where kind = $1")
            .bind(kind)
            .fetch_one(&self.database.pool)
            .await
            .expect("timers read")
    }

    pub async fn failures(&self) -> Vec<String> {
        sqlx::query_scalar("select step || ': ' || error from process_failures")
            .fetch_all(&self.database.pool)
            .await
            .expect("failures read")
    }
}

pub fn nothing() -> Value {
    json!({})
}
