//! `m2key-authority shopper …`: who may pay no more?

use clap::{Args, Subcommand};

use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::{
    MerchantLimitView, ShopperLock, ShopperShow, ShopperUnlock, ShopperView, StandingView,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Lock a profile: it claims and pays nothing from then on
    Lock {
        #[command(flatten)]
        who: Who,
        /// For the audit and the shopper
        #[arg(long)]
        reason: String,
    },
    /// Take the lock away, whoever put it there
    Unlock {
        #[command(flatten)]
        who: Who,
        /// For the audit: how you know that it is the shopper who asks
        #[arg(long)]
        reason: String,
    },
    /// Show lock, limits and what counts towards them
    Show {
        #[command(flatten)]
        who: Who,
    },
}

/// One of the identities that open the profile.
#[derive(Debug, Args)]
pub(super) struct Who {
    /// The `iss` of the identity provider
    #[arg(long)]
    issuer: String,
    /// The `sub` of the person; never an e-mail address
    #[arg(long)]
    subject: String,
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    let view = match verb {
        Verb::Lock { who, reason } => {
            let (issuer, subject, reason) = who.with(reason);
            let verb = ShopperLock {
                issuer,
                subject,
                reason,
            };
            ask(arguments, verb)?
        }
        Verb::Unlock { who, reason } => {
            let (issuer, subject, reason) = who.with(reason);
            let verb = ShopperUnlock {
                issuer,
                subject,
                reason,
            };
            ask(arguments, verb)?
        }
        Verb::Show { who } => {
            let (issuer, subject, _) = who.with("");
            ask(arguments, ShopperShow { issuer, subject })?
        }
    };
    tell(arguments, &view);
    Ok(())
}

impl Who {
    fn with(&self, reason: &str) -> (String, String, String) {
        (self.issuer.clone(), self.subject.clone(), reason.to_owned())
    }
}

impl Say for ShopperView {
    fn say(&self) -> String {
        let lock = match (&self.locked_at, &self.lock_reason) {
            (Some(at), Some(reason)) => format!("locked since {at} ({reason})"),
            _ => "not locked".into(),
        };
        let mut text = format!("{lock}\npasskeys  {}", self.passkeys);
        for standing in &self.standings {
            text += &format!("\n{}", line(standing));
        }
        text
    }
}

fn line(it: &StandingView) -> String {
    let limit = |minor: Option<i64>| minor.map_or("none".into(), |minor| minor.to_string());
    format!(
        "{}  {} on day {}, {} in {} payments without strong authentication, own limits {} each, \
         {} a day (minor units)",
        it.currency,
        it.day_minor,
        it.day,
        it.unaided_minor,
        it.unaided_payments,
        limit(it.own_each_minor),
        limit(it.own_day_minor)
    )
}

impl Say for MerchantLimitView {
    fn say(&self) -> String {
        match self.day_minor {
            Some(minor) => format!(
                "{} is paid {minor} minor units a day at most",
                self.merchant
            ),
            None => format!("{} has the limit of the configuration", self.merchant),
        }
    }
}
