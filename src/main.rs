//! The command line. `--help` of every command is meant to be read.

mod cli;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::Cli;

/// A value that makes no sense, or a wrong call.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("jangbu: no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(cli.run());
    // Whatever still runs in the background has been told to stop and waited for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match result {
        Ok(code) => code,
        Err(error) if cli::is_usage(&error) => {
            eprintln!("jangbu: {error}");
            ExitCode::from(USAGE)
        }
        Err(error) => {
            eprintln!("jangbu: {error:#}");
            ExitCode::FAILURE
        }
    }
}
