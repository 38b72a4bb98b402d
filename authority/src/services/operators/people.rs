//! How do operators come, go, and get their next certificate?

use pki::consent::{Dated, Signed, Vouch};
use pki::crl::Reason;
use pki::{CheckedCsr, IssueRequest, IssueTo, PkiError, Segment, SpiffeId, csr};
use protocol::jws::Purpose;
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::policy::stranded;
use super::{Asker, Gate, IssuedView, LIST_MAX, Verb, malformed, refused};
use crate::app::App;
use crate::clock::unix_seconds;
use crate::services::consent::{OFFLINE_OPERATOR, check_renewing, verify_ended};
use crate::services::enrolment::record;
use crate::services::{Failure, issuing, revocation};
use crate::store::{AddOperator, Bar, OperatorRecord, Subject};

/// Who made somebody an operator that no other operator consented to. No operator can be called so: a
/// name begins with a letter or digit.
const ROOT: &str = "--root";

/// Makes somebody an operator: a certificate for the key of this request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorAdd {
    pub name: String,
    /// PKCS#10, PEM.
    pub request: String,
    /// What the root says for them, in the place of other operators' consent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouch: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorList {}

/// From now on they are no operator, and all their certificates are revoked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorRevoke {
    pub name: String,
    /// As RFC 5280, 5.3.1 names it, with hyphens.
    pub reason: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Operators {
    pub operators: Vec<OperatorView>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct OperatorView {
    pub name: String,
    /// `active`, `expired` or `revoked`.
    pub state: String,
    pub added_by: String,
    pub added_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub good_until: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_by: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub revoked_at: Option<Timestamp>,
}

/// The holder of an operator's certificate, ended or not, wants one for this request's key. Signed
/// with the old key, because a stopped authority has no TLS to prove it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Renewal {
    pub by: String,
    /// SHA-256 of the request as it is sent (PEM), lower-case hex.
    pub request_sha256: String,
    pub iat: i64,
}

impl Purpose for Renewal {
    const TYP: &'static str = protocol::typ::RENEWAL;
}

impl Dated for Renewal {
    fn said_at(&self) -> i64 {
        self.iat
    }
    fn said_by(&self) -> &str {
        &self.by
    }
}

impl Renewal {
    pub fn new(by: &str, request: &str, iat: i64) -> Self {
        Self {
            by: by.to_owned(),
            request_sha256: sha256_hex(request),
            iat,
        }
    }
}

impl Verb for OperatorAdd {
    const NAME: &'static str = "operator-add";
    const CHANGES: bool = true;
    // Too few may be left even for the raise: then the root vouches.
    const WHILE_FENCED: bool = true;
    const ANSWER_KEPT: bool = true;
    type Answer = IssuedView;

    /// Who comes with the root's word needs no other's; it is verified before anything is done.
    fn gate(&self) -> Gate {
        match self.vouch {
            Some(_) => Gate::One,
            None => Gate::Consented,
        }
    }

    async fn run(self, app: &App) -> Result<IssuedView, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<IssuedView, Failure> {
        let csr = csr::check(self.request.as_bytes()).map_err(PkiError::from)?;
        let name: Segment = self.name.parse().map_err(PkiError::from)?;
        csr.agrees_with(&SpiffeId::Operator(name.clone()), app.issuer.trust_domain())
            .map_err(PkiError::from)?;
        let at = app.clock.now();
        let by = match &self.vouch {
            Some(vouch) => {
                check_vouch(app, vouch, &self.name, &csr)?;
                ROOT
            }
            None => match app.fence.operator_problem() {
                Some(fenced) => return Err(fenced.into()),
                None => &asker.by,
            },
        };
        if let Some(there) = app.store.operator(name.as_str(), at).await? {
            return again(app, &there, &csr).await;
        }
        let (issued, view) = issue(app, csr, name).await?;
        match app.store.add_operator(issued, by, at).await? {
            AddOperator::Added => Ok(view),
            AddOperator::NameTaken => Err(taken(&self.name)),
            AddOperator::KeyReused => Err(ProblemType::KeyReused.into()),
            AddOperator::TooMany => Err(malformed("there are as many operators as there can be")),
        }
    }
}

