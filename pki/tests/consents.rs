//! Which consents count, and what does a transcript show?
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::Arc;

use common::{DAY, NOW, OneKeyHsm, domain, issuer_at, label, terminal_id};
use pki::consent::{
    Anchors, AsOf, BadStatement, Consent, Outcome, Policy, Request, Signed, TooFew, Transcript,
    judge, transcript::BadTranscript, verify,
};
use pki::{
    Certificate, HsmIssuer, IssueRequest, IssueTo, Issuer, OperatorKey, PkiError, SoftwareKey, csr,
};
use protocol::jws::Purpose;
use protocol::time::Timestamp;
use serde_json::json;

/// An operator with a key and a certificate under the issuer of this test.
struct Operator {
    name: String,
    key: OperatorKey,
    chain: Vec<Certificate>,
}

async fn holder(issuer: &HsmIssuer, to: IssueTo, key: OperatorKey, now: u64) -> Operator {
    let request = key.request(&to.spiffe_id(), &domain()).await.unwrap();
    let csr = csr::check(&request).unwrap();
    let name = to.spiffe_id().name();
    let issued = issuer.issue(IssueRequest { csr, to, now }).await.unwrap();
    let leaf = Certificate::from_der(&issued.der).unwrap();
    Operator {
        name,
        key,
        chain: vec![leaf, issuer.chain().issuing().clone()],
    }
}

async fn operator(issuer: &HsmIssuer, name: &str) -> Operator {
    let key = OperatorKey::File(SoftwareKey::generate().unwrap());
    holder(issuer, IssueTo::Operator(name.parse().unwrap()), key, NOW).await
}

impl Operator {
    async fn state<C: Purpose>(&self, claims: &C) -> String {
        self.key.state(claims, &self.chain).await.unwrap()
    }
}

/// An issuer, ann who asks, and two others.
struct Room {
    issuer: HsmIssuer,
    ann: Operator,
    bob: Operator,
    cleo: Operator,
}

impl Room {
    async fn new() -> Self {
        let issuer = issuer_at(NOW).await;
        Self {
            ann: operator(&issuer, "ann").await,
            bob: operator(&issuer, "bob").await,
            cleo: operator(&issuer, "cleo").await,
            issuer,
        }
    }

    fn verify<C: Purpose + pki::consent::Dated>(
        &self,
        text: &str,
    ) -> Result<Signed<C>, BadStatement> {
        let roots = [self.issuer.chain().root().clone()];
        let (domain, as_of) = (domain(), AsOf::Time(NOW));
        let anchors = Anchors {
            roots: &roots,
            issuing: &[],
            domain: &domain,
        };
        verify(text, &anchors, as_of)
    }

    async fn asked(&self) -> Signed<Request> {
        self.verify(&self.ann.state(&request(2)).await).unwrap()
    }

    async fn consent(&self, by: &Operator, request: &Signed<Request>) -> String {
        by.state(&request.consent(&by.name, NOW as i64)).await
    }

    fn roots(&self) -> Vec<Certificate> {
        vec![self.issuer.chain().root().clone()]
    }
}

fn request(required: u32) -> Request {
    Request {
        iss: "spiffe://m2key.example/authority/node-1".into(),
        jti: "0193".into(),
        generation: 1,
        verb: "seed-rotate".into(),
        body: json!({ "whose": "all" }),
        asked_by: "ann".into(),
        iat: NOW as i64,
        exp: (NOW + DAY) as i64,
        required,
        policy: Policy {
            required,
            ..Policy::default()
        },
    }
}

#[tokio::test]
async fn enough_consents_of_others_are_enough() {
    let room = Room::new().await;
    let request = room.asked().await;
    let mut consents: Vec<Signed<Consent>> = Vec::new();
    for by in [&room.bob, &room.cleo] {
        let text = room.consent(by, &request).await;
        consents.push(room.verify(&text).unwrap());
    }
    assert_eq!(judge(&request, &consents, 2).unwrap().by(), ["bob", "cleo"]);
    let too_few = judge(&request, &consents, 3).unwrap_err();
    assert_eq!(too_few.to_string(), "2 of 3 operators have consented");
}

