//! Is a statement believed only under a key that may sign it?
#![allow(clippy::unwrap_used, unreachable_pub)]

mod common;

use std::sync::Arc;

use base64ct::{Base64, Base64UrlUnpadded, Encoding};
use common::OneKeyHsm;
use pki::inspect::{self, Against};
use pki::{HsmIssuer, IssueRequest, IssueTo, Issuer, SoftwareKey, csr};
use protocol::jwk::{Jwk, JwkSet};
use protocol::jws::{BadJws, Purpose, Unsigned, verify};
use protocol::typ;
use serde::{Deserialize, Serialize};

const NOW: u64 = 1_795_435_200;

fn part(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

/// A statement of any type, with certificates if there are any.
fn statement(typ: &str, key: &SoftwareKey, x5c: &[Vec<u8>]) -> String {
    let kid = Jwk::from_point(&key.public_point()).unwrap().thumbprint();
    let x5c: Vec<String> = x5c.iter().map(|der| Base64::encode_string(der)).collect();
    let header = serde_json::json!({"alg": "ES256", "typ": typ, "kid": kid, "x5c": x5c});
    let input = format!("{}.{}", part(header.to_string().as_bytes()), part(b"{}"));
    let signature = part(&key.sign(input.as_bytes()));
    format!("{input}.{signature}")
}

/// The line about the signature.
fn judged(statement: &str, against: &Against) -> String {
    let told = inspect::describe(statement.as_bytes(), against).unwrap();
    let lines = told.lines().map(str::trim);
    let found = lines
        .filter_map(|line| line.strip_prefix("signature"))
        .next();
    found.unwrap().trim().to_owned()
}

fn in_set(jwk: Jwk) -> Against {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    let set = serde_json::to_string(&JwkSet { keys: vec![jwk] }).unwrap();
    std::fs::write(&path, set).unwrap();
    Against::load(None, Some(&path), NOW).unwrap()
}

#[tokio::test]
async fn a_certificate_counts_for_the_statements_of_its_holder_and_for_no_other() {
    let hsm = Arc::new(OneKeyHsm::new(7));
    let chain = common::chain_for(&hsm, NOW);
    let issuer = HsmIssuer::open(hsm, common::label(), chain.clone(), common::domain());
    let issuer = issuer.await.unwrap();
    let against = Against::root(chain.root().clone(), NOW);
    let node = || "node-1".parse().unwrap();
    let server = IssueTo::Authority {
        node: node(),
        dns: vec!["pay.example".parse().unwrap()],
        addresses: Vec::new(),
    };
    let terminal = protocol::ids::TerminalId::from_number(1).unwrap();
    let holders = [
        ("statements", IssueTo::Statement(node())),
        ("operator", IssueTo::Operator("ann".parse().unwrap())),
        ("terminal", IssueTo::Terminal(terminal)),
        ("server", server),
    ];
    let types = [
        (typ::RECEIPT, "statements"),
        (typ::SCHEDULE, "statements"),
        (typ::CHECKPOINT, "statements"),
        (typ::TRANSCRIPT, "statements"),
        (typ::REQUEST, "operator"),
        (typ::CONSENT, "operator"),
        (typ::REFUSAL, "operator"),
        (typ::RENEWAL, "operator"),
        (typ::TRUST, "root"),
    ];
    for (holder, to) in holders {
        let key = SoftwareKey::generate().unwrap();
        let request = csr::new_unnamed(&key, &"any".parse().unwrap()).unwrap();
        let csr = csr::check(&request).unwrap();
        let issued = issuer
            .issue(IssueRequest { csr, to, now: NOW })
            .await
            .unwrap();
        let x5c = [issued.der, chain.issuing().der().to_vec()];
        for (typ, signer) in types {
            let said = judged(&statement(typ, &key, &x5c), &against);
            let expected = match holder == signer {
                true => "verified, by Certificate(CN=",
                false => "refused: it is signed by Certificate(CN=",
            };
            assert!(said.starts_with(expected), "{typ} by {holder}: {said}");
        }
        let strange = judged(&statement("at+jwt", &key, &x5c), &against);
        assert!(strange.contains("is not known here"), "{strange}");
    }
}

#[test]
fn a_key_of_the_set_counts_for_what_the_set_says_of_it() {
    let key = SoftwareKey::generate().unwrap();
    let jwk = Jwk {
        m2key_typ: vec![typ::SCHEDULE.into()],
        ..Jwk::from_point(&key.public_point()).unwrap()
    };
    let against = in_set(jwk);
    let said = judged(&statement(typ::SCHEDULE, &key, &[]), &against);
    assert_eq!(said, "verified, by a key of the key set");
    for forged in [typ::RECEIPT, typ::CONSENT] {
        let said = judged(&statement(forged, &key, &[]), &against);
        assert!(said.starts_with("refused: "), "{forged}: {said}");
    }
}

#[test]
fn a_key_of_an_older_set_counts_for_what_a_node_signs() {
    let key = SoftwareKey::generate().unwrap();
    let against = in_set(Jwk::from_point(&key.public_point()).unwrap());
    let said = judged(&statement(typ::RECEIPT, &key, &[]), &against);
    assert!(said.starts_with("verified"), "{said}");
    let said = judged(&statement(typ::TRUST, &key, &[]), &against);
    assert!(said.starts_with("refused"), "{said}");
}

#[test]
fn a_tainted_key_is_told_before_anybody_believes_it() {
    let key = SoftwareKey::generate().unwrap();
    let jwk = Jwk {
        m2key_tainted_at: Some(1_795_435_200),
        ..Jwk::from_point(&key.public_point()).unwrap()
    };
    let said = judged(&statement(typ::RECEIPT, &key, &[]), &in_set(jwk));
    assert!(said.starts_with("not believed"), "{said}");
    assert!(said.contains("tainted at 2026-11-23"), "{said}");
}

#[derive(Clone, Serialize, Deserialize)]
struct Empty {}

impl Purpose for Empty {
    const TYP: &'static str = typ::RECEIPT;
}

#[test]
fn a_receipt_under_a_schedule_key_is_refused_by_every_verifier() {
    let key = SoftwareKey::generate().unwrap();
    let mut jwk = Jwk::from_point(&key.public_point()).unwrap();
    let kid = jwk.kid.clone().unwrap();
    let unsigned = Unsigned::new(&Empty {}, &kid);
    // The same bytes twice: what is signed of them does not change.
    let text = unsigned.clone().with_signature(&[0; 64]);
    let (input, _) = text.rsplit_once('.').unwrap();
    let receipt = unsigned.with_signature(&key.sign(input.as_bytes()));
    let set = |jwk: &Jwk| JwkSet {
        keys: vec![jwk.clone()],
    };
    for may in [vec![], vec![typ::RECEIPT.to_owned()]] {
        jwk.m2key_typ = may;
        assert!(verify::<Empty>(&receipt, &set(&jwk)).is_ok());
    }
    jwk.m2key_typ = vec![typ::SCHEDULE.into()];
    let refused = verify::<Empty>(&receipt, &set(&jwk)).map(drop);
    assert_eq!(refused, Err(BadJws::ForeignKey));
}
