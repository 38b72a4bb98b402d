//! `m2key-authority renew …`: how do certificates of operators and of this node get their next life?

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use pki::{BadCertificate, PkiError, SoftwareKey, SpiffeId, csr, identity_of, verify_chain};
use serde::Serialize;

use super::daemon::ask;
use super::{Arguments, CliError, Exit, Say, operator, tell};
use crate::app::{load_certificate, load_certificates};
use crate::clock::{Clock, SystemClock, unix_seconds};
use crate::config::{CertificateFiles, Config};
use crate::services::operators::{CertificateIssue, Holder};

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
        What::Operator => return operator::renew(arguments),
        What::Agents => &config.agents.tls,
        What::Public => &config.public.tls,
    };
    let id = holder(&config, &files.certificate)?;
    let key = SoftwareKey::generate()?;
    let request = csr::new(&key, &id, &config.trust.domain)?;
    let verb = CertificateIssue {
        request: csr::to_pem(&request),
        holder: Holder::Node,
        proof: None,
    };
    let issued = ask(arguments, verb)?;
    replace(files, &key, &issued.chain)?;
    tell(
        arguments,
        &Renewed {
            certificate: files.certificate.clone(),
            not_after: issued.not_after.to_string(),
            restart: true,
        },
    );
    Ok(())
}

/// Whose certificate it is now; it may have expired, but it must be ours.
pub(super) fn holder(config: &Config, certificate: &Path) -> Result<SpiffeId, CliError> {
    let chain = load_certificates(certificate)?;
    let root = load_certificate(&config.trust.root)?;
    let (leaf, others) = chain
        .split_first()
        .ok_or(PkiError::Certificate(BadCertificate::NotPem))?;
    let now = unix_seconds(SystemClock.now());
    match verify_chain(leaf, others, &root, now) {
        // Whoever is told of an expiry knows that everything else was in order.
        Ok(_) | Err(BadCertificate::Expired { .. }) => {
            Ok(identity_of(leaf.der(), &config.trust.domain)?.id)
        }
        Err(error) => Err(CliError::new(
            Exit::Refused,
            format!("{}: {error}", certificate.display()),
            "only certificates of our own issuing CA are renewed here; others at their CA",
        )),
    }
}

/// Both are written beside the old ones first, so that a full disk leaves those.
pub(super) fn replace(
    files: &CertificateFiles,
    key: &SoftwareKey,
    chain: &str,
) -> Result<(), CliError> {
    let (new_key, new_chain) = (beside(&files.key), beside(&files.certificate));
    key.save(&new_key)?;
    std::fs::write(&new_chain, chain).map_err(|error| CliError::file(&new_chain, &error))?;
    for (from, to) in [(&new_key, &files.key), (&new_chain, &files.certificate)] {
        std::fs::rename(from, to).map_err(|error| CliError::file(to, &error))?;
    }
    Ok(())
}

pub(super) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

#[derive(Serialize)]
pub(super) struct Renewed {
    pub(super) certificate: PathBuf,
    pub(super) not_after: String,
    pub(super) restart: bool,
}

impl Say for Renewed {
    fn say(&self) -> String {
        let text = format!(
            "{} is good until {}",
            self.certificate.display(),
            self.not_after
        );
        match self.restart {
            true => text + "\nrestart the daemon to use it",
            false => text,
        }
    }
}
