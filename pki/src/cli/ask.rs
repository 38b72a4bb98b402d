//! Do the people at this machine say yes to what is about to be signed?

use std::io::{BufRead, Write};
use std::path::PathBuf;

use clap::Args;
use pki::consent::clear::TRANSCRIPT_MAX_BYTES;
use pki::consent::transcript::BadTranscript;
use pki::consent::{Cleared, NotCleared};
use pki::{BadCeremony, PkiError, read_public};

#[derive(Args)]
pub(crate) struct Confirm {
    /// Do not ask
    #[arg(long, conflicts_with = "dry_run")]
    yes: bool,
    /// Say what would be signed, and sign nothing
    #[arg(long)]
    dry_run: bool,
}

/// What other operators agreed to, each with their own key.
#[derive(Args)]
pub(crate) struct Given {
    /// Who consented, where more than one person is needed; --dry-run says how to come by it
    #[arg(long, value_name = "FILE")]
    transcript: Option<PathBuf>,
}

impl Given {
    pub(crate) fn read(&self) -> Result<Option<String>, PkiError> {
        let Some(path) = &self.transcript else {
            return Ok(None);
        };
        let bytes = read_public(path)?;
        let text = String::from_utf8(bytes).ok();
        let text = text.filter(|text| text.len() <= TRANSCRIPT_MAX_BYTES);
        Ok(Some(text.ok_or(BadTranscript::Malformed)?))
    }
}

impl Confirm {
    /// Who consented, for people; a dry run says, too, what is wanting.
    pub(crate) fn consents(&self, cleared: Result<Cleared, PkiError>) -> Result<String, PkiError> {
        match cleared {
            Ok(cleared) => {
                let words = cleared.warrant().map(|warrant| warrant.words());
                Ok(words.map_or(String::new(), |words| format!("  consents    {words}\n")))
            }
            Err(PkiError::NotCleared(needed @ NotCleared::Needed { .. })) if self.dry_run => {
                let hint = PkiError::from(needed.clone())
                    .hint()
                    .replace('\n', "\n    ");
                Ok(format!("  consents    {needed}\n    {hint}\n"))
            }
            Err(error) => Err(error),
        }
    }

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