fn check_vouch(app: &App, vouch: &str, name: &str, csr: &CheckedCsr) -> Result<(), Failure> {
    let refused = |why: &dyn std::fmt::Display| {
        refused(
            ProblemType::ConsentRefused,
            format!("what the root says does not count: {why}"),
        )
    };
    let (trust, now) = (app.trust(), app.clock.now().secs());
    let vouch = Vouch::verify(vouch.trim_end(), trust.roots(), now).map_err(|why| refused(&why))?;
    match vouch.is_for(name, app.issuer.trust_domain(), csr) {
        true => Ok(()),
        false => Err(refused(&"it is for another name or another key")),
    }
}

/// Whoever carries it out again after a lost answer gets the certificate that was issued then.
async fn again(app: &App, there: &OperatorRecord, csr: &CheckedCsr) -> Result<IssuedView, Failure> {
    let subject = Subject::Operator(there.name.clone());
    let issued = app.store.certificates_of(subject, LIST_MAX).await?;
    let same = issued.into_iter().find(|record| {
        record.certificate.spki_sha256 == csr.spki_sha256() && record.revoked.is_none()
    });
    match same.filter(|_| there.revoked.is_none()) {
        None => Err(taken(&there.name)),
        Some(record) => {
            let own =
                pki::Certificate::from_der(&record.certificate.der).map_err(PkiError::from)?;
            Ok(IssuedView {
                serial: record.certificate.serial,
                not_after: record.certificate.not_after,
                chain: own.pem() + &app.issuer.chain().issuing().pem(),
            })
        }
    }
}

/// The next certificate of the operator `name`, for themself alone: others are added, with the
/// consent that this needs.
pub(super) async fn renew(
    app: &App,
    asker: &Asker,
    name: &str,
    request: &str,
    proof: Option<&str>,
) -> Result<IssuedView, Failure> {
    let csr = csr::check(request.as_bytes()).map_err(PkiError::from)?;
    let name: Segment = name.parse().map_err(PkiError::from)?;
    check_holder(app, asker, name.as_str(), request, proof).await?;
    if let Some(problem) = app
        .fence
        .operator_problem()
        .filter(|_| asker.by != OFFLINE_OPERATOR)
    {
        return Err(problem.into());
    }
    let now = app.clock.now();
    let operator = app.store.operator(name.as_str(), now).await?;
    if operator.is_none_or(|operator| operator.revoked.is_some()) {
        return Err(certificate_refused(format!("{name} is no operator")));
    }
    let own = Subject::Operator(name.to_string());
    let before = app.store.certificates_of(own, LIST_MAX).await?;
    let kept = |key| before.iter().any(|it| it.certificate.spki_sha256 == key);
    // A card keeps its key; nobody brings the key of somebody else.
    if !kept(csr.spki_sha256()) && app.store.is_key_certified(csr.spki_sha256()).await? {
        return Err(ProblemType::KeyReused.into());
    }
    let (row, view) = issue(app, csr, name).await?;
    app.store.add_certificate(row, now).await?;
    Ok(view)
}

async fn check_holder(
    app: &App,
    asker: &Asker,
    name: &str,
    request: &str,
    proof: Option<&str>,
) -> Result<(), Failure> {
    if asker.by == name {
        return Ok(());
    }
    if asker.by != OFFLINE_OPERATOR {
        return Err(certificate_refused(format!(
            "{} may renew their own only: others renew theirs, or come by `operator add`",
            asker.by
        )));
    }
    let proof = proof.ok_or_else(|| certificate_refused("the old key has not signed for it"))?;
    let proof: Signed<Renewal> = verify_ended(app, proof)?;
    check_renewing(app, &proof).await?;
    let fits = proof.name() == name && proof.claims().request_sha256 == sha256_hex(request);
    match fits {
        true => Ok(()),
        false => Err(certificate_refused(
            "the old key has signed for something else",
        )),
    }
}

