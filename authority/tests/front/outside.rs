//! Does what a restore has forgotten bind whoever asks for the raise?
//!
//! The services in this process, with a journal that knows more than the database.

use std::sync::Arc;

use authority::journal::{Fact, Journal, Known, MadeKey, NumberedPolicy, Revoked, TaintedKey};
use authority::services::Failure;
use authority::services::fence::{begin, judge};
use authority::services::keyring::{KeyPurpose, SigningKey, sign};
use authority::services::operators::{
    ConsentAsk, ConsentDraft, ConsentSign, Drafted, FenceCompare, FenceRaise, Fleet, MerchantList,
    SeedRotate, carry_out,
};
use authority::services::rotation;
use authority::store::{
    AddOperator, Certificate as Row, Consents, Fences, Identities, KeyRecord, RequestId, Rotation,
    Subject, Terminals, When,
};
use hsm::{Hsm, HsmError, KeyKind, KeyLabel, Priority};
use pki::consent::{Consent, Policy};
use pki::{Certificate, IssueRequest, IssueTo, Issuer, KeyState, OperatorKey, SoftwareKey, csr};
use protocol::jwk::Jwk;
use protocol::jws::Parts;
use protocol::problem::ProblemType;
use protocol::receipt::ReceiptClaims;
use protocol::time::Timestamp;

use crate::certificates::Shown;
use crate::stage::Stage;

/// Whose first statement is a receipt.
const RECEIPTS: &str = include_str!("../../../protocol/vectors/jws.json");

/// An operator with their key.
struct Person {
    name: &'static str,
    key: OperatorKey,
    chain: Vec<Certificate>,
}

struct Room {
    stage: Stage,
    ann: Person,
    bob: Person,
    cleo: Person,
}

impl Room {
    /// Ann, Bob and Cleo, and a database for which one operator is enough.
    async fn new() -> Self {
        let stage = Stage::set().await;
        Self {
            ann: join(&stage, "ann").await,
            bob: join(&stage, "bob").await,
            cleo: join(&stage, "cleo").await,
            stage,
        }
    }

    fn now(&self) -> Timestamp {
        self.stage.app.clock.now()
    }

    /// The start finds a journal that knows these facts.
    async fn start_with(&self, facts: Vec<Fact>) {
        let node = self.stage.app.config.node.as_str();
        let path = self.stage.dir.path().join("fence.journal");
        let known = Known::nothing("journal-1".into(), node.into());
        let journal = Journal::open(&path, known).unwrap();
        let begun = Fact::Generation { generation: 1 };
        let facts = [vec![begun], facts].concat();
        let facts = facts.into_iter().map(|fact| (self.now(), fact)).collect();
        journal.written(facts).await.unwrap();
        drop(journal);
        let beginning = begin(node, &path).unwrap();
        judge(&self.stage.app, beginning).await.unwrap();
        let other = carry_out(&self.stage.app, "ann", MerchantList { after: None }).await;
        refused(other, ProblemType::Fenced, "");
    }

    async fn raise(&self, by: &str) -> Result<(), Failure> {
        let raised = carry_out(&self.stage.app, by, order()).await;
        raised.map(|_| ())
    }

    /// Asks others to consent to the raise.
    async fn ask(&self, by: &Person) -> Result<RequestId, Failure> {
        let draft = ConsentDraft {
            verb: "fence-raise".into(),
            body: serde_json::to_value(order()).unwrap(),
            by: by.name.into(),
        };
        let drafted = carry_out(&self.stage.app, by.name, draft).await.unwrap();
        let Drafted::ToSign(request) = drafted else {
            panic!("it is open: {drafted:?}");
        };
        assert_eq!(request.required, 1, "as the lost policy says");
        let statement = by.key.state(&request, &by.chain).await.unwrap();
        let asked = carry_out(&self.stage.app, by.name, ConsentAsk { statement }).await;
        asked.map(|view| view.id)
    }

    async fn consent(&self, by: &Person, id: RequestId) -> Result<(), Failure> {
        let record = self.stage.store.consent_request(id).await.unwrap().unwrap();
        let consent = Consent {
            request: id.to_string(),
            request_sha256: payload_sha256(&record.request.statement),
            by: by.name.into(),
            iat: self.now().secs(),
        };
        let statement = by.key.state(&consent, &by.chain).await.unwrap();
        let signed = carry_out(&self.stage.app, by.name, ConsentSign { statement }).await;
        signed.map(|_| ())
    }

