//! What signing in is made of, against a real database and a real mail server.

mod codes;
mod credentials;
mod ended;
mod mails;
mod sessions;
mod throttle;

use std::sync::Arc;

use chrono::TimeDelta;
use jangbu::{
    accounts::{
        digests::Digester,
        sessions::{Granted, Lifetimes, Mode, NewSession, Sessions},
    },
    clock::{ManualClock, Surroundings, SystemIds},
};
use jangbu_events::{AggregateId, CustomerId, Timestamp};
use uuid::Uuid;

use crate::database::Database;

const LIFETIMES: Lifetimes = Lifetimes {
    idle: TimeDelta::days(30),
    total: TimeDelta::days(180),
};

/// A database, a clock that the test moves, and a customer.
struct Fixture {
    database: Database,
    clock: Arc<ManualClock>,
    surroundings: Surroundings,
    sessions: Sessions,
    customer: CustomerId,
}

impl Fixture {
    async fn create() -> Self {
        let clock = Arc::new(ManualClock::new(
            Timestamp::from_timestamp(1_780_000_000, 0).expect("a time"),
        ));
        Self {
            database: Database::create().await,
            surroundings: Surroundings {
                clock: clock.clone(),
                ids: Arc::new(SystemIds),
            },
            clock,
            sessions: Sessions::new(digester(), LIFETIMES),
            customer: customer(1),
        }
    }

    fn now(&self) -> Timestamp {
        self.surroundings.now()
    }

    async fn open(&self) -> Granted {
        self.open_for(self.customer).await
    }

    async fn open_for(&self, customer: CustomerId) -> Granted {
        let mut db = self.database.pool.acquire().await.expect("a connection");
        let new = NewSession {
            customer,
            mode: Mode::Cookie,
            user_agent_class: "chrome on android".to_owned(),
            ip_hash: "2026-03:0123456789abcdef".to_owned(),
        };
        let opened = self.sessions.open(&mut db, &self.surroundings, new).await;
        opened.expect("the session opens")
    }
}

fn digester() -> Digester {
    Digester::new(&[7; 32])
}

fn customer(n: u128) -> CustomerId {
    CustomerId::from_uuid(Uuid::from_u128(n))
}
