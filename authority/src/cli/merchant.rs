//! `m2key-authority merchant …`: who is paid?

use clap::Subcommand;
use protocol::ids::MerchantId;
use protocol::money::Currency;

use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::{
    MerchantAdd, MerchantLimit, MerchantList, MerchantView, Merchants,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Add a merchant, with an account of the built-in ledger
    Add {
        /// As shoppers see it before they approve
        #[arg(long)]
        name: String,
        /// ISO 4217, e.g. EUR
        #[arg(long)]
        currency: Currency,
        /// The most a shopper may choose to pay when the till asks for nothing, in minor units
        #[arg(long)]
        open_cap_minor: Option<i64>,
        /// What every shopper pays when the till asks for nothing, in minor units
        #[arg(long, conflicts_with = "open_cap_minor")]
        fixed_minor: Option<i64>,
    },
    /// Set the most that a merchant is paid in a day (UTC)
    Limit {
        #[arg(long)]
        merchant: MerchantId,
        /// In minor units; without it, what the configuration says
        #[arg(long)]
        day_minor: Option<i64>,
    },
    /// List merchants and what was paid to them
    List {
        /// Only those after this one
        #[arg(long)]
        after: Option<MerchantId>,
    },
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::Add {
            name,
            currency,
            open_cap_minor,
            fixed_minor,
        } => {
            let verb = MerchantAdd {
                name: name.clone(),
                currency: *currency,
                fixed_minor: *fixed_minor,
                open_cap_minor: *open_cap_minor,
            };
            tell(arguments, &ask(arguments, verb)?);
        }
        Verb::Limit {
            merchant,
            day_minor,
        } => {
            let verb = MerchantLimit {
                merchant: *merchant,
                day_minor: *day_minor,
            };
            tell(arguments, &ask(arguments, verb)?);
        }
        Verb::List { after } => {
            tell(arguments, &ask(arguments, MerchantList { after: *after })?);
        }
    }
    Ok(())
}

impl Say for MerchantView {
    fn say(&self) -> String {
        let mut text = format!(
            "merchant  {}\nname      {}\ncurrency  {}\naccount   {}\npaid      {} minor units",
            self.merchant, self.name, self.currency, self.account, self.paid_minor
        );
        if let Some(fixed) = self.fixed {
            text += &format!("\nfixed     {fixed}");
        }
        if let Some(cap) = self.open_cap {
            text += &format!("\nopen      up to {cap}");
        }
        text
    }
}

impl Say for Merchants {
    fn say(&self) -> String {
        if self.merchants.is_empty() {
            return "no merchants".into();
        }
        let line = |m: &MerchantView| {
            format!(
                "{}  {}  {} {} (minor units)",
                m.merchant, m.name, m.paid_minor, m.currency
            )
        };
        let lines: Vec<_> = self.merchants.iter().map(line).collect();
        lines.join("\n")
    }
}
