//! A small golf shop on this machine that buys something in itself: what a newcomer sees first.
//!
//! Everything is the real thing but PortOne, whose place the sandbox takes: the private database (or
//! the one of `DATABASE_URL`), every role, HTTP, and webhooks that are signed and checked.

mod guide;
mod purchase;
mod screen;
mod shop;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::TimeDelta;
use jangbu_sandbox::{Running, SandboxConfig};
use tokio::{net::TcpListener, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use self::{
    purchase::Buyer,
    screen::{Follower, Screen},
};
use crate::{
    clock::Surroundings,
    config::{Config, Database, PortoneApi, Secret, WebhookSecret},
    http::{
        self,
        auth::{Role, TokenError, mint_token},
    },
    node::{Node, Roles, StartError},
    telemetry::Metrics,
};

/// Where the payment window is looked for first.
const SANDBOX: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);
/// Ports that are tried after a taken one.
const PORTS_TRIED: u16 = 50;
/// How long the roles may take to finish what they have begun.
const GRACE: Duration = Duration::from_secs(20);
/// How long the admin's token is good for.
const TOKEN_LIVES: TimeDelta = TimeDelta::hours(24);

/// What to show.
#[derive(Debug, Clone)]
pub struct Options {
    /// Stop after the first purchase, without the guide for people.
    pub exit_after_purchase: bool,
    /// Cancel it to end the demo.
    pub stop: CancellationToken,
}

