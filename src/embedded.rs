//! A private PostgreSQL, so that Jangbu runs without any configuration.
//!
//! Without `DATABASE_URL`, the installed PostgreSQL binaries run a cluster of our own below the data directory. Only
//! its owner can reach it, through a Unix socket; no port is opened. It is an ordinary cluster with fsync on, meant for
//! one machine; nothing in it differs from a server that `DATABASE_URL` names.
//!
//! Several Jangbu processes may share a data directory. The first starts the server, the others attach, and whoever
//! leaves last stops it; so it does not matter which of `serve` and `import` ends first. This is kept by file locks,
//! which the kernel drops with their process: after a `kill -9` the server runs on until the next process has
//! attached and left.

mod binaries;
mod cluster;
mod place;

use std::{
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use sqlx::{Connection as _, PgConnection};

use cluster::Cluster;
use place::{Account, Host};

/// The database in the private cluster that the URL names.
const DATABASE: &str = "jangbu";
/// The cluster's only role. The socket's directory, which no one else may enter, stands in for a password.
const ROLE: &str = "postgres";
/// How long a server may take to start or stop, and another process to do so before us. Recovery after a crash with a
/// gigabyte of WAL takes seconds, not minutes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why the private PostgreSQL does not run. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    /// PostgreSQL is not installed, or only its client.
    #[error(
        "no PostgreSQL server (initdb, pg_ctl and postgres {oldest} or newer) was found in {searched}; install one \
         (Debian, Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; macOS: brew install \
         postgresql@16) or set DATABASE_URL"
    )]
    NotInstalled {
        /// The oldest major version that serves.
        oldest: u32,
        /// The directories, separated by commas.
        searched: String,
    },
    /// The cluster was made by a PostgreSQL that is no longer installed.
    #[error(
        "the database in {} was made by PostgreSQL {made_by}, but installed is only {installed}; install PostgreSQL \
         {made_by} beside it, or choose another JANGBU_DATA_DIR", directory.display()
    )]
    OtherVersion {
        /// The cluster's directory.
        directory: PathBuf,
        /// The major version in its `PG_VERSION`.
        made_by: String,
        /// The major versions found, separated by commas.
        installed: String,
    },
    /// PostgreSQL refuses to run as root and there is no one to run it as.
    #[error("PostgreSQL does not run as root, and there is no user postgres or nobody; start Jangbu as another user")]
    NoAccount,
    /// The cluster is someone else's.
    #[error("{} belongs to another user (uid {owner}); start Jangbu as that user, or choose another JANGBU_DATA_DIR", directory.display())]
    NotOurs {
        /// The cluster's directory.
        directory: PathBuf,
        /// Who owns it.
        owner: u32,
    },
    /// The server's user cannot pass a directory above the cluster.
    #[error("user {user} cannot enter {}; choose a JANGBU_DATA_DIR that it can, or set DATABASE_URL", directory.display())]
    Unreachable {
        /// The cluster's directory.
        directory: PathBuf,
        /// Who the server would run as.
        user: String,
    },
    /// The cluster was kept outside the data directory and is no longer there.
    #[error("the database was kept in {} and is not there any more; delete {} to begin an empty one", directory.display(), note.display())]
    Gone {
        /// Where it was.
        directory: PathBuf,
        /// The file that says so.
        note: PathBuf,
    },
    /// Another process is starting or stopping the server and does not come to an end.
    #[error("another process has held {} for {} s", lock.display(), PATIENCE.as_secs())]
    Locked {
        /// The lock's file.
        lock: PathBuf,
    },
    /// One of PostgreSQL's programs failed.
    #[error("{program} failed ({status}): {output}")]
    Failed {
        /// `initdb` or `pg_ctl start`, say.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote, or the end of the server's log.
        output: String,
    },
    /// The server that runs there does not become ready.
    #[error("the PostgreSQL in {} is not ready after {} s", directory.display(), PATIENCE.as_secs())]
    NotReady {
        /// The cluster's directory.
        directory: PathBuf,
    },
    /// A file or a program cannot be used.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The server runs but does not answer.
    #[error("the private PostgreSQL does not answer: {0}")]
    Sql(#[from] sqlx::Error),
}

