//! Terminal and authority: which tokens may I show? Agents' listener.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroize;

use crate::derive::EpochKey;

/// `GET /v1/schedule?after=<epoch>`: the epochs after that one, up to the horizon; without `after`
/// from the current epoch on.
pub const SCHEDULE_PATH: &str = "/v1/schedule";

/// A request with this header is of a terminal that follows paces of the nfc channel
/// ([`crate::schedule::NfcPace`]). Others get none: they would refuse the schedule.
pub const PACES_HEADER: &str = "m2key-paces";
/// What the header says.
pub const PACES_FOLLOWED: &str = "nfc";

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleQuery {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u32>,
}

/// The signed schedule and, beside it, the keys it has check values of. Mute.
#[derive(Serialize, Deserialize)]
pub struct ScheduleResponse {
    /// Compact JWS, `typ` m2key-schedule+jwt.
    pub schedule: String,
    pub epoch_keys: Vec<EpochKeyEntry>,
}

/// One epoch key on its way to the terminal it is for.
#[derive(Clone, Serialize, Deserialize)]
pub struct EpochKeyEntry {
    pub epoch: u32,
    pub version: u32,
    #[serde(serialize_with = "write_key", deserialize_with = "read_key")]
    pub key: EpochKey,
}

impl fmt::Debug for ScheduleResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScheduleResponse({} epochs, ..)", self.epoch_keys.len())
    }
}

fn write_key<S: Serializer>(key: &EpochKey, serializer: S) -> Result<S::Ok, S::Error> {
    let mut text = Base64UrlUnpadded::encode_string(key.expose());
    let result = serializer.serialize_str(&text);
    text.zeroize();
    result
}

fn read_key<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EpochKey, D::Error> {
    let mut text = String::deserialize(deserializer)?;
    let mut bytes = [0; 32];
    let read = Base64UrlUnpadded::decode(&text, &mut bytes).map(|key| key.len());
    text.zeroize();
    let key = EpochKey::from_bytes(bytes);
    bytes.zeroize();
    match read {
        Ok(32) => Ok(key),
        _ => Err(serde::de::Error::custom(
            "an epoch key is 32 bytes in base64url",
        )),
    }
}
