//! Does the HSM compute the keys that AN10922 computes?
//!
//! A master key is born in the HSM and its value is nowhere, so a published value is put in beside it
//! with plain PKCS#11, as nobody but a test does: the inventory says of such a key that it was not born
//! there.
#![allow(clippy::unwrap_used)]

use hsm::{Hsm, KeyKind, KeyLabel, Pkcs11Hsm, Priority};

mod support;

use support::Maker;

on_both! {
    a_key_is_diversified_as_an10922_shows
    the_macs_are_those_of_rfc_4493
    a_master_key_that_was_put_in_is_named_by_the_inventory
}

const LABEL: &str = "known-master";

async fn a_key_is_diversified_as_an10922_shows(maker: Maker) {
    let hsm = with_known_key(maker, "an10922", "00112233445566778899AABBCCDDEEFF");
    let mut input = vec![0x01];
    input.extend(bytes("04782E21801D803042F54E585020416275"));
    let key = cmac(&hsm, input).await;
    assert_eq!(key, bytes("A8DD63A3B89D54B37CA802473FDA9175"));
}

async fn the_macs_are_those_of_rfc_4493(maker: Maker) {
    let hsm = with_known_key(maker, "rfc4493", "2B7E151628AED2A6ABF7158809CF4F3C");
    for (message, mac) in [
        ("", "BB1D6929E95937287FA37D129B756746"),
        (
            "6BC1BEE22E409F96E93D7E117393172A",
            "070A16B46B4D4144F79BDD9DD04A287C",
        ),
        (
            "6BC1BEE22E409F96E93D7E117393172AAE2D8A571E03AC9C9EB76FAC45AF8E5130C81C46A35CE411",
            "DFA66747DE9AE63030CA32611497C827",
        ),
    ] {
        assert_eq!(cmac(&hsm, bytes(message)).await, bytes(mac));
    }
}

async fn a_master_key_that_was_put_in_is_named_by_the_inventory(maker: Maker) {
    let hsm = with_known_key(maker, "put-in", "00112233445566778899AABBCCDDEEFF");
    let reports = hsm.inventory().await.unwrap();
    let report = reports.iter().find(|it| it.label.0 == LABEL).unwrap();
    assert_eq!(report.kind, Some(KeyKind::Cmac));
    let found = report.findings.join("; ");
    assert!(found.contains("not born in the HSM"), "{found}");
}

async fn cmac(hsm: &Pkcs11Hsm, message: Vec<u8>) -> Vec<u8> {
    let label = KeyLabel(LABEL.into());
    let macs = hsm.cmac_batch(&label, vec![message], Priority::Payment);
    macs.await.unwrap()[0].0.to_vec()
}

fn with_known_key(maker: Maker, token: &str, key: &str) -> Pkcs11Hsm {
    let hsm = maker.open(token);
    maker.put_in_cmac_key(token, LABEL, bytes(key));
    hsm
}

fn bytes(hex: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(pair).collect()
}
