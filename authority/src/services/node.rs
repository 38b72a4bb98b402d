//! How does this node get its next certificate?
//!
//! The key is made here, by whoever keeps the listeners; an operator only says that it is time. Whoever
//! could bring a key of their own would be the authority to every terminal.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use pki::{DnsName, IssueRequest, IssueTo, IssuedCertificate, PkiError, csr};
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::enrolment::record;
use super::{Failure, issuing};
use crate::app::App;
use crate::clock::unix_seconds;
use crate::store::Subject;

/// Renewals that wait for the keeper; it does one after the other.
const WISHES_MAX: usize = 4;

/// A listener that shows a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Listener {
    /// Of terminals and operators.
    Agents,
    Public,
}

/// What a listener shows from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRenewed {
    pub serial: String,
    pub not_after: Timestamp,
}

/// An operator wants this listener's certificate renewed now.
pub struct Wish {
    pub listener: Listener,
    answer: oneshot::Sender<Result<NodeRenewed, Failure>>,
}

/// The way from the verb to whoever keeps the listeners.
#[derive(Default)]
pub struct Wishes(Mutex<Option<mpsc::Sender<Wish>>>);

impl Listener {
    pub fn name(self) -> &'static str {
        match self {
            Self::Agents => "agents listener",
            Self::Public => "public listener",
        }
    }
}

impl Wish {
    pub fn answer(self, renewed: Result<NodeRenewed, Failure>) {
        // Whoever asked may be gone; the certificate is renewed all the same.
        let _ = self.answer.send(renewed);
    }
}

impl Wishes {
    /// From now on they come here.
    pub fn receive(&self) -> mpsc::Receiver<Wish> {
        let (sender, wishes) = mpsc::channel(WISHES_MAX);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        wishes
    }

    /// Has it renewed, and waits until the listener shows it.
    pub async fn renew(&self, listener: Listener) -> Result<NodeRenewed, Failure> {
        let sender = self
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (answer, answered) = oneshot::channel();
        let sender = sender.ok_or_else(nobody_keeps)?;
        let sent = sender.send(Wish { listener, answer }).await;
        sent.map_err(|_| nobody_keeps())?;
        answered.await.map_err(|_| nobody_keeps())?
    }
}

/// Issues this node a certificate, under the names of the agents' listener. `request` is PEM. What
/// comes of it is recorded by [`keep`].
pub async fn issue(app: &App, request: &str) -> Result<IssuedCertificate, Failure> {
    let csr = csr::check(request.as_bytes()).map_err(PkiError::from)?;
    if app.store.is_key_certified(csr.spki_sha256()).await? {
        return Err(ProblemType::KeyReused.into());
    }
    let (to, now) = (names(app)?, unix_seconds(app.clock.now()));
    issuing::issue(app, IssueRequest { csr, to, now }).await
}

/// Records what was issued to this node.
pub async fn keep(app: &App, issued: &IssuedCertificate) -> Result<(), Failure> {
    let subject = Subject::Authority(app.config.node.to_string());
    let recorded = record(issued, subject);
    Ok(app.store.add_certificate(recorded, app.clock.now()).await?)
}

fn names(app: &App) -> Result<IssueTo, Failure> {
    let names = &app.config.agents.names;
    let addresses: Vec<IpAddr> = names.iter().filter_map(|n| n.parse().ok()).collect();
    let is_dns = |name: &&String| name.parse::<IpAddr>().is_err();
    let dns: Result<Vec<DnsName>, _> = names
        .iter()
        .filter(is_dns)
        .map(|name| name.parse())
        .collect();
    Ok(IssueTo::Authority {
        node: app.config.node.clone(),
        dns: dns.map_err(PkiError::from)?,
        addresses,
    })
}

fn nobody_keeps() -> Failure {
    Problem::new(ProblemType::NotReady)
        .with_detail("nobody keeps the listeners: the daemon is on its way down")
        .into()
}
