//! Arguments, then the one verb they ask for; see `authority::cli`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use authority::cli::{Arguments, run};

fn main() -> ExitCode {
    let arguments = Arguments::read();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.tell(),
    }
}
