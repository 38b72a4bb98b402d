//! `m2key-authority merchant …`: who is paid?

use std::path::{Path, PathBuf};

use clap::Subcommand;
use protocol::ids::MerchantId;
use protocol::money::Currency;
use protocol::wire::history::{EntryKind, HistoryEntry, HistoryPage};
use protocol::wire::refunds::Pin;
use zeroize::Zeroizing;

use super::daemon::ask;
use super::receipt::read;
use super::{Arguments, CliError, Exit, Say, tell};
use crate::services::operators::{
    MerchantAdd, MerchantHistory, MerchantLimit, MerchantList, MerchantPin, MerchantSet,
    MerchantShow, MerchantView, Merchants, TermsView,
};

/// Bytes read of a file with a PIN.
const PIN_FILE_MAX: u64 = 64;

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
        /// As `merchant list` shows it
        #[arg(long)]
        merchant: MerchantId,
        /// In minor units; without it, what the configuration says
        #[arg(long)]
        day_minor: Option<i64>,
    },
    /// Set the time zone of a merchant's business days, or the most it may refund on one
    Set {
        merchant: MerchantId,
        /// IANA name, e.g. Europe/Paris
        #[arg(long)]
        zone: Option<String>,
        /// The most that is refunded on one business day, in minor units
        #[arg(long)]
        refund_day_max_minor: Option<i64>,
    },
    /// Show a merchant's time zone, cap on refunds, and whether its PIN is set or locked
    Show { merchant: MerchantId },
    /// Set the PIN that a till needs for refunds, and end a lock: asked for at the terminal, or read
    /// from a file
    Pin {
        merchant: MerchantId,
        /// 6 to 12 digits; a line end is cut off
        #[arg(long)]
        pin_file: Option<PathBuf>,
    },
    /// List payments and refunds, the newest first
    History {
        merchant: MerchantId,
        /// The `next` of the page before
        #[arg(long)]
        cursor: Option<String>,
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
        Verb::Set {
            merchant,
            zone,
            refund_day_max_minor,
        } => {
            let verb = MerchantSet {
                merchant: *merchant,
                zone: zone.clone(),
                refund_day_max_minor: *refund_day_max_minor,
            };
            tell(arguments, &ask(arguments, verb)?);
        }
        Verb::Show { merchant } => {
            let merchant = *merchant;
            tell(arguments, &ask(arguments, MerchantShow { merchant })?);
        }
        Verb::Pin { merchant, pin_file } => {
            let (merchant, pin) = (*merchant, read_pin(pin_file.as_deref())?);
            tell(arguments, &ask(arguments, MerchantPin { merchant, pin })?);
        }
        Verb::History { merchant, cursor } => {
            let verb = MerchantHistory {
                merchant: *merchant,
                cursor: cursor.clone(),
                limit: None,
            };
            tell(arguments, &ask(arguments, verb)?);
        }
        Verb::List { after } => {
            tell(arguments, &ask(arguments, MerchantList { after: *after })?);
        }
    }
    Ok(())
}

/// Never from the command line, which others on the machine can read.
fn read_pin(file: Option<&Path>) -> Result<Pin, CliError> {
    let text = match file {
        Some(file) => read(file, PIN_FILE_MAX)?,
        None => rpassword::prompt_password("PIN: ")
            .map_err(|error| bad_pin(&error, "give a file with --pin-file"))?,
    };
    let text = Zeroizing::new(text);
    Pin::parse(text.trim_end()).map_err(|error| bad_pin(&error, "e.g. 480317"))
}

fn bad_pin(error: &dyn std::error::Error, hint: &'static str) -> CliError {
    CliError::new(Exit::Usage, format!("the PIN: {error}"), hint)
}

impl Say for TermsView {
    fn say(&self) -> String {
        let mut text = format!(
            "merchant  {}\nzone      {}\nrefunds   up to {} minor units a day\nPIN       ",
            self.merchant, self.zone, self.refund_day_max_minor
        );
        text += &match self.pin_set_at {
            Some(at) => format!(
                "set at {at}, {} wrong since the last right one, {} on the last day that had one",
                self.pin_misses, self.pin_day_misses
            ),
            None => "not set: no refunds at tills".into(),
        };
        if let Some(until) = self.pin_locked_until {
            text += &format!("\nlocked    until {until}");
        }
        text
    }
}

impl Say for HistoryPage {
    fn say(&self) -> String {
        let mut lines: Vec<_> = self.entries.iter().map(entry).collect();
        if lines.is_empty() {
            lines.push("nothing".into());
        }
        if let Some(next) = &self.next {
            lines.push(format!("more with --cursor {next}"));
        }
        lines.join("\n")
    }
}

fn entry(entry: &HistoryEntry) -> String {
    let (kind, of) = match entry.kind {
        EntryKind::Payment => ("paid", entry.payment),
        EntryKind::Refund => ("back", entry.payment),
    };
    let HistoryEntry {
        at,
        amount,
        terminal,
        channel,
        charge,
        receipt,
        ..
    } = entry;
    let reference = entry.reference.as_deref().unwrap_or("-");
    format!(
        "{at}  {kind} {amount}  terminal {terminal} ({channel})  payment {of}  charge {charge} \
         ({reference})  receipt {receipt}"
    )
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
