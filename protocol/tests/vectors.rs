//! Are the bytes still those that were frozen?
//!
//! Every file in `vectors/` is checked here against this crate, and by `vectors/check.py`, which was
//! written from `docs/PROTOCOL.md` alone and shares no code with it.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::PathBuf;
use std::process::Command;

use common::{hex, unhex, unhex_array};
use hmac::{Hmac, KeyInit, Mac};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use protocol::audit::{AuditRow, ChainCheck, CheckpointClaims};
use protocol::code::TypedCode;
use protocol::derive::{EpochId, EpochKey, epoch_key_input};
use protocol::ids::{ClaimId, TerminalId};
use protocol::jwk::JwkSet;
use protocol::jws::{Purpose, Unsigned, verify};
use protocol::link::{self, LinkHost};
use protocol::money::Money;
use protocol::ndef;
use protocol::presented::Presented;
use protocol::receipt::ReceiptClaims;
use protocol::schedule::{EpochCheck, ScheduleClaims, accept};
use protocol::step_up::Confirmable;
use protocol::time::Timestamp;
use protocol::token::Channel;
use protocol::window::{EpochClock, Policy, WindowPlan, WindowPolicy};
use protocol::wire::wallet::SignedApproval;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::Sha256;

const FILES: [&str; 8] = [
    "audit", "ids", "inputs", "jws", "keys", "step_up", "tokens", "windows",
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

fn vectors(file: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(format!("{file}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The cases under `name`; none would be a check of nothing.
fn cases(file: &str, name: &str) -> Vec<Value> {
    let cases = vectors(file)[name].as_array().unwrap().clone();
    assert!(!cases.is_empty(), "{file} {name}");
    cases
}

fn get<T: DeserializeOwned>(case: &Value, member: &str) -> T {
    serde_json::from_value(case[member].clone()).unwrap_or_else(|e| panic!("{member}: {e}: {case}"))
}

fn text(case: &Value, member: &str) -> String {
    get(case, member)
}

fn epoch_key(case: &Value) -> EpochKey {
    EpochKey::from_bytes(unhex_array(&text(case, "epoch_key")))
}

/// `why` of the case, as the name of a variant; empty for what is taken.
fn why<E: std::fmt::Debug>(error: &E) -> String {
    format!("{error:?}")
}

#[test]
fn terminal_ids_and_the_hours_of_terminals_are_as_frozen() {
    for case in cases("ids", "terminals") {
        let id = TerminalId::from_number(get(&case, "number")).unwrap();
        assert_eq!(id.to_string(), text(&case, "id"));
        let clock = EpochClock::of(id);
        assert_eq!(clock.opens(0).ms(), get::<i64>(&case, "offset_ms"));
        for (unix_ms, epoch) in get::<Vec<(i64, u32)>>(&case, "epoch_at") {
            assert_eq!(clock.epoch_at(Timestamp::from_ms(unix_ms)), epoch);
        }
    }
    for case in cases("ids", "uuids") {
        let id = ClaimId::from_parts(get(&case, "unix_ms"), &unhex_array(&text(&case, "random")));
        assert_eq!(id.to_string(), text(&case, "uuid"));
    }
}

#[test]
fn epoch_keys_are_as_frozen() {
    for case in cases("keys", "epoch_keys") {
        let id = EpochId {
            generation: get(&case, "generation"),
            terminal: get(&case, "terminal"),
            version: get(&case, "version"),
            epoch: get(&case, "epoch"),
        };
        let input = epoch_key_input(&id);
        assert_eq!(hex(&input), text(&case, "input"));
        let mut mac = Hmac::<Sha256>::new_from_slice(&unhex(&text(&case, "seed"))).unwrap();
        mac.update(&input);
        let key = EpochKey::from_bytes(mac.finalize().into_bytes().into());
        assert!(key.matches(&epoch_key(&case)));
        assert_eq!(
            EpochCheck::new(id.epoch, id.version, &key).check,
            text(&case, "check")
        );
    }
}

#[test]
fn window_plans_and_the_rules_of_policies_are_as_frozen() {
    for case in cases("windows", "plans") {
        let one: WindowPolicy = get(&case, "policy");
        let policy = same(one).check().unwrap();
        let (terminal, epoch) = (get::<TerminalId>(&case, "terminal"), get(&case, "epoch"));
        let clock = EpochClock::of(terminal);
        let channel: Channel = get(&case, "channel");
        let plan = WindowPlan::draw(&epoch_key(&case), &policy, channel, &clock, epoch);
        assert_eq!(plan.windows()[0].opens.ms(), get::<i64>(&case, "opens_ms"));
        let lengths: Vec<i64> = plan.windows().iter().map(|w| w.closes - w.opens).collect();
        assert_eq!(lengths, get::<Vec<i64>>(&case, "lengths_ms"));
    }
    for case in cases("windows", "policies") {
        let sound = same(get(&case, "policy")).check().is_ok();
        assert_eq!(sound, get::<bool>(&case, "ok"), "{case}");
    }
}

fn same(policy: WindowPolicy) -> Policy {
    Policy {
        nfc: policy,
        qr: policy,
        code: policy,
    }
}

#[test]
fn tokens_links_tag_messages_and_codes_are_as_frozen() {
    let all = vectors("tokens");
    let (key, terminal) = (epoch_key(&all), get::<TerminalId>(&all, "terminal"));
    for case in cases("tokens", "machine") {
        let token = key.token(
            get(&case, "channel"),
            get(&case, "window"),
            get(&case, "turn"),
        );
        assert_eq!(hex(token.as_bytes()), text(&case, "token"));
        assert_eq!(link::encode(&token), text(&case, "base32"));
        let link = LinkHost::parse(&text(&case, "host"))
            .unwrap()
            .link(terminal, &token);
        assert_eq!(link, text(&case, "link"));
        let message = ndef::uri_message(&link).unwrap();
        assert_eq!(hex(&message), text(&case, "ndef"));
        assert_eq!(ndef::read_uri(&message).unwrap(), link);
        assert!(link::parse(&link).unwrap().1.matches(&token));
    }
    for case in cases("tokens", "codes") {
        let digits = key.code(get(&case, "window"), get(&case, "turn"));
        assert_eq!(format!("{digits:07}"), text(&case, "digits"));
        let code = TypedCode::new(terminal, digits);
        assert_eq!(code.shown(), text(&case, "shown"));
        assert!(TypedCode::parse(&code.shown()).unwrap().matches(digits));
    }
}

#[test]
fn signatures_thumbprint_and_digests_are_as_frozen() {
    for case in cases("jws", "signed") {
        match text(&case, "typ").as_str() {
            ScheduleClaims::TYP => signed::<ScheduleClaims>(&case),
            ReceiptClaims::TYP => signed::<ReceiptClaims>(&case),
            CheckpointClaims::TYP => signed::<CheckpointClaims>(&case),
            SignedApproval::TYP => signed::<SignedApproval>(&case),
            other => panic!("no such purpose: {other}"),
        }
    }
}

fn signed<C: Purpose + PartialEq + std::fmt::Debug>(case: &Value) {
    let all = vectors("jws");
    let keys: JwkSet = get(&all, "jwks");
    assert_eq!(keys.keys[0].thumbprint(), text(&all, "thumbprint"));
    let claims: C = get(case, "claims");
    let unsigned = Unsigned::new(&claims, &text(&all, "thumbprint"));
    assert_eq!(hex(&unsigned.digest()), text(case, "digest"));
    let key = SigningKey::from_slice(&unhex(&text(&all, "private_key"))).unwrap();
    let signature: Signature = key.sign_prehash(&unsigned.digest()).unwrap();
    let jws = unsigned.with_signature(&signature.to_bytes().into());
    assert_eq!(jws, text(case, "jws"));
    assert_eq!(verify::<C>(&jws, &keys).unwrap().claims(), &claims);
}

#[test]
fn every_spoiled_jws_is_refused_as_frozen() {
    let keys: JwkSet = get(&vectors("jws"), "jwks");
    for case in cases("jws", "judged") {
        let verified = verify::<ReceiptClaims>(&text(&case, "jws"), &keys);
        let said = verified.err().map(|error| why(&error));
        assert_eq!(
            said,
            get::<Option<String>>(&case, "why"),
            "{}",
            case["what"]
        );
    }
}

#[test]
fn the_frozen_schedule_is_followed_by_its_terminal_and_no_other() {
    let all = vectors("jws");
    let keys: JwkSet = get(&all, "jwks");
    let jws = text(&all["signed"][0], "jws");
    let claims = || verify::<ScheduleClaims>(&jws, &keys).unwrap();
    let terminal = claims().claims().terminal;
    let followed = accept(claims(), terminal, None).unwrap();
    assert!(accept(claims(), terminal, Some(followed.rank())).is_ok());
    assert!(accept(claims(), TerminalId::from_number(1).unwrap(), None).is_err());
}

#[test]
fn audit_hashes_are_as_frozen() {
    let mut chain = ChainCheck::default();
    for case in cases("audit", "rows") {
        let row = AuditRow {
            node: text(&case, "node"),
            sequence: get(&case, "sequence"),
            previous: unhex_array(&text(&case, "previous")),
            at: Timestamp::from_ms(get(&case, "at_ms")),
            kind: text(&case, "kind"),
            body: text(&case, "body"),
        };
        assert_eq!(hex(&row.hash()), text(&case, "hash"));
        chain
            .take(&row, &unhex_array(&text(&case, "hash")))
            .unwrap();
    }
    assert_eq!(chain.head().0 as usize, cases("audit", "rows").len());
}

#[test]
fn what_a_passkey_signs_is_as_frozen() {
    let mut seen = std::collections::BTreeSet::new();
    for case in cases("step_up", "challenges") {
        let confirmable = Confirmable {
            claim: get(&case, "claim"),
            amount: get(&case, "amount"),
            payee: get(&case, "payee"),
            account: get(&case, "account"),
            nonce: unhex_array(&text(&case, "nonce")),
        };
        let challenge = hex(&confirmable.challenge());
        assert_eq!(challenge, text(&case, "challenge"));
        assert!(seen.insert(challenge), "two payments, one challenge");
    }
}

#[test]
fn what_people_and_phones_send_is_read_or_refused_as_frozen() {
    for case in cases("inputs", "terminal_ids") {
        let read = text(&case, "text").parse::<TerminalId>();
        assert_eq!(read.map_err(|e| why(&e)), wanted(&case, |c| get(c, "id")));
    }
    for case in cases("inputs", "links") {
        let read = link::parse(&text(&case, "text")).map(|(id, t)| (id, hex(t.as_bytes())));
        let expected = wanted(&case, |c| (get(c, "id"), text(c, "token")));
        assert_eq!(read.map_err(|e| why(&e)), expected, "{case}");
    }
    for case in cases("inputs", "codes") {
        let shown =
            |c: &Value| TypedCode::new(get(c, "id"), text(c, "digits").parse().unwrap()).shown();
        let read = TypedCode::parse(&text(&case, "text")).map(|code| code.shown());
        assert_eq!(read.map_err(|e| why(&e)), wanted(&case, shown), "{case}");
        let presented = Presented::parse(&text(&case, "text")).is_ok();
        assert_eq!(presented, case.get("why").is_none(), "{case}");
    }
    for case in cases("inputs", "link_hosts") {
        let ok = LinkHost::parse(&text(&case, "text")).is_ok();
        assert_eq!(ok, get::<bool>(&case, "ok"), "{case}");
    }
}

#[test]
fn tag_messages_money_and_times_are_read_or_refused_as_frozen() {
    for case in cases("inputs", "ndef") {
        let read = ndef::read_uri(&unhex(&text(&case, "message")));
        assert_eq!(
            read.map_err(|e| why(&e)),
            wanted(&case, |c| text(c, "uri")),
            "{case}"
        );
    }
    for case in cases("inputs", "money") {
        let read = serde_json::from_str::<Money>(&text(&case, "json")).ok();
        assert_eq!(
            read.map(|money| money.to_string()),
            get(&case, "shown"),
            "{case}"
        );
    }
    for case in cases("inputs", "times") {
        let read = serde_json::from_value::<Timestamp>(case["text"].clone()).ok();
        assert_eq!(read.map(Timestamp::ms), get(&case, "unix_ms"), "{case}");
    }
}

fn wanted<T>(case: &Value, taken: impl Fn(&Value) -> T) -> Result<T, String> {
    match case.get("why") {
        Some(why) => Err(why.as_str().unwrap().into()),
        None => Ok(taken(case)),
    }
}

#[test]
fn no_vector_file_goes_unread() {
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".json").map(String::from))
        .collect();
    found.sort();
    assert_eq!(found, FILES);
}

#[test]
fn a_stranger_who_has_only_the_description_computes_the_same_bytes() {
    let script = folder().join("check.py");
    let run = Command::new("python3").arg(&script).output();
    let run = run.expect("python3 is needed here: apt-get install -y python3");
    let said = String::from_utf8_lossy(&run.stdout);
    let complaint = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{said}{complaint}");
    for file in FILES {
        assert!(
            said.contains(&format!("{file}.json")),
            "{file} unchecked: {said}"
        );
    }
}
