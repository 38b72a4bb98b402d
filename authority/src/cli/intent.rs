//! `m2key-authority intent …`: where is money stuck between us and a rail?

use clap::Subcommand;
use protocol::ids::PaymentId;

use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::{IntentList, IntentShow, IntentView, IntentsView, OpenView};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// What outside rails still owe an answer for, the oldest first
    List {
        /// Of this rail only
        #[arg(long)]
        rail: Option<String>,
        /// What is over, too, the latest first; at most 1000
        #[arg(long)]
        all: bool,
        /// Go on with those before this payment
        #[arg(long, requires = "all")]
        before: Option<PaymentId>,
    },
    /// One of them, with the key that the rail finds it by
    Show {
        /// As `intent list`, a till or a shopper's wallet says it
        payment: PaymentId,
    },
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::List { rail, all, before } => {
            let (rail, all, before) = (rail.clone(), *all, *before);
            tell(
                arguments,
                &ask(arguments, IntentList { rail, all, before })?,
            );
        }
        Verb::Show { payment } => {
            let payment = *payment;
            tell(arguments, &ask(arguments, IntentShow { payment })?);
        }
    }
    Ok(())
}

impl Say for IntentsView {
    fn say(&self) -> String {
        let mut lines: Vec<_> = self.open.iter().map(sum).collect();
        if lines.is_empty() {
            lines.push("nothing is open on any rail that was asked for".into());
        }
        lines.extend(self.intents.iter().map(line));
        if self.more {
            lines.push("and more".into());
        }
        lines.join("\n")
    }
}

fn sum(open: &OpenView) -> String {
    let OpenView {
        rail,
        state,
        count,
        oldest,
        configured,
    } = open;
    let gone = gone(*configured);
    format!("{rail}{gone}: {count} {state}, the oldest since {oldest}")
}

fn line(intent: &IntentView) -> String {
    let IntentView {
        payment,
        amount,
        rail,
        state,
        tries,
        since,
        ..
    } = intent;
    let next = match intent.next_at {
        Some(at) => format!("{tries} calls without an answer, next {at}"),
        None => "over".into(),
    };
    format!("{payment}  {rail}  {amount}  {state} since {since}: {next}")
}

fn gone(configured: bool) -> &'static str {
    match configured {
        true => "",
        false => " (NOT in the configuration)",
    }
}

impl Say for IntentView {
    fn say(&self) -> String {
        let none = || "none".to_owned();
        let gone = gone(self.configured);
        let next = self
            .next_at
            .map_or_else(|| "it is over".into(), |at| at.to_string());
        let lines = [
            format!("payment         {}", self.payment),
            format!("claim           {}", self.claim),
            format!("charge          {}", self.charge),
            format!("merchant        {}", self.merchant),
            format!("amount          {}", self.amount),
            format!("rail            {}{gone}", self.rail),
            format!("rail key        {}", self.rail_key),
            format!(
                "rail reference  {}",
                self.rail_reference.clone().unwrap_or_else(none)
            ),
            format!("state           {} since {}", self.state, self.since),
            format!(
                "reason          {}",
                self.reason.clone().unwrap_or_else(none)
            ),
            format!("started         {}", self.started_at),
            format!("unanswered      {} calls", self.tries),
            format!("next            {next}"),
        ];
        lines.join("\n")
    }
}