    fn certificate_of(&self, person: &Person) -> Fact {
        let row = row(&person.chain[0], person.name);
        Fact::Revoked(Revoked {
            serial: row.serial,
            issuer_key: row.issuer_key,
            not_after: row.not_after,
            revoked_at: self.now(),
            reason: "key-compromise".into(),
        })
    }

    fn operator(&self, person: &Person) -> Fact {
        Fact::OperatorRevoked {
            operator: person.name.into(),
            by: "ann".into(),
            revoked_at: self.now(),
        }
    }

    /// One besides the one who asks.
    fn policy(&self) -> Fact {
        Fact::Policy(NumberedPolicy {
            number: 1,
            policy: Policy {
                required: 1,
                ..Policy::default()
            },
            set_by: "ann".into(),
            set_at: self.now(),
        })
    }
}

fn order() -> FenceRaise {
    FenceRaise {
        reason: "disk lost".into(),
        anyway: false,
    }
}

async fn join(stage: &Stage, name: &'static str) -> Person {
    let key = OperatorKey::File(SoftwareKey::generate().unwrap());
    let to = IssueTo::Operator(name.parse().unwrap());
    let domain = stage.app.issuer.trust_domain();
    let request = key.request(&to.spiffe_id(), domain).await.unwrap();
    let csr = csr::check(&request).unwrap();
    let at = stage.app.clock.now();
    let now = authority::clock::unix_seconds(at);
    let issued = stage.issuer.issue(IssueRequest { csr, to, now }).await;
    let own = Certificate::from_der(&issued.unwrap().der).unwrap();
    let added = stage.store.add_operator(row(&own, name), "init", at).await;
    assert_eq!(added, Ok(AddOperator::Added));
    let issuing = stage.app.issuer.chain().issuing().clone();
    Person {
        name,
        key,
        chain: vec![own, issuing],
    }
}

fn row(own: &Certificate, name: &str) -> Row {
    let issued = pki::IssuedCertificate::from(own.clone());
    authority::services::enrolment::record(&issued, Subject::Operator(name.into()))
}

fn payload_sha256(statement: &str) -> String {
    use sha2::{Digest, Sha256};
    let parts = protocol::jws::Parts::split(statement).unwrap();
    let digest = Sha256::digest(&parts.payload);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Failure>, problem: ProblemType, words: &str) {
    let Err(Failure::Refused(found)) = &result else {
        panic!("not refused: {result:?}");
    };
    assert_eq!(found.problem_type(), Some(problem), "{found:?}");
    let detail = found.detail.clone().unwrap_or_default();
    assert!(detail.contains(words), "{words:?} is not in {detail:?}");
}

