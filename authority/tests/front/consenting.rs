//! Can one operator get past the others?
//!
//! The services in this process, with a clock that can be moved; `two_people` plays the commands.

use authority::services::consent::OFFLINE_OPERATOR;
use authority::services::operators::{
    ConsentAsk, ConsentList, ConsentRefuse, ConsentShow, ConsentSign, OperatorRevoke, PolicySet,
    carry_out,
};
use authority::store::{Consents, Counted, Identities};
use pki::consent::{Consent, Policy, Request};
use pki::{KeyState, OperatorKey, SoftwareKey};
use protocol::problem::ProblemType::{ConsentNeeded, ConsentRefused};

use crate::room::{Person, Room, adding, certify, join, policy, refused, row};

const HOUR_MS: i64 = 3_600_000;

type Bend = fn(&mut Request);

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
    let begun = room.stage.store.begin_request(id, counted, 1, now).await;
    let too_few = authority::store::Begin::TooFew {
        counted: Vec::new(),
        required: 1,
    };
    assert_eq!(begun.unwrap(), too_few);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_judges_by_the_bar_of_the_request_when_the_policys_is_lower_by_then() {
    let room = Room::with(policy(2)).await;
    let now = room.stage.app.clock.now();
    let id = room.ask(&room.ann, &policy(0)).await;
    room.sign(&room.bob, id).await.unwrap();
    // As if cleo were revoked, and the policy lowered, after both signatures were verified.
    let lowered = room.stage.store.set_consent_policy(policy(1), "test", now);
    lowered.await.unwrap();
    let counted = vec![Counted {
        operator: "bob".into(),
        serial: room.bob.serial(),
    }];
    let begun = room.stage.store.begin_request(id, counted, 2, now).await;
    let too_few = authority::store::Begin::TooFew {
        counted: vec!["bob".into()],
        required: 2,
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
    let begun = room.stage.store.begin_request(id, counted, 1, now).await;
    assert_eq!(begun.unwrap(), authority::store::Begin::Begun);
    let late = room.sign(&room.cleo, id).await;
    refused(late, ConsentRefused, "is over");
    room.carry_out("ann", id).await.unwrap();
    assert_eq!(room.policy().await, policy(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_yes_is_taken_back_also_after_it_began_and_failed() {
    let room = Room::new().await;
    let now = room.stage.app.clock.now();
    let id = room.ask(&room.ann, &policy(2)).await;
    room.sign(&room.bob, id).await.unwrap();
    let counted = vec![Counted {
        operator: "bob".into(),
        serial: room.bob.serial(),
    }];
    let begun = room.stage.store.begin_request(id, counted, 1, now).await;
    assert_eq!(begun.unwrap(), authority::store::Begin::Begun);
    let said = room.consent("bob", id, room.now_s()).await;
    let no = pki::consent::Refusal {
        request: said.request,
        request_sha256: said.request_sha256,
        by: said.by,
        iat: said.iat,
        reason: "not any more".into(),
    };
    let statement = room.bob.state(&no).await;
    let view = carry_out(&room.stage.app, "bob", ConsentRefuse { statement }).await;
    assert_eq!(view.unwrap().refused, ["bob"]);
    let late = room.carry_out("ann", id).await;
    refused(late, ConsentNeeded, "0 of 1");
    assert_eq!(room.policy().await, policy(1));
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
