//! What does a till hear that asks for nonsense, and what does somebody hear who is no till?

use protocol::problem::ProblemType::{self, *};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::shop::{PRICE, Shop, asked, charge_id, one};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A good request with one thing made bad.
fn bent(pointer: &str, value: Value) -> String {
    let mut body = asked(&charge_id(), PRICE);
    *body.pointer_mut(pointer).unwrap() = value;
    body.to_string()
}

#[tokio::test]
async fn nonsense_is_refused_in_words_that_say_whose_move_it_is_and_starts_nothing() {
    let shop = Shop::open().await;
    let whole = asked(&charge_id(), PRICE).to_string();
    let half = whole[..whole.len() / 2].to_owned();
    let bodies: Vec<(&str, String, ProblemType)> = vec![
        (
            "negative",
            bent("/amount/amount_minor", json!(-1)),
            MalformedRequest,
        ),
        (
            "zero",
            bent("/amount/amount_minor", json!(0)),
            MalformedRequest,
        ),
        (
            "a fraction",
            bent("/amount/amount_minor", json!(4.2)),
            MalformedRequest,
        ),
        (
            "text for a number",
            bent("/amount/amount_minor", json!("420")),
            MalformedRequest,
        ),
        (
            "absurdly large",
            bent("/amount/amount_minor", json!(100_000_000_001_i64)),
            MalformedRequest,
        ),
        (
            "larger than any number",
            whole.replace("420", &"9".repeat(40)),
            MalformedRequest,
        ),
        (
            "a foreign currency",
            bent("/amount/currency", json!("USD")),
            MalformedRequest,
        ),
        (
            "no currency at all",
            bent("/amount/currency", json!("QQQ")),
            MalformedRequest,
        ),
        (
            "an id that is none",
            bent("/charge", json!("1041")),
            MalformedRequest,
        ),
        (
            "a long reference",
            bent("/reference", json!("x".repeat(65))),
            MalformedRequest,
        ),
        (
            "a screen's commands",
            bent("/reference", json!("a\u{1b}[2J")),
            MalformedRequest,
        ),
        (
            "a line break",
            bent("/reference", json!("a\nb")),
            MalformedRequest,
        ),
        (
            "another field",
            whole.replace("reference", "refrence"),
            MalformedRequest,
        ),
        ("half a JSON", half, MalformedRequest),
        ("nothing", String::new(), MalformedRequest),
        ("a list", "[]".into(), MalformedRequest),
        ("deep brackets", "[".repeat(4_000), MalformedRequest),
        ("1 MB of text", "x".repeat(1_048_576), BodyTooLarge),
        (
            "1 MB reference",
            bent("/reference", json!("x".repeat(1_048_576))),
            BodyTooLarge,
        ),
    ];
    for (what, body, expected) in bodies {
        let answer = shop
            .till
            .send("POST", "/v1/charges", Some(body), &[JSON])
            .await;
        let answer = answer.unwrap_or_else(|| panic!("{what}: no answer"));
        assert_eq!(
            answer.problem().problem_type(),
            Some(expected),
            "{what}: {answer:?}"
        );
    }
    for media in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let body = Some(whole.clone());
        let answer = shop
            .till
            .send("POST", "/v1/charges", body, &[("content-type", media)])
            .await;
        answer.unwrap().is(MalformedRequest);
    }
    for (method, path, expected) in [
        ("GET", one(&charge_id()), ChargeUnknown),
        ("DELETE", one(&charge_id()), ChargeUnknown),
        (
            "GET",
            format!("{}/events", one(&charge_id())),
            ChargeUnknown,
        ),
        ("GET", one("1041"), MalformedRequest),
        ("GET", one("..%2f..%2fagent.key"), MalformedRequest),
        ("GET", "/v1/history?limit=-1".into(), MalformedRequest),
        ("GET", "/v1/history?cursor=%0d%0a".into(), MalformedRequest),
        ("PUT", "/v1/charges".into(), MethodNotAllowed),
        ("GET", "/v1/nowhere".into(), NotFound),
    ] {
        shop.till.ask(method, &path, None).await.is(expected);
    }
    assert_eq!(
        shop.count("SELECT count(*) FROM charges WHERE kind = 'till'"),
        0
    );
    // And after all that it works.
    let id = charge_id();
    shop.till
        .ask("POST", "/v1/charges", Some(&asked(&id, PRICE)))
        .await
        .charge();
    shop.till.judged();
}

