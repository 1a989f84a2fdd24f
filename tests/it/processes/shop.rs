//! A shop in several processes on one database, with the real broker and a simulated PortOne.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::{
        Mutex,
        atomic::{AtomicU16, AtomicU32, Ordering},
    },
    time::Duration,
};

use jangbu::{
    clock::Surroundings,
    http::auth::{Role as Who, mint_token},
};
use sqlx::ConnectOptions as _;

use super::{
    asking::Ask,
    child::{Child, Said},
    queues,
};
use crate::{
    database::Database,
    fanout::probe::amqp_url,
    web::{JWT_SECRET, STORE, WEBHOOK_SECRET},
};

/// Each of these tests uses many connections and all processors.
pub(super) static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
const API_SECRET: &str = "sandbox-api-secret";
pub const PARTITIONS: i16 = 4;

/// Which process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// HTTP, process managers and timers; counted from 0.
    Serve(usize),
    Relay,
    Project,
    /// PortOne: it stays up.
    Sandbox,
}

pub struct Shop {
    running: Mutex<BTreeMap<Role, Child>>,
    said: Mutex<BTreeMap<Role, Said>>,
    pub(super) serves: Vec<SocketAddr>,
    sandbox: SocketAddr,
    amqp_url: String,
    pub(super) client: reqwest::Client,
    pub(super) admin: String,
    directory: PathBuf,
    /// How many requests had to be repeated.
    pub repeats: AtomicU32,
    keys: AtomicU32,
    pub database: Database,
    _turn: tokio::sync::MutexGuard<'static, ()>,
}

impl Shop {
    /// Starts everything and waits until it is ready.
    pub async fn open(serves: usize) -> Self {
        Self::open_at(serves, amqp_url()).await
    }

