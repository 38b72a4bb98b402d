//! Does an assertion count only if a passkey of ours signed exactly this, here, with its user verified?

use authority::services::passkeys::webauthn::{
    ATTESTATION_MAX, Bad, Brought, NewCredential, RelyingParty, Signed, challenge_in, register,
    verify,
};
use ciborium::Value;
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::authenticator::{PRESENT, Passkey, VERIFIED, attestation, cbor};

const HOST: &str = "pay.example:8443";
const CHALLENGE: [u8; 32] = [9; 32];

fn party() -> RelyingParty {
    RelyingParty::of_host(HOST)
}

fn made(passkey: &Passkey) -> Result<NewCredential, Bad> {
    let client_data = passkey.client_data("webauthn.create", &CHALLENGE);
    register(&party(), &CHALLENGE, &client_data, &passkey.attestation())
}

fn attested(object: &[u8]) -> Result<NewCredential, Bad> {
    let client_data = passkey().client_data("webauthn.create", &CHALLENGE);
    register(&party(), &CHALLENGE, &client_data, object)
}

fn brought(passkey: &Passkey, client_data: Vec<u8>) -> Brought {
    let (authenticator_data, signature) = passkey.sign(&client_data);
    Brought {
        authenticator_data,
        client_data,
        signature,
    }
}

fn asserted(passkey: &Passkey) -> Result<Signed, Bad> {
    let client_data = passkey.client_data("webauthn.get", &CHALLENGE);
    let brought = brought(passkey, client_data);
    verify(&party(), &CHALLENGE, &passkey.point(), brought)
}

fn passkey() -> Passkey {
    Passkey::new(3, HOST)
}

