//! HTTP: translates requests into commands and queries, and what comes of them into answers. Nothing
//! is decided here.
//!
//! The outermost layer (`context`) gives a request its id, keeps panics in and writes every refusal
//! as a [`problem`]. A mutation is read as a `keys::Command`, whose id makes a repeat find its first
//! answer; single things are folded from their streams, lists come from projections.

mod admin_orders;
mod admin_products;
mod admin_stock;
pub mod auth;
mod carts;
mod checkout;
mod checks;
mod context;
mod extract;
mod health;
mod keys;
mod limits;
mod lookup;
mod openapi;
mod orders;
mod payments;
pub mod problem;
mod products;
mod progress;
mod sales;
mod views;
mod webhook;

use std::{net::SocketAddr, ops::Deref, sync::Arc, time::Duration};

use axum::{
    Router,
    middleware::from_fn_with_state,
    routing::{get, patch, post},
    serve::ListenerExt,
};
use sqlx::PgPool;
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
    node::Node,
    payments::Payments,
    portone::webhook::{SecretError, TOLERANCE, Verifier},
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
    pub query_pool: PgPool,
    /// Opens personal data.
    pub sealer: Sealer,
    /// Checks carts out.
    pub checkout: CheckoutService,
    /// Settles and refunds.
    pub payments: Payments,
    /// Checks webhooks; `None` without secrets.
    pub webhook: Option<Verifier>,
    /// What `/metrics` shows; `None` where nobody counts.
    pub metrics: Option<Metrics>,
    tokens: Tokens,
    limits: Limits,
    progress: Progress,
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
            query_pool: node.query_pool.clone(),
            sealer: node.sealer.clone(),
            checkout: node.checkout.clone(),
            payments: node.payments.clone(),
            webhook,
            metrics,
            tokens: Tokens::new(node.keys.jwt.expose()),
            limits: Limits::new(&node.config.rate_limits),
            progress: Progress::default(),
            addresses: IpHasher::default(),
            config: node.config.clone(),
        })))
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
        .route("/orders/{order_id}/cancel", post(admin_orders::cancel))
        .route("/orders/{order_id}/refund", post(admin_orders::refund))
        .route("/sales", get(sales::report))
}

/// Answers until `shutdown`; then no new connection is taken, and requests that are under way have
/// 15 s to end.
pub async fn serve(app: App, listener: TcpListener, shutdown: CancellationToken) -> std::io::Result<()> {
    let listener = listener.tap_io(|connection| {
        // An answer is one small packet: it must not wait for a second one.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "a connection stays with Nagle's algorithm");
        }
    });
    let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let overtime = async {
        shutdown.cancelled().await;
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
