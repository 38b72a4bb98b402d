//! `m2key-authority audit …`: was anything removed or changed?

use clap::Subcommand;

use super::daemon::ask;
use super::{Arguments, CliError, Exit, Say, tell};
use crate::services::operators::{AuditVerify, AuditView};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Walk every chain and verify every signed checkpoint against it
    Verify,
}

pub(super) fn run(arguments: &Arguments, verb: &Verb) -> Result<(), CliError> {
    match verb {
        Verb::Verify => {
            let view = ask(arguments, AuditVerify {})?;
            tell(arguments, &view);
            if view.holds {
                return Ok(());
            }
            Err(CliError::new(
                Exit::OperatorNeeded,
                "the audit chain does not hold",
                "keep the store as it is, and compare it with a backup and with checkpoints kept outside",
            ))
        }
    }
}

impl Say for AuditView {
    fn say(&self) -> String {
        let Self {
            rows, checkpoints, ..
        } = self;
        let mut lines = vec![match self.holds {
            true => format!("the audit chain holds: {rows} rows, {checkpoints} signed checkpoints"),
            false => format!("the audit chain does NOT hold ({rows} rows read)"),
        }];
        lines.extend(self.heads.iter().map(|head| {
            let hash = &head.hash;
            format!("  {}: row {}, {hash}", head.node, head.sequence)
        }));
        lines.extend(self.faults.iter().map(|fault| format!("  fault: {fault}")));
        lines.join("\n")
    }
}
