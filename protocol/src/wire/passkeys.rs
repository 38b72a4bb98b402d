//! How does a shopper make a passkey, and confirm a payment with it? On the public listener.
//!
//! Options are as browsers take them (WebAuthn Level 3, `parseCreationOptionsFromJSON` and its sister);
//! what comes back are the bytes of the authenticator, base64url.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

/// `GET` lists, `POST` adds; `…/options` says how; `…/{id}` renames (`POST`) and removes (`DELETE`).
pub const PASSKEYS_PATH: &str = "/v1/passkeys";
/// Longest name of a passkey, in bytes.
pub const PASSKEY_NAME_MAX: usize = 64;

/// The answer of `POST /v1/passkeys/options`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PasskeyOptions {
    /// The profile that the passkey joins: must come back with it.
    pub profile: String,
    #[serde(rename = "publicKey")]
    pub public_key: CreationOptions,
}

/// The answer of `POST /v1/claims/{id}/approval/options`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ConfirmOptions {
    #[serde(rename = "publicKey")]
    pub public_key: RequestOptions,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CreationOptions {
    pub rp: RelyingParty,
    /// `User` is the standard's word.
    pub user: User,
    pub challenge: String,
    pub pub_key_cred_params: Vec<Parameters>,
    /// Milliseconds.
    pub timeout: u32,
    pub exclude_credentials: Vec<Descriptor>,
    pub authenticator_selection: Selection,
    pub attestation: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RequestOptions {
    /// The hash over the payment (docs/PROTOCOL.md, section 4).
    pub challenge: String,
    /// Milliseconds.
    pub timeout: u32,
    pub rp_id: String,
    pub allow_credentials: Vec<Descriptor>,
    pub user_verification: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RelyingParty {
    pub id: String,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub id: String,
    pub name: String,
    pub display_name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Parameters {
    #[serde(rename = "type")]
    pub kind: String,
    /// Of COSE: -7 is ES256.
    pub alg: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Descriptor {
    #[serde(rename = "type")]
    pub kind: String,
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Selection {
    pub resident_key: String,
    pub user_verification: String,
}

/// `POST /v1/passkeys`: a new passkey, for the profile that its options named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PasskeyRequest {
    pub profile: String,
    /// What the shopper calls it.
    pub name: String,
    pub client_data: String,
    pub attestation_object: String,
}

/// `POST /v1/passkeys/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct PasskeyRename {
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PasskeyList {
    pub passkeys: Vec<PasskeyView>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PasskeyView {
    /// The credential id, base64url.
    pub id: String,
    pub name: String,
    pub added_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_at: Option<Timestamp>,
}

/// What a passkey signed, in an approval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Assertion {
    /// The credential id, base64url; so the rest.
    pub passkey: String,
    pub client_data: String,
    pub authenticator_data: String,
    pub signature: String,
}
