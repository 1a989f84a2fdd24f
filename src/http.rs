//! HTTP: translates requests into commands and queries, and what comes of them into answers. Nothing
//! is decided here.
//!
//! The outermost layer (`context`) gives a request its id, keeps panics in and writes every refusal
//! as a [`problem`]. A mutation is read as a `keys::Command`, whose id makes a repeat find its first
//! answer; single things are folded from their streams, lists come from projections.

mod admin_orders;
mod admin_products;
mod admin_stock;
mod admin_upkeep;
mod admin_webhooks;
pub mod auth;
mod carts;
mod checkout;
mod checks;
mod context;
mod events;
mod explain;
mod extract;
pub mod health;
mod keys;
mod limits;
mod lookup;
mod openapi;
mod orders;
mod past;
mod payments;
pub mod problem;
mod products;
mod progress;
mod refund_account;
mod sales;
mod users;
mod views;
mod webhook;

use std::{net::SocketAddr, ops::Deref, sync::Arc, time::Duration};

use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::{delete, get, patch, post, put},
    serve::ListenerExt,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::{
    auth::Tokens,
    limits::Limits,
    problem::{Code, Problem},
    progress::Progress,
};
use crate::{
    checkout::CheckoutService,
    clock::Surroundings,
    config::Config,
    executor::Executor,
    ip_hash::IpHasher,
    log::Log,
    members::{Members, sign_in::Gate},
    node::Node,
    payments::Payments,
    portone::webhook::{SecretError, TOLERANCE, Verifier},
    readers::{Readers, Reading},
    sealing::Sealer,
    telemetry::Metrics,
};

/// How long requests that are under way may take once the process is told to end.
const LAST_REQUESTS: Duration = Duration::from_secs(15);

/// Everything that handlers need. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What an [`App`] shares.
pub struct Parts {
    /// As the process was started.
    pub config: Config,
    /// Clock and ids.
    pub surroundings: Surroundings,
    /// For command ids that were used, unique keys and the head.
    pub log: Log,
    /// Carries out commands and folds streams.
    pub executor: Executor,
    /// Reads the active builds of the projections.
    pub readers: Readers,
    /// Opens personal data.
    pub sealer: Sealer,
    /// Checks carts out.
    pub checkout: CheckoutService,
    /// Settles and refunds.
    pub payments: Payments,
    /// Registers members and changes what is known of them.
    pub members: Members,
    /// Lets members in and out.
    pub gate: Gate,
    /// Checks webhooks; `None` without secrets.
    pub webhook: Option<Verifier>,
    /// What `/metrics` shows; `None` where nobody counts.
    pub metrics: Option<Metrics>,
    tokens: Tokens,
    limits: Limits,
    progress: Progress,
    reports: past::Reports,
    streams: events::Streams,
    addresses: IpHasher,
}

impl Deref for App {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("App")
    }
}

impl App {
    /// Over a process that is connected. Fails on webhook secrets that cannot be used.
    pub fn try_new(node: &Node, metrics: Option<Metrics>) -> Result<Self, SecretError> {
        let log = node.executor.log().clone();
        let secrets: Vec<String> = node
            .config
            .portone
            .webhook_secrets
            .iter()
            .map(|secret| secret.expose().to_owned())
            .collect();
        let webhook = if secrets.is_empty() {
            None
        } else {
            Some(Verifier::try_new(&secrets, TOLERANCE)?)
        };
        Ok(Self(Arc::new(Parts {
            surroundings: log.surroundings().clone(),
            log,
            executor: node.executor.clone(),
            readers: node.readers.clone(),
            sealer: node.sealer.clone(),
            checkout: node.checkout.clone(),
            payments: node.payments.clone(),
            members: node.members.clone(),
            gate: node.gate.clone(),
            webhook,
            metrics,
            tokens: Tokens::new(node.keys.jwt.expose()),
            limits: Limits::new(&node.config.rate_limits),
            progress: Progress::default(),
            reports: past::Reports::default(),
            streams: events::Streams::new(node.config.event_streams_max),
            addresses: IpHasher::default(),
            config: node.config.clone(),
        })))
    }
}

impl Parts {
    /// What to query now.
    pub fn query_pool(&self) -> Arc<Reading> {
        self.readers.now()
    }
}

