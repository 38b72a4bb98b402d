//! What does the authority make of a rail that answers wrongly? Never a payment, and never a refusal.

use std::net::SocketAddr;
use std::sync::Arc;

use authority::clock::SystemClock;
use authority::config::{RailConfig, RailKind};
use authority::services::keyring::{KeyPurpose, SigningKey};
use authority::services::rails::{
    Answer, HttpRail, Order, Rail, RailKey, Reason, Refund, Standing,
};
use authority::services::requests::Requests;
use hsm::{Hsm, KeyKind, MemoryHsm};
use protocol::ids::{ChargeId, MerchantId, PaymentId, TerminalId};
use protocol::wire::rails::RAIL_ANSWER_MAX;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::world::eur;

const DEADLINE_MS: u64 = 500;

/// Answers every connection with these bytes, or hangs up without any.
async fn answering(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            read_request(&mut socket).await;
            let _ = socket.write_all(&answer).await;
        }
    });
    address
}

/// Takes connections, and says nothing.
async fn silent() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok(accepted) = listener.accept().await {
            kept.push(accepted);
        }
    });
    address
}

async fn read_request(socket: &mut TcpStream) {
    let (mut request, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = socket.read(&mut part).await {
        request.extend_from_slice(&part[..read]);
        let text = String::from_utf8_lossy(&request);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let head = head.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|it| it.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |it| it.parse().unwrap()) {
            return;
        }
    }
}

