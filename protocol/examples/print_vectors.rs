//! How are new vectors made? `cargo run -p protocol --example print_vectors -- jws`
//!
//! Prints one file of `vectors/` as this code computes it; nothing is ever written over. To extend a
//! vector, add the case here, print, and add the new lines to the file by hand: a line that was
//! frozen before and differs now is a break of the protocol, not a new vector.

use std::fmt::Write as _;

use base64ct::{Base64UrlUnpadded, Encoding};
use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use protocol::audit::{AuditRow, CheckpointClaims, GENESIS, Head};
use protocol::charge::{ChargeKind, Mark};
use protocol::code::TypedCode;
use protocol::derive::{EpochId, EpochKey, epoch_key_input};
use protocol::ids::{AccountId, ChargeId, ClaimId, MerchantId, PaymentId, ReceiptId, TerminalId};
use protocol::jwk::Jwk;
use protocol::jws::{Purpose, Unsigned};
use protocol::link::{self, LinkHost};
use protocol::money::{Currency, Money};
use protocol::ndef;
use protocol::receipt::{Payee, ReceiptClaims};
use protocol::schedule::{EpochCheck, ScheduleClaims, validity};
use protocol::step_up::Confirmable;
use protocol::time::Timestamp;
use protocol::token::Channel;
use protocol::window::{EPOCH_MS, EpochClock, Policy, WindowPlan, WindowPolicy};
use protocol::wire::wallet::{SignedApproval, token_hash};
use serde_json::{Value, json};

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// The example key of RFC 6979, A.2.5: public, so nobody takes it for a secret.
const SIGNING_KEY: &str = "c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721";
const EPOCH: u32 = 498_738;

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let value = match wanted.as_str() {
        "ids" => ids(),
        "keys" => keys(),
        "windows" => windows(),
        "tokens" => tokens(),
        "jws" => jws(),
        "audit" => audit(),
        "step_up" => step_up(),
        _ => {
            eprintln!(
                "error: no vectors of that name\nhint: ids keys windows tokens jws audit step_up"
            );
            std::process::exit(2);
        }
    };
    let text = serde_json::to_string_pretty(&value).expect("a JSON value is text");
    println!("{text}");
}

fn ids() -> Value {
    let terminals: Vec<_> = [0, 1, 1_234_567, 4_711_042, 9_999_999]
        .into_iter()
        .map(|number| {
            let id = terminal(number);
            let clock = EpochClock::of(id);
            let offset_ms = clock.opens(0).ms();
            let at = |unix_ms| json!([unix_ms, clock.epoch_at(Timestamp::from_ms(unix_ms))]);
            let opens = clock.opens(EPOCH).ms();
            json!({
                "number": number, "id": id, "offset_ms": offset_ms,
                "epoch_at": [at(-1), at(0), at(opens - 1), at(opens), at(opens + EPOCH_MS - 1), at(opens + EPOCH_MS)],
            })
        })
        .collect();
    let uuids: Vec<_> = [
        (0, [0; 10]),
        (1_795_459_200_120, *b"0123456789"),
        ((1 << 48) - 1, [255; 10]),
    ]
    .into_iter()
    .map(|(unix_ms, random)| {
        let id = ClaimId::from_parts(unix_ms, &random);
        json!({"unix_ms": unix_ms, "random": hex(&random), "uuid": id})
    })
    .collect();
    json!({"terminals": terminals, "uuids": uuids})
}

fn keys() -> Value {
    let case = |seed: [u8; 32], generation, number, version, epoch| {
        let id = EpochId {
            generation,
            terminal: terminal(number),
            version,
            epoch,
        };
        let input = epoch_key_input(&id);
        let key = epoch_key(&seed, &id);
        json!({
            "seed": hex(&seed), "generation": generation, "terminal": id.terminal, "version": version,
            "epoch": epoch, "input": hex(&input), "epoch_key": hex(key.expose()),
            "check": EpochCheck::new(epoch, version, &key).check,
        })
    };
    json!({"epoch_keys": [
        case([0; 32], 0, 0, 0, 0),
        case(counting(), 1, 4_711_042, 1, EPOCH),
        case(counting(), 2, 4_711_042, 1, EPOCH),
        case(counting(), 1, 4_711_042, 2, EPOCH),
        case(counting(), 1, 4_711_042, 1, EPOCH + 1),
        case(counting(), 1, 1_234_567, 1, EPOCH),
        case([255; 32], u32::MAX, 9_999_999, u32::MAX, u32::MAX),
    ]})
}