#[tokio::test]
async fn nobody_consents_to_their_own_request() {
    let room = Room::new().await;
    let request = room.asked().await;
    let own: Signed<Consent> = room
        .verify(&room.consent(&room.ann, &request).await)
        .unwrap();
    let refused = judge(&request, &[own], 1).unwrap_err();
    let by = Vec::new();
    assert_eq!(refused, TooFew { by, required: 2 });
}

#[tokio::test]
async fn two_certificates_of_one_operator_count_once() {
    let room = Room::new().await;
    let request = room.asked().await;
    let again = operator(&room.issuer, "bob").await;
    let mut consents: Vec<Signed<Consent>> = Vec::new();
    for by in [&room.bob, &again] {
        let text = room.consent(by, &request).await;
        consents.push(room.verify(&text).unwrap());
    }
    assert_ne!(consents[0].certificate(), consents[1].certificate());
    assert_eq!(judge(&request, &consents, 2).unwrap_err().by, ["bob"]);
}

#[tokio::test]
async fn a_bar_that_was_lowered_afterwards_does_not_help() {
    let room = Room::new().await;
    let request = room.asked().await;
    let consent = room.consent(&room.bob, &request).await;
    let consents = [room.verify(&consent).unwrap()];
    assert_eq!(judge(&request, &consents, 0).unwrap_err().required, 2);
}

#[tokio::test]
async fn a_consent_to_another_request_does_not_count() {
    let room = Room::new().await;
    let asked = room.asked().await;
    // The same id, and everything else the same but what is done.
    let mut other = request(2);
    other.body = json!({ "whose": "one" });
    let other: Signed<Request> = room.verify(&room.ann.state(&other).await).unwrap();
    let consent = room.consent(&room.bob, &other).await;
    let consents = [room.verify(&consent).unwrap()];
    assert!(judge(&asked, &consents, 1).unwrap_err().by.is_empty());
    assert_eq!(
        pki::consent::judge::counts(&asked, &consents[0]),
        Err(BadStatement::OtherRequest)
    );
}

#[tokio::test]
async fn a_consent_from_before_or_after_the_requests_time_does_not_count() {
    let room = Room::new().await;
    let request = room.asked().await;
    for iat in [NOW as i64 - 301, (NOW + DAY) as i64 + 301] {
        let text = room.bob.state(&request.consent("bob", iat)).await;
        let consent: Signed<Consent> = room.verify(&text).unwrap();
        let counts = pki::consent::judge::counts(&request, &consent);
        assert_eq!(counts, Err(BadStatement::OutOfTime), "{iat}");
    }
}

#[tokio::test]
async fn a_statement_that_was_changed_is_refused() {
    let room = Room::new().await;
    let text = room.ann.state(&request(2)).await;
    let parts: Vec<&str> = text.split('.').collect();
    let other = room.ann.state(&request(1)).await;
    let other: Vec<&str> = other.split('.').collect();
    let swapped = [parts[0], other[1], parts[2]].join(".");
    let refused = room.verify::<Request>(&swapped).unwrap_err();
    assert_eq!(refused, BadStatement::Signature);
}

#[tokio::test]
async fn a_refusal_is_no_consent() {
    let room = Room::new().await;
    let request = room.asked().await;
    let refusal = request.refusal("bob", "no", NOW as i64);
    let text = room.bob.state(&refusal).await;
    let refused = room.verify::<Consent>(&text).unwrap_err();
    assert_eq!(refused, BadStatement::Purpose);
}

#[tokio::test]
async fn a_consent_in_the_name_of_another_operator_is_refused() {
    let room = Room::new().await;
    let request = room.asked().await;
    let text = room.bob.state(&request.consent("cleo", NOW as i64)).await;
    let refused = room.verify::<Consent>(&text).unwrap_err();
    assert_eq!(refused, BadStatement::OtherName);
}

