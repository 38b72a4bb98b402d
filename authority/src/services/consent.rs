//! May this operator have it done, or must others consent first?
//!
//! ```text
//! verb ─▶ gate? ─no──────────────────────────────────────────▶ run
//!           │yes: request for exactly this ─▶ every signature verified now ─▶ begun ─▶ run ─▶ done
//!           └── none, or too few: consent-needed
//! ```
//! [`admit`] is the only way past the gate, also for the stopped authority: signatures are verified
//! each time, against the certificates as they are at that moment, and the store judges the rest in
//! the transaction that begins it.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use pki::consent::request::SKEW_MAX_S;
use pki::consent::{
    Anchors, AsOf, BadStatement, Consent, Dated, Policy, Refusal, Request, Signed, Transcript,
    judge, verify,
};
use pki::{Certificate, IssuedCertificate};
use protocol::jws::Purpose;
use protocol::problem::{Problem, ProblemType};
use protocol::time::Timestamp;
use serde_json::Value;

use super::{Failure, enrolment, issuing};
use crate::app::App;
use crate::ids;
use crate::store::{
    AddRequest, Begin, Counted, Heard, NewRequest, RequestId, RequestRecord, RequestState, Subject,
    Voice,
};

/// Who asks when the authority is stopped; whoever signed a request is known by the signature. No
/// operator can be called so: a name begins with a letter or digit.
pub const OFFLINE_OPERATOR: &str = "--offline";

/// Requests that this process is carrying out.
#[derive(Debug, Default)]
pub struct CarryingOut(Mutex<HashSet<RequestId>>);

/// What the gate says.
pub enum Admission<'a> {
    /// The one who asks is enough.
    NotNeeded,
    Granted(Grant<'a>),
    /// It was carried out before; the answer, if it was kept.
    Done(Option<String>),
}

/// A request that enough others consented to, begun; only [`admit`] makes one. Nobody else carries it
/// out while it lives.
pub struct Grant<'a> {
    app: &'a App,
    id: RequestId,
}

/// What is asked for, as the gate needs it.
pub struct Wanted<'a> {
    pub verb: &'static str,
    /// As the verb writes itself.
    pub body: &'a str,
    /// The request to carry out; none: whichever is for exactly this.
    pub request: Option<RequestId>,
}

/// Lets `by` pass with as many consents as the policy says now.
pub async fn admit<'a>(
    app: &'a App,
    by: &str,
    wanted: &Wanted<'_>,
) -> Result<Admission<'a>, Failure> {
    let required = policy(app).await?.required_for(wanted.verb);
    if required == 0 {
        return Ok(Admission::NotNeeded);
    }
    let Some(record) = find(app, by, wanted).await? else {
        return Err(needed(format!(
            "{} needs {required} besides the one who asks",
            wanted.verb
        )));
    };
    if record.state == RequestState::Done {
        return Ok(Admission::Done(record.answer));
    }
    let grant = Grant::take(app, record.request.id)?;
    grant.begin(&record, required).await?;
    Ok(Admission::Granted(grant))
}

/// As it is set, and no weaker than one that the database has lost.
async fn policy(app: &App) -> Result<Policy, Failure> {
    Ok(app.fence.stricter(app.store.consent_policy().await?))
}

async fn find(app: &App, by: &str, wanted: &Wanted<'_>) -> Result<Option<RequestRecord>, Failure> {
    let now = app.clock.now();
    let Wanted { verb, body, .. } = *wanted;
    let asker = (by != OFFLINE_OPERATOR).then_some(by);
    let Some(id) = wanted.request else {
        return Ok(app.store.request_for(asker, verb, body, now).await?);
    };
    let found = app.store.consent_request(id).await?;
    let found = found.ok_or_else(|| unknown(id))?;
    let same = found.request.verb == verb && found.request.body == body;
    let own = asker.is_none_or(|asker| asker == found.request.asked_by);
    match same && own {
        true => Ok(Some(found)),
        false => Err(not_counted(
            "it is for something else, or somebody else asks",
        )),
    }
}