fn windows() -> Value {
    let plan = |number, policy: WindowPolicy, channel: Channel, epoch| {
        let id = EpochId {
            generation: 1,
            terminal: terminal(number),
            version: 1,
            epoch,
        };
        let key = epoch_key(&counting(), &id);
        let all = Policy {
            nfc: policy,
            qr: policy,
            code: policy,
        };
        let checked = all.check().expect("the policies of the vectors are sound");
        let clock = EpochClock::of(id.terminal);
        let plan = WindowPlan::draw(&key, &checked, channel, &clock, epoch);
        let lengths: Vec<i64> = plan.windows().iter().map(|w| w.closes - w.opens).collect();
        json!({
            "terminal": id.terminal, "epoch": epoch, "epoch_key": hex(key.expose()), "channel": channel,
            "policy": policy, "opens_ms": plan.windows()[0].opens.ms(), "lengths_ms": lengths,
        })
    };
    let default = Policy::default();
    let limits = |shortest_ms, longest_ms, grace_ms| WindowPolicy {
        shortest_ms,
        longest_ms,
        grace_ms,
    };
    let good = [
        limits(1_000, 2_000, 0),
        limits(1_800_000, 3_600_000, 60_000),
    ];
    let bad = [
        limits(999, 2_000, 0),
        limits(0, 2_000, 0),
        limits(-1, 2_000, 0),
        limits(20_000, 39_999, 0),
        limits(1_000, 3_600_001, 0),
        limits(1_000, 2_000, -1),
        limits(1_000, 2_000, 60_001),
        limits(i64::MAX, i64::MAX, 0),
        limits(i64::MAX, i64::MIN, i64::MAX),
    ];
    json!({
        "plans": [
            plan(4_711_042, default.qr, Channel::Qr, EPOCH),
            plan(4_711_042, default.nfc, Channel::Nfc, EPOCH),
            plan(4_711_042, default.code, Channel::Code, EPOCH),
            plan(4_711_042, default.qr, Channel::Qr, EPOCH + 1),
            plan(1_234_567, limits(600_000, 1_200_000, 0), Channel::Nfc, 0),
            plan(1_234_567, limits(1_800_000, 3_600_000, 0), Channel::Nfc, u32::MAX),
        ],
        "policies": good.map(|policy| json!({"policy": policy, "ok": true})).into_iter()
            .chain(bad.map(|policy| json!({"policy": policy, "ok": false}))).collect::<Vec<_>>(),
    })
}

fn tokens() -> Value {
    let id = EpochId {
        generation: 1,
        terminal: terminal(4_711_042),
        version: 1,
        epoch: EPOCH,
    };
    let key = epoch_key(&counting(), &id);
    let host = LinkHost::parse("pay.example:8443").expect("a plain host");
    let machine = [
        (Channel::Nfc, 0, 0),
        (Channel::Qr, 0, 0),
        (Channel::Qr, 0, 1),
        (Channel::Qr, 1, 0),
        (Channel::Qr, 3_599, 65_534),
    ]
    .map(|(channel, window, turn)| {
        let token = key.token(channel, window, turn);
        let link = host.link(id.terminal, &token);
        let ndef = ndef::uri_message(&link).expect("a short link");
        json!({
            "channel": channel, "window": window, "turn": turn, "token": hex(token.as_bytes()),
            "base32": link::encode(&token), "host": host.as_str(), "link": link, "ndef": hex(&ndef),
        })
    });
    let codes = [(0, 0), (0, 1), (1, 0), (59, 65_534)].map(|(window, turn)| {
        let digits = key.code(window, turn);
        json!({
            "window": window, "turn": turn, "digits": format!("{digits:07}"),
            "shown": TypedCode::new(id.terminal, digits).shown(),
        })
    });
    json!({"terminal": id.terminal, "epoch_key": hex(key.expose()), "machine": machine, "codes": codes})
}

