//! Is what docs/PROTOCOL.md says what this crate does?
//!
//! Every fenced block ```` ```json Name ```` is read as the type of that name and must say the same
//! when written again; the table of refusals and the named limits are compared word by word.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use protocol::aes_key::AesKey;
use protocol::audit::CheckpointClaims;
use protocol::charge::{
    CHARGE_LIFE_MS, HOLD_MS, HOLD_SIGNED_IN_MS, HOLD_SIGNING_IN_MS, REFERENCE_MAX, RELEASES_MAX,
};
use protocol::dpop::{JTI_MAX, PROOF_FUTURE_MS, PROOF_MAX, PROOF_PAST_MS};
use protocol::http_signature::{LIFETIME_S, SKEW_S};
use protocol::jwk::JwkSet;
use protocol::jws::JWS_MAX;
use protocol::link::{HOST_MAX, LINK_MAX};
use protocol::money::{AMOUNT_MINOR_MAX, Money};
use protocol::problem::{Problem, ProblemType};
use protocol::receipt::ReceiptClaims;
use protocol::refund::RefundClaims;
use protocol::schedule::{HORIZON_MAX_EPOCHS, ScheduleClaims};
use protocol::settlement::SettlementClaims;
use protocol::step_up::CHALLENGE_LIFE_MS;
use protocol::sun::{SunKeys, SunLink, TagUid};
use protocol::turn::TURN_SHUT;
use protocol::window::{EARLY_MS, GRACE_MAX_MS, Policy, SHORTEST_MIN_MS};
use protocol::wire::charges::{CHARGES_PATH, ChargeRequest, TillCharge};
use protocol::wire::claims::{
    ApprovalRequest, ApprovalResponse, CLAIM_COOKIE, CLAIMS_PATH, ClaimRequest, ClaimView,
    JWKS_PATH, PUBLIC_BODY_MAX, PendingResponse,
};
use protocol::wire::history::{DAY_PATH, DayReport, HISTORY_MAX, HISTORY_PATH, HistoryPage};
use protocol::wire::notices::Notice;
use protocol::wire::passkeys::{Assertion, ConfirmOptions, PASSKEY_NAME_MAX, PasskeyRequest};
use protocol::wire::push::{ChargeState, EVENTS_PATH, KEEP_ALIVE_S, TerminalState};
use protocol::wire::rails::{OrderCall, RAIL_ANSWER_MAX, RAIL_BODY_MAX, RailAnswer, RefundCall};
use protocol::wire::refunds::{REASON_MAX, REFUNDS_PATH, RefundRequest, RefundResponse};
use protocol::wire::reports::{
    AGENT_BODY_MAX, REPORTS_MAX, REPORTS_PATH, ReportRequest, ReportResponse,
};
use protocol::wire::schedules::{SCHEDULE_PATH, ScheduleResponse};
use protocol::wire::upkeep::{
    CHECKPOINT_HEADER, CHECKPOINT_MAX, REENROL_PATH, TRUST_HEADER, TRUST_PATH,
};
use protocol::wire::wallet::{
    ACCOUNTS_PATH, APPROVAL_FUTURE_MS, APPROVAL_PAST_MS, IDEMPOTENCY_KEY_MAX, IDEMPOTENCY_MS,
    PAYMENTS_PATH, PaymentRequest, SignedApproval, VIEWS_PATH, WalletAccounts, WalletPayment,
    WalletView,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn description() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/PROTOCOL.md");
    std::fs::read_to_string(path).unwrap()
}

/// Name and text of every example.
fn examples() -> Vec<(String, String)> {
    let text = description();
    let mut blocks = text.split("```json ").skip(1).map(|rest| {
        let (name, body) = rest.split_once('\n').unwrap();
        let (body, _) = body.split_once("```").unwrap();
        (name.trim().to_owned(), body.to_owned())
    });
    let found: Vec<_> = blocks.by_ref().collect();
    assert!(!found.is_empty());
    found
}

fn reads_back<T: DeserializeOwned + Serialize>(body: &str) {
    let written: Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
    let read: T = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {body}"));
    assert_eq!(serde_json::to_value(read).unwrap(), written, "{body}");
}

