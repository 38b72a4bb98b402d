//! Who are the operators that must agree, and what do they do, in a test?

use authority::services::Failure;
use authority::services::operators::{
    ConsentAsk, ConsentCarryOut, ConsentDraft, ConsentSign, Drafted, OperatorAdd, PolicySet,
    PolicyView, Verb, carry_out,
};
use authority::store::{Consents, RequestId, Revocations, Subject};
use pki::consent::{Consent, Policy, Request};
use pki::crl::Reason;
use pki::{Certificate, IssueRequest, IssueTo, Issuer, OperatorKey, SoftwareKey, SpiffeId, csr};
use protocol::jws::Purpose;
use protocol::problem::ProblemType;
use serde_json::Value;

use crate::stage::Stage;

/// An operator with their key.
pub struct Person {
    pub name: &'static str,
    pub key: OperatorKey,
    pub chain: Vec<Certificate>,
}

impl Person {
    pub async fn state<C: Purpose>(&self, claims: &C) -> String {
        self.key.state(claims, &self.chain).await.unwrap()
    }

    pub fn serial(&self) -> String {
        self.chain[0].serial_hex()
    }
}

pub struct Room {
    pub stage: Stage,
    pub ann: Person,
    pub bob: Person,
    pub cleo: Person,
}

impl Room {
    /// Ann, Bob and Cleo, and a policy that needs one besides the one who asks.
    pub async fn new() -> Self {
        Self::with(policy(1)).await
    }

    pub async fn with(policy: Policy) -> Self {
        let stage = Stage::set().await;
        let room = Self {
            ann: join(&stage, "ann").await,
            bob: join(&stage, "bob").await,
            cleo: join(&stage, "cleo").await,
            stage,
        };
        let now = room.stage.app.clock.now();
        room.stage
            .store
            .set_consent_policy(policy, "ann", now)
            .await
            .unwrap();
        room
    }

    pub fn now_s(&self) -> i64 {
        self.stage.app.clock.now().secs()
    }

    pub async fn draft(&self, by: &Person, wanted: &Policy) -> Request {
        let policy = wanted.clone();
        self.draft_of(by, &PolicySet { policy }).await
    }

    pub async fn draft_of<V: Verb>(&self, by: &Person, wanted: &V) -> Request {
        let draft = ConsentDraft {
            verb: V::NAME.into(),
            body: serde_json::to_value(wanted).unwrap(),
            by: by.name.into(),
        };
        match carry_out(&self.stage.app, by.name, draft).await.unwrap() {
            Drafted::ToSign(request) => request,
            Drafted::Open(view) => panic!("it is open: {view:?}"),
        }
    }

    /// Asks for this policy.
    pub async fn ask(&self, by: &Person, wanted: &Policy) -> RequestId {
        let statement = by.state(&self.draft(by, wanted).await).await;
        let asked = carry_out(&self.stage.app, by.name, ConsentAsk { statement }).await;
        asked.unwrap().id
    }

    pub async fn consent_of(&self, by: &Person, id: RequestId) -> String {
        by.state(&self.consent(by.name, id, self.now_s()).await)
            .await
    }

    pub async fn consent(&self, by: &str, id: RequestId, iat: i64) -> Consent {
        let record = self.stage.store.consent_request(id).await.unwrap().unwrap();
        Consent {
            request: id.to_string(),
            request_sha256: payload_sha256(&record.request.statement),
            by: by.into(),
            iat,
        }
    }

    pub async fn sign(&self, by: &Person, id: RequestId) -> Result<(), Failure> {
        let statement = self.consent_of(by, id).await;
        let signed = carry_out(&self.stage.app, by.name, ConsentSign { statement }).await;
        signed.map(|_| ())
    }

    pub async fn set(&self, by: &str, wanted: &Policy) -> Result<PolicyView, Failure> {
        let policy = wanted.clone();
        carry_out(&self.stage.app, by, PolicySet { policy }).await
    }

    pub async fn carry_out(&self, by: &str, id: RequestId) -> Result<Value, Failure> {
        let carried = carry_out(&self.stage.app, by, ConsentCarryOut { id }).await;
        carried.map(|carried| carried.answer)
    }

    pub async fn policy(&self) -> Policy {
        self.stage.store.consent_policy().await.unwrap()
    }

    pub async fn revoke_certificate_of(&self, of: &Person) {
        let (serial, now) = (of.serial(), self.stage.app.clock.now());
        let store = &self.stage.store;
        let revoked = store.revoke_certificate(&serial, Reason::KeyCompromise, now);
        revoked.await.unwrap().unwrap();
    }

    /// Changes the database behind the authority's back.
    pub fn tamper(&self, sql: &str) {
        let path = self.stage.dir.path().join("store.sqlite");
        let rows = rusqlite::Connection::open(path)
            .unwrap()
            .execute(sql, [])
            .unwrap();
        assert_eq!(rows, 1, "{sql}");
    }
}

pub fn policy(required: u32) -> Policy {
    Policy {
        required,
        ..Policy::default()
    }
}

pub async fn certify(stage: &Stage, name: &str, key: &OperatorKey) -> (Certificate, Certificate) {
    let to = IssueTo::Operator(name.parse().unwrap());
    let domain = stage.app.issuer.trust_domain();
    let request = key.request(&to.spiffe_id(), domain).await.unwrap();
    let csr = csr::check(&request).unwrap();
    let now = authority::clock::unix_seconds(stage.app.clock.now());
    let issued = stage.issuer.issue(IssueRequest { csr, to, now }).await;
    let own = Certificate::from_der(&issued.unwrap().der).unwrap();
    (own, stage.app.issuer.chain().issuing().clone())
}

pub fn row(own: &Certificate, name: &str) -> authority::store::Certificate {
    let issued = pki::IssuedCertificate::from(own.clone());
    authority::services::enrolment::record(&issued, Subject::Operator(name.into()))
}

pub async fn join(stage: &Stage, name: &'static str) -> Person {
    let key = OperatorKey::File(SoftwareKey::generate().unwrap());
    let (own, issuing) = certify(stage, name, &key).await;
    let now = stage.app.clock.now();
    let added = stage.store.add_operator(row(&own, name), "init", now).await;
    assert_eq!(added.unwrap(), authority::store::AddOperator::Added);
    Person {
        name,
        key,
        chain: vec![own, issuing],
    }
}

pub fn payload_sha256(statement: &str) -> String {
    use sha2::{Digest, Sha256};
    let parts = protocol::jws::Parts::split(statement).unwrap();
    let digest = Sha256::digest(&parts.payload);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Refused as this type, with these words in the detail.
#[track_caller]
pub fn refused<T: std::fmt::Debug>(result: Result<T, Failure>, problem: ProblemType, words: &str) {
    let Err(Failure::Refused(found)) = &result else {
        panic!("not refused: {result:?}");
    };
    assert_eq!(found.problem_type(), Some(problem), "{found:?}");
    let detail = found.detail.clone().unwrap_or_default();
    assert!(detail.contains(words), "{words:?} is not in {detail:?}");
}

pub async fn adding(room: &Room, name: &str, key: &OperatorKey) -> OperatorAdd {
    let id = SpiffeId::Operator(name.parse().unwrap());
    let domain = room.stage.app.issuer.trust_domain();
    let request = key.request(&id, domain).await.unwrap();
    OperatorAdd {
        name: name.into(),
        request: csr::to_pem(&request),
        vouch: None,
    }
}
