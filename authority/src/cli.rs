//! What does `m2key-authority` do when it is asked?
//!
//! One file per group of verbs. Verbs of operators go to the running daemon with the operator's
//! certificate, or with `--offline` to the stopped authority itself.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::{core_dumps, environment, logging, serve};

mod account;
mod audit;
mod checks;
mod daemon;
mod error;
mod init;
mod merchant;
mod receipt;
mod renew;
mod terminal;
mod trust;

pub use error::{CliError, Exit};

/// The M2Key authority: keeps the seeds, judges the tokens, signs the receipts.
#[derive(Debug, Parser)]
#[command(name = "m2key-authority", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 ok, 1 refused, 2 usage, 3 try later, 4 operator needed, 5 our bug"
)]
pub struct Arguments {
    /// The configuration
    #[arg(
        long,
        global = true,
        env = "M2KEY_AUTHORITY_CONFIG",
        hide_env_values = true,
        default_value = "/etc/m2key/authority.toml"
    )]
    config: PathBuf,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
    /// Work on a stopped authority instead of asking the running daemon
    #[arg(long, global = true)]
    offline: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a new authority: HSM tokens and keys, root and issuing CA, store, configuration
    Init(Box<init::InitArguments>),
    /// Run the daemon until SIGTERM or SIGINT
    Serve,
    /// Terminals: add, join, list, show, ban
    #[command(subcommand)]
    Terminal(terminal::Verb),
    /// Merchants: add, list
    #[command(subcommand)]
    Merchant(merchant::Verb),
    /// Shoppers' accounts of the built-in ledger: open, credit, check
    #[command(subcommand)]
    Account(account::Verb),
    /// The audit chain: verify
    #[command(subcommand)]
    Audit(audit::Verb),
    /// Receipts: verify
    #[command(subcommand)]
    Receipt(receipt::Verb),
    /// The roots that are trusted: show, install
    #[command(subcommand)]
    Trust(trust::Verb),
    /// Give the operator, or a listener of this node, a new key and certificate
    Renew { what: renew::What },
    /// Read the configuration and say everything that is wrong with it
    CheckConfig,
    /// Ask the HSM for every mechanism and attribute that M2Key needs
    CheckHsm,
}

impl Arguments {
    /// From the command line; a usage error ends the process with exit code 2.
    pub fn read() -> Self {
        Self::parse()
    }

    /// The command line's definition, for `--help` snapshots.
    pub fn command() -> clap::Command {
        <Self as clap::CommandFactory>::command()
    }

    fn load_config(&self) -> Result<Config, CliError> {
        Ok(Config::load(&self.config)?)
    }

    /// The configuration, in a process with the environment that the PKCS#11 module needs.
    fn load_for_hsm(&self) -> Result<Config, CliError> {
        let config = self.load_config()?;
        environment::ensure(&config.hsm.environment)?;
        Ok(config)
    }
}

/// Carries out the verb.
pub fn run(arguments: &Arguments) -> Result<(), CliError> {
    core_dumps::forbid().map_err(|error| CliError::core_dumps(&error))?;
    match &arguments.verb {
        Verb::Init(init) => init::run(arguments, init),
        Verb::Serve => run_daemon(arguments),
        Verb::Terminal(verb) => terminal::run(arguments, verb),
        Verb::Merchant(verb) => merchant::run(arguments, verb),
        Verb::Account(verb) => account::run(arguments, verb),
        Verb::Audit(verb) => audit::run(arguments, verb),
        Verb::Receipt(verb) => receipt::run(arguments, verb),
        Verb::Trust(verb) => trust::run(arguments, verb),
        Verb::Renew { what } => renew::run(arguments, *what),
        Verb::CheckConfig => checks::config(arguments),
        Verb::CheckHsm => checks::hsm(arguments),
    }
}

fn run_daemon(arguments: &Arguments) -> Result<(), CliError> {
    let config = arguments.load_for_hsm()?;
    logging::start(&config.log).map_err(|problem| CliError::log_filter(&problem))?;
    runtime()?.block_on(serve::serve(config))?;
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::no_runtime(&error))
}

/// What people or scripts read.
trait Say: serde::Serialize {
    fn say(&self) -> String;
}

fn tell<T: Say>(arguments: &Arguments, answer: &T) {
    if arguments.json {
        let json =
            serde_json::to_string(answer).expect("answers are structs of strings and numbers");
        println!("{json}");
    } else {
        println!("{}", answer.say());
    }
}
