//! `m2key-authority fence …`: is this database the latest, and what if it is not?

use std::path::PathBuf;

use clap::Subcommand;
use protocol::jws::JWS_MAX;
use serde::Serialize;

use super::daemon::ask;
use super::receipt::read;
use super::{Arguments, CliError, Exit, Say, tell};
use crate::services::operators::{
    ComparedView, FenceCompare, FenceRaise, FenceStatus, FenceView, RaisedView,
};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Say whether the database is behind its journal, and why
    Status,
    /// Say which payments a restore has lost, from the receipts that shoppers and tills hold
    Compare {
        /// Receipts: a compact JWS in each file
        #[arg(required = true)]
        receipts: Vec<PathBuf>,
    },
    /// Make a restored database safe: what was shown before it is void, what was refused stays refused
    #[command(
        long_about = "Make a restored database safe: what was shown before it is void, what was \
        refused stays refused.\n\nThe generation rises, and with it every token and schedule changes. \
        Bans, revocations and retired tags of the journal hold again, open join tokens die, charges on \
        offer or held end. Only if the latest database is lost: otherwise put that one in its place."
    )]
    Raise {
        /// What happened, for the audit chain
        #[arg(long)]
        reason: String,
        /// Although nothing speaks against this database, e.g. when its journal was restored with it
        #[arg(long)]
        anyway: bool,
    },
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::Status => status(arguments),
        Verb::Compare { receipts } => compare(arguments, receipts),
        Verb::Raise { reason, anyway } => {
            let verb = FenceRaise {
                reason: reason.clone(),
                anyway: *anyway,
            };
            tell(arguments, &ask(arguments, verb)?);
            Ok(())
        }
    }
}

fn status(arguments: &Arguments) -> Result<(), CliError> {
    let view = ask(arguments, FenceStatus {})?;
    tell(arguments, &view);
    if !view.fenced {
        return Ok(());
    }
    Err(CliError::new(
        Exit::OperatorNeeded,
        "the database is behind the world, and nothing is served",
        "is there a later one, or the right journal? put it in its place and start again\n\
         only if it is lost: m2key-authority fence raise --reason \"…\", then start again",
    ))
}

fn compare(arguments: &Arguments, receipts: &[PathBuf]) -> Result<(), CliError> {
    let mut compared = Compared::default();
    for path in receipts {
        let receipt = read(path, JWS_MAX as u64)?;
        compared
            .receipts
            .push(ask(arguments, FenceCompare { receipt })?);
    }
    tell(arguments, &compared);
    Ok(())
}

/// What was found for each receipt.
#[derive(Debug, Default, Serialize)]
struct Compared {
    receipts: Vec<ComparedView>,
}

impl Say for Compared {
    fn say(&self) -> String {
        let line = |it: &ComparedView| {
            let what = match it.lost {
                true => "LOST    ",
                false => "in books",
            };
            let tainted = it.tainted_at.map_or_else(String::new, |since| {
                format!(", the very same receipt; its key is tainted since {since}")
            });
            format!(
                "{what}  {} at {}, terminal {}, to {} by {}, payment {}{tainted}",
                it.amount, it.paid_at, it.terminal, it.payee, it.payer, it.payment
            )
        };
        let lines: Vec<String> = self.receipts.iter().map(line).collect();
        lines.join("\n")
    }
}

impl Say for FenceView {
    fn say(&self) -> String {
        let mut lines = vec![match (self.fenced, self.since) {
            (true, Some(since)) => format!("fenced since {since}: nothing is served"),
            (true, None) => "fenced: nothing is served".into(),
            (false, _) => "not fenced: the database holds everything its journal knows".into(),
        }];
        lines.extend(self.reasons.iter().map(|reason| format!("  {reason}")));
        lines.push(format!("generation {}", self.generation));
        let journal = &self.journal;
        lines.push(format!(
            "journal {}: {} lines, {} ban(s), {} revocation(s), {} tainted key(s), {} seed(s) \
             replaced after a compromise, {} revoked operator(s), {} retired tag(s)",
            journal.path.display(),
            journal.lines,
            journal.bans,
            journal.revocations,
            journal.tainted_keys,
            journal.void_seeds,
            journal.revoked_operators,
            journal.retired_tags
        ));
        if let Some(failure) = &journal.failure {
            lines.push(format!("  it cannot be written: {failure}"));
        }
        lines.extend(self.raises.iter().map(|raise| {
            format!(
                "raised to {} at {}: {} (at least {} audit rows lost)",
                raise.generation, raise.at, raise.reason, raise.lost_rows
            )
        }));
        lines.join("\n")
    }
}

impl Say for RaisedView {
    fn say(&self) -> String {
        let mut lines = vec![
            format!("generation {}, was {}", self.generation, self.was),
            format!(
                "  at least {} audit row(s) were lost with the later database",
                self.lost_rows
            ),
            format!(
                "  {} terminal(s) banned again, {} certificate(s) revoked again",
                self.banned_again.len(),
                self.revoked_again
            ),
            format!(
                "  {} key(s) tainted again, {} seed(s) void, {} operator(s) revoked again",
                self.keys_tainted_again.len(),
                self.seeds_void,
                self.operators_revoked_again.len()
            ),
            format!(
                "  {} shopper(s) locked again, {} passkey(s) removed again",
                self.shoppers_locked_again, self.passkeys_removed_again
            ),
            format!("  {} tag(s) retired again", self.tags_retired_again.len()),
            format!(
                "  {} join token(s) and {} open charge(s) ended",
                self.join_tokens_ended, self.charges_ended
            ),
            format!(
                "  {} browser session(s) ended, {} PIN(s) for refunds cleared",
                self.sessions_ended, self.pins_cleared
            ),
        ];
        lines.extend(self.banned_again.iter().map(|id| format!("  banned: {id}")));
        lines.extend(of_house(self));
        if let Some(aside) = &self.journal_set_aside {
            lines.push(format!("the old journal is now {}", aside.display()));
        }
        lines.push(
            "now start the daemon again; terminals fetch their schedules by themselves, and those \
             added after the backup are added anew"
                .into(),
        );
        lines.join("\n")
    }
}

/// What people should look at.
fn of_house(raised: &RaisedView) -> Vec<String> {
    let mut lines = Vec::new();
    let found = raised.keys_found.iter();
    lines.extend(found.map(|label| format!("  verifies again: {label}")));
    let gone = raised.keys_gone.iter();
    lines.extend(gone.map(|label| {
        format!("  gone from the HSM, so what it signed cannot be told from forgeries: {label}")
    }));
    let tainted = raised.keys_tainted_again.iter();
    lines.extend(tainted.map(|label| format!("  tainted: {label}")));
    let tags = raised.tags_retired_again.iter();
    lines.extend(tags.map(|uid| format!("  retired: tag {uid}")));
    let operators = raised.operators_revoked_again.iter();
    lines.extend(operators.map(|name| format!("  revoked: operator {name}")));
    if raised.pins_cleared > 0 {
        lines.push("  no till refunds until its merchant has a new PIN: `merchant pin`".into());
    }
    if raised.policy_set_again {
        lines.push(
            "  the consent policy is as strict as the one that was lost: `policy show`".into(),
        );
    }
    if raised.seeds_void > 0 || !raised.keys_tainted_again.is_empty() {
        lines.push(
            "after the start new seeds are made where they are needed: `operation list`".into(),
        );
    }
    lines
}
