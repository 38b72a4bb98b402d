//! `m2key-authority dispute show`: what happened, in one line of time?

use clap::Subcommand;
use uuid::Uuid;

use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::{DisputeShow, DisputeView};
use crate::store::{Moment, Source};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Everything that is kept of one charge, oldest first, and who says so
    Show {
        /// Of a charge, a claim, a payment, a refund, or a receipt of either
        id: Uuid,
    },
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    let Verb::Show { id } = verb;
    tell(arguments, &ask(arguments, DisputeShow { id: *id })?);
    Ok(())
}

impl Say for DisputeView {
    fn say(&self) -> String {
        let mut text = format!(
            "charge    {}\npayee     {} ({})\nterminal  {}",
            self.charge, self.payee_name, self.merchant, self.terminal
        );
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
    format!(
        "{}  {source}  {}: {}",
        moment.at,
        moment.what,
        facts.join(", ")
    )
}
