//! How does the agent start? Arguments, then the command, then an exit code that says whose move it is.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use reader_agent::cli::{self, Cli};

// Two threads on every machine: one may wait for the disk.
#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    match cli::run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            eprintln!("hint: {}", error.hint());
            ExitCode::from(error.whose().exit_code())
        }
    }
}