fn http(status: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n{more}\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn ok(body: &Value) -> Vec<u8> {
    http("200 OK", "", body.to_string().as_bytes())
}

async fn rail_at(address: SocketAddr) -> HttpRail {
    let (hsm, label) = (Arc::new(MemoryHsm::new()), KeyPurpose::Request.label(1));
    hsm.generate_key(KeyKind::Signing, &label).await.unwrap();
    let kid = "the request key".to_owned();
    let key = SigningKey { kid, label };
    let requests = Requests::new(
        hsm,
        Arc::new(SystemClock),
        Arc::new(move || Some(key.clone())),
    );
    let config = RailConfig {
        name: "bank".into(),
        kind: RailKind::Account,
        url: format!("http://{address}/rail"),
        ca_file: None,
        deadline_ms: DEADLINE_MS,
        calls_max: 4,
    };
    HttpRail::new(&config, requests).unwrap()
}

fn order() -> Order {
    Order {
        key: RailKey::from_random([7; 16]),
        payment: PaymentId::from_parts(1, &[1; 10]),
        account: "somebody's".into(),
        amount: eur(420),
        payee: MerchantId::from_parts(1, &[2; 10]),
        payee_name: "Corner Café".into(),
        terminal: TerminalId::from_number(4_711_042).unwrap(),
        charge: ChargeId::from_parts(1, &[3; 10]),
    }
}

/// An answer that is good, to be spoilt.
fn good(outcome: &str) -> Value {
    json!({
        "key": order().key, "amount": eur(420), "outcome": outcome, "reference": "b-1",
    })
}

fn spoilt(outcome: &str, spoil: impl Fn(&mut Value)) -> Vec<u8> {
    let mut answer = good(outcome);
    spoil(&mut answer);
    ok(&answer)
}

#[tokio::test]
async fn an_answer_that_is_not_exactly_right_is_unknown() {
    let elsewhere = answering(ok(&good("done"))).await;
    let location = format!("location: http://{elsewhere}/rail/authorise\r\n");
    let huge = vec![b' '; 10 * 1024 * 1024];
    let long = vec![b'x'; RAIL_ANSWER_MAX + 1];
    let other_key = RailKey::from_random([8; 16]);
    let wrong = [
        ("not JSON", http("200 OK", "", b"<html>")),
        ("nothing", http("200 OK", "", b"")),
        (
            "another key",
            spoilt("done", |it| it["key"] = json!(other_key)),
        ),
        (
            "another amount",
            spoilt("done", |it| it["amount"] = json!(eur(42))),
        ),
        (
            "no outcome",
            spoilt("done", |it| it["outcome"] = json!("maybe")),
        ),
        ("an answer to a query", ok(&good("captured"))),
        ("a reversal", ok(&good("reversed"))),
        (
            "no reference",
            spoilt("done", |it| it["reference"] = Value::Null),
        ),
        (
            "an empty reference",
            spoilt("done", |it| it["reference"] = json!("")),
        ),
        (
            "a line in it",
            spoilt("done", |it| it["reference"] = json!("a\nb")),
        ),
        (
            "a long one",
            spoilt("done", |it| it["reference"] = json!("r".repeat(65))),
        ),
        ("10 MB", http("200 OK", "", &huge)),
        ("a byte too much", http("200 OK", "", &long)),
        (
            "a fault of its own",
            http("500 Oops", "", good("done").to_string().as_bytes()),
        ),
        (
            "created",
            http("201 Created", "", good("done").to_string().as_bytes()),
        ),
        ("unauthorised", http("401 No", "", b"{}")),
        ("a redirect", http("307 Over there", &location, b"")),
        ("half an answer", ok(&good("done"))[..90].to_vec()),
        ("nothing at all", Vec::new()),
    ];
    for (what, bytes) in wrong {
        let rail = rail_at(answering(bytes).await).await;
        let answer = rail.authorise(&order()).await;
        assert!(
            matches!(answer, Answer::Unknown { .. }),
            "{what}: {answer:?}"
        );
        let standing = rail.query(&order()).await;
        if !["an answer to a query", "a reversal"].contains(&what) {
            assert!(
                matches!(standing, Standing::Unknown { .. }),
                "{what}: {standing:?}"
            );
        }
    }
}

#[tokio::test]
async fn silence_and_nobody_there_are_unknown() {
    let rail = rail_at(silent().await).await;
    let answer = rail.capture(&order()).await;
    assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = gone.local_addr().unwrap();
    drop(gone);
    let answer = rail_at(address).await.reverse(&order()).await;
    assert!(matches!(answer, Answer::Unknown { .. }), "{answer:?}");
}

#[tokio::test]
async fn what_is_right_is_taken_as_it_is_said() {
    let reference = || "b-1".to_owned();
    let rail = rail_at(answering(ok(&good("done"))).await).await;
    let done = Answer::Done {
        reference: reference(),
    };
    assert_eq!(rail.authorise(&order()).await, done);
    let refund = Refund {
        key: order().key,
        of: RailKey::from_random([9; 16]),
        account: "somebody's".into(),
        amount: eur(420),
    };
    assert_eq!(rail.refund(&refund).await, done);
    let rail = rail_at(answering(ok(&good("captured"))).await).await;
    let captured = Standing::Captured {
        reference: reference(),
    };
    assert_eq!(rail.query(&order()).await, captured);
    for (said, reason) in [
        ("over-limit", Reason::OverLimit),
        ("account-closed", Reason::AccountClosed),
        ("the moon is full", Reason::Refused),
        // Words of ours, not of a rail.
        ("cancelled", Reason::Refused),
        ("silent", Reason::Refused),
    ] {
        let bytes = spoilt("declined", |it| it["reason"] = json!(said));
        let rail = rail_at(answering(bytes).await).await;
        assert_eq!(rail.authorise(&order()).await, Answer::Declined { reason });
    }
}

#[tokio::test]
async fn without_a_request_key_nothing_is_asked() {
    let address = answering(ok(&good("done"))).await;
    let config = RailConfig {
        name: "bank".into(),
        kind: RailKind::Account,
        url: format!("http://{address}"),
        ca_file: None,
        deadline_ms: DEADLINE_MS,
        calls_max: 4,
    };
    let hsm = Arc::new(MemoryHsm::new());
    let requests = Requests::new(hsm, Arc::new(SystemClock), Arc::new(|| None));
    let rail = HttpRail::new(&config, requests).unwrap();
    let Answer::Unknown { why } = rail.authorise(&order()).await else {
        panic!("asked without a signature")
    };
    assert!(why.contains("key prepare request"), "{why}");
}