async fn issue(
    app: &App,
    csr: CheckedCsr,
    name: Segment,
) -> Result<(crate::store::Certificate, IssuedView), Failure> {
    let subject = Subject::Operator(name.to_string());
    let request = IssueRequest {
        csr,
        to: IssueTo::Operator(name),
        now: unix_seconds(app.clock.now()),
    };
    let issued = issuing::issue(app, request).await?;
    let row = record(&issued, subject);
    let view = IssuedView {
        serial: issued.serial,
        not_after: row.not_after,
        chain: issued.pem + &app.issuer.chain().issuing().pem(),
    };
    Ok((row, view))
}

impl Verb for OperatorList {
    const NAME: &'static str = "operator-list";
    const CHANGES: bool = false;
    type Answer = Operators;

    async fn run(self, app: &App) -> Result<Operators, Failure> {
        let operators = app.store.operators(app.clock.now()).await?;
        Ok(Operators {
            operators: operators.into_iter().map(OperatorView::from).collect(),
        })
    }
}

impl Verb for OperatorRevoke {
    const NAME: &'static str = "operator-revoke";
    const CHANGES: bool = true;
    const ANSWER_KEPT: bool = true;
    type Answer = OperatorView;

    fn gate(&self) -> Gate {
        Gate::Consented
    }

    async fn run(self, app: &App) -> Result<OperatorView, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    /// First they are no operator, then each certificate is revoked: a crash in between leaves nobody
    /// an operator, and the same request goes on.
    async fn run_as(self, app: &App, asker: &Asker) -> Result<OperatorView, Failure> {
        let reason: Reason = self.reason.parse().map_err(malformed)?;
        let now = app.clock.now();
        let revoked = app.store.revoke_operator(&self.name, &asker.by, now);
        match revoked.await? {
            Bar::Done => {}
            Bar::Unknown => return Err(unknown(&self.name)),
            Bar::Stranded { able, required } => return Err(stranded(able, required)),
        }
        let subject = Subject::Operator(self.name.clone());
        for certificate in app.store.certificates_of(subject, LIST_MAX).await? {
            if certificate.revoked.is_none() && certificate.certificate.not_after >= now {
                let serial = &certificate.certificate.serial;
                revocation::revoke(app, serial, reason, now).await?;
            }
        }
        let left = app.store.operator(&self.name, now).await?;
        left.map(OperatorView::from)
            .ok_or_else(|| unknown(&self.name))
    }
}

impl From<OperatorRecord> for OperatorView {
    fn from(record: OperatorRecord) -> Self {
        let state = match (&record.revoked, record.good_until) {
            (Some(_), _) => "revoked",
            (None, None) => "expired",
            (None, Some(_)) => "active",
        };
        let (revoked_by, revoked_at) = match record.revoked {
            Some(revoked) => (Some(revoked.by), Some(revoked.at)),
            None => (None, None),
        };
        Self {
            name: record.name,
            state: state.into(),
            added_by: record.added_by,
            added_at: record.added_at,
            good_until: record.good_until,
            revoked_by,
            revoked_at,
        }
    }
}

fn taken(name: &str) -> Failure {
    let detail = format!("there is, or was, an operator called {name}: names are not given twice");
    refused(ProblemType::AlreadyExists, detail)
}

fn unknown(name: &str) -> Failure {
    refused(ProblemType::Unknown, format!("no operator {name}"))
}

fn certificate_refused(detail: impl std::fmt::Display) -> Failure {
    Problem::new(ProblemType::CertificateRefused)
        .with_detail(detail)
        .into()
}

fn sha256_hex(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
