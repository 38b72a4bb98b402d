//! `m2key-authority seed …`: how do terminals get new seeds?

use clap::{Args, Subcommand};
use protocol::ids::{MerchantId, TerminalId};

use super::daemon::ask;
use super::key::Dry;
use super::{Arguments, CliError, tell};
use crate::services::operators::{Fleet, SeedRotate};
use crate::store::When;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make new seeds in the HSM; goes on in the background, also after a restart
    Rotate {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        when: How,
        /// Why, for the audit chain; needed after a compromise
        #[arg(long, required_if_eq("compromised", "true"))]
        reason: Option<String>,
        #[command(flatten)]
        dry: Dry,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Whose {
    /// This terminal only
    #[arg(long)]
    terminal: Option<TerminalId>,
    /// Every terminal of this merchant
    #[arg(long)]
    merchant: Option<MerchantId>,
    /// Every terminal there is
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct How {
    /// From the first hour that was not issued to the terminal: nobody notices
    #[arg(long)]
    planned: bool,
    /// Now: tokens of the old seed are refused, and the terminal until it has a new schedule
    #[arg(long)]
    compromised: bool,
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    let Verb::Rotate {
        whose,
        when,
        reason,
        dry,
    } = verb;
    let verb = SeedRotate {
        fleet: match (whose.terminal, whose.merchant) {
            (Some(terminal), _) => Fleet::Terminal(terminal),
            (None, Some(merchant)) => Fleet::Merchant(merchant),
            (None, None) => Fleet::All,
        },
        when: match when.compromised {
            true => When::Compromised,
            false => When::Planned,
        },
        reason: reason.clone().unwrap_or_default(),
        dry_run: dry.dry_run,
    };
    tell(arguments, &ask(arguments, verb)?);
    Ok(())
}
