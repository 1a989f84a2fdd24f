//! One process of the program, and what it said.

use std::{
    io::{BufRead as _, BufReader, Read},
    path::Path,
    process::{Child as Process, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to start, and to stop when it is asked to.
const PATIENCE: Duration = Duration::from_secs(40);
/// Lines of each role that a failed test shows.
const SHOWN: usize = 60;

/// Everything that the processes of one role said, one after the other.
#[derive(Debug, Clone, Default)]
pub struct Said(Arc<Mutex<Vec<String>>>);

impl Said {
    fn listen(&self, source: impl Read + Send + 'static) {
        let said = self.clone();
        // It ends with the process, whose end of the pipe is closed then.
        thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                said.lines(|lines| lines.push(line));
            }
        });
    }

    pub fn lines<T>(&self, look: impl FnOnce(&mut Vec<String>) -> T) -> T {
        look(&mut self.0.lock().expect("nobody panics with it"))
    }

    /// For a failed test.
    pub fn show(&self, role: &str) {
        self.lines(|lines| {
            println!("---- {role}: the last of {} lines ----", lines.len());
            for line in &lines[lines.len().saturating_sub(SHOWN)..] {
                println!("{line}");
            }
        });
    }
}

/// A running process; it does not outlive this value.
pub struct Child {
    role: String,
    process: Process,
    said: Said,
    /// Lines that earlier processes of the role had said.
    before: usize,
}

impl Child {
    /// Starts it with these variables alone, in a directory without `.env`.
    pub fn start(
        role: &str,
        arguments: &[String],
        variables: &[(&str, String)],
        directory: &Path,
        said: &Said,
    ) -> Self {
        let program = std::env::var("JANGBU_TEST_PROGRAM");
        let program = program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_jangbu"));
        let mut process = Command::new(program)
            .args(arguments)
            .env_clear()
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let before = said.lines(|lines| {
            lines.push(format!("==== {role} starts as {} ====", process.id()));
            lines.len()
        });
        said.listen(process.stdout.take().expect("it is piped"));
        said.listen(process.stderr.take().expect("it is piped"));
        Self {
            role: role.to_owned(),
            process,
            said: said.clone(),
            before,
        }
    }

    /// Whether this process, not one before it, said so.
    pub fn has_said(&self, text: &str) -> bool {
        self.said
            .lines(|lines| lines[self.before..].iter().any(|line| line.contains(text)))
    }

    /// Waits for a line; panics if the process ends before.
    pub async fn says(&mut self, text: &str) {
        let started = Instant::now();
        while !self.has_said(text) {
            self.assert_alive();
            assert!(started.elapsed() < PATIENCE, "{} did not say {text:?}", self.role);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn assert_alive(&mut self) {
        if let Some(status) = self.process.try_wait().expect("its state can be read") {
            panic!("{} ended by itself: {status}", self.role);
        }
    }

    /// What it said behind the last `text`, up to the next space.
    pub fn said_after(&self, text: &str) -> Option<String> {
        self.said.lines(|lines| {
            let line = lines[self.before..].iter().rev().find(|line| line.contains(text))?;
            let (_, rest) = line.split_once(text)?;
            rest.split_whitespace().next().map(str::to_owned)
        })
    }

    /// As `kill -STOP` and `kill -CONT`.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it can be sent signals");
    }

    /// As `kill -9`.
    pub fn kill(&mut self) {
        _ = self.process.kill();
        _ = self.process.wait();
    }

    /// Asks it to stop and waits until it has.
    pub async fn stop(mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.process), Signal::TERM).expect("it can be asked to stop");
        self.ended().await
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.process.try_wait().expect("its state can be read") {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "{} does not end", self.role);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}
