//! What does someone with a certificate file want to know?
#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pki::PkiError;

/// Looks at certificates and requests.
///
/// Exit codes: 0 ok, 1 refused, 2 usage, 3 try later, 4 operator needed, 5 our bug.
#[derive(Parser)]
#[command(name = "m2key-pki", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Tell in words what is in a PEM or DER file of certificates and requests
    Inspect { file: PathBuf },
    /// Print the SHA-256 fingerprint of the one certificate in a file
    Fingerprint { file: PathBuf },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(text) => print(&text),
        Err(error) => fail(&error),
    }
}

fn run(command: Command) -> Result<String, PkiError> {
    match command {
        Command::Inspect { file } => pki::inspect::inspect(&file),
        Command::Fingerprint { file } => Ok(format!("{}\n", pki::inspect::fingerprint(&file)?)),
    }
}

fn print(text: &str) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough, or the disk behind it is full; either is theirs.
        Err(_) => ExitCode::from(pki::Move::Operator.exit_code()),
    }
}

fn fail(error: &PkiError) -> ExitCode {
    eprintln!("error: {error}\nhint: {}", error.hint());
    ExitCode::from(error.whose_move().exit_code())
}