#[test]
fn the_signed_link_proves_the_tap_that_is_said() {
    let text = description();
    let (_, link) = text.split_once("\nsigned link ").unwrap();
    let link = SunLink::parse(link.lines().next().unwrap()).unwrap();
    let key = |first: u8| AesKey::from_bytes(std::array::from_fn(|i| first + i as u8));
    let keys = SunKeys {
        meta: key(0x00),
        mac: key(0x10),
    };
    let tap = link.verify(&keys).unwrap();
    assert_eq!(tap.uid(), TagUid::parse("04A1B2C3D4E5F6").unwrap());
    assert_eq!(tap.counter(), 291);
}

#[test]
fn every_example_is_what_its_type_says() {
    let mut shown = BTreeSet::new();
    for (name, body) in examples() {
        match name.as_str() {
            "ClaimRequest" => reads_back::<ClaimRequest>(&body),
            "ClaimView" => reads_back::<ClaimView>(&body),
            "ApprovalRequest" => reads_back::<ApprovalRequest>(&body),
            "ApprovalResponse" => reads_back::<ApprovalResponse>(&body),
            "PendingResponse" => reads_back::<PendingResponse>(&body),
            "OrderCall" => reads_back::<OrderCall>(&body),
            "RefundCall" => reads_back::<RefundCall>(&body),
            "RailAnswer" => reads_back::<RailAnswer>(&body),
            "JwkSet" => reads_back::<JwkSet>(&body),
            "ScheduleResponse" => reads_back::<ScheduleResponse>(&body),
            "ScheduleClaims" => reads_back::<ScheduleClaims>(&body),
            "ReceiptClaims" => reads_back::<ReceiptClaims>(&body),
            "CheckpointClaims" => reads_back::<CheckpointClaims>(&body),
            "RefundClaims" => reads_back::<RefundClaims>(&body),
            "SettlementClaims" => reads_back::<SettlementClaims>(&body),
            "RefundRequest" => reads_back::<RefundRequest>(&body),
            "RefundResponse" => reads_back::<RefundResponse>(&body),
            "HistoryPage" => reads_back::<HistoryPage>(&body),
            "DayReport" => reads_back::<DayReport>(&body),
            "Notice" => reads_back::<Notice>(&body),
            "TerminalState" => reads_back::<TerminalState>(&body),
            "ReportRequest" => reads_back::<ReportRequest>(&body),
            "ReportResponse" => reads_back::<ReportResponse>(&body),
            "ChargeRequest" => reads_back::<ChargeRequest>(&body),
            "TillCharge" => reads_back::<TillCharge>(&body),
            "ChargeState" => reads_back::<ChargeState>(&body),
            "SignedApproval" => reads_back::<SignedApproval>(&body),
            "WalletView" => reads_back::<WalletView>(&body),
            "PaymentRequest" => reads_back::<PaymentRequest>(&body),
            "WalletPayment" => reads_back::<WalletPayment>(&body),
            "WalletAccounts" => reads_back::<WalletAccounts>(&body),
            "Problem" => reads_back::<Problem>(&body),
            "ConfirmOptions" => reads_back::<ConfirmOptions>(&body),
            "Assertion" => reads_back::<Assertion>(&body),
            "PasskeyRequest" => reads_back::<PasskeyRequest>(&body),
            "Money" => reads_back::<Money>(&body),
            "Policy" => reads_back::<Policy>(&body),
            other => panic!("no such type: {other}"),
        }
        shown.insert(name);
    }
    assert_eq!(shown.len(), 37, "every type has an example: {shown:?}");
}

#[test]
fn every_refusal_is_in_the_table_as_it_is_sent() {
    let text = description();
    let rows: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with("| `urn:m2key:problem:"))
        .collect();
    let sent: Vec<String> = ProblemType::ALL
        .iter()
        .map(|known| {
            let problem = Problem::new(*known);
            let (urn, status) = (&problem.type_, problem.status);
            format!(
                "| `{urn}` | {status} | {} | {} |",
                problem.title, problem.next_step
            )
        })
        .collect();
    assert_eq!(rows, sent);
}

#[test]
fn the_default_policy_is_the_one_described() {
    let (_, body) = examples()
        .into_iter()
        .find(|(name, _)| name == "Policy")
        .unwrap();
    assert_eq!(
        serde_json::from_str::<Policy>(&body).unwrap(),
        Policy::default()
    );
}

