//! What is in this file?

use std::path::PathBuf;

use clap::Subcommand;
use pki::PkiError;

#[derive(Subcommand)]
pub(crate) enum Look {
    /// Tell in words what is in a PEM or DER file of certificates and requests
    Inspect { file: PathBuf },
    /// Print the SHA-256 fingerprint of the one certificate in a file
    Fingerprint { file: PathBuf },
}

pub(crate) fn run(look: Look) -> Result<String, PkiError> {
    match look {
        Look::Inspect { file } => pki::inspect::inspect(&file),
        Look::Fingerprint { file } => Ok(format!("{}\n", pki::inspect::fingerprint(&file)?)),
    }
}
