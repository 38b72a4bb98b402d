//! How is the root made and used, on a machine that is on no network?

use std::path::PathBuf;

use clap::Subcommand;
use pki::PkiError;

#[derive(Subcommand)]
pub(crate) enum Root {
    /// Tell in words what the root is
    Show { certificate: PathBuf },
}

pub(crate) fn run(verb: Root) -> Result<String, PkiError> {
    match verb {
        Root::Show { certificate } => pki::inspect::inspect(&certificate),
    }
}
