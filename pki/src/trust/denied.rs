//! Which keys count for nothing, whatever root they hang on?
//!
//! A root is tainted as a whole; an issuing key that somebody else may hold is denied alone. What it
//! signed is refused by everybody who follows the list, whoever shows it and however long its
//! certificate lasts.

use std::fmt;
use std::str::FromStr;

use super::BadTrust;
use crate::certificate::{Certificate, hex};

/// Most keys in one list. One in five years, for longer than a hundred.
pub const DENIED_MAX: usize = 32;

/// SHA-256 of a subject public key info; written in hexadecimal, as `issuing list` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 32]);

/// Keys in the order in which they were denied. None of them ever leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denied(Vec<KeyId>);

impl KeyId {
    pub fn of(certificate: &Certificate) -> Self {
        Self(certificate.spki_sha256())
    }
}

impl Denied {
    /// None of them twice, and not too many.
    pub(super) fn of(keys: Vec<KeyId>) -> Result<Self, BadTrust> {
        if keys.len() > DENIED_MAX {
            return Err(BadTrust::TooManyDenied);
        }
        let twice = |at: usize| keys[..at].contains(&keys[at]);
        match (0..keys.len()).find(|at| twice(*at)) {
            Some(at) => Err(BadTrust::DeniedBefore(keys[at])),
            None => Ok(Self(keys)),
        }
    }

    pub(super) fn and(&self, key: KeyId) -> Result<Self, BadTrust> {
        Self::of([&self.0[..], &[key]].concat())
    }

    pub fn keys(&self) -> &[KeyId] {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the key of this certificate is one of them.
    pub fn denies(&self, certificate: &Certificate) -> bool {
        self.0.contains(&KeyId::of(certificate))
    }

    /// The same for what TLS hands over. While anything is denied, what cannot be read might hold a
    /// denied key.
    pub fn denies_der(&self, der: &[u8]) -> bool {
        let denies = |read: Result<Certificate, _>| read.map_or(true, |it| self.denies(&it));
        !self.is_empty() && denies(Certificate::from_der(der))
    }

    /// Whether everything that `older` denies is denied here, too.
    pub(super) fn continues(&self, older: &Self) -> bool {
        older.0.iter().all(|key| self.0.contains(key))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyId {
    type Err = BadTrust;

    fn from_str(text: &str) -> Result<Self, BadTrust> {
        let digits = text.trim();
        let is_hex = digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex {
            return Err(BadTrust::KeyId);
        }
        let byte = |at: usize| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16);
        let mut key = [0; 32];
        for (at, place) in key.iter_mut().enumerate() {
            *place = byte(at).map_err(|_| BadTrust::KeyId)?;
        }
        Ok(Self(key))
    }
}
