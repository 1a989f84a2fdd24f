//! Processes that can be killed, and a way to the broker that can be cut.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use jangbu::feed::Context;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    sync::watch,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Roles in a runtime of their own: as good as a process. It has no time to say good-bye when it is
/// killed, and the operating system closes its sockets.
pub struct Process {
    runtime: Option<Runtime>,
    role: Option<JoinHandle<()>>,
    shutdown: CancellationToken,
}

impl Process {
    /// `context` is made inside, so that its pool lives and dies with the process.
    pub fn start<R>(
        context: impl Future<Output = Context> + Send + 'static,
        role: impl FnOnce(Context, CancellationToken) -> R + Send + 'static,
    ) -> Self
    where
        R: Future<Output = ()> + Send,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let shutdown = CancellationToken::new();
        let token = shutdown.clone();
        let role = runtime.spawn(async move { role(context.await, token).await });
        Self {
            runtime: Some(runtime),
            role: Some(role),
            shutdown,
        }
    }

    pub fn kill(mut self) {
        self.kill_now();
    }

    pub async fn stop(mut self) {
        self.shutdown.cancel();
        let role = self.role.take().expect("it is stopped once");
        tokio::time::timeout(Duration::from_secs(10), role)
            .await
            .expect("it stops in time")
            .expect("it does not panic");
    }

    fn kill_now(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_now();
    }
}

/// A TCP proxy to the broker.
pub struct Proxy {
    pub url: String,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
    open: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// In front of the broker at an AMQP URL of the form `amqp://user:password@host:port/vhost`.
    pub async fn start(url: &str) -> Self {
        let (before, rest) = url.split_once('@').expect("the URL has a user");
        let (host, vhost) = rest.split_once('/').expect("the URL has a virtual host");
        let target = host.to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address: SocketAddr = listener.local_addr().expect("it is bound");
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (open, is_open) = watch::channel(true);
        let list = connections.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                if !*is_open.borrow() {
                    continue;
                }
                let target = target.clone();
                let copying = tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(&target).await {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                    }
                });
                list.lock().expect("nobody panics with it").push(copying);
            }
        });
        Self {
            url: format!("{before}@{address}/{vhost}"),
            connections,
            open,
            accepting,
        }
    }

    /// Cuts every connection.
    pub fn cut(&self) {
        for connection in self.connections.lock().expect("nobody panics with it").drain(..) {
            connection.abort();
        }
    }

    /// Lets new connections through, or not.
    pub fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}
