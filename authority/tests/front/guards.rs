//! Does each condition of the gate hold by itself, when the one beside it lets pass?
//!
//! What the services refuse first is asked of the store directly, and what the store would refuse is
//! brought about behind its back.

use authority::services::consent::OFFLINE_OPERATOR;
use authority::services::operators::{
    ConsentAsk, ConsentRefuse, ConsentShow, ConsentSign, TerminalBan, TerminalUnban, carry_out,
};
use authority::store::{
    AddOperator, AddRequest, Bar, Begin, Consents, Counted, Heard, Identities, NewRequest,
    OPEN_REQUESTS_MAX, OPERATORS_MAX, RequestId, Voice,
};
use pki::consent::Refusal;
use protocol::problem::ProblemType::{ConsentNeeded, ConsentRefused};
use protocol::time::Timestamp;

use crate::room::{Person, Room, certify, policy, refused, row};
use pki::{OperatorKey, SoftwareKey};

const DAY_MS: i64 = 24 * 3_600_000;

/// Ann asks, bob consents.
async fn agreed(room: &Room) -> RequestId {
    let id = room.ask(&room.ann, &policy(2)).await;
    room.sign(&room.bob, id).await.unwrap();
    id
}

fn counted(operator: &str, of: &Person) -> Counted {
    Counted {
        operator: operator.into(),
        serial: of.serial(),
    }
}

async fn begin(room: &Room, id: RequestId, voices: Vec<Counted>, at: Timestamp) -> Begin {
    let begun = room.stage.store.begin_request(id, voices, 1, at).await;
    begun.unwrap()
}

