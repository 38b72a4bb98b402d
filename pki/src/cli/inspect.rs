//! What is in this file?

use std::path::PathBuf;

use clap::Subcommand;
use pki::PkiError;
use pki::inspect::Against;

use crate::clock;

#[derive(Subcommand)]
pub(crate) enum Look {
    /// Tell in words what is in a file: certificates, requests, revocation lists, signed statements
    Inspect {
        /// PEM, DER, base64, compact JWS, or JSON with JWS in it
        file: PathBuf,
        /// Check what leads to a root against these (PEM)
        #[arg(long, value_name = "FILE")]
        root: Option<PathBuf>,
        /// Check signed statements against this JWK set
        #[arg(long, value_name = "FILE")]
        jwks: Option<PathBuf>,
    },
    /// Print the SHA-256 fingerprint of the one certificate in a file
    Fingerprint { file: PathBuf },
}

pub(crate) fn run(look: Look) -> Result<String, PkiError> {
    match look {
        Look::Inspect { file, root, jwks } => {
            let against = Against::load(root.as_deref(), jwks.as_deref(), clock::now())?;
            pki::inspect::inspect(&file, &against)
        }
        Look::Fingerprint { file } => Ok(format!("{}\n", pki::inspect::fingerprint(&file)?)),
    }
}