impl EmbeddedError {
    /// For `map_err` beside the path that an operation was about.
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

/// A running private PostgreSQL, kept running as long as this value lives.
#[derive(Debug)]
pub struct Embedded {
    url: String,
    directory: PathBuf,
    /// `None` once it has been let go.
    cluster: Option<Cluster>,
}

impl Embedded {
    /// Starts the PostgreSQL of `data_dir`, or attaches to it if another process has, making the directory and the
    /// cluster when there is none (about two seconds). Returns when it accepts connections.
    ///
    /// As root, the server runs as the user `postgres` or `nobody`. If that user cannot reach `data_dir`, which is so
    /// in a home that only root may enter, the cluster is kept below `/var/lib/jangbu` and `postgres.location` in
    /// `data_dir` names the place.
    pub async fn start(data_dir: &Path) -> Result<Self, EmbeddedError> {
        Self::start_on(Host::this_machine(), data_dir).await
    }

    async fn start_on(host: Host, data_dir: &Path) -> Result<Self, EmbeddedError> {
        let data_dir = data_dir.to_path_buf();
        // If this future is dropped, the task still ends, and dropping what it returns lets the server go again.
        let cluster = blocking(move || Cluster::start(&host, &data_dir)).await?;
        let socket = cluster.socket_directory();
        let url = |database: &str| url(socket, cluster.port(), database);
        create_database(&url("postgres")).await?;
        Ok(Self {
            url: url(DATABASE),
            directory: cluster.directory().to_path_buf(),
            cluster: Some(cluster),
        })
    }

    /// `postgres:///jangbu?host=…&port=…&user=…`, through the Unix socket; for sqlx and for psql.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where the cluster is kept, for messages to a person.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Lets the server go: stops it (fast shutdown, open transactions are rolled back) unless another process uses it.
    /// Close the pools first, or they will report lost connections. Dropping the value does the same, but blocks and
    /// can only log an error.
    pub async fn stop(mut self) -> Result<(), EmbeddedError> {
        match self.cluster.take() {
            Some(cluster) => blocking(move || cluster.release()).await,
            None => Ok(()),
        }
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.cluster.take().map(Cluster::release) {
            tracing::error!(%error, "the private PostgreSQL could not be stopped");
        }
    }
}

/// The newest installed PostgreSQL that [`Embedded`] could run for a new cluster, as its directory of binaries and its
/// major version; for `doctor`.
pub fn installed() -> Result<(PathBuf, u32), EmbeddedError> {
    let host = Host::this_machine();
    let account = Account::for_new_cluster()?;
    let newest = binaries::newest(&host.binary_directories, account.as_ref())?;
    Ok((newest.directory, newest.major))
}

/// Whether [`Embedded::start`] would find a cluster of `data_dir`, rather than make one; for `doctor`.
pub fn is_made(data_dir: &Path) -> bool {
    data_dir.join(place::INSIDE).is_dir() || data_dir.join(place::NOTE).exists()
}

/// PostgreSQL's programs, locks and files block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work)
        .await
        .expect("the work neither panics nor is cancelled")
}

fn url(socket_directory: &Path, port: u16, database: &str) -> String {
    let host: String =
        serde_urlencoded::to_string([("host", socket_directory.to_string_lossy())]).expect("a pair of texts encodes");
    format!("postgres:///{database}?{host}&port={port}&user={ROLE}")
}

/// `duplicate_database`, or `unique_violation` when two inserted into the catalog at once.
const LOST_RACE: [&str; 2] = ["42P04", "23505"];

/// Creates our database; that another process is doing the same at this moment is no error.
async fn create_database(maintenance_url: &str) -> Result<(), EmbeddedError> {
    let mut connection = PgConnection::connect(maintenance_url).await?;
    let there: bool = sqlx::query_scalar("select exists (select from pg_database where datname = $1)")
        .bind(DATABASE)
        .fetch_one(&mut connection)
        .await?;
    if !there {
        let created = sqlx::query(&format!("create database {DATABASE}"))
            .execute(&mut connection)
            .await;
        match created {
            Err(sqlx::Error::Database(error)) if LOST_RACE.contains(&error.code().as_deref().unwrap_or_default()) => {}
            created => {
                created?;
            }
        }
    }
    connection.close().await?;
    Ok(())
}

#[cfg(test)]
mod tests;
