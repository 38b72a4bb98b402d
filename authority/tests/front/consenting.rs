//! Can one operator get past the others?
//!
//! The services in this process, with a clock that can be moved; `two_people` plays the commands.

use authority::services::Failure;
use authority::services::consent::OFFLINE_OPERATOR;
use authority::services::operators::{
    CertificateIssue, CertificateRevoke, ConsentAsk, ConsentCarryOut, ConsentDraft, ConsentList,
    ConsentRefuse, ConsentShow, ConsentSign, Drafted, Gate, Holder, OperatorAdd, OperatorRevoke,
    PolicySet, PolicyView, Renewal, carry_out, named, names,
};
use authority::services::readiness;
use authority::store::{Consents, Counted, Identities, RequestId, Revocations, Subject};
use pki::consent::{Consent, Policy, Request};
use pki::crl::Reason;
use pki::{
    Certificate, IssueRequest, IssueTo, Issuer, KeyState, OperatorKey, SoftwareKey, SpiffeId, csr,
};
use protocol::jws::Purpose;
use protocol::problem::ProblemType;
use serde_json::{Value, json};

use crate::stage::{DAY_MS, Stage};

const HOUR_MS: i64 = 3_600_000;

/// An operator with their key.
struct Person {
    name: &'static str,
    key: OperatorKey,
    chain: Vec<Certificate>,
}

impl Person {
    async fn state<C: Purpose>(&self, claims: &C) -> String {
        self.key.state(claims, &self.chain).await.unwrap()
    }

    fn serial(&self) -> String {
        self.chain[0].serial_hex()
    }
}

struct Room {
    stage: Stage,
    ann: Person,
    bob: Person,
    cleo: Person,
}

impl Room {
    /// Ann, Bob and Cleo, and a policy that needs one besides the one who asks.
    async fn new() -> Self {
        Self::with(policy(1)).await
    }

