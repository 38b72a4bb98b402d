//! How do operators ask for each other's consent, and give it?

use pki::consent::request::BODY_MAX_BYTES;
use pki::consent::statement::STATEMENT_MAX_BYTES;
use pki::consent::{Request, Signed, Transcript};
use protocol::problem::ProblemType;
use protocol::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::every::{Named, named};
use super::{Asker, Gate, LIST_MAX, Verb, malformed, refused};
use crate::app::App;
use crate::services::{Failure, consent};
use crate::store::{RequestId, RequestRecord};

/// What stands around a statement or a body in a request, in bytes.
const AROUND: u64 = 1024;

/// What is there to be signed to have this carried out?
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentDraft {
    pub verb: String,
    pub body: Value,
    /// Who will sign it.
    pub by: String,
}

/// Either a request for exactly this that is open, or one to sign.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Drafted {
    Open(RequestView),
    ToSign(Request),
}

/// Keeps a signed request for others to consent to.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentAsk {
    pub statement: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentList {
    /// Those that are over, too.
    #[serde(default)]
    pub all: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentShow {
    pub id: RequestId,
}

/// Keeps a signed consent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentSign {
    pub statement: String,
}

/// Keeps a signed refusal; of the one who asked, it withdraws the request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentRefuse {
    pub statement: String,
}

