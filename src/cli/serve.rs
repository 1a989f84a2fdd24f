//! Processes that stay up.

use std::net::SocketAddr;

use anyhow::Context;
use jangbu::{
    clock::Surroundings,
    config::Config,
    node::{Node, Roles},
    telemetry::Metrics,
};
use jangbu_projections::Registered;
use jangbu_sandbox::SandboxConfig;
use tokio::{net::TcpListener, task::JoinSet};

use super::{GRACE, stop_signal};

/// HTTP and, unless `only_http`, every other role.
pub async fn serve(config: Config, only_http: bool) -> anyhow::Result<()> {
    let metrics = Metrics::install()?;
    let stop = stop_signal();
    // Bound first: a taken port should not cost a migration.
    let listener = TcpListener::bind(config.bind)
        .await
        .with_context(|| format!("JANGBU_BIND {} cannot be bound", config.bind))?;
    let node = Node::start(config, Surroundings::system()).await?;
    let roles = Roles {
        processes: true,
        relay: !only_http,
        projections: if only_http {
            Vec::new()
        } else {
            jangbu_projections::all().iter().collect()
        },
    };
    let mut tasks = node.spawn(roles, &stop);
    let app = node.app(metrics);
    tracing::info!(address = %listener.local_addr()?, "serving");
    jangbu::http::serve(listener, app, stop.clone()).await?;
    wait(&mut tasks).await;
    node.stop().await;
    Ok(())
}

/// The relay alone.
pub async fn relay(config: Config) -> anyhow::Result<()> {
    if config.amqp_url.is_none() {
        return Err(super::Usage("AMQP_URL is required: there is nothing to relay to".to_owned()).into());
    }
    host(
        config,
        Roles {
            processes: false,
            relay: true,
            projections: Vec::new(),
        },
    )
    .await
}

/// Projections alone.
pub async fn project(config: Config, projections: Vec<&'static Registered>) -> anyhow::Result<()> {
    host(
        config,
        Roles {
            processes: false,
            relay: false,
            projections,
        },
    )
    .await
}

async fn host(config: Config, roles: Roles) -> anyhow::Result<()> {
    let stop = stop_signal();
    let node = Node::start(config, Surroundings::system()).await?;
    let mut tasks = node.spawn(roles, &stop);
    tracing::info!("running");
    stop.cancelled().await;
    wait(&mut tasks).await;
    node.stop().await;
    Ok(())
}

/// The simulated PortOne.
pub async fn sandbox(config: &Config, bind: SocketAddr, webhook_url: Option<String>) -> anyhow::Result<()> {
    let required = |name: &str| super::Usage(format!("{name} is required for the sandbox"));
    let secret = config
        .portone
        .api_secret
        .as_ref()
        .ok_or_else(|| required("PORTONE_API_SECRET"))?;
    let store_id = config.portone.api.as_ref().map(|api| api.store_id.clone());
    let store_id = store_id
        .or_else(|| std::env::var("PORTONE_STORE_ID").ok())
        .unwrap_or_else(|| "store-sandbox".into());
    let mut sandbox = SandboxConfig::new(secret.expose(), store_id);
    sandbox.webhook_urls = webhook_url.into_iter().collect();
    sandbox.webhook_secrets = config
        .portone
        .webhook_secrets
        .iter()
        .map(|secret| secret.expose().to_owned())
        .collect();
    let stop = stop_signal();
    let running = jangbu_sandbox::start(sandbox, bind).await?;
    println!("{}", running.base_url());
    stop.cancelled().await;
    running.stop().await;
    Ok(())
}

/// Lets the roles finish what they have begun.
async fn wait(tasks: &mut JoinSet<()>) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        tracing::warn!("some roles did not stop in time");
        tasks.abort_all();
    }
}