impl<'a> Grant<'a> {
    fn take(app: &'a App, id: RequestId) -> Result<Self, Failure> {
        match app.carrying_out.lock().insert(id) {
            true => Ok(Self { app, id }),
            false => Err(Problem::new(ProblemType::Busy)
                .with_detail(format!("request {id} is being carried out"))
                .with_retry_after(1)
                .into()),
        }
    }

    async fn begin(&self, record: &RequestRecord, required: u32) -> Result<(), Failure> {
        let (app, now) = (self.app, self.app.clock.now());
        let request = believed_request(app, record, now).await?;
        let consents = believed_consents(app, record, now).await;
        if let Err(too_few) = judge(&request, &consents, required) {
            return Err(needed(short_of(record, &too_few.by, too_few.required)));
        }
        let counted = consents.iter().map(|consent| Counted {
            operator: consent.name().to_owned(),
            serial: consent.certificate().serial_hex(),
        });
        let asked_under = request.claims().required;
        let begun = app
            .store
            .begin_request(self.id, counted.collect(), asked_under, now);
        match begun.await? {
            Begin::Begun => Ok(()),
            Begin::TooFew { counted, required } => {
                Err(needed(short_of(record, &counted, required)))
            }
            Begin::Closed => Err(not_counted(format!(
                "request {} is over, or who asked is no operator any more",
                self.id
            ))),
        }
    }

    pub fn id(&self) -> RequestId {
        self.id
    }

    /// It was carried out: it is not carried out again.
    pub async fn end(self, answer: Option<String>) -> Result<(), Failure> {
        let now = self.app.clock.now();
        self.app.store.end_request(self.id, answer, now).await?;
        Ok(())
    }
}

impl Drop for Grant<'_> {
    fn drop(&mut self) {
        self.app.carrying_out.lock().remove(&self.id);
    }
}