#[tokio::test]
async fn whoever_has_not_the_secret_or_comes_by_another_name_is_refused_everywhere() {
    let shop = Shop::open().await;
    let secret = format!("Bearer {}", shop.till.secret);
    let mut near = secret.clone();
    let last = near.pop().unwrap();
    near.push(if last == 'A' { 'B' } else { 'A' });
    let prefix = secret[..secret.len() - 1].to_owned();
    let longer = format!("{secret}A");
    let port = shop.till.address.rsplit(':').next().unwrap().to_owned();
    let (host, origin) = (
        format!("evil.example:{port}"),
        format!("http://evil.example:{port}"),
    );
    let id = charge_id();
    let everything = [
        ("POST", "/v1/charges".to_owned(), Some(asked(&id, PRICE))),
        ("GET", one(&id), None),
        ("DELETE", one(&id), None),
        ("GET", format!("{}/events", one(&id)), None),
        ("POST", "/v1/refunds".to_owned(), Some(json!({}))),
        ("GET", "/v1/history".to_owned(), None),
        ("GET", "/v1/day".to_owned(), None),
    ];
    for (method, path, body) in everything {
        let body = body.as_ref().map(Value::to_string);
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Basic eDp4",
            &near,
            &prefix,
            &longer,
        ] {
            let headers = [JSON, ("authorization", wrong)];
            let answer = shop
                .till
                .send(method, &path, body.clone(), &headers)
                .await
                .unwrap();
            answer.is(SignInNeeded);
        }
        // With the secret, as a page would come that had got hold of it.
        for (name, value) in [
            ("host", host.as_str()),
            ("host", "evil.example"),
            ("host", "localhost"),
            ("origin", origin.as_str()),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:1"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let headers = [JSON, (name, value)];
            let answer = shop
                .till
                .send(method, &path, body.clone(), &headers)
                .await
                .unwrap();
            answer.is(ForeignCaller);
        }
    }
    // What a browser asks before it lets a page send the secret.
    let preflight = [
        ("origin", origin.as_str()),
        ("access-control-request-method", "POST"),
        (
            "access-control-request-headers",
            "authorization,content-type",
        ),
    ];
    let answer = shop
        .till
        .send("OPTIONS", "/v1/charges", None, &preflight)
        .await
        .unwrap();
    answer.is(ForeignCaller);
    assert_eq!(
        shop.count("SELECT count(*) FROM charges WHERE kind = 'till'"),
        0
    );
    shop.till.judged();
}

/// Programs that say how much will come, and then send a part of it.
const SLOW: usize = 8;

#[tokio::test]
async fn who_never_sends_the_rest_is_told_so_and_keeps_nobody_from_paying() {
    let shop = Shop::open().await;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        let mut stream = TcpStream::connect(&shop.till.address).await.unwrap();
        let (address, secret) = (&shop.till.address, &shop.till.secret);
        let head = format!(
            "POST /v1/charges HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {secret}\r\n\
             content-type: application/json\r\ncontent-length: 100\r\n\r\n{{\"charge\":"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let body = asked(&charge_id(), PRICE);
    shop.till
        .ask("POST", "/v1/charges", Some(&body))
        .await
        .charge();
    for mut stream in slow {
        let mut answer = vec![0; 4_096];
        let reading = tokio::time::timeout(harness::wait::LIMIT, stream.read(&mut answer));
        let length = reading.await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("did not arrive in time"), "{answer}");
    }
}

/// As many as are let in at a time.
const SILENT: usize = 64;

#[tokio::test]
async fn whoever_connects_and_says_nothing_is_let_go_so_that_the_till_gets_its_turn() {
    let shop = Shop::open().await;
    let mut silent = Vec::new();
    for _ in 0..SILENT {
        silent.push(TcpStream::connect(&shop.till.address).await.unwrap());
    }
    let ask = async || {
        let answer = shop.till.send("GET", "/v1/day", None, &[]).await?;
        (answer.status == 200).then_some(())
    };
    harness::wait::until("an answer", ask).await.unwrap();
    shop.till.judged();
}
