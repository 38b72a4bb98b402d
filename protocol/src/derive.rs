//! What follows from an epoch key?
//!
//! ```text
//! seed (HSM) ──HMAC(epoch_key_input)──▶ epoch key ─┬─ draw(channel, window)        window length
//!                                                  ├─ token(channel, window, turn) 16 bytes
//!                                                  ├─ code(window, turn)           7 digits
//!                                                  └─ check value                  8 bytes
//! ```
//! Every input begins with its own domain string and a zero byte and is of fixed length after it,
//! so no two inputs can be the same bytes. Integers are big-endian.

use alloc::vec::Vec;
use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::ids::TerminalId;
use crate::token::{Channel, MachineToken};

const EPOCH_KEY: &[u8] = b"m2key/epoch-key/1\0";
const DRAW: &[u8] = b"m2key/window/1\0";
const TOKEN: &[u8] = b"m2key/token/1\0";
const CODE: &[u8] = b"m2key/code/1\0";
const CHECK: &[u8] = b"m2key/check/1\0";

/// How many rotating digits a typed code has: 10^7 values.
pub const CODE_DIGITS: u32 = 7;

/// Which life of a terminal's tokens: the inputs of an epoch key besides the seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EpochId {
    /// The life of the database; raised after a restore.
    pub generation: u32,
    pub terminal: TerminalId,
    /// The version of the terminal's seed.
    pub version: u32,
    /// Hours since the Unix epoch, at the terminal's own offset.
    pub epoch: u32,
}

/// What the HSM computes HMAC-SHA-256 over, under the terminal's seed, to make an epoch key.
pub fn epoch_key_input(id: &EpochId) -> Vec<u8> {
    let mut input = Vec::with_capacity(EPOCH_KEY.len() + 16);
    input.extend_from_slice(EPOCH_KEY);
    for field in [id.generation, id.terminal.value(), id.version, id.epoch] {
        input.extend_from_slice(&field.to_be_bytes());
    }
    input
}

/// The secret of one terminal for one hour. Mute: it is neither printed nor compared in the open.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct EpochKey([u8; 32]);

impl EpochKey {
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw key, for the one place that carries it to the terminal (over mTLS only).
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// A value the schedule signs, so that a terminal knows the key beside it is the right one.
    pub fn check_value(&self) -> [u8; 8] {
        first(self.hmac(CHECK, &[]))
    }

    /// The token that a tag or a QR code carries in this window and turn.
    ///
    /// For [`Channel::Code`] this is never shown; people type [`EpochKey::code`].
    pub fn token(&self, channel: Channel, window: u16, turn: u16) -> MachineToken {
        MachineToken::from_bytes(first(self.hmac(TOKEN, &coordinates(channel, window, turn))))
    }

    /// The rotating digits of the typed code: the first 8 bytes as a number, modulo 10^7.
    pub fn code(&self, window: u16, turn: u16) -> u32 {
        let number = u64::from_be_bytes(first(
            self.hmac(CODE, &coordinates(Channel::Code, window, turn)),
        ));
        (number % 10u64.pow(CODE_DIGITS)) as u32
    }

    /// A number in `0..bound`, the same on both sides: ⌊x · bound / 2^64⌋ of the first 8 bytes x.
    pub(crate) fn draw(&self, channel: Channel, window: u16, bound: u64) -> u64 {
        let number = u64::from_be_bytes(first(
            self.hmac(DRAW, &coordinates(channel, window, 0)[..3]),
        ));
        ((u128::from(number) * u128::from(bound)) >> 64) as u64
    }

    /// Equal, in a time that does not tell where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    fn hmac(&self, domain: &[u8], input: &[u8]) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(domain);
        mac.update(input);
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochKey(..)")
    }
}

/// channel (1 byte), window (2), turn (2).
fn coordinates(channel: Channel, window: u16, turn: u16) -> [u8; 5] {
    let [w0, w1] = window.to_be_bytes();
    let [t0, t1] = turn.to_be_bytes();
    [channel.byte(), w0, w1, t0, t1]
}

fn first<const N: usize>(mac: [u8; 32]) -> [u8; N] {
    let mut part = [0; N];
    part.copy_from_slice(&mac[..N]);
    part
}
