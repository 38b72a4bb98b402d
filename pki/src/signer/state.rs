//! Which issuing keys are there, and where does each stand?
//!
//! One small file, written whole after every step, so that a crash leaves the step done or not begun.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::SignerError;
use crate::consent::Warrant;
use crate::error::PkiError;
use crate::files::{self, Replace};
use crate::lifecycle::KeyState;
use crate::root::Consents;

/// `<this><n>` is the label of the n-th issuing key.
pub const KEY_LABEL_BEGIN: &str = "m2key-issuing-";
/// Most issuing keys that are not retired.
pub const LIVE_KEYS_MAX: usize = 8;
const FILE: &str = "issuing-keys.json";
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    version: u32,
    /// Rises with every change that others should know of.
    pub(super) revision: u64,
    /// What operators had to consent to when the signer last started.
    #[serde(default)]
    pub(super) consents: Consents,
    pub(super) keys: Vec<IssuingKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuingKey {
    pub(super) label: String,
    /// SHA-256 of its subject public key info, hexadecimal.
    pub(super) key_id: String,
    #[serde(serialize_with = "write_state", deserialize_with = "read_state")]
    pub(super) state: KeyState,
    /// PEM: the issuing certificate, then its root.
    pub(super) chain: Option<String>,
    /// The highest number of a revocation list that may have been signed.
    pub(super) crl_number: u64,
    /// Unix seconds.
    pub(super) made_at: u64,
    pub(super) changed_at: u64,
    /// With what its steps were taken: no transcript serves twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) consents: Vec<StepConsents>,
}

/// Who consented to a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepConsents {
    pub step: String,
    /// Unix seconds.
    pub at: u64,
    pub warrant: Warrant,
}

impl State {
    /// An absent file is the state of a signer that has no key yet.
    pub(super) fn load(folder: &Path) -> Result<Self, PkiError> {
        let path = path(folder);
        if !path.exists() {
            return Ok(Self {
                version: VERSION,
                revision: 0,
                consents: Consents::default(),
                keys: Vec::new(),
            });
        }
        let text = files::read_private(&path)?;
        let damaged = |detail: String| SignerError::Damaged {
            path: path.clone(),
            detail,
        };
        let state: Self =
            serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if state.version != VERSION {
            return Err(damaged(format!("it is of version {}", state.version)).into());
        }
        Ok(state)
    }

    pub(super) fn save(&self, folder: &Path) -> Result<(), PkiError> {
        let text = serde_json::to_vec_pretty(self).map_err(PkiError::bug)?;
        files::write_private(&path(folder), &text, Replace::Yes)
    }

    pub(super) fn key(&self, label: &str) -> Result<&IssuingKey, SignerError> {
        let found = self.keys.iter().find(|key| key.label == label);
        found.ok_or_else(|| SignerError::NoSuchKey(label.into()))
    }

    pub(super) fn key_mut(&mut self, label: &str) -> Result<&mut IssuingKey, SignerError> {
        let found = self.keys.iter_mut().find(|key| key.label == label);
        found.ok_or_else(|| SignerError::NoSuchKey(label.into()))
    }

    pub(super) fn in_state(&self, state: KeyState) -> Option<&IssuingKey> {
        self.keys.iter().find(|key| key.state == state)
    }

    /// The label of a key that does not exist yet.
    pub(super) fn next_label(&self) -> String {
        let number = |key: &IssuingKey| -> u64 {
            let number = key.label.strip_prefix(KEY_LABEL_BEGIN);
            number.and_then(|n| n.parse().ok()).unwrap_or(0)
        };
        let last = self.keys.iter().map(number).max().unwrap_or(0);
        format!("{KEY_LABEL_BEGIN}{}", last + 1)
    }

    pub(super) fn live(&self) -> usize {
        let is_live = |key: &&IssuingKey| key.state != KeyState::Retired;
        self.keys.iter().filter(is_live).count()
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

fn write_state<S: Serializer>(state: &KeyState, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(state.name())
}

fn read_state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyState, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map_err(serde::de::Error::custom)
}