use ProblemType::{ConsentNeeded, ConsentRefused};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_policy_binds_the_raise() {
    let room = Room::new().await;
    room.start_with(vec![room.policy()]).await;
    refused(room.raise("ann").await, ConsentNeeded, "needs 1 besides");
    let id = room.ask(&room.ann).await.unwrap();
    refused(room.raise("ann").await, ConsentNeeded, "0 of 1 consents");
    room.consent(&room.bob, id).await.unwrap();
    room.raise("ann").await.unwrap();
    let policy = room.stage.store.consent_policy().await.unwrap();
    assert_eq!(policy.required, 1);
    let bob = room.stage.store.operator("bob", room.now()).await.unwrap();
    assert!(bob.unwrap().revoked.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_revoked_in_the_lost_time_neither_asks_nor_consents() {
    let room = Room::new().await;
    let facts = vec![
        room.policy(),
        room.operator(&room.bob),
        room.certificate_of(&room.cleo),
    ];
    room.start_with(facts).await;
    for gone in [&room.bob, &room.cleo] {
        refused(room.ask(gone).await, ConsentRefused, gone.name);
    }
    let id = room.ask(&room.ann).await.unwrap();
    for gone in [&room.bob, &room.cleo] {
        refused(room.consent(gone, id).await, ConsentRefused, gone.name);
    }
    refused(room.raise("ann").await, ConsentNeeded, "0 of 1 consents");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_who_was_revoked_in_the_lost_time_is_refused_at_the_door() {
    for (revoked, status) in [(false, 200), (true, 403)] {
        let room = Room::new().await;
        let shown = shown_by_bob(&room.stage).await;
        let fact = match revoked {
            true => room.operator(&room.bob),
            false => room.policy(),
        };
        room.start_with(vec![fact]).await;
        let post = ["-H", "content-type: application/json", "-d", "{}"].map(String::from);
        let path = "/v1/operator/fence-status";
        let answer = room.stage.curl(path, Some(&shown), &post).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

/// Another certificate of Bob's, for TLS.
async fn shown_by_bob(stage: &Stage) -> Shown {
    let key = SoftwareKey::generate().unwrap();
    let (to, now) = (
        IssueTo::Operator("bob".parse().unwrap()),
        stage.app.clock.now(),
    );
    let domain = stage.app.issuer.trust_domain();
    let request = csr::new(&key, &to.spiffe_id(), domain).unwrap();
    let request = IssueRequest {
        csr: csr::check(&request).unwrap(),
        to,
        now: authority::clock::unix_seconds(now),
    };
    let issued = stage.issuer.issue(request).await.unwrap();
    let own = Certificate::from_der(&issued.der).unwrap();
    let added = stage.store.add_certificate(row(&own, "bob"), now).await;
    added.unwrap();
    stage.shown(&issued.pem, &key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_raise_whose_hsm_is_gone_changes_nothing_and_is_asked_for_again() {
    let mut calls = 0;
    loop {
        let room = Room::new().await;
        let (store, hsm) = (&room.stage.store, &room.stage.hsm);
        let before = store.keys().await.unwrap();
        let lost = room.stage.app.keyring().schedule().clone();
        room.start_with(vec![tainted(&lost, room.now())]).await;
        hsm.fail_after(calls, gone());
        let raised = room.raise("ann").await;
        hsm.heal();
        if raised.is_err() {
            refused_for_now(&raised);
            assert_eq!(store.generation().await, Ok(1), "{calls}");
            assert_eq!(store.keys().await.unwrap(), before, "{calls}");
            room.raise("ann").await.unwrap();
        }
        let keys = store.keys().await.unwrap();
        let of = |state| {
            let of_schedules = |key: &&KeyRecord| key.purpose == KeyPurpose::Schedule;
            let mut found = keys
                .iter()
                .filter(of_schedules)
                .filter(|it| it.state == state);
            found.next().map(|key| key.label.clone()).unwrap()
        };
        assert_eq!(of(KeyState::Tainted), lost.label);
        assert!(hsm.public_key(&of(KeyState::Active)).await.is_ok());
        if raised.is_ok() {
            break;
        }
        calls += 1;
    }
    assert!(calls > 0, "the HSM was never asked");
}

fn tainted(key: &SigningKey, at: Timestamp) -> Fact {
    Fact::Tainted(TaintedKey {
        kid: key.kid.clone(),
        purpose: "schedule".into(),
        label: key.label.0.clone(),
        public_point: None,
        made_at: at,
        tainted_at: at,
    })
}

fn gone() -> HsmError {
    HsmError::DeviceLost {
        detail: "pulled".into(),
    }
}

#[track_caller]
fn refused_for_now(result: &Result<(), Failure>) {
    assert!(matches!(result, Err(Failure::Hsm(_))), "{result:?}");
}

/// Made in the HSM and signing receipts in the lost time; what the journal says of it, and a receipt.
async fn lost_receipt(room: &Room, label: &str) -> (MadeKey, String) {
    let hsm: Arc<dyn Hsm> = room.stage.hsm.clone();
    let label = KeyLabel(label.into());
    hsm.generate_key(KeyKind::Signing, &label).await.unwrap();
    let point = hsm.public_key(&label).await.unwrap();
    let kid = Jwk::from_point(&point).unwrap().thumbprint();
    let made = MadeKey {
        kid: kid.clone(),
        purpose: "receipt".into(),
        label: label.0.clone(),
        public_point: point.iter().map(|byte| format!("{byte:02x}")).collect(),
        made_at: room.now(),
    };
    let vectors: serde_json::Value = serde_json::from_str(RECEIPTS).unwrap();
    let good = vectors["judged"][0]["jws"].as_str().unwrap();
    let parts = Parts::split(good).unwrap();
    let claims: ReceiptClaims = serde_json::from_slice(&parts.payload).unwrap();
    let key = SigningKey { kid, label };
    let signed = sign(&hsm, &key, &claims, Priority::Payment).await.unwrap();
    (made, signed)
}

async fn compare(room: &Room, receipt: &str) -> Result<bool, Failure> {
    let receipt = receipt.to_owned();
    let compared = carry_out(&room.stage.app, "ann", FenceCompare { receipt }).await;
    compared.map(|view| view.lost)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_of_the_lost_time_is_ours_if_the_hsm_holds_its_key_and_by_no_word_of_the_journal()
{
    let room = Room::new().await;
    let (ours, receipt) = lost_receipt(&room, "m2key-receipt-7").await;
    let (retired, of_retired) = lost_receipt(&room, "m2key-receipt-8").await;
    let (mut odd, of_odd) = lost_receipt(&room, "m2key-schedule-9").await;
    let label = KeyLabel(retired.label.clone());
    room.stage.hsm.destroy_key(&label).await.unwrap();
    odd.purpose = "receipt".into();
    let facts = [&ours, &retired, &odd].map(|key| Fact::Made(key.clone()));
    room.start_with(facts.to_vec()).await;
    assert!(compare(&room, &receipt).await.unwrap());
    for foreign in [&of_retired, &of_odd] {
        let refusal = compare(&room, foreign).await;
        let malformed = ProblemType::MalformedRequest;
        refused(refusal, malformed, "gone from the HSM (m2key-");
    }
    let raised = carry_out(&room.stage.app, "ann", order()).await.unwrap();
    assert_eq!(raised.keys_found, [ours.label]);
    let mut gone = raised.keys_gone;
    gone.sort();
    assert_eq!(gone, [retired.label, odd.label]);
    let keys = room.stage.store.keys().await.unwrap();
    let known = keys.iter().find(|key| key.kid == ours.kid).unwrap();
    assert_eq!(known.state, KeyState::Superseded);
    assert!(
        keys.iter()
            .all(|key| key.kid != retired.kid && key.kid != odd.kid)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_compromise_made_necessary_is_not_done_while_the_journal_owes_it() {
    let stage = Stage::set().await;
    let (node, store) = (stage.app.config.node.as_str(), &stage.store);
    let path = stage.dir.path().join("fence.journal");
    let known = Known::nothing("journal-1".into(), node.into());
    // A start before this one has written what was owed.
    let difference = store.differs_from(Arc::new(known.clone())).await.unwrap();
    let journal = Journal::open(&path, known).unwrap();
    journal.written(difference.unjournalled).await.unwrap();
    drop(journal);
    let beginning = begin(node, &path).unwrap();
    store.attach(beginning.journal.clone());
    judge(&stage.app, beginning).await.unwrap();
    let [stolen, other] = [stage.added().await.terminal, stage.added().await.terminal];
    // The next line is written into a new file beside it.
    let in_the_way = path.with_extension("new");
    std::fs::create_dir(&in_the_way).unwrap();
    let rotate = SeedRotate {
        fleet: Fleet::Terminal(stolen),
        when: When::Compromised,
        reason: "stolen".into(),
        dry_run: false,
    };
    let waits = carry_out(&stage.app, "ann", rotate).await.unwrap_err();
    assert!(waits.to_string().contains("goes on by itself"), "{waits}");
    rotation::pass(&stage.app).await.unwrap();
    assert_eq!(store.running_operations().await.unwrap().len(), 1);
    std::fs::remove_dir(&in_the_way).unwrap();
    let ban = store.ban_terminal(other, "stolen".into(), stage.app.clock.now());
    ban.await.unwrap().unwrap();
    while rotation::pass(&stage.app).await.unwrap() > 0 {}
    assert_eq!(store.running_operations().await.unwrap(), []);
    let journal = stage.app.fence.journal().unwrap();
    let known = journal.known().await.unwrap();
    assert_eq!(known.voided.get(&stolen).map(|it| it.below), Some(2));
}