fn unhex(case: &Json, name: &str) -> Vec<u8> {
    let text = case[name].as_str().unwrap();
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

fn cases(name: &str) -> Vec<Json> {
    let vectors: Json = serde_json::from_str(include_str!("webauthn.json")).unwrap();
    vectors[name].as_array().unwrap().clone()
}

fn why<T>(result: &Result<T, Bad>) -> Option<String> {
    result.as_ref().err().map(|bad| format!("{bad:?}"))
}

/// Those of the standard, by its own keys and bytes.
#[test]
fn the_registrations_of_the_standard_are_read_as_it_says() {
    let party = RelyingParty::of_host("example.org");
    for case in cases("registrations") {
        let challenge = unhex(&case, "challenge").try_into().unwrap();
        let (client, object) = (
            unhex(&case, "client_data"),
            unhex(&case, "attestation_object"),
        );
        let read = register(&party, &challenge, &client, &object);
        assert_eq!(
            why(&read).as_deref(),
            case["why"].as_str(),
            "{}",
            case["name"]
        );
        if let Ok(credential) = read {
            assert_eq!(credential.id, unhex(&case, "credential"));
            assert_eq!(
                credential.public_point.to_vec(),
                unhex(&case, "public_point")
            );
            assert_eq!(credential.counter, 0);
        }
    }
}

/// The signature is judged before the user's verification: what is refused for that was signed well.
#[test]
fn the_assertions_of_the_standard_hold_as_it_says() {
    let party = RelyingParty::of_host("example.org");
    for case in cases("assertions") {
        let challenge = unhex(&case, "challenge").try_into().unwrap();
        let brought = Brought {
            authenticator_data: unhex(&case, "authenticator_data"),
            client_data: unhex(&case, "client_data"),
            signature: unhex(&case, "signature"),
        };
        let point = unhex(&case, "public_point");
        let judged = verify(&party, &challenge, &point, brought.clone());
        assert_eq!(
            why(&judged).as_deref(),
            case["why"].as_str(),
            "{}",
            case["name"]
        );
        let mut other = brought;
        *other.signature.last_mut().unwrap() ^= 1;
        let refused = verify(&party, &challenge, &point, other);
        assert_eq!(refused, Err(Bad::Signature));
    }
}

#[test]
fn a_passkey_is_registered_and_its_assertions_hold() {
    let credential = made(&passkey()).unwrap();
    assert_eq!(credential.id, passkey().id);
    assert_eq!(credential.public_point, passkey().point());
    let counted = Passkey {
        counter: 41,
        ..passkey()
    };
    assert_eq!(asserted(&counted).unwrap().counter, 41);
}

#[test]
fn what_another_page_asked_for_counts_for_nothing() {
    let with = |says: Json| Passkey { says, ..passkey() };
    let lies = [
        (
            with(json!({ "origin": "https://pay.example" })),
            Bad::Origin,
        ),
        (
            with(json!({ "origin": "https://pay.example:8443.evil.example" })),
            Bad::Origin,
        ),
        (
            with(json!({ "origin": "http://pay.example:8443" })),
            Bad::Origin,
        ),
        (with(json!({ "crossOrigin": true })), Bad::Embedded),
        (
            with(json!({ "topOrigin": "https://evil.example" })),
            Bad::Embedded,
        ),
        (with(json!({ "challenge": "CQ" })), Bad::Challenge),
        (with(json!({ "challenge": "a".repeat(43) })), Bad::Challenge),
        (with(json!({ "challenge": 9 })), Bad::ClientData),
        (
            Passkey {
                party: "evil.example".into(),
                ..passkey()
            },
            Bad::RelyingParty,
        ),
    ];
    for (liar, bad) in lies {
        assert_eq!(made(&liar), Err(bad));
        assert_eq!(asserted(&liar), Err(bad));
    }
}

#[test]
fn nobody_there_and_nobody_verified_is_not_enough() {
    for (flags, bad) in [
        (0, Bad::NotPresent),
        (VERIFIED, Bad::NotPresent),
        (PRESENT, Bad::NotVerified),
        // backed up without being made for it
        (PRESENT | VERIFIED | 0x10, Bad::AuthenticatorData),
        // extensions are announced, and none follow
        (PRESENT | VERIFIED | 0x80, Bad::AuthenticatorData),
    ] {
        let weak = Passkey { flags, ..passkey() };
        assert_eq!(made(&weak), Err(bad), "{flags:02x}");
        assert_eq!(asserted(&weak), Err(bad), "{flags:02x}");
    }
}

#[test]
fn a_registration_is_no_assertion_and_the_other_way_round() {
    let get = passkey().client_data("webauthn.get", &CHALLENGE);
    let refused = register(&party(), &CHALLENGE, &get, &passkey().attestation());
    assert_eq!(refused, Err(Bad::Ceremony));
    let create = passkey().client_data("webauthn.create", &CHALLENGE);
    let judged = |it| verify(&party(), &CHALLENGE, &passkey().point(), it);
    assert_eq!(judged(brought(&passkey(), create)), Err(Bad::Ceremony));
    let client_data = passkey().client_data("webauthn.get", &CHALLENGE);
    let authenticator_data = passkey().created(&passkey().cose());
    let signature = passkey().sign(&client_data).1;
    let with_credential = Brought {
        authenticator_data,
        client_data,
        signature,
    };
    assert_eq!(judged(with_credential), Err(Bad::AuthenticatorData));
}

#[test]
fn a_signature_counts_for_its_own_bytes_and_key_alone() {
    let client_data = passkey().client_data("webauthn.get", &CHALLENGE);
    let good = brought(&passkey(), client_data);
    let judged = |it: Brought| verify(&party(), &CHALLENGE, &passkey().point(), it);
    assert!(judged(good.clone()).is_ok());
    let mut raised = good.clone();
    raised.authenticator_data[36] += 1;
    assert_eq!(judged(raised), Err(Bad::Signature));
    let mut blank = good.clone();
    blank.client_data.push(b' ');
    assert_eq!(judged(blank), Err(Bad::Signature));
    let other = Passkey::new(4, HOST).point();
    let refused = verify(&party(), &CHALLENGE, &other, good.clone());
    assert_eq!(refused, Err(Bad::Signature));
    let refused = verify(&party(), &[8; 32], &passkey().point(), good);
    assert_eq!(refused, Err(Bad::Challenge));
}

#[test]
fn only_whole_es256_keys_are_taken() {
    let with = |label: i32, value: Value| {
        let mut cose = passkey().cose();
        match cose.iter_mut().find(|(it, _)| *it == label) {
            Some(member) => member.1 = value,
            None => cose.push((label, value)),
        }
        attested(&attestation(passkey().created(&cose)))
    };
    assert_eq!(with(3, (-257).into()), Err(Bad::Key));
    assert_eq!(with(1, 3.into()), Err(Bad::Key));
    assert_eq!(with(-1, 2.into()), Err(Bad::Key));
    assert_eq!(with(-2, Value::Bytes(vec![1; 32])), Err(Bad::Key));
    assert_eq!(with(-2, Value::Bytes(vec![1; 31])), Err(Bad::Key));
    assert_eq!(with(-4, Value::Bytes(vec![1; 32])), Err(Bad::Key));
    let mut doubled = passkey().cose();
    doubled[0] = doubled[1].clone();
    let refused = attested(&attestation(passkey().created(&doubled)));
    assert_eq!(refused, Err(Bad::Key));
}

#[test]
fn what_is_cut_or_longer_than_it_says_is_refused() {
    let data = passkey().created(&passkey().cose());
    for length in 0..data.len() {
        let cut = attested(&attestation(data[..length].to_vec()));
        assert_eq!(cut, Err(Bad::AuthenticatorData), "{length}");
    }
    let mut longer = data;
    longer.push(0);
    assert_eq!(attested(&attestation(longer)), Err(Bad::AuthenticatorData));
    let mut object = passkey().attestation();
    object.push(0);
    assert_eq!(attested(&object), Err(Bad::Attestation));
    assert_eq!(attested(&[0; ATTESTATION_MAX + 1]), Err(Bad::Attestation));
    let deep = (0..200).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
    assert_eq!(attested(&cbor(&deep)), Err(Bad::Attestation));
}

proptest! {
    /// Whatever comes from outside is answered, never a panic.
    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = challenge_in(&bytes);
        let _ = attested(&bytes);
        let _ = attested(&attestation(bytes.clone()));
        let brought = Brought {
            authenticator_data: bytes.clone(),
            client_data: passkey().client_data("webauthn.get", &CHALLENGE),
            signature: bytes.clone(),
        };
        prop_assert!(verify(&party(), &CHALLENGE, &bytes, brought).is_err());
    }

    /// One bit of what was signed or of the signature is one bit too many.
    #[test]
    fn a_changed_bit_is_refused(which in 0_usize..3, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let client_data = passkey().client_data("webauthn.get", &CHALLENGE);
        let mut changed = brought(&passkey(), client_data);
        let part = [&mut changed.authenticator_data, &mut changed.client_data, &mut changed.signature]
            .into_iter().nth(which).unwrap();
        let at = at.index(part.len());
        part[at] ^= 1 << bit;
        prop_assert!(verify(&party(), &CHALLENGE, &passkey().point(), changed).is_err());
    }

    #[test]
    fn a_changed_registration_is_answered_without_a_panic(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut object = passkey().attestation();
        let at = at.index(object.len());
        object[at] = byte;
        let _ = attested(&object);
    }
}
