//! Is a revocation list signed here what the rest of the world reads?
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::HashSet;
use std::fs;

use common::{DAY, NOW, chain_for, issued, issuer_at, openssl, openssl_ok, terminal_id};
use pki::crl::{BadCrl, BadList, CrlRequest, REVOKED_MAX, Reason, RevocationList, Revoked};
use pki::{Certificate, IssueTo, Issuer, PkiError, RootKey};

fn request(issuer: &Certificate, revoked: Vec<Revoked>) -> CrlRequest {
    CrlRequest {
        issuer: issuer.spki_sha256(),
        number: 7,
        this_update: NOW,
        next_update: NOW + DAY,
        revoked,
    }
}

fn revoked(serial: &str, reason: Reason) -> Revoked {
    Revoked {
        serial: serial.into(),
        at: NOW - 60,
        reason,
    }
}

/// Serial numbers as long as ours are.
fn many(count: usize) -> Vec<Revoked> {
    let serial = |n: usize| format!("{:032x}", (n as u128 + 1) * 0x0102_0304_0506_0708_090a_0b0c);
    let entry = |n: usize| revoked(serial(n).trim_start_matches("00"), Reason::Superseded);
    (0..count).map(entry).collect()
}

#[tokio::test]
async fn openssl_reads_the_list_and_refuses_the_certificates_on_it_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = issuer_at(NOW).await;
    let bad = issued(&issuer, IssueTo::Terminal(terminal_id()), NOW).await;
    let good = issued(&issuer, IssueTo::Terminal(terminal_id()), NOW).await;
    let chain = issuer.chain();
    let list = request(
        chain.issuing(),
        vec![revoked(&bad.serial, Reason::KeyCompromise)],
    );
    let list = issuer.sign_crl(list).await.unwrap();
    for (name, text) in [
        ("ca.pem", chain.pem()),
        ("issuing.pem", chain.issuing().pem()),
        ("list.pem", list.pem()),
        ("bad.pem", bad.pem),
        ("good.pem", good.pem),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let show = [
        "crl",
        "-in",
        "list.pem",
        "-noout",
        "-text",
        "-CAfile",
        "issuing.pem",
    ];
    let text = openssl_ok(dir.path(), &show);
    for said in [
        "verify OK",
        "Version 2",
        "X509v3 CRL Number: \n                7\n",
        "X509v3 Authority Key Identifier",
        "Key Compromise",
        &bad.serial.to_uppercase(),
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let at = NOW.to_string();
    let judge = |leaf: &str| {
        let arguments = [
            "verify",
            "-x509_strict",
            "-crl_check",
            "-attime",
            &at,
            "-CAfile",
            "ca.pem",
            "-CRLfile",
            "list.pem",
            leaf,
        ];
        openssl(dir.path(), &arguments)
    };
    assert!(judge("good.pem").status.success());
    let refused = judge("bad.pem");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && words.contains("revoked"),
        "{words}"
    );
}

#[tokio::test]
async fn a_list_says_the_same_when_it_is_read_back_and_believes_no_other_signature() {
    let issuer = issuer_at(NOW).await;
    let chain = issuer.chain();
    let entries: Vec<Revoked> = Reason::ALL
        .into_iter()
        .enumerate()
        .map(|(n, reason)| revoked(&format!("{:02x}", n + 1), reason))
        .collect();
    let signed = issuer
        .sign_crl(request(chain.issuing(), entries.clone()))
        .await
        .unwrap();
    let read = RevocationList::verified(&signed.der, chain.issuing()).unwrap();
    assert_eq!(
        (read.number, read.this_update, read.next_update),
        (7, NOW, NOW + DAY)
    );
    assert_eq!(read.revoked, entries);
    let foreign = issuer_at(NOW).await.chain();
    let refused = RevocationList::verified(&signed.der, foreign.root()).unwrap_err();
    assert_eq!(refused, BadList::ForeignIssuer);
    for at in 0..signed.der.len() {
        let mut tampered = signed.der.clone();
        tampered[at] ^= 1;
        assert!(
            RevocationList::verified(&tampered, chain.issuing()).is_err(),
            "byte {at}"
        );
        assert!(
            RevocationList::verified(&signed.der[..at], chain.issuing()).is_err(),
            "{at}"
        );
    }
    let trailing = [signed.der, vec![0]].concat();
    assert!(RevocationList::verified(&trailing, chain.issuing()).is_err());
}

