//! Who is an operator, and who can take that away?

use authority::services::consent::OFFLINE_OPERATOR;
use authority::services::operators::{
    CertificateIssue, CertificateRevoke, OperatorRevoke, Renewal, carry_out,
};
use authority::services::readiness;
use authority::store::{Identities, Subject};
use pki::{OperatorKey, SoftwareKey};
use protocol::problem::ProblemType::{self, ConsentRefused};

use crate::room::{Person, Room, adding, policy, refused};
use crate::stage::DAY_MS;

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
        operator: name.into(),
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_certificate_of_an_operator_who_is_needed_is_not_revoked() {
    let room = Room::new().await;
    let app = &room.stage.app;
    let revoke = async |person: &Person, serial: String| {
        let reason = "key-compromise".into();
        carry_out(app, person.name, CertificateRevoke { serial, reason }).await
    };
    // Three operators, and two are needed: one may go.
    revoke(&room.cleo, room.cleo.serial()).await.unwrap();
    let needed = revoke(&room.bob, room.bob.serial()).await;
    let words = "1 operators could sign then, and the policy needs 1";
    refused(needed, ProblemType::WouldStrand, words);
    let of_nobody = revoke(&room.bob, "00".into()).await;
    refused(of_nobody, ProblemType::Unknown, "");
    let key = OperatorKey::File(SoftwareKey::generate().unwrap());
    let request = adding(&room, "bob", &key).await.request;
    let next = carry_out(app, "bob", renewing("bob", request, None)).await;
    revoke(&room.bob, room.bob.serial()).await.unwrap();
    let needed = revoke(&room.bob, next.unwrap().serial).await;
    refused(needed, ProblemType::WouldStrand, "First `renew operator`");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn somebody_is_always_left_who_can_ask() {
    let room = Room::with(policy(0)).await;
    let app = &room.stage.app;
    let revoke = async |person: &Person| {
        let (serial, reason) = (person.serial(), "unspecified".into());
        carry_out(app, OFFLINE_OPERATOR, CertificateRevoke { serial, reason }).await
    };
    revoke(&room.ann).await.unwrap();
    revoke(&room.bob).await.unwrap();
    let last = revoke(&room.cleo).await;
    refused(
        last,
        ProblemType::WouldStrand,
        "0 operators could sign then",
    );
}