    /// With another way to the broker.
    pub async fn open_at(serves: usize, amqp_url: String) -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        let database = Database::create().await;
        let directory = std::env::temp_dir().join(&database.name);
        std::fs::create_dir(&directory).expect("a directory can be made");
        let surroundings = Surroundings::system();
        let admin = mint_token(
            JWT_SECRET,
            Who::Admin,
            "kim",
            chrono::TimeDelta::hours(1),
            surroundings.now(),
        );
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build();
        let shop = Self {
            running: Mutex::default(),
            said: Mutex::default(),
            serves: (0..serves).map(|_| free_address()).collect(),
            sandbox: free_address(),
            amqp_url,
            client: client.expect("a client"),
            admin: admin.expect("a token"),
            directory,
            repeats: AtomicU32::new(0),
            keys: AtomicU32::new(0),
            database,
            _turn: turn,
        };
        let roles: Vec<Role> = (0..serves)
            .map(Role::Serve)
            .chain([Role::Sandbox, Role::Relay, Role::Project])
            .collect();
        for role in &roles {
            shop.start(*role);
        }
        for role in &roles {
            shop.ready(*role).await;
        }
        shop
    }

    /// Starts a role that does not run; [`Self::ready`] waits for it.
    pub fn start(&self, role: Role) {
        let text = str::to_owned;
        let arguments = match role {
            Role::Serve(_) => vec![text("serve"), text("--only"), text("http")],
            Role::Relay => vec![text("relay")],
            Role::Project => vec![text("project")],
            Role::Sandbox => vec![
                text("sandbox"),
                text("--bind"),
                self.sandbox.to_string(),
                text("--webhook-url"),
                format!("http://{}/webhooks/portone", self.serves[0]),
                // A minute becomes a quarter of a second.
                text("--retry-time-scale"),
                text("240"),
            ],
        };
        let child = self.child(role, &arguments);
        let before = self.running.lock().expect("nobody panics with it").insert(role, child);
        assert!(before.is_none(), "{role:?} runs already");
    }

    fn child(&self, role: Role, arguments: &[String]) -> Child {
        let bind = if let Role::Serve(number) = role {
            self.serves[number].to_string()
        } else {
            "127.0.0.1:0".to_owned()
        };
        let variables = [
            ("DATABASE_URL", self.database.options.to_url_lossy().to_string()),
            ("AMQP_URL", self.amqp_url.clone()),
            ("JANGBU_BIND", bind),
            ("JANGBU_JWT_SECRET", JWT_SECRET.to_owned()),
            ("JANGBU_MASTER_KEY", "07".repeat(32)),
            ("JANGBU_DB_POOL_MAX", "5".to_owned()),
            ("JANGBU_PARTITIONS", PARTITIONS.to_string()),
            // Each has connections of its own, and here are many processes.
            ("JANGBU_SQL_PROJECTIONS", "none".to_owned()),
            ("JANGBU_RATE_REQUESTS_PER_MINUTE", "0".to_owned()),
            ("PORTONE_API_BASE", self.at_sandbox("")),
            ("PORTONE_API_SECRET", API_SECRET.to_owned()),
            ("PORTONE_STORE_ID", STORE.to_owned()),
            ("PORTONE_CHANNEL_KEY", "channel-key-test".to_owned()),
            ("PORTONE_WEBHOOK_SECRETS", WEBHOOK_SECRET.to_owned()),
            (
                "RUST_LOG",
                "info,jangbu::access=warn,jangbu::http::webhook=warn,hyper=warn,lapin=warn,sqlx=warn".to_owned(),
            ),
        ];
        let said = self
            .said
            .lock()
            .expect("nobody panics with it")
            .entry(role)
            .or_default()
            .clone();
        Child::start(&format!("{role:?}"), arguments, &variables, &self.directory, &said)
    }

    /// Runs a command of the program to its end, which must be a good one.
    pub async fn run(&self, arguments: &[&str]) {
        let arguments: Vec<String> = arguments.iter().map(|one| (*one).to_owned()).collect();
        let status = self.child(Role::Project, &arguments).ended().await;
        assert!(status.success(), "{arguments:?}: {status}");
    }

    /// Waits until a role that was started does its work.
    pub async fn ready(&self, role: Role) {
        let mut child = self
            .running
            .lock()
            .expect("nobody panics with it")
            .remove(&role)
            .expect("it was started");
        child
            .says(match role {
                Role::Serve(_) => "serving",
                Role::Sandbox => "http://",
                Role::Relay | Role::Project => "running",
            })
            .await;
        self.running.lock().expect("nobody panics with it").insert(role, child);
        if let Role::Serve(node) = role {
            self.ask(Ask::get(node, "/livez")).await.expect(200);
        }
    }

    /// `kill -9`.
    pub fn kill(&self, role: Role) {
        let child = self.running.lock().expect("nobody panics with it").remove(&role);
        child.expect("it runs").kill();
    }

    /// Every role still runs, and says goodbye when it is asked to stop. Nothing stays at the broker.
    pub async fn close(self) {
        let running = std::mem::take(&mut *self.running.lock().expect("nobody panics with it"));
        for (role, mut child) in running {
            child.assert_alive();
            let status = child.stop().await;
            assert!(status.success(), "{role:?} stopped with {status}");
        }
        queues::delete(&self.database.pool).await;
    }

    /// What all processes of all roles said.
    pub fn everything_said(&self) -> String {
        let said = self.said.lock().expect("nobody panics with it");
        let said = said.values().map(|said| said.lines(|lines| lines.join("\n")));
        said.collect::<Vec<_>>().join("\n")
    }

    /// A key that no other request of this test has.
    pub fn key(&self) -> String {
        format!("a-key-of-this-test-{:06}", self.keys.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn at_sandbox(&self, path: &str) -> String {
        format!("http://{}{path}", self.sandbox)
    }

    /// Writes a file for the program to read.
    pub fn write(&self, name: &str, content: &[u8]) -> String {
        let path = self.directory.join(name);
        std::fs::write(&path, content).expect("a file can be written");
        path.to_str().expect("the path is UTF-8").to_owned()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let running = self
            .running
            .get_mut()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        running.clear();
        if std::thread::panicking() {
            let said = self.said.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (role, said) in said {
                said.show(&format!("{role:?}"));
            }
        }
        _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// An address that stays free while its owner is down: no outgoing connection is given a port below
/// 32768.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 10_000).expect("below 10,000");
    loop {
        let port = 20_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