#[tokio::test]
async fn an_empty_list_and_a_full_one_are_signed_and_one_entry_more_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = issuer_at(NOW).await;
    let ca = issuer.chain().issuing().clone();
    fs::write(dir.path().join("issuing.pem"), ca.pem()).unwrap();
    for entries in [Vec::new(), many(REVOKED_MAX)] {
        let count = entries.len();
        let signed = issuer.sign_crl(request(&ca, entries)).await.unwrap();
        assert_eq!(
            RevocationList::verified(&signed.der, &ca)
                .unwrap()
                .revoked
                .len(),
            count
        );
        fs::write(dir.path().join("list.der"), &signed.der).unwrap();
        let judge = [
            "crl",
            "-inform",
            "DER",
            "-in",
            "list.der",
            "-noout",
            "-CAfile",
            "issuing.pem",
        ];
        assert!(openssl_ok(dir.path(), &judge).contains("verify OK"));
    }
    let refused = issuer
        .sign_crl(request(&ca, many(REVOKED_MAX + 1)))
        .await
        .unwrap_err();
    assert_eq!(refused, BadCrl::TooMany.into());
}

#[tokio::test]
async fn the_same_state_of_affairs_has_the_same_entries_in_whatever_order_it_is_told() {
    let issuer = issuer_at(NOW).await;
    let ca = issuer.chain().issuing().clone();
    let mut entries = many(300);
    let forwards = issuer
        .sign_crl(request(&ca, entries.clone()))
        .await
        .unwrap();
    entries.reverse();
    let backwards = issuer.sign_crl(request(&ca, entries)).await.unwrap();
    let read = |der: &[u8]| RevocationList::verified(der, &ca).unwrap().revoked;
    assert_eq!(read(&forwards.der), read(&backwards.der));
    let serials: HashSet<String> = read(&forwards.der).into_iter().map(|r| r.serial).collect();
    assert_eq!(serials.len(), 300);
}

#[tokio::test]
async fn a_list_that_makes_no_sense_is_not_signed() {
    let issuer = issuer_at(NOW).await;
    let ca = issuer.chain().issuing().clone();
    let sound = request(&ca, vec![revoked("0a", Reason::Unspecified)]);
    let with = |change: fn(&mut CrlRequest)| {
        let mut request = sound.clone();
        change(&mut request);
        request
    };
    let cases = [
        (with(|r| r.issuer[0] ^= 1), BadCrl::ForeignIssuer),
        (with(|r| r.next_update = r.this_update), BadCrl::Dates),
        (with(|r| r.next_update = r.this_update - 1), BadCrl::Dates),
        (with(|r| r.next_update += 366 * DAY), BadCrl::Dates),
        (
            with(|r| r.revoked.push(r.revoked[0].clone())),
            BadCrl::Twice,
        ),
        (
            with(|r| r.revoked[0].serial = String::new()),
            BadCrl::Serial,
        ),
        (with(|r| r.revoked[0].serial = "a".into()), BadCrl::Serial),
        (with(|r| r.revoked[0].serial = "0A".into()), BadCrl::Serial),
        (with(|r| r.revoked[0].serial = "00".into()), BadCrl::Serial),
        (
            with(|r| r.revoked[0].serial = "000a".into()),
            BadCrl::Serial,
        ),
        (with(|r| r.revoked[0].serial = "0x".into()), BadCrl::Serial),
        (
            with(|r| r.revoked[0].serial = "ff".repeat(20)),
            BadCrl::Serial,
        ),
        (
            with(|r| r.revoked[0].serial = "1f".repeat(21)),
            BadCrl::Serial,
        ),
    ];
    for (request, why) in cases {
        let refused = issuer.sign_crl(request.clone()).await;
        assert_eq!(refused.unwrap_err(), why.into(), "{request:?}");
    }
    let longest = with(|r| r.revoked[0].serial = "7f".repeat(20));
    issuer.sign_crl(longest).await.unwrap();
}

#[test]
fn the_root_lists_issuing_certificates_and_signs_for_no_other_root() {
    let root_key = RootKey::generate().unwrap();
    let root = root_key.certificate(NOW).unwrap();
    let hsm = common::OneKeyHsm::new(7);
    let issuing = root_key.sign_issuing(&root, &hsm.point(), NOW).unwrap();
    let entry = revoked(&issuing.serial_hex(), Reason::CaCompromise);
    let signed = root_key
        .sign_crl(&root, &request(&root, vec![entry.clone()]))
        .unwrap();
    assert_eq!(
        RevocationList::verified(&signed.der, &root)
            .unwrap()
            .revoked,
        [entry]
    );
    let other = chain_for(&hsm, NOW);
    let foreign = request(other.root(), Vec::new());
    assert_eq!(
        root_key.sign_crl(other.root(), &foreign),
        Err(PkiError::ForeignRootKey)
    );
}
