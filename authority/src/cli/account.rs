//! `m2key-authority account …`: what can shoppers pay from?

use clap::Subcommand;
use protocol::ids::AccountId;
use protocol::money::{Currency, Money};

use super::daemon::ask;
use super::{Arguments, CliError, Exit, Say, tell};
use crate::services::operators::{
    AccountCredit, AccountOpen, AccountView, LedgerCheck, LedgerView,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Open an account for a person as their identity provider names them
    Open {
        /// The `iss` of the provider's access tokens
        #[arg(long)]
        issuer: String,
        /// The `sub` of the person; never an e-mail address
        #[arg(long)]
        subject: String,
        /// ISO 4217, e.g. EUR
        #[arg(long)]
        currency: Currency,
    },
    /// Put money on an account; the same reference again is the same credit
    Credit {
        #[arg(long)]
        account: AccountId,
        #[arg(long)]
        amount_minor: i64,
        /// Must be the account's
        #[arg(long, default_value = "EUR")]
        currency: Currency,
        /// Your own reference, e.g. the number of the bank transfer
        #[arg(long)]
        reference: String,
    },
    /// Add up the books
    Check,
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::Open {
            issuer,
            subject,
            currency,
        } => {
            let verb = AccountOpen {
                issuer: issuer.clone(),
                subject: subject.clone(),
                currency: *currency,
            };
            tell(arguments, &ask(arguments, verb)?);
            Ok(())
        }
        Verb::Credit {
            account,
            amount_minor,
            currency,
            reference,
        } => {
            let amount = Money::new(*amount_minor, *currency);
            let verb = AccountCredit {
                account: *account,
                amount: amount.map_err(|error| bad_amount(&error))?,
                reference: reference.clone(),
            };
            tell(arguments, &ask(arguments, verb)?);
            Ok(())
        }
        Verb::Check => check(arguments),
    }
}

fn check(arguments: &Arguments) -> Result<(), CliError> {
    let view = ask(arguments, LedgerCheck {})?;
    tell(arguments, &view);
    if view.balanced {
        return Ok(());
    }
    Err(CliError::operator(
        "the books do not balance",
        "stop serving, keep the store as it is, and compare with a backup",
    ))
}

pub(super) fn bad_amount(error: &dyn std::error::Error) -> CliError {
    CliError::new(
        Exit::Usage,
        format!("--amount-minor: {error}"),
        "e.g. 420 for 4.20 EUR",
    )
}

impl Say for AccountView {
    fn say(&self) -> String {
        let Self {
            account,
            currency,
            balance_minor,
        } = self;
        format!("account  {account}\nbalance  {balance_minor} {currency} (minor units)")
    }
}

impl Say for LedgerView {
    fn say(&self) -> String {
        if self.balanced {
            return format!("the books balance: {} entries sum to zero", self.entries);
        }
        let wrong: Vec<_> = self
            .wrong_accounts
            .iter()
            .map(ToString::to_string)
            .collect();
        format!(
            "{} entries do not add up; accounts: {}",
            self.entries,
            wrong.join(", ")
        )
    }
}
