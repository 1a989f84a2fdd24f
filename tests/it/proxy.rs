//! Stands between the appender and PostgreSQL and fails on demand, at a known point of the protocol.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

/// Where the next connection breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Before a statement's arguments reach the server: it is not executed.
    BeforeExecution,
    /// After the server has committed an append or an insert, before the client hears of it.
    AfterCommit,
}

/// A proxy in front of one server.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: tokio::task::AbortHandle,
}

struct Shared {
    fault: Mutex<Option<Fault>>,
    cuts: AtomicUsize,
    stalled: watch::Sender<bool>,
    connections: AtomicUsize,
    /// Connections up to this number pass nothing on any more.
    silenced: AtomicUsize,
}

impl Proxy {
    /// Listens on a port of its own.
    pub async fn start(server: &PgConnectOptions) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            fault: Mutex::new(None),
            cuts: AtomicUsize::new(0),
            stalled: watch::Sender::new(false),
            connections: AtomicUsize::new(0),
            silenced: AtomicUsize::new(0),
        });
        let upstream = (server.get_host().to_owned(), server.get_port());
        let accepting = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    if let Ok(server) = TcpStream::connect(&upstream).await {
                        tokio::spawn(carry(client, server, Arc::clone(&shared)));
                    }
                }
            }
        })
        .abort_handle();
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// How to reach the server through this proxy.
    pub fn options(&self, server: &PgConnectOptions) -> PgConnectOptions {
        server
            .clone()
            .host("127.0.0.1")
            .port(self.address.port())
            .ssl_mode(PgSslMode::Disable)
    }

    /// Breaks the connection that next comes to this point.
    pub fn arm(&self, fault: Fault) {
        *self.shared.fault.lock().expect("no panic under the lock") = Some(fault);
    }

    /// How many connections were broken so far.
    pub fn cuts(&self) -> usize {
        self.shared.cuts.load(Ordering::SeqCst)
    }

    /// Keeps every reply back until [`Self::resume`].
    pub fn stall(&self) {
        self.shared.stalled.send_replace(true);
    }

    /// Lets every connection there is now fall silent for good, without closing it.
    pub fn silence(&self) {
        let connections = self.shared.connections.load(Ordering::SeqCst);
        self.shared.silenced.store(connections, Ordering::SeqCst);
    }

    /// Passes on what was kept back.
    pub fn resume(&self) {
        self.shared.stalled.send_replace(false);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    /// Whether this is the point to break at; it breaks once.
    fn fires(&self, fault: Fault) -> bool {
        let mut armed = self.fault.lock().expect("no panic under the lock");
        let fires = *armed == Some(fault);
        if fires {
            *armed = None;
            self.cuts.fetch_add(1, Ordering::SeqCst);
        }
        fires
    }
}

/// Carries messages both ways until either side closes or the fault strikes, then closes both.
async fn carry(client: TcpStream, server: TcpStream, shared: Arc<Shared>) {
    let number = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
    _ = client.set_nodelay(true);
    _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        _ = carry_requests(BufReader::new(from_client), to_server, &shared) => {}
        _ = carry_replies(BufReader::new(from_server), to_client, &shared, number) => {}
    }
}

async fn carry_requests(
    mut client: BufReader<OwnedReadHalf>,
    mut server: OwnedWriteHalf,
    shared: &Shared,
) -> std::io::Result<()> {
    // The first message has no type.
    let length = client.read_u32().await?;
    let mut startup = length.to_be_bytes().to_vec();
    startup.resize(length as usize, 0);
    client.read_exact(&mut startup[4..]).await?;
    server.write_all(&startup).await?;
    loop {
        let message = message(&mut client).await?;
        // `B` binds the arguments of a prepared statement.
        if message[0] == b'B' && shared.fires(Fault::BeforeExecution) {
            return Ok(());
        }
        server.write_all(&message).await?;
    }
}

async fn carry_replies(
    mut server: BufReader<OwnedReadHalf>,
    mut client: OwnedWriteHalf,
    shared: &Shared,
    number: usize,
) -> std::io::Result<()> {
    let mut stalled = shared.stalled.subscribe();
    let mut changed = false;
    // Replies are kept until the server is ready again: only then has it committed.
    let mut kept = Vec::new();
    loop {
        let message = message(&mut server).await?;
        kept.extend_from_slice(&message);
        match message[0] {
            // The row with which `append` says that it has: three fields, the last of them true.
            b'D' => changed |= message[5..7] == [0, 3] && message.ends_with(&[0, 0, 0, 1, 1]),
            b'C' => changed |= message[5..].starts_with(b"INSERT") || message[5..].starts_with(b"COMMIT"),
            // Idle: no transaction is open.
            b'Z' if message[5] == b'I' && std::mem::take(&mut changed) && shared.fires(Fault::AfterCommit) => {
                return Ok(());
            }
            _ => {}
        }
        // Anything that the client may wait for.
        if matches!(message[0], b'Z' | b'R' | b'E' | b'A') || kept.len() > 1 << 16 {
            if stalled.wait_for(|stalled| !stalled).await.is_err() {
                return Ok(());
            }
            let reply = std::mem::take(&mut kept);
            if number > shared.silenced.load(Ordering::SeqCst) {
                client.write_all(&reply).await?;
            }
        }
    }
}

/// One message: its type, its length (which counts itself), its body.
async fn message(from: &mut BufReader<OwnedReadHalf>) -> std::io::Result<Vec<u8>> {
    let kind = from.read_u8().await?;
    let length = from.read_u32().await?;
    let mut message = vec![kind];
    message.extend_from_slice(&length.to_be_bytes());
    message.resize(length as usize + 1, 0);
    from.read_exact(&mut message[5..]).await?;
    Ok(message)
}