async fn shown(room: &Room, id: RequestId) -> Vec<String> {
    let shown = carry_out(&room.stage.app, "cleo", ConsentShow { id }).await;
    shown.unwrap().request.consented
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_store_refuses_to_begin_is_not_carried_out() {
    let room = Room::new().await;
    agreed(&room).await;
    // The certificate itself is good; the store says that it ended.
    room.tamper("UPDATE certificates SET not_after_ms = 1 WHERE subject = 'bob'");
    let ended = room.set("ann", &policy(2)).await;
    refused(ended, ConsentNeeded, "0 of 1 consents");
    let room = Room::new().await;
    let id = agreed(&room).await;
    room.tamper("UPDATE consent_requests SET expires_at_ms = asked_at_ms - 1");
    let over = room.carry_out("ann", id).await;
    refused(over, ConsentRefused, "is over");
    assert_eq!(room.policy().await, policy(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sends_what_another_signed() {
    let room = Room::new().await;
    let app = &room.stage.app;
    let request = room.draft(&room.ann, &policy(2)).await;
    let statement = room.ann.state(&request).await;
    let sent = carry_out(app, "bob", ConsentAsk { statement }).await;
    refused(sent, ConsentRefused, "ann signed it, and bob sends it");
    let id = room.ask(&room.ann, &policy(2)).await;
    let statement = room.consent_of(&room.bob, id).await;
    let sent = carry_out(app, "cleo", ConsentSign { statement }).await;
    refused(sent, ConsentRefused, "bob signed it, and cleo sends it");
    assert!(shown(&room, id).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_revoked_does_not_ask() {
    let room = Room::new().await;
    let request = room.draft(&room.ann, &policy(2)).await;
    room.revoke_certificate_of(&room.ann).await;
    let statement = room.ann.state(&request).await;
    let sent = carry_out(&room.stage.app, "ann", ConsentAsk { statement }).await;
    refused(sent, ConsentRefused, "one of the operator ann");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consent_or_refusal_is_to_the_bytes_of_its_request_and_says_little() {
    let room = Room::new().await;
    let app = &room.stage.app;
    let id = room.ask(&room.ann, &policy(2)).await;
    let mut consent = room.consent("bob", id, room.now_s()).await;
    consent.request_sha256 = "0".repeat(64);
    let statement = room.bob.state(&consent).await;
    let sent = carry_out(app, "bob", ConsentSign { statement }).await;
    refused(sent, ConsentRefused, "it is about another request");
    let said = room.consent("bob", id, room.now_s()).await;
    for reason in ["no\nconsented   cleo".to_owned(), "n".repeat(201)] {
        let no = Refusal {
            request: said.request.clone(),
            request_sha256: said.request_sha256.clone(),
            by: "bob".into(),
            iat: said.iat,
            reason,
        };
        let statement = room.bob.state(&no).await;
        let sent = carry_out(app, "bob", ConsentRefuse { statement }).await;
        refused(sent, ConsentRefused, "claims are not in order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_counts_only_as_it_stands_in_the_store() {
    for change in [
        "superseded_at_ms = 1",
        "spki_sha256 = zeroblob(32)",
        "subject = 'cleo'",
        "subject_kind = 'authority'",
    ] {
        let room = Room::new().await;
        let id = agreed(&room).await;
        let serial = room.bob.serial();
        room.tamper(&format!(
            "UPDATE certificates SET {change} WHERE serial = '{serial}'"
        ));
        assert!(shown(&room, id).await.is_empty(), "{change}");
        let late = room.sign(&room.bob, id).await;
        refused(late, ConsentRefused, "no longer, one of the operator bob");
        let alone = room.set("ann", &policy(2)).await;
        refused(alone, ConsentNeeded, "0 of 1 consents");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_certificate_or_another_name_is_not_shown_as_a_consent() {
    let room = Room::new().await;
    let id = agreed(&room).await;
    assert_eq!(shown(&room, id).await, ["bob"]);
    // As if cleo had said what bob said.
    room.tamper("UPDATE consent_voices SET operator = 'cleo' WHERE operator = 'bob'");
    assert!(shown(&room, id).await.is_empty());
    room.tamper("UPDATE consent_voices SET operator = 'bob' WHERE operator = 'cleo'");
    room.revoke_certificate_of(&room.bob).await;
    assert!(shown(&room, id).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_is_the_one_that_was_signed_in_every_part() {
    let room = Room::new().await;
    let id = agreed(&room).await;
    room.tamper("UPDATE consent_requests SET asked_by = 'cleo'");
    let hers = room.carry_out("cleo", id).await;
    refused(hers, ConsentRefused, "another request than was signed");
    room.tamper("UPDATE consent_requests SET asked_by = 'ann', verb = 'policy-show'");
    assert!(shown(&room, id).await.is_empty());
    room.tamper("UPDATE consent_requests SET verb = 'policy-set'");
    for other_life in [false, true] {
        // Ann's own signature under another request, and in another life of the database.
        let mut other = room.draft(&room.cleo, &policy(2)).await;
        other.asked_by = "ann".into();
        other.generation += u32::from(other_life);
        if other_life {
            other.jti = id.to_string();
        }
        let statement = room.ann.state(&other).await;
        room.tamper(&format!(
            "UPDATE consent_requests SET statement = '{statement}'"
        ));
        let words = match other_life {
            false => "another request than was signed",
            true => "it was made in generation 2",
        };
        refused(room.carry_out("ann", id).await, ConsentRefused, words);
    }
    assert_eq!(room.policy().await, policy(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_body_is_carried_out_by_no_id() {
    let room = Room::new().await;
    let id = agreed(&room).await;
    let foreign = room.carry_out("bob", id).await;
    refused(foreign, ConsentRefused, "somebody else asks");
    // The same in another spelling: what is carried out is written as the verb writes itself.
    room.tamper("UPDATE consent_requests SET body = ' ' || body");
    let spelled = room.carry_out("ann", id).await;
    refused(spelled, ConsentRefused, "it is for something else");
    // A stopped authority knows nobody by name, and still only what was asked for.
    let other = room.set(OFFLINE_OPERATOR, &policy(0)).await;
    refused(other, ConsentNeeded, "policy-set needs 1 besides");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_keeps_its_own_rules_about_requests() {
    let room = Room::new().await;
    let (store, now) = (&room.stage.store, room.stage.app.clock.now());
    let request = |n: u32, by: &str| NewRequest {
        id: format!("00000000-0000-7000-8000-{n:012}").parse().unwrap(),
        verb: "policy-set".into(),
        body: "{}".into(),
        asked_by: by.into(),
        statement: "s".into(),
        asked_at: now,
        expires_at: now + DAY_MS,
    };
    let add = async |request| store.add_consent_request(request).await.unwrap();
    assert_eq!(add(request(0, "zoe")).await, AddRequest::NotOperator);
    for n in 0..OPEN_REQUESTS_MAX {
        assert_eq!(add(request(n, "ann")).await, AddRequest::Added);
    }
    let beyond = request(OPEN_REQUESTS_MAX, "ann");
    assert_eq!(add(beyond).await, AddRequest::TooMany);
    let id = request(0, "ann").id;
    let voice = |of: &Person, at| Voice {
        operator: "bob".into(),
        consents: true,
        serial: of.serial(),
        statement: "s".into(),
        at,
    };
    let hear = async |voice| store.add_voice(id, voice).await.unwrap();
    assert_eq!(hear(voice(&room.ann, now)).await, Heard::NotOperator);
    assert_eq!(
        hear(voice(&room.bob, now + 2 * DAY_MS)).await,
        Heard::Closed
    );
    assert_eq!(hear(voice(&room.bob, now)).await, Heard::Done);
    let foreign = store.withdraw_request(id, "bob", now).await;
    assert_eq!(foreign.unwrap(), Heard::NotOperator);
    let bob = || vec![counted("bob", &room.bob)];
    assert_eq!(
        begin(&room, id, bob(), now + 2 * DAY_MS).await,
        Begin::Closed
    );
    let own = store.withdraw_request(id, "ann", now).await;
    assert_eq!(own.unwrap(), Heard::Done);
    assert_eq!(begin(&room, id, bob(), now).await, Begin::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_counts_each_operators_last_word_once_and_never_the_askers() {
    let room = Room::with(policy(2)).await;
    let now = room.stage.app.clock.now();
    let id = room.ask(&room.ann, &policy(1)).await;
    room.sign(&room.bob, id).await.unwrap();
    let (ann, bob, cleo) = (&room.ann, &room.bob, &room.cleo);
    room.tamper(&format!(
        "INSERT INTO consent_voices (request, operator, consents, serial, statement, given_at_ms)
         SELECT request, 'ann', 1, '{}', statement, given_at_ms FROM consent_voices",
        ann.serial()
    ));
    let no = |consents: bool| Voice {
        operator: "cleo".into(),
        consents,
        serial: cleo.serial(),
        statement: "s".into(),
        at: now,
    };
    let heard = room.stage.store.add_voice(id, no(false)).await;
    assert_eq!(heard.unwrap(), Heard::Done);
    for second in [
        counted("bob", bob),
        counted("ann", ann),
        counted("cleo", cleo),
        counted("cleo", bob),
        counted("bob", cleo),
    ] {
        let voices = vec![counted("bob", bob), second.clone()];
        let Begin::TooFew { counted, required } = begin(&room, id, voices, now).await else {
            panic!("{second:?}")
        };
        assert_eq!(
            (counted, required),
            (vec!["bob".to_owned()], 2),
            "{second:?}"
        );
    }
    let heard = room.stage.store.add_voice(id, no(true)).await;
    assert_eq!(heard.unwrap(), Heard::Done);
    // Under another certificate of hers than the one she said it with.
    let key = OperatorKey::File(SoftwareKey::generate().unwrap());
    let (own, _) = certify(&room.stage, "cleo", &key).await;
    let added = room.stage.store.add_certificate(row(&own, "cleo"), now);
    added.await.unwrap();
    let other = Counted {
        operator: "cleo".into(),
        serial: own.serial_hex(),
    };
    let voices = vec![counted("bob", bob), other];
    assert!(matches!(
        begin(&room, id, voices, now).await,
        Begin::TooFew { .. }
    ));
    let voices = || vec![counted("bob", bob), counted("cleo", cleo)];
    room.tamper("UPDATE operators SET revoked_by = 'x', revoked_at_ms = 1 WHERE name = 'cleo'");
    assert!(matches!(
        begin(&room, id, voices(), now).await,
        Begin::TooFew { .. }
    ));
    room.tamper("UPDATE operators SET revoked_by = NULL, revoked_at_ms = NULL WHERE name = 'cleo'");
    let serial = cleo.serial();
    let set = |what: &str| format!("UPDATE certificates SET {what} WHERE serial = '{serial}'");
    for (wrong, right) in [
        ("superseded_at_ms = 1", "superseded_at_ms = NULL"),
        ("subject_kind = 'terminal'", "subject_kind = 'operator'"),
    ] {
        room.tamper(&set(wrong));
        assert!(
            matches!(begin(&room, id, voices(), now).await, Begin::TooFew { .. }),
            "{wrong}"
        );
        room.tamper(&set(right));
    }
    room.tamper("UPDATE operators SET revoked_by = 'x', revoked_at_ms = 1 WHERE name = 'ann'");
    assert_eq!(begin(&room, id, voices(), now).await, Begin::Closed);
    room.tamper("UPDATE operators SET revoked_by = NULL, revoked_at_ms = NULL WHERE name = 'ann'");
    assert_eq!(begin(&room, id, voices(), now).await, Begin::Begun);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_are_so_many_at_most_and_are_revoked_once() {
    let room = Room::with(policy(0)).await;
    let (store, now) = (&room.stage.store, room.stage.app.clock.now());
    let add = async |name: &str, key: &OperatorKey| {
        let (own, _) = certify(&room.stage, name, key).await;
        store
            .add_operator(row(&own, name), "ann", now)
            .await
            .unwrap()
    };
    let fresh = || OperatorKey::File(SoftwareKey::generate().unwrap());
    assert_eq!(add("bob", &fresh()).await, AddOperator::NameTaken);
    assert_eq!(add("zoe", &room.bob.key).await, AddOperator::KeyReused);
    for n in 3..OPERATORS_MAX {
        assert_eq!(add(&format!("o{n}"), &fresh()).await, AddOperator::Added);
    }
    assert_eq!(add("beyond", &fresh()).await, AddOperator::TooMany);
    for by in ["ann", "cleo"] {
        assert_eq!(
            store.revoke_operator("bob", by, now).await.unwrap(),
            Bar::Done
        );
    }
    let bob = store.operator("bob", now).await.unwrap().unwrap();
    assert_eq!(bob.revoked.unwrap().by, "ann");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_holds_a_secret_is_not_kept() {
    let room = Room::with(policy(0)).await;
    let (app, stage) = (&room.stage.app, &room.stage);
    let added = stage.added().await;
    let (terminal, reason) = (added.terminal, "found again".to_owned());
    let ban = TerminalBan {
        terminal,
        reason: "lost".into(),
    };
    carry_out(app, "ann", ban).await.unwrap();
    let now = app.clock.now();
    let raised = stage.store.set_consent_policy(policy(1), "test", now);
    raised.await.unwrap();
    let wanted = || TerminalUnban {
        terminal,
        reason: reason.clone(),
    };
    let request = room.draft_of(&room.ann, &wanted()).await;
    let statement = room.ann.state(&request).await;
    let asked = carry_out(app, "ann", ConsentAsk { statement })
        .await
        .unwrap();
    room.sign(&room.bob, asked.id).await.unwrap();
    let done = room.carry_out("ann", asked.id).await.unwrap();
    assert!(done["join_token"].is_string(), "{done}");
    let kept = stage
        .store
        .consent_request(asked.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(kept.answer, None);
    let again = room.carry_out("ann", asked.id).await;
    refused(again, ConsentRefused, "its answer is not kept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chain_says_who_asked_for_what_and_with_whose_consent() {
    let room = Room::new().await;
    let id = agreed(&room).await;
    room.carry_out("ann", id).await.unwrap();
    let rows = room.stage.app.store.audit_rows("authority-1", 0, 1_000);
    let rows = rows.await.unwrap();
    let bodies = |kind: &str| -> Vec<serde_json::Value> {
        let found = rows.iter().filter(|it| it.row.kind == kind);
        found
            .map(|it| serde_json::from_str(&it.row.body).unwrap())
            .collect()
    };
    let asked = bodies("operator.asked");
    let of_verb = |verb: &str| asked.iter().find(|it| it["verb"] == verb).unwrap();
    assert_eq!(of_verb("policy-set")["operator"], "ann");
    assert_eq!(of_verb("policy-set")["consent"], id.to_string());
    assert_eq!(of_verb("consent-sign")["operator"], "bob");
    let begun = bodies("consent.begun");
    assert_eq!(begun[0]["consented"], serde_json::json!(["bob"]));
}
