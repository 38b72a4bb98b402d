//! What does `m2key-authority` do when it is asked?
//!
//! One file per group of verbs. Verbs of operators go to the running daemon with the operator's
//! certificate, or with `--offline` to the stopped authority itself.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use pki::process;

use crate::config::{Asking, Config, OperatorFile};
use crate::{logging, serve};

mod account;
mod alarm;
mod audit;
mod ceremony;
mod certificate;
mod checks;
mod consent;
mod daemon;
mod dispute;
mod error;
mod fence;
mod init;
mod intent;
mod key;
mod merchant;
mod migrate;
mod node;
mod operation;
mod operator;
mod own;
mod policy;
mod receipt;
mod refund;
mod renew;
mod seed;
mod settlement;
mod shopper;
mod tag;
mod tag_forecast;
mod terminal;
mod trust;
mod webhook;

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
    /// Speak as the operator in this file instead of the one in the configuration
    #[arg(
        long = "as",
        global = true,
        value_name = "FILE",
        env = "M2KEY_OPERATOR",
        hide_env_values = true
    )]
    speak_as: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a new authority and its signer: HSM tokens, keys, root, issuing CA, store, configurations
    Init(Box<init::InitArguments>),
    /// Run the daemon until SIGTERM or SIGINT
    Serve,
    /// Terminals: add, join, list, show, ban, unban
    #[command(subcommand)]
    Terminal(terminal::Verb),
    /// Tags of terminals: keys, list, show, retire, forecast
    #[command(subcommand)]
    Tag(tag::Verb),
    /// Certificates: list, show, revoke
    #[command(subcommand)]
    Certificate(certificate::Verb),
    /// Terminals in two places at once, and tags whose reads and claims do not fit together: list, close
    #[command(subcommand)]
    Alarm(alarm::Verb),
    /// Merchants: add, set, show, pin, history, list
    #[command(subcommand)]
    Merchant(merchant::Verb),
    /// Shoppers' profiles: lock, unlock, show
    #[command(subcommand)]
    Shopper(shopper::Verb),
    /// Give money back to the account that paid, in part or whole
    Refund(refund::RefundArguments),
    /// Closed business days of merchants: close, list, export, verify
    #[command(subcommand)]
    Settlement(settlement::Verb),
    /// Where merchants are told what happened: set, list, remove, retry
    #[command(subcommand)]
    Webhook(webhook::Verb),
    /// Payments that outside rails were asked for: list what is open, show
    #[command(subcommand)]
    Intent(intent::Verb),
    /// What happened to a payment, in one line of time: show
    #[command(subcommand)]
    Dispute(dispute::Verb),
    /// Shoppers' accounts of the built-in ledger: open, credit, check
    #[command(subcommand)]
    Account(account::Verb),
    /// Nodes of this authority: list, forget
    #[command(subcommand)]
    Node(node::Verb),
    /// Operators: request, add, list, revoke
    #[command(subcommand)]
    Operator(operator::Verb),
    /// What several operators must agree to: list, show, sign, refuse, carry-out, transcript
    #[command(subcommand)]
    Consent(consent::Verb),
    /// Have others consent to what is done at the signer or at the offline root: issuing, root
    #[command(subcommand)]
    Ceremony(ceremony::Verb),
    /// How many operators must consent to what: show, set
    #[command(subcommand)]
    Policy(policy::Verb),
    /// The audit chain: verify
    #[command(subcommand)]
    Audit(audit::Verb),
    /// The restore fence: is this database the latest? status, compare, raise
    #[command(subcommand)]
    Fence(fence::Verb),
    /// Receipts of payments and refunds: verify
    #[command(subcommand)]
    Receipt(receipt::Verb),
    /// The roots that are trusted: show, install
    #[command(subcommand)]
    Trust(trust::Verb),
    /// Every key: purpose, state, age, when it is due, and who took the last step
    Keys,
    /// Keys in the HSM: prepare, activate, taint, retire
    #[command(subcommand)]
    Key(key::Verb),
    /// Seeds of terminals: rotate
    #[command(subcommand)]
    Seed(seed::Verb),
    /// What operators asked for: list, show, transcript
    #[command(subcommand)]
    Operation(operation::Verb),
    /// Transcripts of operations: verify
    #[command(subcommand)]
    Transcript(operation::TranscriptVerb),
    /// Give the operator, or a listener of this node, a new key and certificate
    Renew { what: renew::What },
    /// Read the configuration and say everything that is wrong with it
    CheckConfig,
    /// Bring the schema of a PostgreSQL up to date, while nodes go on; or move an embedded store into it
    Migrate(migrate::MigrateArguments),
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
        let mut config = Config::load(&self.config)?;
        if let Some(operator) = &self.speak_as {
            config.operator = OperatorFile::load(operator)?.operator;
        }
        Ok(config)
    }

    /// What asks the daemon. An operator's file that names its authority is enough.
    fn load_asking(&self) -> Result<Asking, CliError> {
        let file = self.speak_as.as_deref().map(OperatorFile::load);
        match file.transpose()?.and_then(OperatorFile::asking) {
            Some(asking) => Ok(asking),
            None => Ok(self.load_config()?.into()),
        }
    }

    /// The configuration, in a process with the environment that the PKCS#11 module needs.
    fn load_for_hsm(&self) -> Result<Config, CliError> {
        let config = self.load_config()?;
        process::ensure_environment(&config.hsm.environment)?;
        Ok(config)
    }
}

/// Carries out the verb.
pub fn run(arguments: &Arguments) -> Result<(), CliError> {
    process::forbid_core_dumps().map_err(|error| CliError::core_dumps(&error))?;
    match &arguments.verb {
        Verb::Init(init) => init::run(arguments, init),
        Verb::Serve => run_daemon(arguments),
        Verb::Terminal(verb) => terminal::run(arguments, verb),
        Verb::Tag(verb) => tag::run(arguments, verb),
        Verb::Certificate(verb) => certificate::run(arguments, verb),
        Verb::Alarm(verb) => alarm::run(arguments, verb),
        Verb::Merchant(verb) => merchant::run(arguments, verb),
        Verb::Shopper(verb) => shopper::run(arguments, verb),
        Verb::Refund(refund) => refund::run(arguments, refund),
        Verb::Settlement(verb) => settlement::run(arguments, verb),
        Verb::Webhook(verb) => webhook::run(arguments, verb),
        Verb::Intent(verb) => intent::run(arguments, verb),
        Verb::Dispute(verb) => dispute::run(arguments, verb),
        Verb::Account(verb) => account::run(arguments, verb),
        Verb::Node(verb) => node::run(arguments, verb),
        Verb::Operator(verb) => operator::run(arguments, verb),
        Verb::Consent(verb) => consent::run(arguments, verb),
        Verb::Ceremony(verb) => ceremony::run(arguments, verb),
        Verb::Policy(verb) => policy::run(arguments, verb),
        Verb::Audit(verb) => audit::run(arguments, verb),
        Verb::Fence(verb) => fence::run(arguments, verb),
        Verb::Receipt(verb) => receipt::run(arguments, verb),
        Verb::Trust(verb) => trust::run(arguments, verb),
        Verb::Keys => key::list(arguments),
        Verb::Key(verb) => key::run(arguments, verb),
        Verb::Seed(verb) => seed::run(arguments, verb),
        Verb::Operation(verb) => operation::run(arguments, verb),
        Verb::Transcript(verb) => operation::verify(arguments, verb),
        Verb::Renew { what } => renew::run(arguments, *what),
        Verb::CheckConfig => checks::config(arguments),
        Verb::Migrate(migrate) => migrate::run(arguments, migrate),
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
