//! Who consented to what, shown by a file alone?

use std::path::PathBuf;

use clap::Subcommand;
use pki::PkiError;

#[derive(Subcommand)]
pub(crate) enum Transcript {
    /// Verify every signature of a transcript of operators' consents, offline, and tell it in words
    Verify {
        file: PathBuf,
        /// The root certificates that are trusted, PEM
        #[arg(long)]
        root: PathBuf,
    },
}

pub(crate) fn run(verb: Transcript) -> Result<String, PkiError> {
    match verb {
        Transcript::Verify { file, root } => pki::consent::transcript::verify_file(&file, &root),
    }
}