#[tokio::test]
async fn only_operators_of_this_root_sign() {
    let room = Room::new().await;
    let request = room.asked().await;
    let key = || OperatorKey::File(SoftwareKey::generate().unwrap());
    let terminal = IssueTo::Terminal(terminal_id());
    let terminal = holder(&room.issuer, terminal, key(), NOW).await;
    let text = room.consent(&terminal, &request).await;
    let refused = room.verify::<Consent>(&text).unwrap_err();
    assert_eq!(refused, BadStatement::NotOperator);
    let stranger = operator(&issuer_at(NOW).await, "bob").await;
    let text = room.consent(&stranger, &request).await;
    let refused = room.verify::<Consent>(&text).unwrap_err();
    assert!(matches!(refused, BadStatement::Certificate(_)), "{refused}");
}

#[tokio::test]
async fn an_expired_certificate_does_not_sign_now() {
    let room = Room::new().await;
    let request = room.asked().await;
    let key = OperatorKey::File(SoftwareKey::generate().unwrap());
    let to = IssueTo::Operator("bob".parse().unwrap());
    let old = NOW - 300 * DAY;
    let issuer = {
        let hsm = OneKeyHsm::new(7);
        let chain = common::chain_for(&hsm, old);
        HsmIssuer::open(Arc::new(hsm), label(), chain, domain())
            .await
            .unwrap()
    };
    let bob = holder(&issuer, to, key, old).await;
    let text = room.consent(&bob, &request).await;
    let (roots, domain) = ([issuer.chain().root().clone()], domain());
    let anchors = Anchors {
        roots: &roots,
        issuing: &[],
        domain: &domain,
    };
    let refused = verify::<Consent>(&text, &anchors, AsOf::Time(NOW)).unwrap_err();
    let expired = pki::BadCertificate::Expired {
        not_after: bob.chain[0].not_after(),
    };
    assert_eq!(refused, BadStatement::Certificate(expired));
}

#[tokio::test]
async fn an_operators_key_may_be_in_an_hsm() {
    let room = Room::new().await;
    let hsm = Arc::new(OneKeyHsm::new(9));
    let key = OperatorKey::in_hsm(hsm, label()).await.unwrap();
    let to = IssueTo::Operator("dora".parse().unwrap());
    let dora = holder(&room.issuer, to, key, NOW).await;
    let request = room.asked().await;
    let text = room.consent(&dora, &request).await;
    let consent = room.verify::<Consent>(&text).unwrap();
    assert_eq!(consent.name(), "dora");
}

async fn transcript_of(room: &Room, required: u32, by: &[&Operator]) -> Transcript {
    let asked = room.ann.state(&request(required)).await;
    let request: Signed<Request> = room.verify(&asked).unwrap();
    let mut consents = Vec::new();
    for by in by {
        consents.push(room.consent(by, &request).await);
    }
    let refusal = request.refusal("cleo", "not today", NOW as i64 + 60);
    Transcript {
        request: asked,
        consents,
        refusals: vec![room.cleo.state(&refusal).await],
        outcome: Some(Outcome {
            begun_at: Timestamp::from_secs(NOW as i64 + 120),
            done_at: Some(Timestamp::from_secs(NOW as i64 + 121)),
        }),
    }
}

#[tokio::test]
async fn a_transcript_tells_who_agreed_to_what_with_the_root_alone() {
    let room = Room::new().await;
    let transcript = transcript_of(&room, 1, &[&room.bob]).await;
    let json = serde_json::to_string(&transcript).unwrap();
    let shown = Transcript::from_json(&json)
        .unwrap()
        .verify(&room.roots())
        .unwrap();
    let words = shown.in_words();
    for line in [
        "verb        seed-rotate\n",
        "asked by    ann at 2026-11-23T12:00:00.000Z\n",
        "consented   bob\n",
        "refused     cleo: not today\n",
        "that is     enough: 1 of 1 besides the one who asks\n",
        "outcome     carried out at 2026-11-23T12:02:01.000Z (as the authority tells it)\n",
    ] {
        assert!(words.contains(line), "{line:?} is not in\n{words}");
    }
}

