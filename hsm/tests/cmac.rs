//! Does the HSM compute the keys that AN10922 computes?
//!
//! A master key is born in the HSM and its value is nowhere, so a published value is put in beside it
//! with plain PKCS#11, as nobody but a test does: the inventory says of such a key that it was not born
//! there.
#![allow(clippy::unwrap_used)]

use cryptoki::context::Pkcs11;
use cryptoki::object::{Attribute, KeyType, ObjectClass};
use cryptoki::session::UserType;
use cryptoki::types::AuthPin;
use hsm::{Hsm, KeyKind, KeyLabel, Pkcs11Hsm, Priority};

mod support;

const LABEL: &str = "known-master";

#[tokio::test]
async fn a_key_is_diversified_as_an10922_shows() {
    let hsm = with_known_key("an10922", "00112233445566778899AABBCCDDEEFF");
    let mut input = vec![0x01];
    input.extend(bytes("04782E21801D803042F54E585020416275"));
    let key = cmac(&hsm, input).await;
    assert_eq!(key, bytes("A8DD63A3B89D54B37CA802473FDA9175"));
}

#[tokio::test]
async fn the_macs_are_those_of_rfc_4493() {
    let hsm = with_known_key("rfc4493", "2B7E151628AED2A6ABF7158809CF4F3C");
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

#[tokio::test]
async fn a_master_key_that_was_put_in_is_named_by_the_inventory() {
    let hsm = with_known_key("put-in", "00112233445566778899AABBCCDDEEFF");
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

fn with_known_key(token: &str, key: &str) -> Pkcs11Hsm {
    let hsm = support::open(token);
    let session = {
        let slot = support::raw_slot(token);
        let _slots = support::slots();
        let pkcs11 = Pkcs11::new(support::MODULE).unwrap();
        pkcs11.open_rw_session(slot).unwrap()
    };
    // Logged in by the worker of the same process, perhaps.
    let pin = AuthPin::from(support::USER_PIN.to_owned());
    let _ = session.login(UserType::User, Some(&pin));
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Label(LABEL.into()),
        Attribute::Sign(true),
        Attribute::Wrap(false),
        Attribute::Value(bytes(key)),
    ];
    session.create_object(&template).unwrap();
    hsm
}

fn bytes(hex: &str) -> Vec<u8> {
    let pair = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(pair).collect()
}