impl CarryingOut {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashSet<RequestId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What `by` would sign to ask for this, as of now.
pub async fn draft(app: &App, by: &str, verb: &str, body: Value) -> Result<Request, Failure> {
    let policy = policy(app).await?;
    let now = app.clock.now();
    let id: RequestId = ids::fresh(now, RequestId::from_parts);
    let request = Request {
        iss: app.issuer_uri(),
        jti: id.to_string(),
        generation: app.generation,
        verb: verb.to_owned(),
        body,
        asked_by: by.to_owned(),
        iat: now.secs(),
        exp: now.secs() + i64::from(policy.life_h) * 3600,
        required: policy.required_for(verb),
        policy,
    };
    match request.check(app.issuer.trust_domain()) {
        Ok(()) => Ok(request),
        Err(_) => Err(Problem::new(ProblemType::BodyTooLarge)
            .with_detail(format!(
                "what others consent to has at most {} bytes",
                pki::consent::request::BODY_MAX_BYTES
            ))
            .into()),
    }
}

/// Keeps a request that its asker has signed; `body` is what the verb in it reads back as.
pub async fn ask(
    app: &App,
    by: &str,
    signed: Signed<Request>,
    body: String,
) -> Result<RequestId, Failure> {
    let now = app.clock.now();
    check_sender(by, signed.name())?;
    check_signer(app, &signed).await?;
    check_request(app, &signed)?;
    check_clock(signed.claims().iat, now)?;
    if signed.claims().policy != policy(app).await? {
        return Err(not_counted(
            "the policy was changed in the meantime: ask anew",
        ));
    }
    let claims = signed.claims();
    let id = id_of(claims)?;
    let added = app.store.add_consent_request(NewRequest {
        id,
        verb: claims.verb.clone(),
        body,
        asked_by: claims.asked_by.clone(),
        statement: signed.text().to_owned(),
        asked_at: Timestamp::from_secs(claims.iat),
        expires_at: Timestamp::from_secs(claims.exp),
    });
    match added.await? {
        AddRequest::Added => Ok(id),
        AddRequest::IdTaken => Err(not_counted("this request was made before")),
        AddRequest::NotOperator => Err(not_counted(format!("{} is no operator", claims.asked_by))),
        AddRequest::TooMany => Err(Problem::new(ProblemType::Busy)
            .with_detail("too many requests are open: withdraw some with `consent refuse`")
            .with_retry_after(60)
            .into()),
    }
}

/// Keeps a consent.
pub async fn sign(app: &App, by: &str, statement: &str) -> Result<RequestId, Failure> {
    let signed: Signed<Consent> = verify_now(app, statement)?;
    let claims = signed.claims();
    let (id, sha256) = (claims.request.clone(), claims.request_sha256.clone());
    speak(app, by, &signed, (&id, &sha256), true).await
}

/// Keeps a refusal; the one who asked withdraws with it.
pub async fn refuse(app: &App, by: &str, statement: &str) -> Result<RequestId, Failure> {
    let signed: Signed<Refusal> = verify_now(app, statement)?;
    let claims = signed.claims();
    let fits = claims.reason.len() <= pki::consent::request::REASON_MAX_BYTES
        && !claims.reason.chars().any(char::is_control);
    if !fits {
        return Err(of_statement(BadStatement::Claims));
    }
    let (id, sha256) = (claims.request.clone(), claims.request_sha256.clone());
    speak(app, by, &signed, (&id, &sha256), false).await
}

async fn speak<C: Dated>(
    app: &App,
    by: &str,
    signed: &Signed<C>,
    (id, sha256): (&str, &str),
    consents: bool,
) -> Result<RequestId, Failure> {
    let now = app.clock.now();
    check_sender(by, signed.name())?;
    check_signer(app, signed).await?;
    check_clock(signed.claims().said_at(), now)?;
    let id: RequestId = id.parse().map_err(|_| of_statement(BadStatement::Claims))?;
    let record = app.store.consent_request(id).await?;
    let record = record.ok_or_else(|| unknown(id))?;
    let request = believed_request(app, &record, now).await?;
    request
        .is_meant(&id.to_string(), sha256, signed.claims().said_at())
        .map_err(of_statement)?;
    let heard = match !consents && signed.name() == request.name() {
        true => app.store.withdraw_request(id, signed.name(), now).await?,
        false => {
            let voice = Voice {
                operator: signed.name().to_owned(),
                consents,
                serial: signed.certificate().serial_hex(),
                statement: signed.text().to_owned(),
                at: now,
            };
            app.store.add_voice(id, voice).await?
        }
    };
    match heard {
        Heard::Done => Ok(id),
        Heard::Unknown => Err(unknown(id)),
        Heard::Closed => Err(not_counted(format!("request {id} is over"))),
        Heard::Own => Err(of_statement(BadStatement::Own)),
        Heard::NotOperator => Err(not_counted(format!("{} is no operator", signed.name()))),
    }
}

/// Whose consents count at this moment, and how many are needed.
pub async fn tally(app: &App, record: &RequestRecord) -> Result<(Vec<String>, u32), Failure> {
    let now = app.clock.now();
    let policy = policy(app).await?;
    let required = policy.required_for(&record.request.verb);
    let Ok(request) = believed_request(app, record, now).await else {
        return Ok((Vec::new(), required));
    };
    let consents = believed_consents(app, record, now).await;
    Ok(match judge(&request, &consents, required) {
        Ok(consented) => (
            consented.by().to_vec(),
            required.max(request.claims().required),
        ),
        Err(too_few) => (too_few.by, too_few.required),
    })
}

/// Everything that was signed, for whoever verifies it elsewhere.
pub fn transcript(record: &RequestRecord) -> Transcript {
    let said = |consents| {
        let voices = record.voices.iter();
        voices
            .filter(move |voice| voice.consents == consents)
            .map(|voice| voice.statement.clone())
            .collect()
    };
    let done = record.state == RequestState::Done;
    Transcript {
        request: record.request.statement.clone(),
        consents: said(true),
        refusals: said(false),
        outcome: record.begun_at.map(|begun_at| pki::consent::Outcome {
            begun_at,
            done_at: record.ended_at.filter(|_| done),
        }),
    }
}

/// Verifies a statement with the certificates that are believed now.
pub fn verify_now<C: Purpose + Dated>(app: &App, text: &str) -> Result<Signed<C>, Failure> {
    let now = u64::try_from(app.clock.now().secs()).unwrap_or(0);
    verify_as_of(app, text, AsOf::Time(now))
}

/// The same, where the certificate may have ended: for its own renewal alone.
pub fn verify_ended<C: Purpose + Dated>(app: &App, text: &str) -> Result<Signed<C>, Failure> {
    let now = u64::try_from(app.clock.now().secs()).unwrap_or(0);
    verify_as_of(app, text, AsOf::TimeOrEnded(now))
}

fn verify_as_of<C: Purpose + Dated>(
    app: &App,
    text: &str,
    as_of: AsOf,
) -> Result<Signed<C>, Failure> {
    let (trust, issuing) = (app.trust(), believed_issuing(app));
    let anchors = Anchors {
        roots: trust.roots(),
        issuing: &issuing,
        domain: app.issuer.trust_domain(),
    };
    verify(text, &anchors, as_of).map_err(of_statement)
}

fn believed_issuing(app: &App) -> Vec<Certificate> {
    let (cas, trust) = (app.issuer.issuing_cas().into_iter(), app.trust());
    let believed = cas.filter(|ca| ca.state.is_believed());
    let issuing = believed.map(|ca| ca.chain.issuing().clone());
    issuing
        .filter(|issuing| !trust.denied().denies(issuing))
        .collect()
}

/// The certificate was issued to this operator here, by an issuing CA that is believed, and is not
/// revoked; the operator is one.
pub async fn check_signer<C>(app: &App, signed: &Signed<C>) -> Result<(), Failure> {
    check_voice(app, signed, Lost::Refused).await
}

/// The same, but a restore may have lost the certificate: for its own renewal alone.
pub async fn check_renewing<C>(app: &App, signed: &Signed<C>) -> Result<(), Failure> {
    check_voice(app, signed, Lost::Renewed).await
}

/// What becomes of a certificate that a restore has lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lost {
    Refused,
    Renewed,
}

