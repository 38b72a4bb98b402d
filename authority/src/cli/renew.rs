//! `m2key-authority renew …`: how do certificates of operators and of this node get their next life?

use std::path::PathBuf;

use clap::ValueEnum;
use pki::{BadCertificate, PkiError, SoftwareKey, SpiffeId, csr, identity_of};
use serde::Serialize;

use super::daemon::ask;
use super::{Arguments, CliError, Exit, Say, tell};
use crate::app::load_certificates;
use crate::clock::{Clock, SystemClock, unix_seconds};
use crate::config::{CertificateFiles, Config};
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
    let config = arguments.load_config()?;
    let files = match what {
        What::Operator => &config.operator,
        What::Agents => &config.agents.tls,
        What::Public => &config.public.tls,
    };
    let id = holder(&config, files)?;
    let key = SoftwareKey::generate()?;
    let request = csr::new(&key, &id, &config.trust.domain)?;
    let verb = CertificateIssue {
        request: csr::to_pem(&request),
        holder: match &id {
            SpiffeId::Operator(name) => Holder::Operator(name.to_string()),
            SpiffeId::Authority(_) | SpiffeId::Terminal(_) => Holder::Node,
        },
    };
    let issued = ask(arguments, verb)?;
    pair::write(files, &key, &issued.chain)?;
    tell(
        arguments,
        &Renewed {
            certificate: files.certificate.clone(),
            not_after: issued.not_after.to_string(),
            listener: !matches!(what, What::Operator),
        },
    );
    Ok(())
}

/// Whose certificate it is now; it may have expired, but it must be ours.
fn holder(config: &Config, files: &CertificateFiles) -> Result<SpiffeId, CliError> {
    let chain = load_certificates(&files.certificate)?;
    let trust = Trust::load(&config.trust)?;
    let (leaf, others) = chain
        .split_first()
        .ok_or(PkiError::Certificate(BadCertificate::NotPem))?;
    let now = unix_seconds(SystemClock.now());
    match trust.anchors().verify(leaf, others, now) {
        // Whoever is told of an expiry knows that everything else was in order.
        Ok(_) | Err(BadCertificate::Expired { .. }) => {
            Ok(identity_of(leaf.der(), &config.trust.domain)?.id)
        }
        Err(error) => Err(CliError::new(
            Exit::Refused,
            format!("{}: {error}", files.certificate.display()),
            "only certificates of our own issuing CA are renewed here; others at their CA",
        )),
    }
}

#[derive(Serialize)]
struct Renewed {
    certificate: PathBuf,
    not_after: String,
    listener: bool,
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
