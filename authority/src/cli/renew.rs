//! `m2key-authority renew …`: how do certificates of operators and of this node get their next life?

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;
use pki::{BadCertificate, PkiError, SoftwareKey, SpiffeId, csr, identity_of};
use protocol::time::Timestamp;
use serde::Serialize;

use super::daemon::Desk;
use super::{Arguments, CliError, Exit, Say, operator, tell};
use crate::app::{App, load_certificates};
use crate::clock::{Clock, SystemClock, unix_seconds};
use crate::config::{CertificateFiles, Config, TrustConfig};
use crate::listen::credentials::{Audience, Credentials};
use crate::listen::keeper::Keeper;
use crate::listen::pair;
use crate::services::Failure;
use crate::services::node::{self, Listener, NodeRenewed};
use crate::services::operators::NodeRenew;
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

/// A new key, a certificate for it, and both in the place of the old ones. Those of a listener are made
/// by the authority itself: it is only told that it is time.
pub(super) fn run(arguments: &Arguments, what: What) -> Result<(), CliError> {
    let listener = match what {
        What::Operator => return operator::renew(arguments),
        What::Agents => Listener::Agents,
        What::Public => Listener::Public,
    };
    let desk = Desk::open(arguments)?;
    let renewed = desk.run(renew(&desk, listener))?;
    tell(arguments, &renewed);
    Ok(())
}

async fn renew(desk: &Desk, listener: Listener) -> Result<NodeRenewed, CliError> {
    let verb = NodeRenew { listener };
    let Some(app) = desk.app() else {
        return Ok(desk.send(verb).await?);
    };
    let audience = match listener {
        Listener::Agents => Audience::OurOwn,
        Listener::Public => Audience::Anybody,
    };
    let files = files_of(&app.config, listener);
    if !files.certificate.exists() && !files.key.exists() {
        return first(app, files).await.map_err(CliError::from);
    }
    let shows = Credentials::open(app, listener.name(), files, audience)?;
    // Before the verb is sent, so that it finds somebody.
    let keeper = Keeper::new(app.clone(), [shows], Arc::default());
    tokio::select! {
        renewed = desk.send(verb) => Ok(renewed?),
        () = keeper.only_wishes() => Err(CliError::operator(
            "nobody keeps the listeners",
            "start `m2key-authority serve`: it renews them by itself",
        )),
    }
}

/// A node that was just configured has none to renew: as everywhere its key is made here.
async fn first(app: &App, files: &CertificateFiles) -> Result<NodeRenewed, Failure> {
    let key = SoftwareKey::generate()?;
    let id = SpiffeId::Authority(app.config.node.clone());
    let request = csr::new(&key, &id, &app.config.trust.domain)?;
    let issued = node::issue(app, &csr::to_pem(&request)).await?;
    node::keep(app, &issued).await?;
    let not_after = i64::try_from(issued.not_after).unwrap_or(i64::MAX);
    let renewed = NodeRenewed {
        serial: issued.serial.clone(),
        not_after: Timestamp::from_secs(not_after),
    };
    let chain = issued.pem + &app.issuer.chain().issuing().pem();
    pair::write(files, &key, &chain)?;
    Ok(renewed)
}

fn files_of(config: &Config, listener: Listener) -> &CertificateFiles {
    match listener {
        Listener::Agents => &config.agents.tls,
        Listener::Public => &config.public.tls,
    }
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
}

impl Say for Renewed {
    fn say(&self) -> String {
        let path = self.certificate.display();
        format!("{path} is good until {}", self.not_after)
    }
}

impl Say for NodeRenewed {
    fn say(&self) -> String {
        format!(
            "the listener's new certificate {} is good until {}",
            self.serial, self.not_after
        )
    }
}
