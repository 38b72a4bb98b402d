//! `m2key-authority renew …`: how do certificates of operators and of this node get their next life?

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use pki::{BadCertificate, PkiError, SoftwareKey, SpiffeId, csr, identity_of};
use serde::Serialize;

use super::daemon::ask;
use super::{Arguments, CliError, Exit, Say, operator, tell};
use crate::app::load_certificates;
use crate::clock::{Clock, SystemClock, unix_seconds};
use crate::config::{CertificateFiles, Config, TrustConfig};
use crate::listen::pair;
use crate::services::operators::{CertificateIssue, Holder};
use crate::services::trust::Trust;

/// Which certificate.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum What {
    /// The operator that these verbs use
    Operator,
    /// The listener of terminals and operators
    Agents,
    /// The public listener, if its certificate is of our own issuing CA
    Public,
}

/// A new key, a certificate for it, and both in the place of the old ones.
pub(super) fn run(arguments: &Arguments, what: What) -> Result<(), CliError> {
    let files: fn(&Config) -> &CertificateFiles = match what {
        // May be somebody who reads nothing of this folder.
        What::Operator => return operator::renew(arguments),
        What::Agents => |config| &config.agents.tls,
        What::Public => |config| &config.public.tls,
    };
    let config = arguments.load_config()?;
    let files = files(&config);
    let id = holder(&config.trust, &files.certificate)?;
    let key = SoftwareKey::generate()?;
    let request = csr::new(&key, &id, &config.trust.domain)?;
    let verb = CertificateIssue {
        request: csr::to_pem(&request),
        holder: Holder::Node,
        proof: None,
    };
    let issued = ask(arguments, verb)?;
    pair::write(files, &key, &issued.chain)?;
    tell(
        arguments,
        &Renewed {
            certificate: files.certificate.clone(),
            not_after: issued.not_after.to_string(),
            listener: true,
        },
    );
    Ok(())
}

/// Whose certificate it is now; it may have expired, but it must be ours.
pub(super) fn holder(config: &TrustConfig, certificate: &Path) -> Result<SpiffeId, CliError> {
    let chain = load_certificates(certificate)?;
    let trust = Trust::load(config)?;
    let (leaf, others) = chain
        .split_first()
        .ok_or(PkiError::Certificate(BadCertificate::NotPem))?;
    let now = unix_seconds(SystemClock.now());
    if trust.is_ours(leaf, others, now) {
        return Ok(identity_of(leaf.der(), &config.domain)?.id);
    }
    Err(CliError::new(
        Exit::Refused,
        format!(
            "{}: it leads to no root of this authority",
            certificate.display()
        ),
        "only certificates of our own issuing CA are renewed here; others at their CA",
    ))
}

#[derive(Serialize)]
pub(super) struct Renewed {
    pub(super) certificate: PathBuf,
    pub(super) not_after: String,
    pub(super) listener: bool,
}

impl Say for Renewed {
    fn say(&self) -> String {
        let text = format!(
            "{} is good until {}",
            self.certificate.display(),
            self.not_after
        );
        match self.listener {
            true => text + "\nthe running daemon takes it up within seconds",
            false => text,
        }
    }
}
