//! Runs the built binary with an environment of nothing but what a test gives it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use jangbu::clock::Surroundings;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};

/// For whatever is waited for; a machine under load is slow.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A working directory of its own, gone at the end. Data goes below `data`.
pub struct Place(PathBuf);

impl Place {
    pub fn new() -> Self {
        let name = format!("jangbu-cli-{}", Surroundings::system().ids.uuid().simple());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a directory can be made");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn write(&self, name: &str, content: &str) {
        std::fs::write(self.0.join(name), content).expect("a file can be written");
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left is in the system's directory for such things.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

fn command(place: &Place, arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jangbu"));
    command
        .args(arguments)
        .current_dir(&place.0)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("JANGBU_DATA_DIR", place.0.join("data"))
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs it to its end.
pub async fn jangbu(place: &Place, arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let output = timeout(PATIENCE, command(place, arguments, environment).output())
        .await
        .unwrap_or_else(|_| panic!("{arguments:?} does not end"))
        .expect("it can be run");
    Ended {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

/// One that stays up until it is told to stop.
pub struct Process {
    child: Child,
    pub stdout: Reader<ChildStdout>,
    pub stderr: Reader<ChildStderr>,
}

impl Process {
    pub fn start(place: &Place, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = command(place, arguments, environment).spawn().expect("it can be run");
        Self {
            stdout: Reader::new(child.stdout.take().expect("it is piped")),
            stderr: Reader::new(child.stderr.take().expect("it is piped")),
            child,
        }
    }

    /// Sends a signal, reads on to the end, and gives the exit code.
    pub async fn stop(mut self, signal: Signal) -> Ended {
        let id = self.child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?));
        kill_process(id.expect("it runs"), signal).expect("it can be told to stop");
        let (stdout, stderr) = tokio::join!(self.stdout.rest(), self.stderr.rest());
        let status = timeout(PATIENCE, self.child.wait())
            .await
            .expect("it stops")
            .expect("a status");
        Ended {
            code: status.code().unwrap_or(-1),
            stdout,
            stderr,
        }
    }
}

/// Reads lines as they come.
pub struct Reader<R> {
    lines: Lines<BufReader<R>>,
    seen: Vec<String>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    fn new(stream: R) -> Self {
        Self {
            lines: BufReader::new(stream).lines(),
            seen: Vec::new(),
        }
    }

    /// The next line that has this in it.
    pub async fn until(&mut self, word: &str) -> String {
        loop {
            let line = timeout(PATIENCE, self.lines.next_line())
                .await
                .unwrap_or_else(|_| panic!("no line with {word:?} came:\n{}", self.seen.join("\n")));
            let Some(line) = line.expect("text") else {
                panic!("it ended without a line with {word:?}:\n{}", self.seen.join("\n"));
            };
            self.seen.push(line.clone());
            if line.contains(word) {
                return line;
            }
        }
    }

    /// Everything that was read so far.
    pub fn seen(&self) -> &[String] {
        &self.seen
    }

    async fn rest(&mut self) -> String {
        while let Ok(Ok(Some(line))) = timeout(PATIENCE, self.lines.next_line()).await {
            self.seen.push(line);
        }
        self.seen.join("\n")
    }
}
