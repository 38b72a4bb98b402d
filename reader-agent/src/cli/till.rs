//! What does whoever connects a till ask for?

use clap::Subcommand;

use super::At;
use crate::app::TILL_SECRET;
use crate::config::Config;
use crate::error::AgentError;
use crate::files::Secret;
use crate::till::openapi;

#[derive(Subcommand)]
pub(super) enum TillCommand {
    /// Print the OpenAPI document of the till's interface.
    Openapi,
    /// Make a new secret; the old one opens nothing any more once the agent has started again.
    NewSecret(At),
}

pub(super) fn run(command: TillCommand) -> Result<(), AgentError> {
    match command {
        TillCommand::Openapi => {
            print!("{}", openapi::DOCUMENT);
            Ok(())
        }
        TillCommand::NewSecret(at) => {
            let path = Config::load(&at.config)?.data_dir.join(TILL_SECRET);
            Secret::renew(&path)?;
            println!("{}: a new secret", path.display());
            println!("next: start the agent again, and give the file to the till's software");
            Ok(())
        }
    }
}
