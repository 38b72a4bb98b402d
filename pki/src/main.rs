//! What does someone with a certificate, a key or a root to look after want to do?
#![forbid(unsafe_code)]

mod cli;
mod clock;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    cli::exit(cli::run(arguments.command))
}
