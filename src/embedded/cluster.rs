//! One cluster: making it, starting and stopping its server, and who uses it.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{OpenOptionsExt as _, chown},
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::Pid;

use super::{
    EmbeddedError, PATIENCE, ROLE,
    binaries::{self, Binaries, said},
    place::{Host, Place},
};
use crate::config::ensure_data_dir;

/// Only part of the socket's name, as no port is opened; clients have to say it as `PGPORT` may say another.
const PORT: u16 = 5432;
const POLL: Duration = Duration::from_millis(20);

/// A cluster whose server runs, and our claim that it goes on running.
#[derive(Debug)]
pub(super) struct Cluster {
    place: Place,
    binaries: Binaries,
    server: Server,
    /// Held while a process starts or stops the server, so that no two do.
    gate: PathBuf,
    /// Holds a shared lock: whoever can make it exclusive is the last to use the server.
    claim: File,
}

/// What `postmaster.pid` says about a running server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    port: u16,
    socket_directory: PathBuf,
}

impl Cluster {
    /// Blocks until the server accepts connections.
    pub fn start(host: &Host, data_dir: &Path) -> Result<Self, EmbeddedError> {
        ensure_data_dir(data_dir).map_err(EmbeddedError::io(data_dir))?;
        let data_dir = data_dir.canonicalize().map_err(EmbeddedError::io(data_dir))?;
        let gate_path = data_dir.join("postgres.lock");
        let gate = enter(&gate_path)?;

        let place = host.place(&data_dir)?;
        let data = place.directory.join("data");
        let account = place.account.as_ref();
        let binaries = match std::fs::read_to_string(data.join("PG_VERSION")) {
            Ok(made_by) => binaries::of_version(&host.binary_directories, account, made_by.trim(), &place.directory)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let binaries = binaries::newest(&host.binary_directories, account)?;
                make(&binaries, &place)?;
                binaries
            }
            Err(error) => return Err(EmbeddedError::io(&data)(error)),
        };

        let claim = place.directory.join("users.lock");
        let file = open_lock(&claim).map_err(EmbeddedError::io(&claim))?;
        if let Some(account) = account {
            chown(&claim, Some(account.uid), Some(account.gid)).map_err(EmbeddedError::io(&claim))?;
        }
        // Nobody holds it exclusively for longer than the gate is held, and that is us.
        file.lock_shared().map_err(EmbeddedError::io(&claim))?;

        let server = running_or_started(&binaries, &place)?;
        drop(gate);
        Ok(Self {
            place,
            binaries,
            server,
            gate: gate_path,
            claim: file,
        })
    }

    pub fn directory(&self) -> &Path {
        &self.place.directory
    }

    pub fn socket_directory(&self) -> &Path {
        &self.server.socket_directory
    }

    pub fn port(&self) -> u16 {
        self.server.port
    }

    /// Gives up our claim; the last to do so stops the server. Blocks until it has stopped.
    pub fn release(self) -> Result<(), EmbeddedError> {
        let _gate = enter(&self.gate)?;
        match self.claim.try_lock() {
            Err(TryLockError::WouldBlock) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(EmbeddedError::io(&self.place.directory)(error)),
            Ok(()) => {}
        }
        if !matches!(State::of(&self.place.directory.join("data"))?, State::Down) {
            run(
                pg_ctl(&self.binaries, &self.place, "stop").args(["--mode", "fast"]),
                "pg_ctl stop",
            )?;
        }
        self.place.remove_socket_directory();
        Ok(())
    }

    /// What a `kill -9` of this process would leave behind: the server, without our claim on it.
    #[cfg(test)]
    pub fn abandon(self) {
        drop(self.claim);
    }
}

