//! What is one token, and where does it belong?

use core::fmt;

use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use crate::ids::TerminalId;

/// How a token reaches the phone. Channels are separate domains: a token tells by itself whether it
/// was tapped, scanned or typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Channel {
    Nfc,
    Qr,
    Code,
}

impl Channel {
    pub const ALL: [Self; 3] = [Self::Nfc, Self::Qr, Self::Code];

    /// The byte that stands for the channel in every derivation and in the database.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Nfc => 1,
            Self::Qr => 2,
            Self::Code => 3,
        }
    }

    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Nfc),
            2 => Some(Self::Qr),
            3 => Some(Self::Code),
            _ => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Nfc => "nfc",
            Self::Qr => "qr",
            Self::Code => "code",
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The window a token lives in: everything of a token but its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WindowId {
    pub terminal: TerminalId,
    pub version: u32,
    pub channel: Channel,
    pub epoch: u32,
    pub window: u16,
}

impl WindowId {
    pub fn turn(self, turn: u16) -> TokenId {
        TokenId { window: self, turn }
    }
}

/// Which token: UNIQUE where tokens are spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenId {
    #[serde(flatten)]
    pub window: WindowId,
    pub turn: u16,
}

/// 128 bits that a tag or a QR code carries. Comparing is in constant time, printing is not offered;
/// [`crate::link`] writes it where it belongs.
#[derive(Clone, Copy)]
pub struct MachineToken([u8; 16]);

impl MachineToken {
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for MachineToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MachineToken(..)")
    }
}
