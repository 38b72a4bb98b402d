//! `m2key-authority keys` and `m2key-authority key …`: which keys are there, and how are they replaced?

use clap::{Args, Subcommand};

use super::daemon::ask;
use super::operation::say_operation;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::{KeyList, KeyStep, KeyView, Keys, Planned};
use crate::services::rotation::KeyVerb;
use crate::store::KeyPurpose;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a key in the HSM and publish its public half; it is not used yet
    Prepare {
        /// schedule, receipt, checkpoint, request, sealing, binding or tag
        purpose: KeyPurpose,
        #[command(flatten)]
        dry: Dry,
    },
    /// Use the prepared key from now on; seeds are made anew under a new sealing or binding key
    Activate {
        /// The purpose, or a kid or label of `keys`
        key: String,
        /// In an emergency: also while others may keep a key set without it
        #[arg(long)]
        now: bool,
        #[command(flatten)]
        dry: Dry,
    },
    /// Believe nothing more that a superseded key signs; seeds under it are made anew now
    Taint {
        /// The purpose, or a kid or label of `keys`
        key: String,
        #[command(flatten)]
        dry: Dry,
    },
    /// Destroy a superseded or tainted key in the HSM, once nobody depends on it
    Retire {
        /// The purpose, or a kid or label of `keys`
        key: String,
        #[command(flatten)]
        dry: Dry,
    },
}

#[derive(Debug, Args)]
pub(super) struct Dry {
    /// Say what it would do, and do nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}

pub(super) fn list(arguments: &Arguments) -> Result<(), CliError> {
    tell(arguments, &ask(arguments, KeyList {})?);
    Ok(())
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    let step = |step, key: &str, now, dry: &Dry| KeyStep {
        step,
        key: key.to_owned(),
        now,
        dry_run: dry.dry_run,
    };
    let verb = match verb {
        Verb::Prepare { purpose, dry } => step(KeyVerb::Prepare, purpose.name(), false, dry),
        Verb::Activate { key, now, dry } => step(KeyVerb::Activate, key, *now, dry),
        Verb::Taint { key, dry } => step(KeyVerb::Taint, key, false, dry),
        Verb::Retire { key, dry } => step(KeyVerb::Retire, key, false, dry),
    };
    tell(arguments, &ask(arguments, verb)?);
    Ok(())
}

impl Say for Planned {
    fn say(&self) -> String {
        let mut lines: Vec<String> = self.says.iter().map(|line| format!("- {line}")).collect();
        lines.push(match &self.operation {
            None => "nothing was done (--dry-run)".into(),
            Some(operation) => say_operation(operation),
        });
        lines.join("\n")
    }
}

impl Say for Keys {
    fn say(&self) -> String {
        let lines: Vec<String> = self.keys.iter().map(line).collect();
        lines.join("\n")
    }
}

fn line(key: &KeyView) -> String {
    let time = |at: &Option<protocol::time::Timestamp>| {
        at.map_or_else(|| "-".to_owned(), |at| at.to_string())
    };
    let mut text = format!(
        "{:<11} {:<11} {:<24} made {}  due {}",
        key.purpose,
        key.state,
        key.name,
        time(&key.made_at),
        time(&key.due_at)
    );
    if key.overdue {
        text += "  OVERDUE";
    }
    if let Some(by) = &key.by {
        text += &format!("  by {by}");
    }
    if let Some(consent) = &key.consent {
        text += &format!(", consent {consent}");
    }
    text + &format!("\n            {}", key.id)
}