/// Why there is no demo, or why it broke off.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Play money and a live shop do not go together.
    #[error("JANGBU_LIVE is true, and the demo plays with money; run it without")]
    Live,
    /// The log holds somebody's shop.
    #[error("this database holds a shop already; give the demo another JANGBU_DATA_DIR or DATABASE_URL")]
    ForeignShop,
    /// There is no free port near the wanted one.
    #[error("{address} cannot be bound: {source}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The process did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The sandbox did not start.
    #[error("the sandbox did not start: {0}")]
    Sandbox(String),
    /// The webhook secret is no secret.
    #[error("webhooks cannot be checked: {0}")]
    Webhook(#[from] crate::portone::webhook::SecretError),
    /// No token for the admin.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The goods could not be put on the shelf.
    #[error("the shop could not be filled: {0}")]
    Seed(String),
    /// The log could not be read.
    #[error("the log cannot be read: {0}")]
    Log(#[from] sqlx::Error),
    /// A call was answered with something else than success.
    #[error("{call} was answered {status}: {body}")]
    Refused {
        /// Method and address.
        call: String,
        /// HTTP status.
        status: u16,
        /// The answer.
        body: String,
    },
    /// A call was not answered.
    #[error("{call} was not answered: {source}")]
    Unanswered {
        /// Method and address.
        call: String,
        /// Why not.
        source: reqwest::Error,
    },
    /// An answer lacks a field.
    #[error("an answer has no {0}")]
    Incomplete(&'static str),
    /// Something did not happen in time.
    #[error("{0} did not happen in time")]
    TooSlow(&'static str),
}

/// Where everything is.
struct Addresses {
    /// `http://127.0.0.1:8080`.
    shop: String,
    /// `http://127.0.0.1:9090`.
    sandbox: String,
}

/// Starts the shop, buys something, and stays up until it is told to stop.
pub async fn run(mut config: Config, metrics: Metrics, options: Options) -> Result<(), DemoError> {
    if config.live {
        return Err(DemoError::Live);
    }
    let began = Instant::now();
    let mut screen = Screen::on_stdout();
    screen.title("장부", "Jangbu, a small golf shop on this machine");
    screen.step("시작", "Starting");
    let surroundings = Surroundings::system();

    let (listener, address) = bind(config.bind).await?;
    if address.port() != config.bind.port() && config.bind.port() != 0 {
        screen.note(&format!(
            "port {} is taken, using {}",
            config.bind.port(),
            address.port()
        ));
    }
    let shop = format!("http://{}", reachable(address));
    let webhook_secret = format!("whsec_{}", STANDARD.encode(surroundings.bytes::<32>()));
    let sandbox = start_sandbox(&surroundings, &shop, &webhook_secret).await?;
    let addresses = Addresses {
        shop: shop.clone(),
        sandbox: sandbox.running.base_url(),
    };
    config.bind = address;
    config.public_url = shop;
    config.portone.missing = Vec::new();
    config.portone.api_secret = Some(sandbox.api.secret.clone());
    config.portone.api = Some(PortoneApi {
        base: addresses.sandbox.clone(),
        ..sandbox.api
    });
    config.portone.webhook_secrets = WebhookSecret::parse(&webhook_secret).into_iter().collect();

    let done = match Node::start(config, surroundings).await {
        Ok(node) => {
            let done = play(&node, metrics, listener, &addresses, &options, &mut screen, began).await;
            node.stop().await;
            done
        }
        Err(error) => Err(error.into()),
    };
    sandbox.running.stop().await;
    if done.is_ok() {
        Screen::line("");
        Screen::line("끝났습니다. Stopped.");
    }
    done
}

struct Sandbox {
    running: Running,
    api: PortoneApi,
}

/// A sandbox with secrets of its own, which nobody but this process knows.
async fn start_sandbox(surroundings: &Surroundings, shop: &str, webhook_secret: &str) -> Result<Sandbox, DemoError> {
    let secret = format!("{:032x}", u128::from_be_bytes(surroundings.bytes()));
    let store_id = "store-jangbu-demo".to_owned();
    let mut config = SandboxConfig::new(&secret, &store_id);
    config.webhook_urls = vec![format!("{shop}/webhooks/portone")];
    config.webhook_secrets = vec![webhook_secret.to_owned()];
    // A minute's pause between tries of a webhook is a second here.
    config.retry_time_scale = 60;
    let mut address = SANDBOX;
    let running = loop {
        match jangbu_sandbox::start(config.clone(), address).await {
            Ok(running) => break running,
            Err(jangbu_sandbox::StartError::Io(error))
                if error.kind() == io::ErrorKind::AddrInUse && address.port() < SANDBOX.port() + PORTS_TRIED =>
            {
                address.set_port(address.port() + 1);
            }
            Err(error) => return Err(DemoError::Sandbox(error.to_string())),
        }
    };
    let api = PortoneApi {
        base: running.base_url(),
        secret: Secret::new(secret),
        store_id,
        channel_key: "channel-key-jangbu-demo".to_owned(),
    };
    Ok(Sandbox { running, api })
}

/// Everything between the start of the process and its end.
async fn play(
    node: &Node,
    metrics: Metrics,
    listener: TcpListener,
    addresses: &Addresses,
    options: &Options,
    screen: &mut Screen,
    began: Instant,
) -> Result<(), DemoError> {
    shop::refuse_foreign(&node.executor).await?;
    let app = node.app(Some(metrics.clone()))?;
    let stop = options.stop.child_token();
    let roles = Roles {
        processes: true,
        relay: true,
        projections: jangbu_projections::all().iter().collect(),
    };
    let mut tasks = node.spawn(roles, &stop);
    tasks.spawn(metrics.keep_folded(stop.clone()));
    let serving = tokio::spawn(http::serve(app, listener, stop.clone()));

    let shown = tokio::select! {
        shown = show(node, addresses, options, screen, began) => shown,
        () = options.stop.cancelled() => Ok(()),
    };
    stop.cancel();
    if let Ok(Err(error)) = serving.await {
        tracing::warn!(%error, "HTTP did not end in order");
    }
    wait(&mut tasks).await;
    shown
}

async fn show(
    node: &Node,
    addresses: &Addresses,
    options: &Options,
    screen: &mut Screen,
    began: Instant,
) -> Result<(), DemoError> {
    let log = node.executor.log();
    let mut follower = Follower::from_head(log).await?;
    let seeded = shop::seed(&node.executor).await?;
    let database = match node.config.database {
        Database::Embedded => format!("private PostgreSQL in {}", node.config.data_dir.display()),
        Database::Url(_) => "PostgreSQL of DATABASE_URL".to_owned(),
    };
    screen.fact("데이터", "data", &database);
    let broker = if node.config.amqp_url.is_some() {
        "RabbitMQ of AMQP_URL"
    } else {
        "none needed (workers poll the log)"
    };
    screen.fact("메시지", "broker", broker);
    screen.fact("가게", "shop", &addresses.shop);
    screen.fact("결제", "payments", &format!("{} (PortOne sandbox)", addresses.sandbox));
    screen.fact(
        "상품",
        "goods",
        &format!("{} products on the shelf", shop::PRODUCTS.len()),
    );
    let events = follower.news().await?;
    if seeded {
        let (first, last) = (events.first(), events.last());
        if let (Some(first), Some(last)) = (first, last) {
            let count = events.len();
            screen.note(&format!("{count} events, #{} to #{}", first.position, last.position));
        }
    }
    let token = mint_token(
        node.keys.jwt.expose(),
        Role::Admin,
        "demo",
        TOKEN_LIVES,
        log.surroundings().now(),
    )?;
    let today = crate::clock::korean_time(log.surroundings().now()).date_naive();

    let mut buyer = Buyer::new(addresses, &token, follower, log.surroundings().ids.uuid());
    let order = buyer.buy(screen, &today.to_string()).await?;
    Screen::line("");
    let took = began.elapsed();
    screen.good(&format!(
        "주문 {order} 결제 완료 · paid and confirmed, {}.{} s after the start",
        took.as_secs(),
        took.subsec_millis() / 100
    ));
    if options.exit_after_purchase {
        return Ok(());
    }
    guide::print(screen, addresses, &token, &today.to_string());
    let mut follower = buyer.into_follower();
    screen.step("실시간 이벤트", "Live events (Ctrl-C to stop)");
    loop {
        for event in follower.wait().await? {
            screen.event(&event);
        }
    }
}

/// Binds the wanted address, or the next free port after it.
async fn bind(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), DemoError> {
    let mut address = wanted;
    for _ in 0..=PORTS_TRIED {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let bound = listener
                    .local_addr()
                    .map_err(|source| DemoError::Bind { address, source })?;
                return Ok((listener, bound));
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && address.port() < u16::MAX => {
                address.set_port(address.port() + 1);
            }
            Err(source) => return Err(DemoError::Bind { address, source }),
        }
    }
    let source = io::ErrorKind::AddrInUse.into();
    Err(DemoError::Bind {
        address: wanted,
        source,
    })
}

/// What a client on this machine calls an address.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        IpAddr::V4(_) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), address.port()),
        IpAddr::V6(_) => SocketAddr::new(Ipv6Addr::LOCALHOST.into(), address.port()),
    }
}

async fn wait(tasks: &mut JoinSet<()>) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        tracing::warn!("some roles did not stop in time");
        tasks.abort_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_leads_to_a_free_one() {
        let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
        let taken = TcpListener::bind(any).await.expect("a free port").local_addr();
        let (held, first) = bind(any).await.expect("a free port");
        let (_, second) = bind(first).await.expect("the next free port");
        assert!(second.port() > first.port(), "{second} {first} {taken:?}");
        drop(held);
    }

    #[test]
    fn a_wildcard_is_no_address_to_call() {
        let wildcard: SocketAddr = "0.0.0.0:8080".parse().expect("an address");
        assert_eq!(reachable(wildcard).to_string(), "127.0.0.1:8080");
    }
}
