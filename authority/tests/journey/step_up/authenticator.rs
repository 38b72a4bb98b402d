//! An authenticator in software: makes passkeys and signs with them, and lies where a test wants it to.

use base64ct::{Base64UrlUnpadded, Encoding};
use ciborium::Value;
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

pub const PRESENT: u8 = 0x01;
pub const VERIFIED: u8 = 0x04;
const WITH_CREDENTIAL: u8 = 0x40;

/// One passkey, and what its authenticator claims.
#[derive(Clone)]
pub struct Passkey {
    pub id: Vec<u8>,
    pub key: SigningKey,
    pub party: String,
    pub origin: String,
    pub flags: u8,
    pub counter: u32,
    /// Merged into the client data.
    pub says: Json,
}

impl Passkey {
    pub fn new(number: u8, host: &str) -> Self {
        Self {
            id: vec![number; 20],
            key: SigningKey::from_slice(&[number; 32]).unwrap(),
            party: host.split(':').next().unwrap().into(),
            origin: format!("https://{host}"),
            flags: PRESENT | VERIFIED,
            counter: 0,
            says: json!({}),
        }
    }

    pub fn point(&self) -> [u8; 65] {
        let point = self.key.verifying_key().to_sec1_point(false);
        point.as_bytes().try_into().unwrap()
    }

    pub fn client_data(&self, kind: &str, challenge: &[u8]) -> Vec<u8> {
        let mut said = json!({
            "type": kind, "challenge": b64(challenge), "origin": self.origin, "crossOrigin": false,
        });
        for (name, value) in self.says.as_object().unwrap() {
            said[name] = value.clone();
        }
        serde_json::to_vec(&said).unwrap()
    }

    fn head(&self, flags: u8) -> Vec<u8> {
        let mut data = Sha256::digest(self.party.as_bytes()).to_vec();
        data.push(flags);
        data.extend_from_slice(&self.counter.to_be_bytes());
        data
    }

    /// Authenticator data with the credential in it.
    pub fn created(&self, cose: &[(i32, Value)]) -> Vec<u8> {
        let mut data = self.head(self.flags | WITH_CREDENTIAL);
        data.extend_from_slice(&[0; 16]);
        data.extend_from_slice(&u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend_from_slice(&self.id);
        let members = cose
            .iter()
            .map(|(label, value)| ((*label).into(), value.clone()));
        data.extend_from_slice(&cbor(&Value::Map(members.collect())));
        data
    }

    pub fn cose(&self) -> Vec<(i32, Value)> {
        let point = self.point();
        vec![
            (1, 2.into()),
            (3, (-7).into()),
            (-1, 1.into()),
            (-2, Value::Bytes(point[1..33].to_vec())),
            (-3, Value::Bytes(point[33..].to_vec())),
        ]
    }

    pub fn attestation(&self) -> Vec<u8> {
        attestation(self.created(&self.cose()))
    }

    /// Authenticator data and signature of an assertion.
    pub fn sign(&self, client_data: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let data = self.head(self.flags);
        let signature: Signature = self.key.sign(&signed(&data, client_data));
        (data, signature.to_der().as_bytes().to_vec())
    }
}

pub fn signed(data: &[u8], client_data: &[u8]) -> Vec<u8> {
    [data, &Sha256::digest(client_data)].concat()
}

pub fn attestation(data: Vec<u8>) -> Vec<u8> {
    cbor(&Value::Map(vec![
        (Value::Text("fmt".into()), Value::Text("none".into())),
        (Value::Text("attStmt".into()), Value::Map(Vec::new())),
        (Value::Text("authData".into()), Value::Bytes(data)),
    ]))
}

pub fn cbor(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

pub fn b64(bytes: &[u8]) -> String {
    Base64UrlUnpadded::encode_string(bytes)
}

pub fn unb64(text: &str) -> Vec<u8> {
    Base64UrlUnpadded::decode_vec(text).unwrap()
}