/// Carries out what enough others consented to; once.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsentCarryOut {
    pub id: RequestId,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Requests {
    pub requests: Vec<RequestView>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RequestView {
    pub id: RequestId,
    pub verb: String,
    pub body: Value,
    pub asked_by: String,
    pub asked_at: Timestamp,
    pub expires_at: Timestamp,
    /// `open`, `begun`, `done` or `withdrawn`.
    pub state: String,
    /// Besides the one who asks.
    pub required: u32,
    /// Whose consents count now.
    pub consented: Vec<String>,
    pub refused: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ShownRequest {
    pub request: RequestView,
    pub transcript: Transcript,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct CarriedOut {
    pub id: RequestId,
    pub verb: String,
    /// Of the verb.
    pub answer: Value,
}

impl Verb for ConsentDraft {
    const NAME: &'static str = "consent-draft";
    const BODY_MAX: u64 = BODY_MAX_BYTES as u64 + AROUND;
    const CHANGES: bool = false;
    // A raise of the generation needs consents, too.
    const WHILE_FENCED: bool = true;
    type Answer = Drafted;

    async fn run(self, app: &App) -> Result<Drafted, Failure> {
        let (gate, body) = verb_of(&self.verb)?.read(self.body)?;
        if gate == Gate::One {
            return Err(malformed(format!("{} needs nobody's consent", self.verb)));
        }
        let now = app.clock.now();
        let open = app
            .store
            .request_for(Some(&self.by), &self.verb, &body, now);
        if let Some(open) = open.await? {
            return Ok(Drafted::Open(view(app, &open).await?));
        }
        let body = serde_json::from_str(&body).map_err(malformed)?;
        let request = consent::draft(app, &self.by, &self.verb, body).await?;
        Ok(Drafted::ToSign(request))
    }
}

impl Verb for ConsentAsk {
    const NAME: &'static str = "consent-ask";
    const BODY_MAX: u64 = STATEMENT_MAX_BYTES as u64 + AROUND;
    const CHANGES: bool = true;
    // A raise of the generation needs consents, too.
    const WHILE_FENCED: bool = true;
    type Answer = RequestView;

    async fn run(self, app: &App) -> Result<RequestView, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<RequestView, Failure> {
        let signed: Signed<Request> = consent::verify_now(app, &self.statement)?;
        let claims = signed.claims();
        let (gate, body) = verb_of(&claims.verb)?.read(claims.body.clone())?;
        let same = serde_json::from_str::<Value>(&body).ok().as_ref() == Some(&claims.body);
        if gate == Gate::One || !same {
            return Err(malformed(
                "nobody's consent is needed, or it is written in another way",
            ));
        }
        let id = consent::ask(app, &asker.by, signed, body).await?;
        find(app, id).await
    }
}

impl Verb for ConsentList {
    const NAME: &'static str = "consent-list";
    const CHANGES: bool = false;
    // A raise of the generation needs consents, too.
    const WHILE_FENCED: bool = true;
    type Answer = Requests;

    async fn run(self, app: &App) -> Result<Requests, Failure> {
        let now = app.clock.now();
        let mut requests = Vec::new();
        for record in app.store.consent_requests(self.all, now, LIST_MAX).await? {
            requests.push(view(app, &record).await?);
        }
        Ok(Requests { requests })
    }
}

impl Verb for ConsentShow {
    const NAME: &'static str = "consent-show";
    const CHANGES: bool = false;
    // A raise of the generation needs consents, too.
    const WHILE_FENCED: bool = true;
    type Answer = ShownRequest;

    async fn run(self, app: &App) -> Result<ShownRequest, Failure> {
        let record = app.store.consent_request(self.id).await?;
        let record = record.ok_or_else(|| consent::unknown(self.id))?;
        Ok(ShownRequest {
            request: view(app, &record).await?,
            transcript: consent::transcript(&record),
        })
    }
}

impl Verb for ConsentSign {
    const NAME: &'static str = "consent-sign";
    const BODY_MAX: u64 = STATEMENT_MAX_BYTES as u64 + AROUND;
    const CHANGES: bool = true;
    // A raise of the generation needs consents, too.
    const WHILE_FENCED: bool = true;
    type Answer = RequestView;

    async fn run(self, app: &App) -> Result<RequestView, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<RequestView, Failure> {
        let id = consent::sign(app, &asker.by, &self.statement).await?;
        find(app, id).await
    }
}

impl Verb for ConsentRefuse {
    const NAME: &'static str = "consent-refuse";
    const BODY_MAX: u64 = STATEMENT_MAX_BYTES as u64 + AROUND;
    const CHANGES: bool = true;
    // A raise of the generation needs consents, too.
    const WHILE_FENCED: bool = true;
    type Answer = RequestView;

    async fn run(self, app: &App) -> Result<RequestView, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    async fn run_as(self, app: &App, asker: &Asker) -> Result<RequestView, Failure> {
        let id = consent::refuse(app, &asker.by, &self.statement).await?;
        find(app, id).await
    }
}

impl Verb for ConsentCarryOut {
    const NAME: &'static str = "consent-carry-out";
    const CHANGES: bool = true;
    // A raise of the generation needs consents, too.
    const WHILE_FENCED: bool = true;
    type Answer = CarriedOut;

    async fn run(self, app: &App) -> Result<CarriedOut, Failure> {
        self.run_as(app, &Asker::unnamed()).await
    }

    /// The gate of the verb itself judges: this one only finds it.
    async fn run_as(self, app: &App, asker: &Asker) -> Result<CarriedOut, Failure> {
        let record = app.store.consent_request(self.id).await?;
        let record = record.ok_or_else(|| consent::unknown(self.id))?;
        let verb = record.request.verb;
        let body: Value = serde_json::from_str(&record.request.body).map_err(malformed)?;
        let carried = verb_of(&verb)?.carry_out(app, &asker.by, body, self.id);
        let (id, answer) = (self.id, carried.await?);
        Ok(CarriedOut { id, verb, answer })
    }
}

fn verb_of(name: &str) -> Result<Named, Failure> {
    named(name).ok_or_else(|| refused(ProblemType::Unknown, format!("no verb {name}")))
}

async fn find(app: &App, id: RequestId) -> Result<RequestView, Failure> {
    let record = app.store.consent_request(id).await?;
    view(app, &record.ok_or_else(|| consent::unknown(id))?).await
}

async fn view(app: &App, record: &RequestRecord) -> Result<RequestView, Failure> {
    let (consented, required) = consent::tally(app, record).await?;
    let refused = record.voices.iter().filter(|voice| !voice.consents);
    let request = &record.request;
    Ok(RequestView {
        id: request.id,
        verb: request.verb.clone(),
        body: serde_json::from_str(&request.body).map_err(malformed)?,
        asked_by: request.asked_by.clone(),
        asked_at: request.asked_at,
        expires_at: request.expires_at,
        state: record.state.name().into(),
        required,
        consented,
        refused: refused.map(|voice| voice.operator.clone()).collect(),
    })
}