fn jws() -> Value {
    let key = signing_key();
    let point = key.verifying_key().to_sec1_point(false);
    let point: [u8; 65] = point.as_bytes().try_into().expect("an uncompressed point");
    let jwk = Jwk::from_point(&point).expect("a point on the curve");
    let kid = jwk.thumbprint();
    let signed = [
        signed(&key, &kid, &schedule()),
        signed(&key, &kid, &receipt()),
        signed(&key, &kid, &checkpoint()),
        signed(&key, &kid, &approval()),
    ];
    json!({
        "private_key": SIGNING_KEY,
        "jwks": {"keys": [jwk]},
        "thumbprint": kid,
        "signed": signed,
        "judged": judged(&key, &kid),
    })
}

fn approval() -> SignedApproval {
    let token = "47110422.448FT7303N447EFB8H2JK8WRP4";
    SignedApproval {
        aud: "https://pay.example:8443".into(),
        jti: "6c1a4dd6-3b0e-4a5e-9c53-2f3f9a1d7b11".into(),
        iat: 1_795_459_200,
        token_hash: token_hash(token).expect("a token of the vectors"),
        amount: receipt().amount,
        payee: receipt().payee.id,
        account: AccountId::from_parts(1_795_459_200_000, b"account   "),
    }
}

/// Signed as it stands, whatever it says.
fn raw(key: &SigningKey, header: &str, payload: &str) -> String {
    let input = format!("{}.{}", base64(header), base64(payload));
    let digest = Sha256::digest(input.as_bytes());
    let signature: Signature = key.sign_prehash(&digest).expect("RFC 6979 finds a nonce");
    let signature = Base64UrlUnpadded::encode_string(&signature.to_bytes());
    format!("{input}.{signature}")
}

fn base64(text: &str) -> String {
    Base64UrlUnpadded::encode_string(text.as_bytes())
}

