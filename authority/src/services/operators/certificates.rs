//! How do operators get their next certificate, and what became of anybody's?

use pki::Certificate;
use pki::crl::Reason;
use protocol::ids::TerminalId;
use protocol::problem::ProblemType;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::people::renew;
use super::{Asker, LIST_MAX, Verb, malformed, refused};
use crate::app::App;
use crate::services::{Failure, revocation};
use crate::store::{Bar, CertificateRecord, Subject};

/// The next certificate of an operator, for the key of this request. Only they get one for a key that
/// they bring: this node makes its own ([`super::NodeRenew`]).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateIssue {
    /// PKCS#10, PEM.
    pub request: String,
    /// Whose it will be.
    pub operator: String,
    /// Their renewal signed with the old key ([`super::Renewal`]): a stopped authority has no
    /// TLS to know them by.
    #[serde(default)]
    pub proof: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct IssuedView {
    pub serial: String,
    pub not_after: Timestamp,
    /// PEM: its own certificate, then the issuing one.
    pub chain: String,
}

/// What was issued: of one holder newest first, or what is in force, the first to end first.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateList {
    #[serde(default)]
    pub of: Option<Issued>,
}

/// Whom a certificate was issued to.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Issued {
    Terminal(TerminalId),
    Operator(String),
    Node(String),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateShow {
    /// Lower-case hex.
    pub serial: String,
}

/// Refuses this certificate, at once; others hear of it from the revocation list.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateRevoke {
    pub serial: String,
    /// As RFC 5280, 5.3.1 names it, with hyphens.
    pub reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Certificates {
    pub certificates: Vec<CertificateView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct CertificateView {
    pub serial: String,
    pub kind: String,
    pub subject: String,
    /// `unused`, `in force`, `superseded`, `over` or `revoked`.
    pub state: String,
    pub issued_at: Timestamp,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Key identifier of the issuing CA.
    pub issuer_key: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub renews: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub used_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub superseded_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// PEM, when one is shown.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub certificate: Option<String>,
}

impl Verb for CertificateIssue {
    const NAME: &'static str = "certificate-issue";
    const CHANGES: bool = true;
    // Whose certificate a restore has lost may be needed for the raise.
    const WHILE_FENCED: bool = true;
    type Answer = IssuedView;

    async fn run(self, app: &App) -> Result<IssuedView, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    /// An operator renews their own only: who could issue another one a certificate would be two.
    async fn run_as(self, app: &App, asker: &Asker) -> Result<IssuedView, Failure> {
        let proof = self.proof.as_deref();
        renew(app, asker, &self.operator, &self.request, proof).await
    }
}

impl Verb for CertificateList {
    const NAME: &'static str = "certificate-list";
    const CHANGES: bool = false;
    type Answer = Certificates;

    async fn run(self, app: &App) -> Result<Certificates, Failure> {
        let now = app.clock.now();
        let found = match self.of {
            Some(of) => app.store.certificates_of(of.into(), LIST_MAX).await?,
            None => app.store.certificates_to_end(now, LIST_MAX).await?,
        };
        let view = |record| CertificateView::of(record, now);
        Ok(Certificates {
            certificates: found.into_iter().map(view).collect(),
        })
    }
}

impl Verb for CertificateShow {
    const NAME: &'static str = "certificate-show";
    const CHANGES: bool = false;
    type Answer = CertificateView;

    async fn run(self, app: &App) -> Result<CertificateView, Failure> {
        let found = app.store.certificate(&self.serial).await?;
        let found = found.ok_or_else(|| unknown(&self.serial))?;
        let pem = Certificate::from_der(&found.certificate.der).map(|it| it.pem());
        let mut view = CertificateView::of(found, app.clock.now());
        view.certificate = pem.ok();
        Ok(view)
    }
}

impl Verb for CertificateRevoke {
    const NAME: &'static str = "certificate-revoke";
    const CHANGES: bool = true;
    type Answer = CertificateView;

    async fn run(self, app: &App) -> Result<CertificateView, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<CertificateView, Failure> {
        let reason: Reason = self.reason.parse().map_err(malformed)?;
        let (serial, now) = (&self.serial, app.clock.now());
        if check_leaves_operators(app, asker, serial).await? {
            let revoked = revocation::revoke_voice(app, serial, reason, now).await?;
            if let Bar::Stranded { able, required } = revoked {
                return Err(last_voice(able, required));
            }
            let revoked = app.store.certificate(serial).await?;
            let revoked = revoked.ok_or_else(|| unknown(serial))?;
            return Ok(CertificateView::of(revoked, now));
        }
        let revoked = revocation::revoke(app, serial, reason, now).await?;
        let revoked = revoked.ok_or_else(|| unknown(serial))?;
        Ok(CertificateView::of(*revoked, now))
    }
}

/// Where consent is needed, nobody takes another operator's voice away alone. Answers whether it is an
/// operator's certificate.
async fn check_leaves_operators(app: &App, asker: &Asker, serial: &str) -> Result<bool, Failure> {
    let found = app.store.certificate(serial).await?;
    let Some(Subject::Operator(name)) = found.map(|found| found.certificate.subject) else {
        return Ok(false);
    };
    let alone = app.store.consent_policy().await?.strictest() == 0;
    match alone || name == asker.by {
        true => Ok(true),
        false => {
            let detail =
                format!("{name} could not consent to anything: use `operator revoke {name}`");
            Err(refused(ProblemType::WouldStrand, detail))
        }
    }
}

impl CertificateView {
    fn of(record: CertificateRecord, now: Timestamp) -> Self {
        let state = state_of(&record, now);
        let certificate = record.certificate;
        let (kind, subject) = match certificate.subject {
            Subject::Terminal(id) => ("terminal", id.to_string()),
            Subject::Operator(name) => ("operator", name),
            Subject::Authority(node) => ("node", node),
        };
        Self {
            serial: certificate.serial,
            kind: kind.into(),
            subject,
            state: state.into(),
            issued_at: record.issued_at,
            not_before: certificate.not_before,
            not_after: certificate.not_after,
            issuer_key: certificate.issuer_key,
            renews: record.renews,
            used_at: record.used_at,
            superseded_at: record.superseded_at,
            revoked_at: record.revoked.map(|it| it.at),
            reason: record.revoked.map(|it| it.reason.name().into()),
            certificate: None,
        }
    }
}

fn state_of(record: &CertificateRecord, now: Timestamp) -> &'static str {
    if record.revoked.is_some() {
        "revoked"
    } else if record.superseded_at.is_some() {
        "superseded"
    } else if now > record.certificate.not_after {
        "over"
    } else if record.used_at.is_none() && matches!(record.certificate.subject, Subject::Terminal(_))
    {
        "unused"
    } else {
        "in force"
    }
}

impl From<Issued> for Subject {
    fn from(issued: Issued) -> Self {
        match issued {
            Issued::Terminal(id) => Self::Terminal(id),
            Issued::Operator(name) => Self::Operator(name),
            Issued::Node(node) => Self::Authority(node),
        }
    }
}

/// Their own, or that of the only one there is.
fn last_voice(able: u32, required: u32) -> Failure {
    let detail = format!(
        "it is this operator's last good certificate: {able} operators could sign then, and the policy \
         needs {required} besides the one who asks. First `renew operator`, then revoke the old one"
    );
    refused(ProblemType::WouldStrand, detail)
}

fn unknown(serial: &str) -> Failure {
    let detail = format!("no certificate {serial} was issued here");
    refused(ProblemType::Unknown, detail)
}