async fn check_voice<C>(app: &App, signed: &Signed<C>, lost: Lost) -> Result<(), Failure> {
    let (name, certificate) = (signed.name(), signed.certificate());
    let believed = issuing::is_believed(app, certificate);
    let recorded = app.store.certificate(&certificate.serial_hex()).await?;
    // A restored database may have lost it.
    let revoked = app.fence.is_revoked_outside(&certificate.serial_hex());
    let good = match recorded.filter(|_| !revoked) {
        Some(record) => {
            record.certificate.subject == Subject::Operator(name.to_owned())
                && record.certificate.spki_sha256 == certificate.spki_sha256()
                && record.revoked.is_none()
                && record.superseded_at.is_none()
        }
        None => lost == Lost::Renewed && !revoked && is_lost(app, name, certificate).await?,
    };
    let operator = app.store.operator(name, app.clock.now()).await?;
    let active = operator.is_some_and(|operator| operator.revoked.is_none());
    let outside = app.fence.is_operator_revoked_outside(name)
        || app.fence.is_revoked_outside(&certificate.serial_hex());
    let active = active && !outside;
    match believed && good && active {
        true => Ok(()),
        false => Err(not_counted(format!(
            "the certificate it is signed under is not, or no longer, one of the operator {name}"
        ))),
    }
}

async fn is_lost(app: &App, name: &str, certificate: &Certificate) -> Result<bool, Failure> {
    let issued = IssuedCertificate::from(certificate.clone());
    let row = enrolment::record(&issued, Subject::Operator(name.to_owned()));
    let (behind, now) = (app.fence.fenced().is_some(), app.clock.now());
    Ok(app.store.is_lost_voice(row, behind, now).await?)
}