/// Every way to spoil a receipt, and what is said to it. `why` is null for what is taken.
fn judged(key: &SigningKey, kid: &str) -> Vec<Value> {
    let claims = serde_json::to_string(&receipt()).expect("claims are JSON");
    let plain = format!(r#"{{"alg":"ES256","typ":"m2key-receipt+jwt","kid":"{kid}"}}"#);
    let with = |extra: &str| plain.replace(r#"{"alg""#, &format!(r#"{{{extra},"alg""#));
    let good = raw(key, &plain, &claims);
    let (input, signature) = good.rsplit_once('.').expect("three parts");
    let unsigned = |header: &str| format!("{}.{}.", base64(header), base64(&claims));
    let less = |text: &str, from: &str, to: &str| raw(key, &plain.replace(from, to), text);
    let case =
        |what: &str, jws: String, why: Option<&str>| json!({"what": what, "jws": jws, "why": why});
    vec![
        case("good", good.clone(), None),
        case(
            "an x5u is ignored",
            raw(key, &with(r#""x5u":"https://evil.example/""#), &claims),
            None,
        ),
        case(
            "a jku is ignored",
            raw(key, &with(r#""jku":"https://evil.example/""#), &claims),
            None,
        ),
        case(
            "alg none",
            unsigned(&plain.replace("ES256", "none")),
            Some("Algorithm"),
        ),
        case(
            "alg HS256",
            less(&claims, "ES256", "HS256"),
            Some("Algorithm"),
        ),
        case(
            "alg in lower case",
            less(&claims, "ES256", "es256"),
            Some("Algorithm"),
        ),
        case(
            "another purpose",
            less(&claims, "receipt", "schedule"),
            Some("Purpose"),
        ),
        case(
            "no typ",
            less(&claims, r#""typ":"m2key-receipt+jwt","#, ""),
            Some("Malformed"),
        ),
        case(
            "unknown kid",
            less(&claims, kid, "AAAA"),
            Some("UnknownKey"),
        ),
        case(
            "crit",
            raw(key, &with(r#""crit":["b64"],"b64":false"#), &claims),
            Some("Critical"),
        ),
        case(
            "crit null",
            raw(key, &with(r#""crit":null"#), &claims),
            Some("Critical"),
        ),
        case(
            "alg twice",
            raw(key, &with(r#""alg":"none""#), &claims),
            Some("Malformed"),
        ),
        case(
            "header no JSON",
            raw(key, "ES256", &claims),
            Some("Malformed"),
        ),
        case(
            "claim twice",
            raw(key, &plain, &claims.replacen('{', r#"{"rail":"other","#, 1)),
            Some("Claims"),
        ),
        case(
            "unknown claim",
            raw(key, &plain, &claims.replacen('{', r#"{"exp":1,"#, 1)),
            Some("Claims"),
        ),
        case("claim missing", raw(key, &plain, "{}"), Some("Claims")),
        case(
            "amount changed",
            good.replacen(&base64(&claims), &base64(&claims.replace("420", "421")), 1),
            Some("Signature"),
        ),
        case(
            "signature of zeros",
            format!("{input}.{}", "A".repeat(86)),
            Some("Signature"),
        ),
        case(
            "signature too short",
            format!("{input}.{}", &signature[..84]),
            Some("Signature"),
        ),
        case("no signature", format!("{input}."), Some("Signature")),
        case("padded base64", format!("{good}=="), Some("Malformed")),
        case(
            "stray bits at the end",
            format!("{input}.{}", stray(signature)),
            Some("Malformed"),
        ),
        case(
            "standard base64",
            format!("{input}.{}+/", &signature[..84]),
            Some("Malformed"),
        ),
        case("two parts", input.into(), Some("Malformed")),
        case("four parts", format!("{good}.AAAA"), Some("Malformed")),
        case("a blank before it", format!(" {good}"), Some("Malformed")),
        case("nothing", String::new(), Some("Malformed")),
    ]
}

/// The same bytes to a careless decoder: 64 bytes leave 4 bits of the last character unused.
fn stray(signature: &str) -> String {
    let (rest, last) = signature.split_at(signature.len() - 1);
    let next = char::from(last.as_bytes()[0] + 1);
    format!("{rest}{next}")
}

fn signed<C: Purpose>(key: &SigningKey, kid: &str, claims: &C) -> Value {
    let unsigned = Unsigned::new(claims, kid);
    let digest = unsigned.digest();
    let signature: Signature = key
        .sign_prehash(&digest)
        .expect("RFC 6979 always finds a nonce");
    let jws = unsigned.with_signature(&signature.to_bytes().into());
    json!({"typ": C::TYP, "claims": claims, "digest": hex(&digest), "jws": jws})
}

fn schedule() -> ScheduleClaims {
    let terminal = terminal(4_711_042);
    let check = |epoch| {
        let id = EpochId {
            generation: 1,
            terminal,
            version: 1,
            epoch,
        };
        EpochCheck::new(epoch, 1, &epoch_key(&counting(), &id))
    };
    let epochs = vec![check(EPOCH), check(EPOCH + 1)];
    let (valid_from, valid_until) = validity(terminal, &epochs).expect("there are epochs");
    ScheduleClaims {
        iss: "spiffe://example.org/authority/one".into(),
        sub: format!("spiffe://example.org/terminal/{terminal}"),
        iat: 1_795_459_200,
        terminal,
        generation: 1,
        sequence: 7,
        valid_from,
        valid_until,
        policy: Policy::default(),
        nfc_paces: Vec::new(),
        link_host: "pay.example:8443".into(),
        epochs,
    }
}

fn receipt() -> ReceiptClaims {
    let receipt = ReceiptId::from_parts(1_795_459_200_500, b"receipt   ");
    ReceiptClaims {
        iss: "spiffe://example.org/authority/one".into(),
        sub: "kYx2pB0m6Hk".into(),
        jti: receipt.to_string(),
        iat: 1_795_459_200,
        receipt,
        payment: PaymentId::from_parts(1_795_459_200_400, b"payment   "),
        claim: ClaimId::from_parts(1_795_459_190_000, b"claim     "),
        charge: ChargeId::from_parts(1_795_459_180_000, b"charge    "),
        kind: ChargeKind::Till,
        reference: Some("till 2, sale 1041 – 2 × café".into()),
        terminal: terminal(4_711_042),
        channel: Channel::Qr,
        payee: Payee {
            id: MerchantId::from_parts(1_790_000_000_000, b"merchant  "),
            name: "Corner Café".into(),
        },
        amount: Money::new(420, Currency::EUR).expect("4.20 EUR is an amount"),
        mark: Mark::try_from(7).expect("two digits"),
        rail: "ledger".into(),
        rail_reference: "0199f3c1".into(),
    }
}

fn checkpoint() -> CheckpointClaims {
    let rows = rows();
    let last = rows.last().expect("there are rows");
    CheckpointClaims {
        iss: "spiffe://example.org/authority/one".into(),
        iat: 1_795_459_201,
        generation: 1,
        heads: vec![Head {
            node: last.node.clone(),
            sequence: last.sequence,
            hash: hex(&last.hash()),
        }],
    }
}

fn audit() -> Value {
    let rows: Vec<_> = rows()
        .iter()
        .map(|row| {
            json!({
                "node": row.node, "sequence": row.sequence, "previous": hex(&row.previous),
                "at_ms": row.at.ms(), "kind": row.kind, "body": row.body, "hash": hex(&row.hash()),
            })
        })
        .collect();
    json!({"rows": rows})
}

fn step_up() -> Value {
    let case = |amount: (i64, Currency), account: &[u8; 10], nonce: [u8; 32]| {
        let confirmable = Confirmable {
            claim: ClaimId::from_parts(1_795_459_200_120, b"0123456789"),
            amount: Money::new(amount.0, amount.1).expect("an amount in bounds"),
            payee: MerchantId::from_parts(1_795_459_100_000, b"merchant  "),
            account: AccountId::from_parts(1_795_459_000_000, account),
            nonce,
        };
        json!({
            "claim": confirmable.claim, "amount": confirmable.amount, "payee": confirmable.payee,
            "account": confirmable.account, "nonce": hex(&confirmable.nonce),
            "challenge": hex(&confirmable.challenge()),
        })
    };
    let yen = "JPY".parse().expect("a currency");
    json!({"challenges": [
        case((420, Currency::EUR), b"account   ", counting()),
        case((421, Currency::EUR), b"account   ", counting()),
        case((420, yen), b"account   ", counting()),
        case((420, Currency::EUR), b"another   ", counting()),
        case((100_000_000_000, Currency::EUR), b"account   ", [0xff; 32]),
    ]})
}

fn rows() -> Vec<AuditRow> {
    let mut previous = GENESIS;
    let facts = [
        (
            "terminal.enrolled",
            r#"{"terminal":"47110422"}"#,
            1_795_459_100_000,
        ),
        (
            "charge.started",
            r#"{"amount_minor":420,"currency":"EUR"}"#,
            1_795_459_180_000,
        ),
        (
            "payment.paid",
            "{ \"note\" : \"caf\u{e9}\" }",
            1_795_459_200_400,
        ),
        ("", "", -1),
    ];
    let row = |(index, (kind, body, at)): (usize, (&str, &str, i64))| {
        let row = AuditRow {
            node: "one".into(),
            sequence: index as u64 + 1,
            previous,
            at: Timestamp::from_ms(at),
            kind: kind.into(),
            body: body.into(),
        };
        previous = row.hash();
        row
    };
    facts.into_iter().enumerate().map(row).collect()
}

fn terminal(number: u32) -> TerminalId {
    TerminalId::from_number(number).expect("a number of at most 7 digits")
}

/// 00 01 02 … 1f
fn counting() -> [u8; 32] {
    core::array::from_fn(|at| at as u8)
}

/// What the HSM does.
fn epoch_key(seed: &[u8; 32], id: &EpochId) -> EpochKey {
    let mut mac = Hmac::<Sha256>::new_from_slice(seed).expect("HMAC takes keys of any length");
    mac.update(&epoch_key_input(id));
    EpochKey::from_bytes(mac.finalize().into_bytes().into())
}

fn signing_key() -> SigningKey {
    let bytes: Vec<u8> = (0..64)
        .step_by(2)
        .map(|at| u8::from_str_radix(&SIGNING_KEY[at..at + 2], 16).expect("the key is hex"))
        .collect();
    SigningKey::from_slice(&bytes).expect("the key of RFC 6979 is a key")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes whatever is written");
        text
    })
}
