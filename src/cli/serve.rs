//! Processes that stay up.

use anyhow::Context as _;
use jangbu::{
    clock::Surroundings,
    config::Config,
    http::{self, health},
    log::Log,
    node::{Node, Roles},
    oauth::Provider,
    telemetry::Metrics,
};
use jangbu_projections::Registered;
use jangbu_sandbox::{OAuthApps, SandboxConfig, StartError};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{GRACE, SandboxArgs, Usage, stop_signal};

/// HTTP and, unless `only_http`, every other role.
pub async fn serve(config: Config, only_http: bool) -> anyhow::Result<()> {
    let metrics = Metrics::install()?;
    let stop = stop_signal();
    // Bound first: a taken port should not cost a migration.
    let listener = TcpListener::bind(config.bind)
        .await
        .with_context(|| format!("JANGBU_BIND {} cannot be bound", config.bind))?;
    let address = listener.local_addr()?;
    let node = Node::start(config, Surroundings::system()).await?;
    let app = match node.app(Some(metrics.clone())) {
        Ok(app) => app,
        Err(error) => {
            node.stop().await;
            return Err(Usage(format!("PORTONE_WEBHOOK_SECRETS cannot be used: {error}")).into());
        }
    };
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
    tasks.spawn(metrics.keep_folded(stop.clone()));
    tracing::info!(%address, "serving");
    let log = node.executor.log().clone();
    let serving = http::serve(app, listener, stop.clone());
    let watching = watch(&mut tasks, &log, &stop);
    let (served, watched) = tokio::join!(
        async {
            let served = serving.await;
            stop.cancel();
            served
        },
        watching
    );
    wait(&mut tasks).await;
    node.stop().await;
    tracing::info!("stopped");
    served.context("HTTP broke off")?;
    watched
}

/// The relay alone.
pub async fn relay(config: Config) -> anyhow::Result<()> {
    if config.amqp_url.is_none() {
        return Err(Usage("AMQP_URL is required: there is nothing to relay to".to_owned()).into());
    }
    let roles = Roles {
        processes: false,
        relay: true,
        projections: Vec::new(),
    };
    host(config, roles).await
}

/// Projections alone.
pub async fn project(config: Config, projections: Vec<&'static Registered>) -> anyhow::Result<()> {
    let roles = Roles {
        processes: false,
        relay: false,
        projections,
    };
    host(config, roles).await
}

async fn host(config: Config, roles: Roles) -> anyhow::Result<()> {
    let metrics = Metrics::install()?;
    let stop = stop_signal();
    // Bound first: a taken port should not cost a migration.
    let listener = match config.metrics_bind {
        None => None,
        Some(address) => Some(
            TcpListener::bind(address)
                .await
                .with_context(|| format!("JANGBU_METRICS_BIND {address} cannot be bound"))?,
        ),
    };
    let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let node = Node::start(config, Surroundings::system()).await?;
    let mut tasks = node.spawn(roles, &stop);
    tasks.spawn(metrics.clone().keep_folded(stop.clone()));
    if let Some(listener) = listener {
        let stop = stop.clone();
        tasks.spawn(async move {
            if let Err(error) = health::watch(metrics, listener, stop).await {
                tracing::error!(%error, "nobody can see how this process is");
            }
        });
    }
    tracing::info!(metrics.address = address.map(tracing::field::display), "running");
    let log = node.executor.log().clone();
    let watched = watch(&mut tasks, &log, &stop).await;
    wait(&mut tasks).await;
    node.stop().await;
    tracing::info!("stopped");
    watched
}

/// Waits until the process is to stop. A role that ends by itself, or an appender that is gone, stops
/// it too: half a process would look alive and do nothing.
async fn watch(tasks: &mut JoinSet<()>, log: &Log, stop: &CancellationToken) -> anyhow::Result<()> {
    let fault = tokio::select! {
        () = stop.cancelled() => return Ok(()),
        () = log.broken() => "the appender ended",
        _ = tasks.join_next() => "a role ended",
    };
    // Told to stop at the same moment: then it was no fault.
    if stop.is_cancelled() {
        return Ok(());
    }
    stop.cancel();
    Err(anyhow::anyhow!("{fault} by itself; see the log lines before"))
}

/// The simulated PortOne and login providers.
pub async fn sandbox(config: &Config, args: SandboxArgs) -> anyhow::Result<()> {
    let required = |name: &str, why: &str| Usage(format!("{name} is required: {why}"));
    let portone = &config.portone;
    let secret = portone
        .api_secret
        .as_ref()
        .ok_or_else(|| required("PORTONE_API_SECRET", "the sandbox accepts no other"))?;
    let store_id = portone.store_id.as_deref().unwrap_or("store-sandbox");
    if args.webhook_url.is_some() && portone.webhook_secrets.is_empty() {
        return Err(required("PORTONE_WEBHOOK_SECRETS", "webhooks are signed with the first of them").into());
    }
    let mut sandbox = SandboxConfig::new(secret.expose(), store_id);
    sandbox.webhook_urls = args.webhook_url.into_iter().collect();
    sandbox.webhook_secrets = portone
        .webhook_secrets
        .iter()
        .map(|secret| secret.expose().to_owned())
        .collect();
    sandbox.retry_time_scale = args.retry_time_scale;
    sandbox.oauth = login_apps(config);
    if !args.bind.ip().is_loopback() {
        tracing::warn!("anybody who reaches this address can play bank: the control surface has no credentials");
    }
    let stop = stop_signal();
    let running = match jangbu_sandbox::start(sandbox, args.bind).await {
        Ok(running) => running,
        Err(StartError::Config(error)) => return Err(Usage(error.to_string()).into()),
        Err(error @ StartError::Io(_)) => return Err(error).context(format!("--bind {} cannot be bound", args.bind)),
    };
    println!("{}", running.base_url());
    if portone.store_id.is_none() {
        tracing::info!(store_id, "the store, as PORTONE_STORE_ID is not set");
    }
    stop.cancelled().await;
    running.stop().await;
    Ok(())
}

/// The shop as it is registered with the simulated providers: with what is configured, else with the sandbox's own names.
fn login_apps(config: &Config) -> OAuthApps {
    let mut apps = OAuthApps::default();
    for provider in Provider::ALL {
        let app = match provider {
            Provider::Kakao => &mut apps.kakao,
            Provider::Naver => &mut apps.naver,
            Provider::Google => &mut apps.google,
        };
        app.redirect_uris = vec![format!("{}{}", config.public_url, provider.callback_path())];
        if let Some(login) = config.logins.iter().find(|login| login.provider == provider) {
            app.client_id.clone_from(&login.client_id);
            if let Some(secret) = &login.client_secret {
                secret.expose().clone_into(&mut app.client_secret);
            }
            if let Some(key) = &login.admin_key {
                app.admin_key = Some(key.expose().to_owned());
            }
        }
    }
    apps
}

/// Lets the roles finish what they have begun.
async fn wait(tasks: &mut JoinSet<()>) {
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        tracing::warn!("some roles did not stop in time");
        tasks.abort_all();
    }
}
