//! What does `m2key-authority` do? Reads its arguments and carries out the verb they name: `cli.rs`.
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
