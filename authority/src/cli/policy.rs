//! `m2key-authority policy …`: how many operators must consent to what?

use clap::Subcommand;
use pki::consent::Policy;
use pki::consent::policy::LIFE_DEFAULT_H;

use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::{PolicySet, PolicyShow, PolicyView};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Show how many operators must consent, besides the one who asks
    Show,
    /// Replace the policy; itself needs as many as the strictest group
    Set {
        /// For every group of verbs that has no number of its own; 0: one operator is enough
        #[arg(long)]
        required: u32,
        /// For one group: the first word of the verb, e.g. seed=2; may be given several times
        #[arg(long = "group", value_name = "GROUP=N", value_parser = group)]
        groups: Vec<(String, u32)>,
        /// How long a request waits for consents, in hours
        #[arg(long, default_value_t = LIFE_DEFAULT_H)]
        life_h: u32,
    },
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::Show => tell(arguments, &ask(arguments, PolicyShow {})?),
        Verb::Set {
            required,
            groups,
            life_h,
        } => {
            let policy = Policy {
                required: *required,
                groups: groups.iter().cloned().collect(),
                life_h: *life_h,
            };
            tell(arguments, &ask(arguments, PolicySet { policy })?);
        }
    }
    Ok(())
}

fn group(text: &str) -> Result<(String, u32), String> {
    let (group, number) = text.split_once('=').ok_or("write it as group=number")?;
    let number = number.parse().map_err(|_| "the number is not one")?;
    Ok((group.to_owned(), number))
}

impl Say for PolicyView {
    fn say(&self) -> String {
        let Policy {
            required,
            groups,
            life_h,
        } = &self.policy;
        let mut text = format!("required   {required}, besides the one who asks");
        for (group, number) in groups {
            text += &format!("\n  {group:<9}{number}");
        }
        text += &format!("\nwaiting    {life_h} h at most");
        text += &format!("\noperators  {} can sign", self.able);
        text
    }
}
