//! `m2key-authority tag …`: how are the tags of the fleet?

use clap::Subcommand;

use super::{Arguments, CliError, tag_forecast};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Which terminals need a new tag, the first ones first, and how many in each month
    Forecast(tag_forecast::Forecast),
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::Forecast(forecast) => tag_forecast::run(arguments, forecast),
    }
}