#[test]
fn every_named_limit_is_the_one_described() {
    let text = description();
    for (name, value) in [
        ("EARLY_MS", EARLY_MS),
        ("GRACE_MAX_MS", GRACE_MAX_MS),
        ("SHORTEST_MIN_MS", SHORTEST_MIN_MS),
        ("HOLD_MS", HOLD_MS),
        ("HOLD_SIGNING_IN_MS", HOLD_SIGNING_IN_MS),
        ("HOLD_SIGNED_IN_MS", HOLD_SIGNED_IN_MS),
        ("CHARGE_LIFE_MS", CHARGE_LIFE_MS),
        ("RELEASES_MAX", RELEASES_MAX.into()),
        ("REFERENCE_MAX", REFERENCE_MAX as i64),
        ("AMOUNT_MINOR_MAX", AMOUNT_MINOR_MAX),
        ("HOST_MAX", HOST_MAX as i64),
        ("LINK_MAX", LINK_MAX as i64),
        ("CHALLENGE_LIFE_MS", CHALLENGE_LIFE_MS),
        ("PASSKEY_NAME_MAX", PASSKEY_NAME_MAX as i64),
        ("JWS_MAX", JWS_MAX as i64),
        ("HORIZON_MAX_EPOCHS", HORIZON_MAX_EPOCHS.into()),
        ("TURN_SHUT", TURN_SHUT.into()),
        ("PUBLIC_BODY_MAX", PUBLIC_BODY_MAX as i64),
        ("AGENT_BODY_MAX", AGENT_BODY_MAX as i64),
        ("REPORTS_MAX", REPORTS_MAX as i64),
        ("CHECKPOINT_MAX", CHECKPOINT_MAX as i64),
        ("REASON_MAX", REASON_MAX as i64),
        ("HISTORY_MAX", HISTORY_MAX.into()),
        ("KEEP_ALIVE_S", KEEP_ALIVE_S as i64),
        ("RAIL_BODY_MAX", RAIL_BODY_MAX as i64),
        ("RAIL_ANSWER_MAX", RAIL_ANSWER_MAX as i64),
        ("LIFETIME_S", LIFETIME_S),
        ("SKEW_S", SKEW_S),
        ("PROOF_PAST_MS", PROOF_PAST_MS),
        ("PROOF_FUTURE_MS", PROOF_FUTURE_MS),
        ("PROOF_MAX", PROOF_MAX as i64),
        ("JTI_MAX", JTI_MAX as i64),
        ("APPROVAL_PAST_MS", APPROVAL_PAST_MS),
        ("APPROVAL_FUTURE_MS", APPROVAL_FUTURE_MS),
        ("IDEMPOTENCY_MS", IDEMPOTENCY_MS),
        ("IDEMPOTENCY_KEY_MAX", IDEMPOTENCY_KEY_MAX as i64),
    ] {
        let row = format!("| `{name}` | {value} |");
        assert!(text.contains(&row), "{row}");
    }
}

#[test]
fn every_path_and_the_cookie_are_described() {
    let text = description();
    for path in [
        CLAIMS_PATH,
        JWKS_PATH,
        SCHEDULE_PATH,
        EVENTS_PATH,
        REPORTS_PATH,
        CHARGES_PATH,
        REFUNDS_PATH,
        HISTORY_PATH,
        DAY_PATH,
        TRUST_PATH,
        REENROL_PATH,
        VIEWS_PATH,
        PAYMENTS_PATH,
        ACCOUNTS_PATH,
        CLAIM_COOKIE,
    ] {
        assert!(
            text.contains(&format!("`{path}")) || text.contains(&format!(" {path}")),
            "{path}"
        );
    }
}

#[test]
fn every_header_of_the_event_stream_is_described() {
    let text = description();
    for header in [TRUST_HEADER, CHECKPOINT_HEADER] {
        assert!(text.contains(&format!("`{header}: ")), "{header}");
    }
}

#[test]
fn every_domain_string_is_described() {
    let text = description();
    for domain in [
        "epoch-offset",
        "epoch-key",
        "window",
        "token",
        "code",
        "check",
        "audit-row",
    ] {
        assert!(text.contains(&format!("`m2key/{domain}/1`")), "{domain}");
    }
}