    async fn with(policy: Policy) -> Self {
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

    fn now_s(&self) -> i64 {
        self.stage.app.clock.now().secs()
    }

    async fn draft(&self, by: &Person, wanted: &Policy) -> Request {
        let draft = ConsentDraft {
            verb: "policy-set".into(),
            body: json!({ "policy": wanted }),
            by: by.name.into(),
        };
        match carry_out(&self.stage.app, by.name, draft).await.unwrap() {
            Drafted::ToSign(request) => request,
            Drafted::Open(view) => panic!("it is open: {view:?}"),
        }
    }

    /// Asks for this policy.
    async fn ask(&self, by: &Person, wanted: &Policy) -> RequestId {
        let statement = by.state(&self.draft(by, wanted).await).await;
        let asked = carry_out(&self.stage.app, by.name, ConsentAsk { statement }).await;
        asked.unwrap().id
    }

    async fn consent_of(&self, by: &Person, id: RequestId) -> String {
        by.state(&self.consent(by.name, id, self.now_s()).await)
            .await
    }

    async fn consent(&self, by: &str, id: RequestId, iat: i64) -> Consent {
        let record = self.stage.store.consent_request(id).await.unwrap().unwrap();
        Consent {
            request: id.to_string(),
            request_sha256: payload_sha256(&record.request.statement),
            by: by.into(),
            iat,
        }
    }

    async fn sign(&self, by: &Person, id: RequestId) -> Result<(), Failure> {
        let statement = self.consent_of(by, id).await;
        let signed = carry_out(&self.stage.app, by.name, ConsentSign { statement }).await;
        signed.map(|_| ())
    }

    async fn set(&self, by: &str, wanted: &Policy) -> Result<PolicyView, Failure> {
        let policy = wanted.clone();
        carry_out(&self.stage.app, by, PolicySet { policy }).await
    }

    async fn carry_out(&self, by: &str, id: RequestId) -> Result<Value, Failure> {
        let carried = carry_out(&self.stage.app, by, ConsentCarryOut { id }).await;
        carried.map(|carried| carried.answer)
    }

    async fn policy(&self) -> Policy {
        self.stage.store.consent_policy().await.unwrap()
    }

    async fn revoke_certificate_of(&self, of: &Person) {
        let (serial, now) = (of.serial(), self.stage.app.clock.now());
        let store = &self.stage.store;
        let revoked = store.revoke_certificate(&serial, Reason::KeyCompromise, now);
        revoked.await.unwrap().unwrap();
    }

    /// Changes the database behind the authority's back.
    fn tamper(&self, sql: &str) {
        let path = self.stage.dir.path().join("store.sqlite");
        let rows = rusqlite::Connection::open(path)
            .unwrap()
            .execute(sql, [])
            .unwrap();
        assert_eq!(rows, 1, "{sql}");
    }
}

type Bend = fn(&mut Request);

fn policy(required: u32) -> Policy {
    Policy {
        required,
        ..Policy::default()
    }
}

async fn certify(stage: &Stage, name: &str, key: &OperatorKey) -> (Certificate, Certificate) {
    let to = IssueTo::Operator(name.parse().unwrap());
    let domain = stage.app.issuer.trust_domain();
    let request = key.request(&to.spiffe_id(), domain).await.unwrap();
    let csr = csr::check(&request).unwrap();
    let now = authority::clock::unix_seconds(stage.app.clock.now());
    let issued = stage.issuer.issue(IssueRequest { csr, to, now }).await;
    let own = Certificate::from_der(&issued.unwrap().der).unwrap();
    (own, stage.app.issuer.chain().issuing().clone())
}

fn row(own: &Certificate, name: &str) -> authority::store::Certificate {
    let issued = pki::IssuedCertificate::from(own.clone());
    authority::services::enrolment::record(&issued, Subject::Operator(name.into()))
}

async fn join(stage: &Stage, name: &'static str) -> Person {
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

fn payload_sha256(statement: &str) -> String {
    use sha2::{Digest, Sha256};
    let parts = protocol::jws::Parts::split(statement).unwrap();
    let digest = Sha256::digest(&parts.payload);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Refused as this type, with these words in the detail.
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
async fn one_operator_is_enough_until_a_policy_says_otherwise() {
    let room = Room::with(policy(0)).await;
    room.set("ann", &policy(2)).await.unwrap();
    let alone = room.set("ann", &policy(0)).await;
    refused(alone, ConsentNeeded, "policy-set needs 2 besides");
    assert_eq!(room.policy().await, policy(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_consented_to_is_carried_out_once() {
    let room = Room::new().await;
    let wanted = policy(2);
    let id = room.ask(&room.ann, &wanted).await;
    refused(room.set("ann", &wanted).await, ConsentNeeded, "0 of 1");
    room.sign(&room.bob, id).await.unwrap();
    room.set("ann", &wanted).await.unwrap();
    assert_eq!(room.policy().await, wanted);
    // Whoever did not hear the answer hears the same again, and nothing is done again.
    let now = room.stage.app.clock.now();
    let back = room.stage.store.set_consent_policy(policy(1), "test", now);
    back.await.unwrap();
    let again = room.carry_out("ann", id).await.unwrap();
    assert_eq!(again["policy"]["required"], 2);
    assert_eq!(room.policy().await, policy(1), "done once");
    let repeated = room.set("ann", &wanted).await;
    refused(repeated, ConsentNeeded, "policy-set needs 1 besides");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_for_in_other_words_is_another_request() {
    let room = Room::new().await;
    let id = room.ask(&room.ann, &policy(2)).await;
    room.sign(&room.bob, id).await.unwrap();
    let other = room.set("ann", &policy(0)).await;
    refused(other, ConsentNeeded, "policy-set needs 1 besides");
    let somebody_else = room.set("cleo", &policy(2)).await;
    refused(somebody_else, ConsentNeeded, "policy-set needs 1 besides");
    let somebody_else = room.carry_out("cleo", id).await;
    refused(somebody_else, ConsentRefused, "somebody else asks");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_consents_to_their_own() {
    let room = Room::new().await;
    let id = room.ask(&room.ann, &policy(2)).await;
    let own = room.sign(&room.ann, id).await;
    refused(own, ConsentRefused, "their own request");
    // Nor through somebody else's connection, nor in their name.
    let statement = room.consent_of(&room.ann, id).await;
    let sent = carry_out(&room.stage.app, "bob", ConsentSign { statement }).await;
    refused(sent, ConsentRefused, "ann signed it, and bob sends it");
    let forged = room.consent("bob", id, room.now_s()).await;
    let statement = room.ann.state(&forged).await;
    let sent = carry_out(&room.stage.app, "bob", ConsentSign { statement }).await;
    refused(sent, ConsentRefused, "another name than its certificate");
    refused(room.set("ann", &policy(2)).await, ConsentNeeded, "0 of 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_under_two_certificates_counts_once() {
    let room = Room::with(policy(2)).await;
    let id = room.ask(&room.ann, &policy(0)).await;
    room.sign(&room.bob, id).await.unwrap();
    let key = OperatorKey::File(SoftwareKey::generate().unwrap());
    let (own, issuing) = certify(&room.stage, "bob", &key).await;
    let now = room.stage.app.clock.now();
    let added = room.stage.store.add_certificate(row(&own, "bob"), now);
    added.await.unwrap();
    let again = Person {
        name: "bob",
        key,
        chain: vec![own, issuing],
    };
    room.sign(&again, id).await.unwrap();
    let too_few = room.set("ann", &policy(0)).await;
    refused(too_few, ConsentNeeded, "1 of 2 consents (bob)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_was_changed_in_the_store_is_not_carried_out() {
    let room = Room::new().await;
    let id = room.ask(&room.ann, &policy(2)).await;
    room.sign(&room.bob, id).await.unwrap();
    let other = PolicySet { policy: policy(0) };
    let body = serde_json::to_string(&other).unwrap();
    room.tamper(&format!("UPDATE consent_requests SET body = '{body}'"));
    let changed = room.set("ann", &policy(0)).await;
    refused(changed, ConsentRefused, "another request than was signed");
    assert_eq!(room.policy().await, policy(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_that_was_planted_in_the_store_does_not_count() {
    let room = Room::with(policy(2)).await;
    let id = room.ask(&room.ann, &policy(0)).await;
    room.sign(&room.bob, id).await.unwrap();
    room.sign(&room.cleo, id).await.unwrap();
    // Bob's signature under Cleo's name.
    room.tamper(
        "UPDATE consent_voices SET statement =
             (SELECT statement FROM consent_voices WHERE operator = 'bob')
         WHERE operator = 'cleo'",
    );
    let planted = room.set("ann", &policy(0)).await;
    refused(planted, ConsentNeeded, "1 of 2 consents (bob)");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_revoked_in_between_does_not_count() {
    let room = Room::new().await;
    let now = room.stage.app.clock.now();
    let id = room.ask(&room.ann, &policy(2)).await;
    room.sign(&room.bob, id).await.unwrap();
    room.revoke_certificate_of(&room.bob).await;
    refused(room.set("ann", &policy(2)).await, ConsentNeeded, "0 of 1");
    room.sign(&room.cleo, id).await.unwrap();
    let gone = room.stage.store.revoke_operator("cleo", "test", now);
    // Ann would be left alone, and the policy needs two people.
    assert!(matches!(
        gone.await.unwrap(),
        authority::store::Bar::Stranded { able: 1, .. }
    ));
    room.tamper("UPDATE operators SET revoked_by = 'x', revoked_at_ms = 1 WHERE name = 'cleo'");
    refused(room.set("ann", &policy(2)).await, ConsentNeeded, "0 of 1");
    let late = room.sign(&room.cleo, id).await;
    refused(late, ConsentRefused, "no longer, one of the operator cleo");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_revoked_asker_asked_for_is_not_carried_out() {
    let room = Room::new().await;
    let id = room.ask(&room.ann, &policy(2)).await;
    room.sign(&room.bob, id).await.unwrap();
    let now = room.stage.app.clock.now();
    let gone = room.stage.store.revoke_operator("ann", "cleo", now);
    assert_eq!(gone.await.unwrap(), authority::store::Bar::Done);
    let late = room.set("ann", &policy(2)).await;
    refused(late, ConsentRefused, "one of the operator ann");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_judges_once_more_what_it_alone_knows() {
    let room = Room::new().await;
    let now = room.stage.app.clock.now();
    let id = room.ask(&room.ann, &policy(2)).await;
    room.sign(&room.bob, id).await.unwrap();
    // As if bob were revoked after his signature was verified.
    room.revoke_certificate_of(&room.bob).await;
    let counted = vec![Counted {
        operator: "bob".into(),
        serial: room.bob.serial(),
    }];
    let begun = room.stage.store.begin_request(id, counted, now).await;
    let too_few = authority::store::Begin::TooFew {
        counted: Vec::new(),
        required: 1,
    };
    assert_eq!(begun.unwrap(), too_few);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ends_in_between_does_not_count() {
    let room = Room::new().await;
    let ends = i64::try_from(room.bob.chain[0].not_after()).unwrap();
    let hour_before = ends * 1000 - room.stage.app.clock.now().ms() - HOUR_MS;
    room.stage.clock.by(hour_before);
    let dora = join(&room.stage, "dora").await;
    let id = room.ask(&dora, &policy(2)).await;
    room.sign(&room.bob, id).await.unwrap();
    room.stage.clock.by(hour_before + 2 * HOUR_MS);
    refused(room.set("dora", &policy(2)).await, ConsentNeeded, "0 of 1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_expire() {
    let room = Room::new().await;
    let id = room.ask(&room.ann, &policy(2)).await;
    room.sign(&room.bob, id).await.unwrap();
    room.stage.clock.by(24 * HOUR_MS + 1_000);
    let late = room.set("ann", &policy(2)).await;
    refused(late, ConsentNeeded, "policy-set needs 1 besides");
    let late = room.carry_out("ann", id).await;
    refused(late, ConsentRefused, "has expired");
    let late = room.sign(&room.cleo, id).await;
    refused(late, ConsentRefused, "has expired");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_is_told_and_does_not_sign() {
    let room = Room::new().await;
    let id = room.ask(&room.ann, &policy(2)).await;
    for (iat, words) in [
        (room.now_s() - 310, "s behind ours"),
        (room.now_s() + 310, "s ahead of ours"),
    ] {
        let statement = room.bob.state(&room.consent("bob", id, iat).await).await;
        let sent = carry_out(&room.stage.app, "bob", ConsentSign { statement }).await;
        refused(sent, ConsentRefused, words);
    }
    let mut early = room.draft(&room.cleo, &policy(2)).await;
    early.iat += 3_600;
    early.exp += 3_600;
    let statement = room.cleo.state(&early).await;
    let sent = carry_out(&room.stage.app, "cleo", ConsentAsk { statement }).await;
    refused(sent, ConsentRefused, "ahead of ours");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_bends_the_rules_is_refused() {
    let room = Room::new().await;
    let good = room.draft(&room.ann, &policy(2)).await;
    let bent: [(Bend, &str); 6] = [
        (|it| it.required = 0, "claims are not in order"),
        (
            |it| {
                it.policy.required = 0;
                it.required = 0;
            },
            "the policy was changed",
        ),
        (|it| it.exp += 30 * 24 * 3_600, "claims are not in order"),
        (|it| it.generation += 1, "generation 2"),
        (
            |it| it.iss = "spiffe://m2key.example/authority/other".into(),
            "it is for spiffe",
        ),
        (
            |it| it.jti = it.jti.to_uppercase(),
            "claims are not in order",
        ),
    ];
    for (bend, words) in bent {
        let mut request = good.clone();
        bend(&mut request);
        let statement = room.ann.state(&request).await;
        let sent = carry_out(&room.stage.app, "ann", ConsentAsk { statement }).await;
        refused(sent, ConsentRefused, words);
    }
    let statement = room.ann.state(&good).await;
    let ask = || ConsentAsk {
        statement: statement.clone(),
    };
    carry_out(&room.stage.app, "ann", ask()).await.unwrap();
    let replayed = carry_out(&room.stage.app, "ann", ask()).await;
    refused(replayed, ConsentRefused, "made before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_longer_life_than_the_policys_is_refused() {
    let room = Room::new().await;
    let mut request = room.draft(&room.ann, &policy(2)).await;
    request.exp += 3_600;
    let statement = room.ann.state(&request).await;
    let sent = carry_out(&room.stage.app, "ann", ConsentAsk { statement }).await;
    refused(sent, ConsentRefused, "claims are not in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_bar_is_the_higher_one_of_then_and_now() {
    let room = Room::new().await;
    let now = room.stage.app.clock.now();
    let id = room.ask(&room.ann, &policy(0)).await;
    room.sign(&room.bob, id).await.unwrap();
    // Raised in between: what was enough then is not enough now.
    let raised = room.stage.store.set_consent_policy(policy(2), "test", now);
    raised.await.unwrap();
    refused(room.set("ann", &policy(0)).await, ConsentNeeded, "1 of 2");
    let high = room.ask(&room.bob, &policy(1)).await;
    room.sign(&room.cleo, high).await.unwrap();
    // Lowered in between: what was asked under the higher bar still needs it.
    let lowered = room.stage.store.set_consent_policy(policy(1), "test", now);
    lowered.await.unwrap();
    refused(room.carry_out("bob", high).await, ConsentNeeded, "1 of 2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_lowers_the_bar_of_a_group_through_a_lower_one() {
    let lenient = Policy {
        required: 0,
        groups: [("seed".to_owned(), 2)].into(),
        ..Policy::default()
    };
    let room = Room::with(lenient).await;
    let lowered = room.set("ann", &policy(0)).await;
    refused(lowered, ConsentNeeded, "policy-set needs 2 besides");
    let key = OperatorKey::File(SoftwareKey::generate().unwrap());
    let mine = carry_out(&room.stage.app, "ann", adding(&room, "ann2", &key).await).await;
    refused(mine, ConsentNeeded, "operator-add needs 2 besides");
    let verb = OperatorRevoke {
        name: "bob".into(),
        reason: "unspecified".into(),
    };
    let gone = carry_out(&room.stage.app, "ann", verb).await;
    refused(gone, ConsentNeeded, "operator-revoke needs 2 besides");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_authority_needs_the_same_consents() {
    let room = Room::new().await;
    let alone = room.set(OFFLINE_OPERATOR, &policy(0)).await;
    refused(alone, ConsentNeeded, "policy-set needs 1 besides");
    let id = room.ask(&room.ann, &policy(0)).await;
    refused(
        room.carry_out(OFFLINE_OPERATOR, id).await,
        ConsentNeeded,
        "0 of 1",
    );
    // A statement is known by its signature, whoever brings it to a stopped authority.
    let statement = room.consent_of(&room.bob, id).await;
    let app = &room.stage.app;
    carry_out(app, OFFLINE_OPERATOR, ConsentSign { statement })
        .await
        .unwrap();
    room.set(OFFLINE_OPERATOR, &policy(0)).await.unwrap();
    assert_eq!(room.policy().await, policy(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_carried_out_once_even_when_asked_for_at_once() {
    let room = Room::new().await;
    let id = room.ask(&room.ann, &policy(2)).await;
    room.sign(&room.bob, id).await.unwrap();
    let (one, two) = tokio::join!(room.carry_out("ann", id), room.carry_out("ann", id));
    assert!(one.is_ok() || two.is_ok(), "{one:?} {two:?}");
    let rows = room.stage.app.store.audit_rows("authority-1", 0, 1_000);
    let rows = rows.await.unwrap();
    let set = rows.iter().filter(|it| it.row.kind == "consent.policy_set");
    assert_eq!(set.count(), 2, "once by the room, once by the request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_begin_and_end_leaves_it_to_be_carried_out() {
    let room = Room::new().await;
    let now = room.stage.app.clock.now();
    let id = room.ask(&room.ann, &policy(2)).await;
    room.sign(&room.bob, id).await.unwrap();
    let counted = vec![Counted {
        operator: "bob".into(),
        serial: room.bob.serial(),
    }];
    let begun = room.stage.store.begin_request(id, counted, now).await;
    assert_eq!(begun.unwrap(), authority::store::Begin::Begun);
    let late = room.sign(&room.cleo, id).await;
    refused(late, ConsentRefused, "is over");
    room.carry_out("ann", id).await.unwrap();
    assert_eq!(room.policy().await, policy(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asked_takes_it_back_and_others_say_no_for_the_record() {
    let room = Room::new().await;
    let id = room.ask(&room.ann, &policy(2)).await;
    let iat = room.now_s();
    let Consent {
        request,
        request_sha256,
        ..
    } = room.consent("cleo", id, iat).await;
    let no = |by: String| pki::consent::Refusal {
        request: request.clone(),
        request_sha256: request_sha256.clone(),
        by,
        iat,
        reason: "not today".into(),
    };
    let statement = room.cleo.state(&no("cleo".into())).await;
    let view = carry_out(&room.stage.app, "cleo", ConsentRefuse { statement }).await;
    assert_eq!(view.unwrap().refused, ["cleo"]);
    let shown = carry_out(&room.stage.app, "bob", ConsentShow { id })
        .await
        .unwrap();
    let roots = [room.stage.app.issuer.chain().root().clone()];
    let words = shown.transcript.verify(&roots).unwrap().in_words();
    assert!(words.contains("refused     cleo: not today"), "{words}");
    let statement = room.ann.state(&no("ann".into())).await;
    let view = carry_out(&room.stage.app, "ann", ConsentRefuse { statement }).await;
    assert_eq!(view.unwrap().state, "withdrawn");
    let late = room.sign(&room.bob, id).await;
    refused(late, ConsentRefused, "is over");
    let listed = carry_out(&room.stage.app, "bob", ConsentList { all: false }).await;
    assert!(listed.unwrap().requests.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_transcript_of_what_was_done_verifies_with_the_root() {
    let room = Room::new().await;
    let id = room.ask(&room.ann, &policy(2)).await;
    room.sign(&room.bob, id).await.unwrap();
    room.carry_out("ann", id).await.unwrap();
    let shown = carry_out(&room.stage.app, "bob", ConsentShow { id })
        .await
        .unwrap();
    let roots = [room.stage.app.issuer.chain().root().clone()];
    let verified = shown.transcript.verify(&roots).unwrap();
    assert!(verified.is_enough());
    assert_eq!(verified.consented_by(), ["bob"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consents_under_a_tainted_issuing_ca_do_not_count() {
    let room = Room::new().await;
    let id = room.ask(&room.ann, &policy(2)).await;
    room.sign(&room.bob, id).await.unwrap();
    let mut cas = room.stage.app.issuer.issuing_cas();
    cas[0].state = KeyState::Tainted;
    *room.stage.issuer.cas.lock().unwrap() = Some(cas);
    let late = room.set("ann", &policy(2)).await;
    refused(late, ConsentRefused, "");
}

async fn adding(room: &Room, name: &str, key: &OperatorKey) -> OperatorAdd {
    let id = SpiffeId::Operator(name.parse().unwrap());
    let domain = room.stage.app.issuer.trust_domain();
    let request = key.request(&id, domain).await.unwrap();
    OperatorAdd {
        name: name.into(),
        request: csr::to_pem(&request),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_two_operators_by_one_key_or_one_name() {
    let room = Room::with(policy(0)).await;
    let app = &room.stage.app;
    let known = carry_out(app, "ann", adding(&room, "ann2", &room.ann.key).await).await;
    refused(known, ProblemType::KeyReused, "");
    let key = OperatorKey::File(SoftwareKey::generate().unwrap());
    let taken = carry_out(app, "ann", adding(&room, "bob", &key).await).await;
    refused(taken, ProblemType::AlreadyExists, "called bob");
    let added = carry_out(app, "ann", adding(&room, "dora", &key).await)
        .await
        .unwrap();
    let again = carry_out(app, "ann", adding(&room, "dora", &key).await)
        .await
        .unwrap();
    assert_eq!(again.serial, added.serial, "who did not hear the answer");
    assert_eq!(again.chain, added.chain);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_never_needs_more_operators_than_there_are() {
    let room = Room::with(policy(0)).await;
    let app = &room.stage.app;
    let beyond = room.set("ann", &policy(3)).await;
    refused(beyond, ProblemType::WouldStrand, "3 operators could sign");
    room.set("ann", &policy(2)).await.unwrap();
    let now = app.clock.now();
    let gone = app.store.revoke_operator("bob", "ann", now).await.unwrap();
    let stranded = authority::store::Bar::Stranded {
        able: 2,
        required: 2,
    };
    assert_eq!(gone, stranded);
    let ready = readiness::check(app).await;
    let told = |words: &str| ready.warnings.iter().any(|it| it.contains(words));
    assert!(told("all of the 3 operators are needed"), "{ready:?}");
}

fn renewing(name: &str, request: String, proof: Option<String>) -> CertificateIssue {
    CertificateIssue {
        request,
        holder: Holder::Operator(name.into()),
        proof,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_renews_their_own_certificate_only() {
    let room = Room::new().await;
    let app = &room.stage.app;
    let key = OperatorKey::File(SoftwareKey::generate().unwrap());
    let request = adding(&room, "bob", &key).await.request;
    let foreign = carry_out(app, "ann", renewing("bob", request.clone(), None)).await;
    refused(foreign, ProblemType::CertificateRefused, "their own only");
    let of_nobody = carry_out(app, "ann", renewing("zoe", request.clone(), None)).await;
    refused(of_nobody, ProblemType::CertificateRefused, "their own only");
    let of_ann = adding(&room, "bob", &room.ann.key).await.request;
    let key_of_ann = carry_out(app, "bob", renewing("bob", of_ann, None)).await;
    refused(key_of_ann, ProblemType::KeyReused, "");
    let own = carry_out(app, "bob", renewing("bob", request, None))
        .await
        .unwrap();
    assert!(!own.chain.is_empty());
    // A card keeps its key.
    let same = adding(&room, "bob", &room.bob.key).await.request;
    carry_out(app, "bob", renewing("bob", same, None))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_authority_renews_for_whoever_holds_the_old_key() {
    let room = Room::new().await;
    let app = &room.stage.app;
    room.stage.clock.by(400 * DAY_MS);
    let key = OperatorKey::File(SoftwareKey::generate().unwrap());
    let request = adding(&room, "bob", &key).await.request;
    let by = OFFLINE_OPERATOR;
    let unproven = carry_out(app, by, renewing("bob", request.clone(), None)).await;
    refused(unproven, ProblemType::CertificateRefused, "the old key");
    let claims = Renewal::new("ann", &request, room.now_s());
    let of_ann = Some(room.ann.state(&claims).await);
    let foreign = carry_out(app, by, renewing("bob", request.clone(), of_ann)).await;
    refused(foreign, ProblemType::CertificateRefused, "something else");
    let other = Renewal::new("bob", "another request", room.now_s());
    let other = Some(room.bob.state(&other).await);
    let other = carry_out(app, by, renewing("bob", request.clone(), other)).await;
    refused(other, ProblemType::CertificateRefused, "something else");
    let claims = Renewal::new("bob", &request, room.now_s());
    let proof = Some(room.bob.state(&claims).await);
    let verb = renewing("bob", request.clone(), proof.clone());
    carry_out(app, by, verb).await.unwrap();
    room.tamper("UPDATE operators SET revoked_by = 'x', revoked_at_ms = 1 WHERE name = 'bob'");
    let gone = carry_out(app, by, renewing("bob", request, proof)).await;
    refused(gone, ConsentRefused, "one of the operator bob");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_takes_another_operators_voice_away_alone() {
    let room = Room::new().await;
    let revoke = |serial: String| CertificateRevoke {
        serial,
        reason: "key-compromise".into(),
    };
    let app = &room.stage.app;
    let foreign = carry_out(app, "ann", revoke(room.bob.serial())).await;
    refused(foreign, ProblemType::WouldStrand, "operator revoke bob");
    carry_out(app, "bob", revoke(room.bob.serial()))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_operator_is_refused_although_a_certificate_was_missed() {
    let room = Room::new().await;
    let OperatorKey::File(key) = &room.bob.key else {
        unreachable!("keys of this room are in memory");
    };
    let shown = room.stage.shown(&room.bob.chain[0].pem(), key);
    let list = [
        "-H",
        "content-type: application/json",
        "--data-binary",
        "{}",
    ];
    let list = list.map(String::from);
    let path = "/v1/operator/operator-list";
    let reply = room.stage.curl(path, Some(&shown), &list).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    room.tamper("UPDATE operators SET revoked_by = 'x', revoked_at_ms = 1 WHERE name = 'bob'");
    let reply = room.stage.curl(path, Some(&shown), &list).await;
    reply.problem(403, "certificate-refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_operators_certificates_are_revoked_with_them() {
    let room = Room::with(policy(0)).await;
    let verb = OperatorRevoke {
        name: "bob".into(),
        reason: "cessation-of-operation".into(),
    };
    let view = carry_out(&room.stage.app, "ann", verb).await.unwrap();
    assert_eq!(
        (view.state.as_str(), view.revoked_by.as_deref()),
        ("revoked", Some("ann"))
    );
    let of = Subject::Operator("bob".into());
    let all = room.stage.store.certificates_of(of, 10).await.unwrap();
    assert!(all.iter().all(|it| it.revoked.is_some()), "{all:?}");
}

/// Whether others must consent to this verb, with this body.
#[test]
fn every_verb_has_the_gate_that_was_decided_for_it() {
    let (one, consented) = (Gate::One, Gate::Consented);
    let id = "00000000-0000-7000-8000-000000000000";
    let terminal = "00000000";
    let money = json!({ "amount_minor": 1, "currency": "EUR" });
    let seeds = |fleet: Value| json!({ "fleet": fleet, "when": "planned" });
    let step = |key: &str| json!({ "step": "prepare", "key": key });
    let install =
        |dry_run: bool| json!({ "sequence": 1, "sha256": "00", "roots": [], "dry_run": dry_run });
    let decided = [
        ("terminal-add", json!({ "merchant": id }), one),
        ("terminal-join", json!({ "terminal": terminal }), one),
        ("terminal-list", json!({}), one),
        ("terminal-show", json!({ "terminal": terminal }), one),
        (
            "terminal-ban",
            json!({ "terminal": terminal, "reason": "r" }),
            one,
        ),
        (
            "terminal-unban",
            json!({ "terminal": terminal, "reason": "r" }),
            consented,
        ),
        ("join-token-list", json!({}), one),
        ("join-token-revoke", json!({ "id": "00" }), one),
        (
            "merchant-add",
            json!({ "name": "n", "currency": "EUR" }),
            one,
        ),
        ("merchant-list", json!({}), one),
        (
            "account-open",
            json!({ "issuer": "i", "subject": "s", "currency": "EUR" }),
            one,
        ),
        (
            "account-credit",
            json!({ "account": id, "amount": money, "reference": "r" }),
            one,
        ),
        ("ledger-check", json!({}), one),
        ("audit-verify", json!({}), one),
        ("alarm-list", json!({}), one),
        (
            "certificate-issue",
            json!({ "request": "r", "holder": "node" }),
            one,
        ),
        ("certificate-list", json!({}), one),
        ("certificate-show", json!({ "serial": "00" }), one),
        (
            "certificate-revoke",
            json!({ "serial": "00", "reason": "r" }),
            one,
        ),
        ("key-list", json!({}), one),
        ("key-step", step("receipt"), one),
        ("key-step", step("sealing"), consented),
        ("key-step", step("m2key-binding-1"), consented),
        ("seed-rotate", seeds(json!({ "terminal": terminal })), one),
        ("seed-rotate", seeds(json!({ "merchant": id })), consented),
        ("seed-rotate", seeds(json!("all")), consented),
        ("operation-list", json!({}), one),
        ("operation-show", json!({ "operation": id }), one),
        ("operation-transcript", json!({ "operation": id }), one),
        (
            "operator-add",
            json!({ "name": "n", "request": "r" }),
            consented,
        ),
        ("operator-list", json!({}), one),
        (
            "operator-revoke",
            json!({ "name": "n", "reason": "r" }),
            consented,
        ),
        ("policy-show", json!({}), one),
        ("policy-set", json!({ "policy": policy(0) }), consented),
        (
            "consent-draft",
            json!({ "verb": "v", "body": {}, "by": "n" }),
            one,
        ),
        ("consent-ask", json!({ "statement": "s" }), one),
        ("consent-list", json!({}), one),
        ("consent-show", json!({ "id": id }), one),
        ("consent-sign", json!({ "statement": "s" }), one),
        ("consent-refuse", json!({ "statement": "s" }), one),
        ("consent-carry-out", json!({ "id": id }), one),
        ("fence-status", json!({}), one),
        ("fence-compare", json!({ "receipt": "r" }), one),
        ("fence-raise", json!({ "reason": "restored" }), consented),
        ("trust-show", json!({}), one),
        ("trust-stage", json!({ "bundle": "b" }), one),
        ("trust-install", install(false), consented),
        ("trust-install", install(true), one),
    ];
    for (name, body, gate) in &decided {
        let verb = named(name).unwrap_or_else(|| panic!("no verb {name}"));
        let (found, _) = verb
            .read(body.clone())
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(found, *gate, "{name} {body}");
    }
    for name in names() {
        let is_decided = decided.iter().any(|(decided, ..)| *decided == name);
        assert!(is_decided, "{name}: decide whether others must consent");
    }
}
