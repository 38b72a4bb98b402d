//! What did the browser say it was asked, and where?

use base64ct::{Base64UrlUnpadded, Encoding};
use serde::Deserialize;

use super::{Bad, CLIENT_DATA_MAX, RelyingParty};

/// What a browser can do with a passkey.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ceremony {
    Create,
    Get,
}

/// `CollectedClientData`. Browsers may add members, and do.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientData {
    #[serde(rename = "type")]
    kind: String,
    challenge: String,
    origin: String,
    #[serde(default)]
    cross_origin: bool,
    top_origin: Option<String>,
}

impl ClientData {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Bad> {
        if bytes.len() > CLIENT_DATA_MAX {
            return Err(Bad::ClientData);
        }
        serde_json::from_slice(bytes).map_err(|_| Bad::ClientData)
    }

    pub(super) fn challenge(&self) -> Result<[u8; 32], Bad> {
        let mut bytes = [0; 32];
        let read = Base64UrlUnpadded::decode(&self.challenge, &mut bytes);
        match read {
            Ok(whole) if whole.len() == 32 => Ok(bytes),
            _ => Err(Bad::Challenge),
        }
    }

    pub(super) fn check(
        &self,
        party: &RelyingParty,
        ceremony: Ceremony,
        challenge: &[u8; 32],
    ) -> Result<(), Bad> {
        let kind = match ceremony {
            Ceremony::Create => "webauthn.create",
            Ceremony::Get => "webauthn.get",
        };
        if self.kind != kind {
            return Err(Bad::Ceremony);
        }
        if self.challenge()? != *challenge {
            return Err(Bad::Challenge);
        }
        if self.origin != party.origin {
            return Err(Bad::Origin);
        }
        if self.cross_origin || self.top_origin.is_some() {
            return Err(Bad::Embedded);
        }
        Ok(())
    }
}
