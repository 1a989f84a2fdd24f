//! Child processes of the built program, and what processes take of the machine.

use std::{
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::client::{Connection, Request};

/// How long a process may take to come up, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Linux counts processor time for programs in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// A process that answers HTTP.
pub struct Process {
    name: &'static str,
    /// Where it answers.
    pub address: SocketAddr,
    child: Child,
}

/// What a process has taken since it started, and holds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// Of the processor, in user and kernel mode.
    pub cpu: Duration,
    /// Resident memory now.
    pub resident_mib: u64,
}

/// The program that was built with this one.
pub fn program(directory: &Path, variables: &[(String, String)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jangbu"));
    // Nothing of the caller's environment, and no `.env`, decides what is measured.
    command
        .env_clear()
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs it to its end and gives what it printed.
pub async fn output(mut command: Command) -> anyhow::Result<String> {
    let output = timeout(PATIENCE, command.stderr(Stdio::piped()).output()).await??;
    anyhow::ensure!(
        output.status.success(),
        "jangbu failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// An address on this machine that nobody listens at.
pub async fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    Ok(listener.local_addr()?)
}

impl Process {
    /// Starts it and waits until `ready` answers 200.
    pub async fn start(
        name: &'static str,
        mut command: Command,
        address: SocketAddr,
        ready: &str,
    ) -> anyhow::Result<Self> {
        let child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn()?;
        let mut process = Self { name, address, child };
        let mut connection = Connection::new(address);
        let begun = Instant::now();
        loop {
            if let Ok(answer) = connection.send(Request::get(ready)).await
                && answer.status == 200
            {
                return Ok(process);
            }
            if let Some(status) = process.child.try_wait()? {
                anyhow::bail!("{name} ended: {status}");
            }
            anyhow::ensure!(begun.elapsed() < PATIENCE, "{name} does not come up");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it has taken so far.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        usage(self.child.id().context("it runs")?)
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        self.child.kill().await?;
        Ok(())
    }

    /// Tells it to end, and waits.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid {
            kill_process(pid, Signal::TERM)?;
        }
        let status: ExitStatus = timeout(PATIENCE, self.child.wait())
            .await
            .with_context(|| format!("{} does not end", self.name))??;
        anyhow::ensure!(status.success(), "{} ended: {status}", self.name);
        Ok(())
    }
}

/// What one process has taken.
fn usage(pid: u32) -> anyhow::Result<Usage> {
    let stat = Stat::read(&pid.to_string())?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let resident_kib: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
        .context("the kernel tells the resident memory")?;
    Ok(Usage {
        cpu: stat.own,
        resident_mib: resident_kib / 1_024,
    })
}

/// What this process has taken.
pub fn own_cpu() -> anyhow::Result<Duration> {
    Ok(Stat::read("self")?.own)
}

/// What PostgreSQL's backends of one database have taken; they have its name in their title.
pub fn cpu_of_backends(database: &str) -> Duration {
    cpu_of(|_, title| title.starts_with("postgres:") && title.contains(database))
}

/// What all processes of this name have taken, for whomever.
pub fn cpu_of_all(name: &str) -> Duration {
    cpu_of(|stat, _| stat.name == name)
}

/// What those processes have taken that `wanted` picks by their numbers and title.
fn cpu_of(wanted: impl Fn(&Stat, &str) -> bool) -> Duration {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Duration::ZERO;
    };
    processes
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        .filter_map(|pid| {
            // It may have ended meanwhile.
            let title = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            Some((Stat::read(&pid).ok()?, title))
        })
        .filter(|(stat, title)| wanted(stat, &String::from_utf8_lossy(title)))
        .map(|(stat, _)| stat.own)
        .sum()
}

/// The part of `/proc/<pid>/stat` that matters here.
struct Stat {
    name: String,
    own: Duration,
}

impl Stat {
    fn read(pid: &str) -> anyhow::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (head, rest) = stat.rsplit_once(')').context("a process has a name")?;
        let (_, name) = head.split_once('(').context("a process has a name")?;
        // Fields 14 and 15 of proc(5), counted from 1; `rest` begins with the third.
        let ticks: Vec<u32> = rest
            .split_whitespace()
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse().ok())
            .collect();
        let &[user, system] = ticks.as_slice() else {
            anyhow::bail!("a process has times");
        };
        Ok(Self {
            name: name.to_owned(),
            own: TICK * (user + system),
        })
    }
}