#[tokio::test]
async fn a_transcript_with_too_few_consents_shows_no_right_to_carry_out() {
    let room = Room::new().await;
    let mut transcript = transcript_of(&room, 2, &[&room.bob, &room.bob]).await;
    let refused = transcript.verify(&room.roots()).unwrap_err();
    assert!(matches!(refused, BadTranscript::TooFew(_)), "{refused}");
    transcript.outcome = None;
    let shown = transcript.verify(&room.roots()).unwrap();
    assert!(!shown.is_enough());
    assert!(shown.in_words().contains("not enough: 1 of 2"));
}

#[tokio::test]
async fn a_transcript_that_was_touched_is_refused() {
    let room = Room::new().await;
    let good = transcript_of(&room, 1, &[&room.bob]).await;
    let foreign = issuer_at(NOW).await;
    let refused = good.verify(&[foreign.chain().root().clone()]).unwrap_err();
    assert!(matches!(refused, BadTranscript::Request(_)), "{refused}");
    // A consent of the same operator to another request.
    let mut other = request(1);
    other.verb = "seed-other".into();
    let other: Signed<Request> = room.verify(&room.ann.state(&other).await).unwrap();
    let mut mixed = good.clone();
    mixed.consents = vec![room.consent(&room.bob, &other).await];
    let refused = mixed.verify(&room.roots()).unwrap_err();
    let why = BadStatement::OtherRequest;
    assert_eq!(refused, BadTranscript::Consent { nth: 1, why });
    let mut late = good.clone();
    late.outcome = Some(Outcome {
        begun_at: Timestamp::from_secs((NOW + DAY) as i64 + 1),
        done_at: None,
    });
    assert_eq!(late.verify(&room.roots()).unwrap_err(), BadTranscript::Late);
}

#[tokio::test]
async fn a_request_whose_policy_does_not_say_its_number_is_refused() {
    let room = Room::new().await;
    let mut request = request(1);
    request.required = 0;
    let transcript = Transcript {
        request: room.ann.state(&request).await,
        consents: Vec::new(),
        refusals: Vec::new(),
        outcome: None,
    };
    let refused = transcript.verify(&room.roots()).unwrap_err();
    assert_eq!(refused, BadTranscript::Request(BadStatement::Claims));
}

#[test]
fn what_is_shown_to_be_signed_stays_in_its_line() {
    let mut odd = request(1);
    odd.verb = "seed-rotate\nconsented   bob\u{1b}[2K".into();
    odd.body = json!({ "reason": "\u{202e}\u{9b}2K\u{2028}" });
    let words = pki::consent::transcript::in_words(&odd);
    assert!(!words.contains("\nconsented"), "{words}");
    let unseen = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}' || c == '\u{2028}');
    assert!(!words.contains(unseen), "{words:?}");
}

#[tokio::test]
async fn the_command_verifies_a_transcript_offline() {
    let room = Room::new().await;
    let dir = tempfile::tempdir().unwrap();
    let transcript = transcript_of(&room, 1, &[&room.bob]).await;
    let (file, root) = (dir.path().join("t.json"), dir.path().join("root.pem"));
    std::fs::write(&file, serde_json::to_string(&transcript).unwrap()).unwrap();
    std::fs::write(&root, room.issuer.chain().root().pem()).unwrap();
    let command = || {
        std::process::Command::new(env!("CARGO_BIN_EXE_m2key-pki"))
            .args(["transcript", "verify"])
            .arg(&file)
            .arg("--root")
            .arg(&root)
            .output()
            .unwrap()
    };
    let output = command();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("consented   bob"), "{said}");
    std::fs::write(&file, "{}").unwrap();
    let output = command();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("error: ") && said.contains("hint: "),
        "{said}"
    );
}

#[test]
fn errors_of_statements_are_the_askers_move() {
    let error = PkiError::from(BadStatement::Own);
    assert_eq!(error.whose_move().exit_code(), 1);
}