/// All addresses.
pub fn router(app: App) -> Router {
    let api = Router::new()
        .route("/products", get(products::list))
        .route("/products/{id_or_sku}", get(products::one))
        .route("/carts", post(carts::open))
        .route("/carts/{cart_id}", get(carts::one))
        .route("/carts/{cart_id}/lines", post(carts::add_lines).delete(carts::clear))
        .route(
            "/carts/{cart_id}/lines/{sku}",
            patch(carts::change_quantity).delete(carts::remove_line),
        )
        .route("/carts/{cart_id}/checkout", post(checkout::check_out))
        .route("/consents", get(checkout::consents))
        .route("/orders", get(orders::list))
        .route("/orders/lookup", post(lookup::look_up))
        .route("/orders/{order_id}", get(orders::one))
        .route("/orders/{order_id}/cancel", post(orders::cancel))
        .route("/payments/return", get(payments::come_back))
        .route("/payments/{payment_id}", get(payments::one))
        .route("/payments/{payment_id}/complete", post(payments::complete))
        .route("/payments/{payment_id}/refund-account", put(refund_account::give))
        .route("/events", get(events::list))
        .nest("/users", users())
        .nest("/admin", admin());
    Router::new()
        .nest("/api/v1", api)
        .route("/webhooks/portone", post(webhook::receive))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/problems/{code}", get(openapi::problem))
        .merge(openapi::router())
        .fallback(async || Problem::new(Code::NotFound))
        .method_not_allowed_fallback(async || Problem::new(Code::MethodNotAllowed))
        .layer(from_fn_with_state(app.clone(), context::layer))
        .with_state(app)
}

fn users() -> Router<App> {
    Router::new()
        .route("/sign-up", post(users::sign_up))
        .route("/sign-in", post(users::sign_in))
        .route("/token", post(users::refresh))
        .route("/sign-out", post(users::sign_out))
        .route("/me", get(users::me).patch(users::change_me))
        .route("/me/password", post(users::change_password))
        .route("/me/sessions", get(users::sessions))
        .route("/me/sessions/{session_id}", delete(users::end_session))
}

fn admin() -> Router<App> {
    Router::new()
        .route("/products", get(admin_products::list).post(admin_products::register))
        .route(
            "/products/{id_or_sku}",
            get(admin_products::one).patch(admin_products::revise),
        )
        .route("/stock", get(admin_stock::list))
        .route("/stock/{sku}", get(admin_stock::one))
        .route("/stock/{sku}/receive", post(admin_stock::receive))
        .route("/stock/{sku}/adjust", post(admin_stock::adjust))
        .route("/orders", get(admin_orders::list))
        .route("/orders/{order_id}", get(admin_orders::one))
        .route("/orders/{order_id}/explain", get(explain::one))
        .route("/orders/{order_id}/cancel", post(admin_orders::cancel))
        .route("/orders/{order_id}/refund", post(admin_orders::refund))
        .route(
            "/payments/{payment_id}/refund-account",
            put(refund_account::give_as_admin),
        )
        .route("/sales", get(sales::report))
        .route("/parked", get(admin_upkeep::parked))
        .route("/parked/retry", post(admin_upkeep::retry_parked))
        .route("/failed-steps", get(admin_upkeep::failed_steps))
        .route("/failed-steps/retry", post(admin_upkeep::retry_steps))
        .nest("/webhooks", webhooks())
}

fn webhooks() -> Router<App> {
    Router::new()
        .route("/", get(admin_webhooks::list).post(admin_webhooks::create))
        .route(
            "/{webhook_id}",
            get(admin_webhooks::one)
                .patch(admin_webhooks::change)
                .delete(admin_webhooks::delete),
        )
        .route("/{webhook_id}/rotate", post(admin_webhooks::rotate))
        .route("/{webhook_id}/deliveries", get(admin_webhooks::deliveries))
        .route("/{webhook_id}/rewind", post(admin_webhooks::rewind))
        .route("/{webhook_id}/retry", post(admin_webhooks::retry))
}

/// Answers until `shutdown`; then no new connection is taken, and requests that are under way have
/// 15 s to end.
pub async fn serve(app: App, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
    let listener = listener.tap_io(|connection| {
        // An answer is one small packet: it must not wait for a second one.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays with Nagle's algorithm");
        }
        events::give_up_on_the_silent(connection);
    });
    let streams = app.streams.clone();
    let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let overtime = async {
        shutdown.cancelled().await;
        streams.close();
        tokio::time::sleep(LAST_REQUESTS).await;
    };
    tokio::select! {
        served = serving => served,
        () = overtime => {
            tracing::warn!("some requests were cut off at the end");
            Ok(())
        }
    }
}
