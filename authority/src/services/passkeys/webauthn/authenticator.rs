//! What did the authenticator say?
//!
//! ```text
//! rpIdHash 32 ‖ flags 1 ‖ counter u32 ‖ [aaguid 16 ‖ length u16 ‖ id ‖ COSE key] ‖ [extensions]
//! ```

use ciborium::Value;
use p256::ecdsa::VerifyingKey;

use super::{ATTESTATION_MAX, Bad};

/// Longest credential id, in bytes (WebAuthn 7.1, step 25).
pub const CREDENTIAL_ID_MAX: usize = 1_023;
/// How deep CBOR of an authenticator may be nested; attestation statements have 3.
const DEPTH_MAX: usize = 8;

const PRESENT: u8 = 1 << 0;
const VERIFIED: u8 = 1 << 2;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const WITH_CREDENTIAL: u8 = 1 << 6;
const WITH_EXTENSIONS: u8 = 1 << 7;

/// COSE (RFC 9053): key type, algorithm, curve, coordinates.
const COSE_KTY: i128 = 1;
const COSE_ALG: i128 = 3;
const COSE_CRV: i128 = -1;
const COSE_X: i128 = -2;
const COSE_Y: i128 = -3;
const EC2: i128 = 2;
const ES256: i128 = -7;
const P256: i128 = 1;

pub(super) struct AuthenticatorData {
    party_hash: [u8; 32],
    flags: u8,
    pub(super) counter: u32,
    pub(super) credential: Option<Credential>,
}

pub(super) struct Credential {
    pub(super) id: Vec<u8>,
    pub(super) public_point: [u8; 65],
}

/// The authenticator data in an attestation object; the statement beside it is not looked at.
pub(super) fn in_attestation(object: &[u8]) -> Result<Vec<u8>, Bad> {
    if object.len() > ATTESTATION_MAX {
        return Err(Bad::Attestation);
    }
    let mut rest = object;
    let members = map(&mut rest).ok_or(Bad::Attestation)?;
    let has_text = |name: &str| members.iter().any(|(key, _)| key.as_text() == Some(name));
    if !rest.is_empty() || members.len() != 3 || !has_text("fmt") || !has_text("attStmt") {
        return Err(Bad::Attestation);
    }
    let is_data = |(key, _): &(Value, Value)| key.as_text() == Some("authData");
    let data = members.into_iter().find(is_data).map(|(_, value)| value);
    match data {
        Some(Value::Bytes(bytes)) => Ok(bytes),
        _ => Err(Bad::Attestation),
    }
}

impl AuthenticatorData {
    /// All of it, and nothing after it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Bad> {
        let mut rest = bytes;
        let party_hash = take(&mut rest)?;
        let [flags] = take(&mut rest)?;
        let counter = u32::from_be_bytes(take(&mut rest)?);
        let has = |flag: u8| flags & flag != 0;
        let credential = match has(WITH_CREDENTIAL) {
            true => Some(Credential::read(&mut rest)?),
            false => None,
        };
        if has(WITH_EXTENSIONS) {
            map(&mut rest).ok_or(Bad::AuthenticatorData)?;
        }
        if !rest.is_empty() || (has(BACKED_UP) && !has(BACKUP_ELIGIBLE)) {
            return Err(Bad::AuthenticatorData);
        }
        Ok(Self {
            party_hash,
            flags,
            counter,
            credential,
        })
    }

    pub(super) fn check(&self, party_hash: &[u8; 32]) -> Result<(), Bad> {
        if self.party_hash != *party_hash {
            return Err(Bad::RelyingParty);
        }
        if self.flags & PRESENT == 0 {
            return Err(Bad::NotPresent);
        }
        Ok(())
    }

    pub(super) fn check_verified(&self) -> Result<(), Bad> {
        match self.flags & VERIFIED {
            0 => Err(Bad::NotVerified),
            _ => Ok(()),
        }
    }
}

impl Credential {
    fn read(rest: &mut &[u8]) -> Result<Self, Bad> {
        let _aaguid: [u8; 16] = take(rest)?;
        let length = usize::from(u16::from_be_bytes(take(rest)?));
        if length == 0 || length > CREDENTIAL_ID_MAX {
            return Err(Bad::AuthenticatorData);
        }
        let (id, after) = rest
            .split_at_checked(length)
            .ok_or(Bad::AuthenticatorData)?;
        *rest = after;
        let key = map(rest).ok_or(Bad::AuthenticatorData)?;
        Ok(Self {
            id: id.to_vec(),
            public_point: public_point(&key).ok_or(Bad::Key)?,
        })
    }
}

/// The five members of an ES256 key, and none besides.
fn public_point(key: &[(Value, Value)]) -> Option<[u8; 65]> {
    let member = |label: i128| {
        let mut found = key.iter().filter(|(key, _)| integer(key) == Some(label));
        found.next().map(|(_, value)| value)
    };
    let is = |label, wanted| member(label).and_then(integer) == Some(wanted);
    if key.len() != 5 || !is(COSE_KTY, EC2) || !is(COSE_ALG, ES256) || !is(COSE_CRV, P256) {
        return None;
    }
    let coordinate = |label| <[u8; 32]>::try_from(member(label)?.as_bytes()?.as_slice()).ok();
    let mut point = [4; 65];
    point[1..33].copy_from_slice(&coordinate(COSE_X)?);
    point[33..].copy_from_slice(&coordinate(COSE_Y)?);
    VerifyingKey::from_sec1_bytes(&point).ok()?;
    Some(point)
}

fn integer(value: &Value) -> Option<i128> {
    value.as_integer().map(i128::from)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Bad> {
    let (taken, after) = rest
        .split_first_chunk::<N>()
        .ok_or(Bad::AuthenticatorData)?;
    *rest = after;
    Ok(*taken)
}

/// One CBOR map, taken off the front.
fn map(rest: &mut &[u8]) -> Option<Vec<(Value, Value)>> {
    let read = ciborium::de::from_reader_with_recursion_limit(&mut *rest, DEPTH_MAX);
    match read.ok()? {
        Value::Map(members) => Some(members),
        _ => None,
    }
}