/// The request in the store, verified now: its signature, its asker, and that it is for us.
async fn believed_request(
    app: &App,
    record: &RequestRecord,
    now: Timestamp,
) -> Result<Signed<Request>, Failure> {
    let signed: Signed<Request> = verify_now(app, &record.request.statement)?;
    check_signer(app, &signed).await?;
    check_request(app, &signed)?;
    let claims = signed.claims();
    let body: Option<Value> = serde_json::from_str(&record.request.body).ok();
    let as_stored = id_of(claims)? == record.request.id
        && claims.verb == record.request.verb
        && body.as_ref() == Some(&claims.body)
        && claims.asked_by == record.request.asked_by;
    if !as_stored {
        return Err(not_counted(
            "the store holds another request than was signed",
        ));
    }
    match now.secs() <= claims.exp {
        true => Ok(signed),
        false => Err(not_counted(format!("request {} has expired", claims.jti))),
    }
}

/// Those consents in the store whose signatures and signers are good now; the others do not count.
async fn believed_consents(
    app: &App,
    record: &RequestRecord,
    now: Timestamp,
) -> Vec<Signed<Consent>> {
    let mut believed = Vec::new();
    for voice in record.voices.iter().filter(|voice| voice.consents) {
        let consent = match verify_now::<Consent>(app, &voice.statement) {
            Ok(consent) => consent,
            Err(why) => {
                tracing::info!(operator = voice.operator, at = %now, %why, "a consent does not count");
                continue;
            }
        };
        if consent.name() == voice.operator && check_signer(app, &consent).await.is_ok() {
            believed.push(consent);
        }
    }
    believed
}

/// It keeps its own rules, and is for this authority in this life of its database.
fn check_request(app: &App, signed: &Signed<Request>) -> Result<(), Failure> {
    let claims = signed.claims();
    claims
        .check(app.issuer.trust_domain())
        .map_err(of_statement)?;
    if claims.iss != app.issuer_uri() {
        return Err(not_counted(format!("it is for {}", claims.iss)));
    }
    match claims.generation == app.generation {
        true => Ok(()),
        false => Err(not_counted(format!(
            "it was made in generation {} of the database, and this is {}",
            claims.generation, app.generation
        ))),
    }
}

fn id_of(request: &Request) -> Result<RequestId, Failure> {
    let id: Option<RequestId> = request.jti.parse().ok();
    id.filter(|id| id.to_string() == request.jti)
        .ok_or_else(|| of_statement(BadStatement::Claims))
}

/// Whoever sends a statement has signed it. A stopped authority knows the sender by the signature.
fn check_sender(by: &str, signer: &str) -> Result<(), Failure> {
    match by == signer || by == OFFLINE_OPERATOR {
        true => Ok(()),
        false => Err(not_counted(format!(
            "{signer} signed it, and {by} sends it"
        ))),
    }
}

fn check_clock(said_at: i64, now: Timestamp) -> Result<(), Failure> {
    let apart = said_at.saturating_sub(now.secs());
    match apart.abs() <= SKEW_MAX_S {
        true => Ok(()),
        false => Err(not_counted(format!(
            "the clock of the machine that signed it is {} s {} ours",
            apart.abs(),
            if apart < 0 { "behind" } else { "ahead of" }
        ))),
    }
}

fn short_of(record: &RequestRecord, by: &[String], required: u32) -> String {
    let names = match by {
        [] => String::new(),
        by => format!(" ({})", by.join(", ")),
    };
    format!(
        "request {} has {} of {required} consents{names}",
        record.request.id,
        by.len()
    )
}

fn needed(detail: impl std::fmt::Display) -> Failure {
    refused(ProblemType::ConsentNeeded, detail)
}

fn not_counted(detail: impl std::fmt::Display) -> Failure {
    refused(ProblemType::ConsentRefused, detail)
}

fn of_statement(why: BadStatement) -> Failure {
    not_counted(why)
}

/// There is no such request.
pub fn unknown(id: RequestId) -> Failure {
    refused(ProblemType::Unknown, format!("no request {id}"))
}

fn refused(problem: ProblemType, detail: impl std::fmt::Display) -> Failure {
    Problem::new(problem).with_detail(detail).into()
}
