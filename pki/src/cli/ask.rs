//! Do the people at this machine say yes to what is about to be signed?

use std::io::{BufRead, Write};

use clap::Args;
use pki::{BadCeremony, PkiError};

#[derive(Args)]
pub(crate) struct Confirm {
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Say what would be signed, and sign nothing
    #[arg(long)]
    dry_run: bool,
}

impl Confirm {
    /// Shows `words` and asks. `false` is a dry run: the words are all there is.
    pub(crate) fn to(&self, words: &str) -> Result<bool, PkiError> {
        if self.dry_run || self.yes {
            return Ok(self.yes);
        }
        eprint!("{words}Sign this? Type yes: ");
        // A question that cannot be shown will not be answered with yes either.
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        match (read, answer.trim()) {
            (Ok(_), "yes") => Ok(true),
            _ => Err(BadCeremony::NotConfirmed.into()),
        }
    }
}