/// Waits for the exclusive lock on `path`, which is given up when the file is dropped.
fn enter(path: &Path) -> Result<File, EmbeddedError> {
    let file = open_lock(path).map_err(EmbeddedError::io(path))?;
    let since = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if since.elapsed() < PATIENCE => sleep(POLL),
            Err(TryLockError::WouldBlock) => {
                return Err(EmbeddedError::Locked {
                    lock: path.to_path_buf(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(EmbeddedError::io(path)(error)),
        }
    }
}

fn open_lock(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Makes the cluster under another name first, so that one which is there is complete.
fn make(binaries: &Binaries, place: &Place) -> Result<(), EmbeddedError> {
    let draft = place.directory.join("data.draft");
    match std::fs::remove_dir_all(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(EmbeddedError::io(&draft)(error)),
        _ => {}
    }
    let mut initdb = binaries.command("initdb", place.account.as_ref(), &place.directory);
    initdb.args([
        "--pgdata",
        "data.draft",
        "--username",
        ROLE,
        "--no-instructions",
        "--data-checksums",
    ]);
    // The C locale sorts Hangul by syllable, as a Korean dictionary does, and does so alike on every machine.
    initdb.args(["--encoding", "UTF8", "--locale", "C"]);
    // The socket's directory decides who may connect; through the network nobody may.
    initdb.args(["--auth-local", "trust", "--auth-host", "reject"]);
    run(&mut initdb, "initdb")?;
    std::fs::rename(&draft, place.directory.join("data")).map_err(EmbeddedError::io(&draft))
}

fn running_or_started(binaries: &Binaries, place: &Place) -> Result<Server, EmbeddedError> {
    let data = place.directory.join("data");
    let since = Instant::now();
    loop {
        match State::of(&data)? {
            State::Ready(server) => return Ok(server),
            State::Down => launch(binaries, place)?,
            State::Changing => sleep(POLL),
        }
        if since.elapsed() > PATIENCE {
            return Err(EmbeddedError::NotReady {
                directory: place.directory.clone(),
            });
        }
    }
}

fn launch(binaries: &Binaries, place: &Place) -> Result<(), EmbeddedError> {
    let socket = place.socket_directory()?;
    let mut options = vec![
        "listen_addresses=".to_owned(),
        format!("unix_socket_directories={}", socket.display()),
    ];
    options.extend([format!("port={PORT}"), "unix_socket_permissions=0700".to_owned()]);
    // A shell reads this line; `Place::socket_directory` gives only paths that it leaves alone.
    let options = options
        .iter()
        .map(|option| format!("-c {option}"))
        .collect::<Vec<_>>()
        .join(" ");
    let log = place.directory.join("server.log");
    let written_before = std::fs::metadata(&log).map_or(0, |metadata| metadata.len());
    run(
        pg_ctl(binaries, place, "start").args(["--log", "server.log", "--options", &options]),
        "pg_ctl start",
    )
    .map_err(|error| match error {
        // pg_ctl only says "examine the log output".
        EmbeddedError::Failed {
            program,
            status,
            output,
        } => {
            let log = std::fs::read(&log).unwrap_or_default();
            let new = String::from_utf8_lossy(&log[usize::try_from(written_before).unwrap_or(0).min(log.len())..])
                .into_owned();
            let lines: Vec<&str> = new.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            let last = lines[lines.len().saturating_sub(4)..].join("; ");
            EmbeddedError::Failed {
                program,
                status,
                output: if last.is_empty() { output } else { last },
            }
        }
        other => other,
    })
}

/// The data directory goes by environment and the log by working directory, as `pg_ctl` would put either into a shell
/// command without quoting what a shell minds.
fn pg_ctl(binaries: &Binaries, place: &Place, verb: &str) -> std::process::Command {
    let mut command = binaries.command("pg_ctl", place.account.as_ref(), &place.directory);
    command.env("PGDATA", place.directory.join("data"));
    command.args([verb, "--silent", "--wait", "--timeout", &PATIENCE.as_secs().to_string()]);
    command
}

fn run(command: &mut std::process::Command, name: &str) -> Result<(), EmbeddedError> {
    let output = command
        .output()
        .map_err(EmbeddedError::io(Path::new(command.get_program())))?;
    if output.status.success() {
        return Ok(());
    }
    Err(EmbeddedError::Failed {
        program: name.to_owned(),
        status: output.status,
        output: said(&output),
    })
}

/// Whether a server runs in a data directory.
#[derive(Debug, PartialEq, Eq)]
enum State {
    Down,
    /// Starting, recovering or stopping.
    Changing,
    Ready(Server),
}

impl State {
    fn of(data: &Path) -> Result<Self, EmbeddedError> {
        let path = data.join("postmaster.pid");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Down),
            Err(error) => return Err(EmbeddedError::io(&path)(error)),
        };
        // pid, data directory, start time, port, socket directory, listen address, shared memory, status
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let Some(pid) = lines.first().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw) else {
            // Created but not yet written.
            return Ok(Self::Changing);
        };
        if !is_postmaster(pid, data) {
            // The file outlived its server. PostgreSQL sees this by itself unless another process of the same user has
            // the number by now, as happens after the machine or the container starts again.
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(EmbeddedError::io(&path)(error)),
                _ => Ok(Self::Down),
            };
        }
        match lines[..] {
            [_, _, _, port, socket_directory, _, _, "ready", ..] => match port.parse() {
                Ok(port) => Ok(Self::Ready(Server {
                    port,
                    socket_directory: PathBuf::from(socket_directory),
                })),
                Err(_) => Ok(Self::Changing),
            },
            _ => Ok(Self::Changing),
        }
    }
}

/// Whether `pid` is a PostgreSQL that serves `data`.
fn is_postmaster(pid: Pid, data: &Path) -> bool {
    let pid = pid.as_raw_nonzero();
    if !Path::new("/proc/self/comm").exists() {
        let name = std::process::Command::new("ps")
            .args(["-o", "comm=", "-p", &pid.to_string()])
            .output();
        return name.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("postgres"));
    }
    let is_postgres = std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == "postgres");
    // Root in a container may not see it, but the name of a process is always visible.
    let serves_another = std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|directory| directory != data);
    is_postgres && !serves_another
}
