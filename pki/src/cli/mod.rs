//! Which verbs are there, and how does each of them end?
//!
//! One file per group of verbs. A verb gives back the text for standard output, or why not.

mod ask;
mod inspect;
mod issuing;
mod key;
mod root;
mod signer;
mod transcript;
mod trust;
mod vouch;

use std::future::Future;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use pki::{PkiError, process};

/// Looks at certificates and requests, keeps the root, and runs the issuing CA.
///
/// Exit codes: 0 ok, 1 refused, 2 usage, 3 try later, 4 operator needed, 5 our bug.
#[derive(Parser)]
#[command(name = "m2key-pki", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    #[command(flatten)]
    Look(inspect::Look),
    /// The root, which is kept offline
    #[command(subcommand)]
    Root(root::Root),
    /// Run the issuing CA: answer the authority until SIGTERM or SIGINT
    Signer(signer::SignerArguments),
    /// The keys of the issuing CA, asked of the running signer
    Issuing(issuing::IssuingArguments),
    /// Transcripts of what several operators consented to
    #[command(subcommand)]
    Transcript(transcript::Transcript),
}

pub(crate) fn run(command: Command) -> Result<String, PkiError> {
    // Root keys, operators' keys and passphrases pass through most of them.
    process::forbid_core_dumps().map_err(|error| bug(&error))?;
    match command {
        Command::Look(look) => inspect::run(look),
        Command::Root(verb) => root::run(verb),
        Command::Signer(arguments) => signer::run(arguments),
        Command::Issuing(arguments) => issuing::run(arguments),
        Command::Transcript(verb) => transcript::run(verb),
    }
}

pub(crate) fn exit(outcome: Result<String, PkiError>) -> ExitCode {
    match outcome {
        Ok(text) => print(&text),
        Err(error) => fail(&error),
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
    eprintln!("error: {error}");
    for line in error.hint().lines() {
        eprintln!("hint: {line}");
    }
    ExitCode::from(error.whose_move().exit_code())
}

/// Waits for what an HSM may take a while for.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, PkiError>>) -> Result<T, PkiError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| bug(&error))?.block_on(work)
}

fn bug(detail: &std::io::Error) -> PkiError {
    PkiError::Bug {
        detail: detail.to_string(),
    }
}
