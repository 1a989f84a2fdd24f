//! Starting and stopping the simulator, inside a test or as a command.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::{ConfigError, SandboxConfig};
use crate::portone::Sandbox;
use crate::webhooks::{Inbox, delivery};

/// Calls that are under way at the end get this long to finish.
const GRACE: Duration = Duration::from_secs(2);

/// Why the simulator did not start or came to an end.
#[derive(Debug)]
pub enum StartError {
    /// The configuration cannot work.
    Config(ConfigError),
    /// The address could not be bound, or the socket failed.
    Io(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A simulator that runs in this process; it ends when this is stopped or dropped.
pub struct Running {
    sandbox: Sandbox,
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    /// The address it listens at.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:<port>`, for `PORTONE_API_BASE`.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The simulator itself, to change the webhook address or wait for the webhooks.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Stops it: no new calls, two seconds for those under way; webhooks that are still pending are lost.
    pub async fn stop(self) {
        // The server may have ended by itself; then there is nobody to tell.
        let _ = self.stop.send(());
        let _ = self.task.await;
    }
}

/// Starts the simulator in a task of its own; port 0 takes any free one.
pub async fn start(config: SandboxConfig, bind: SocketAddr) -> Result<Running, StartError> {
    let (sandbox, inbox) = Sandbox::new(config)?;
    let listener = TcpListener::bind(bind).await?;
    let addr = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel();
    let served = run(listener, sandbox.clone(), inbox, async {
        // An error means that the handle was dropped, which stops the simulator too.
        let _ = stopped.await;
    });
    let task = tokio::spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "the sandbox stopped");
        }
    });
    Ok(Running {
        sandbox,
        addr,
        stop,
        task,
    })
}

/// Runs the simulator at a socket that is already bound, until `shutdown` is ready.
pub async fn serve(
    listener: TcpListener,
    config: SandboxConfig,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), StartError> {
    let (sandbox, inbox) = Sandbox::new(config)?;
    Ok(run(listener, sandbox, inbox, shutdown).await?)
}

async fn run(
    listener: TcpListener,
    sandbox: Sandbox,
    inbox: Inbox,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let _workers = delivery::run(&sandbox, inbox);
    let (begun, begins) = oneshot::channel();
    let shutdown = async move {
        shutdown.await;
        let _ = begun.send(());
    };
    let listener = listener.tap_io(|connection| {
        // Without it, small answers wait for the client's delayed acknowledgement.
        if let Err(error) = connection.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
    });
    let server = axum::serve(listener, sandbox.router()).with_graceful_shutdown(shutdown);
    tokio::select! {
        result = async { server.await } => result,
        () = async { let _ = begins.await; tokio::time::sleep(GRACE).await } => Ok(()),
    }
}
