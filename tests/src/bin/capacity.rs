//! What does a bank have to buy? `m2key-capacity plan --terminals 250000`

use std::process::ExitCode;

use clap::Parser;
use harness::capacity::cli::{Arguments, run};

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(wrong) => {
            eprintln!("error: {wrong}\nhint: m2key-capacity help");
            ExitCode::from(2)
        }
    }
}
