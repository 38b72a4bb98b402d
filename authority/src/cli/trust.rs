//! `m2key-authority trust …`: which roots are trusted, and how does that change?

use std::path::PathBuf;

use clap::Subcommand;

use super::daemon::ask;
use super::{Arguments, CliError, Say, tell};
use crate::services::operators::trust::BehindView;
use crate::services::operators::{TrustInstall, TrustPlan, TrustShow, TrustStage, TrustView};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the roots, and how many terminals follow which list of them
    Show,
    /// Put the next list of roots in force, made with `m2key-pki root trust`; refused while
    /// terminals would be left behind
    Install {
        /// The file that every root has signed
        bundle: PathBuf,
        /// Only say what would happen
        #[arg(long)]
        dry_run: bool,
        /// In an emergency: although terminals are left behind; they follow when they come back
        #[arg(long, conflicts_with = "dry_run")]
        now: bool,
    },
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::Show => tell(arguments, &ask(arguments, TrustShow {})?),
        Verb::Install {
            bundle,
            dry_run,
            now,
        } => {
            // Read before it is sent, so that a wrong file is called wrong here.
            let bundle = pki::TrustBundle::load(bundle)?.to_json();
            let brought = ask(arguments, TrustStage { bundle })?;
            let verb = TrustInstall {
                dry_run: *dry_run,
                now: *now,
                ..brought
            };
            tell(arguments, &ask(arguments, verb)?);
        }
    }
    Ok(())
}

impl Say for TrustView {
    fn say(&self) -> String {
        let mut lines = vec![format!("list of roots  {}", self.sequence)];
        for root in &self.roots {
            lines.push(format!(
                "{:10}  {}  until {}",
                root.state, root.fingerprint, root.not_after
            ));
        }
        for followers in &self.followers {
            lines.push(format!(
                "list {:5}  followed by {} terminal(s) seen lately",
                followers.sequence, followers.terminals
            ));
        }
        lines.join("\n")
    }
}

impl Say for TrustPlan {
    fn say(&self) -> String {
        let mut lines = vec![match (self.changed, self.changes.is_empty()) {
            (true, _) => format!("list {} of roots is in force", self.sequence),
            (false, true) => format!("list {} of roots was in force already", self.sequence),
            (false, false) => format!("list {} of roots would come into force", self.sequence),
        }];
        lines.extend(self.changes.iter().cloned());
        lines.extend(left(&self.behind, "do not trust the active root yet"));
        lines.extend(left(&self.cut_off, "have to be enrolled again"));
        lines.join("\n")
    }
}

fn left(behind: &BehindView, why: &str) -> Option<String> {
    let named: Vec<_> = behind.first.iter().map(ToString::to_string).collect();
    let more = match behind.count > named.len() as u64 {
        true => ", …",
        false => "",
    };
    let said = format!(
        "{} terminal(s) {why}: {}{more}",
        behind.count,
        named.join(", ")
    );
    (behind.count > 0).then_some(said)
}
