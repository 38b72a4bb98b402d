//! `m2key-authority dispute show`: what happened, in one line of time?

use clap::Subcommand;
use uuid::Uuid;

use super::daemon::ask;
use super::{Arguments, CliError, Exit, Say, tell};
use crate::services::operators::{DisputeShow, DisputeView};
use crate::store::{Moment, Proof, Source};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Everything that is kept of one charge, oldest first, who says so, and whether its evidence still holds
    Show {
        /// Of a charge, a claim, a payment, a refund, or a receipt of either
        id: Uuid,
    },
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    let Verb::Show { id } = verb;
    let view = ask(arguments, DisputeShow { id: *id })?;
    tell(arguments, &view);
    if view.holds {
        return Ok(());
    }
    Err(CliError::new(
        Exit::OperatorNeeded,
        "kept evidence does not hold",
        "keep the store as it is, run `audit verify`, and compare the store with a backup",
    ))
}

impl Say for DisputeView {
    fn say(&self) -> String {
        let mut text = format!(
            "charge    {}\npayee     {} ({})\nterminal  {}",
            self.charge, self.payee_name, self.merchant, self.terminal
        );
        if !self.holds {
            text += "\nEVIDENCE DOES NOT HOLD: see the lines marked so below";
        }
        for moment in &self.moments {
            text += &format!("\n{}", line(moment));
        }
        text
    }
}

fn line(moment: &Moment) -> String {
    let source = match moment.source {
        Source::Terminal => "terminal ",
        Source::Authority => "authority",
        Source::Rail => "rail     ",
        Source::Merchant => "merchant ",
    };
    let facts: Vec<_> = moment
        .facts
        .iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    let line = format!(
        "{}  {source}  {}: {}",
        moment.at,
        moment.what,
        facts.join(", ")
    );
    match &moment.proof {
        None => line,
        Some(Proof {
            holds: true,
            proves,
            ..
        }) => format!("{line}\n    proves: {proves}"),
        Some(Proof { faults, proves, .. }) => format!(
            "{line}\n    DOES NOT HOLD: {}\n    would prove: {proves}",
            faults.join("; ")
        ),
    }
}
