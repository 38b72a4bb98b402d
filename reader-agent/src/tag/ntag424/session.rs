//! What goes over the air between two who share a key?
//!
//! AuthenticateEV2 makes two session keys; from then on each command and each answer carries a mac
//! over a counter, and what is secret is encrypted. Nothing here does I/O, and chance is an argument.
//!
//! ```text
//!  we                                 tag
//!  71 slot                   ──▶
//!                            ◀──      E(B)
//!  E(A ‖ B turned)           ──▶
//!                            ◀──      E(TI ‖ A turned ‖ …)
//!  both: two keys from A and B, counter 0
//! ```

use protocol::aes_key::{AES_BYTES, AesKey, MAC_BYTES};
use protocol::sun::KeySlot;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::command::{Command, Mode, apdu};

/// Bytes of a challenge, and of our half of the proof.
pub(super) const CHALLENGE: usize = 16;
const AUTHENTICATE_FIRST: u8 = 0x71;
const AUTHENTICATE_NON_FIRST: u8 = 0x77;
const ADDITIONAL_FRAME: u8 = 0xAF;
const SESSION_ENC: [u8; 6] = [0xA5, 0x5A, 0x00, 0x01, 0x00, 0x80];
const SESSION_MAC: [u8; 6] = [0x5A, 0xA5, 0x00, 0x01, 0x00, 0x80];
const IV_COMMAND: [u8; 2] = [0xA5, 0x5A];
const IV_ANSWER: [u8; 2] = [0x5A, 0xA5];
const PADDING: u8 = 0x80;
/// The status byte that an answer's mac begins with: only successes carry one.
const SUCCESS: u8 = 0x00;

/// The answer was not made by the tag that we authenticated with, or was changed on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbled;

/// Opens a transaction under a key of the tag.
pub(super) fn first(slot: KeySlot) -> Vec<u8> {
    apdu(AUTHENTICATE_FIRST, &[slot.number(), 0])
}

/// Opens another session within the transaction.
pub(super) fn non_first(slot: KeySlot) -> Vec<u8> {
    apdu(AUTHENTICATE_NON_FIRST, &[slot.number()])
}

/// Our half of the proof is sent; the tag's is awaited.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Proof {
    key: AesKey,
    ours: [u8; CHALLENGE],
    theirs: [u8; CHALLENGE],
}

impl Proof {
    /// The answer to the tag's challenge; `ours` is fresh chance.
    pub(super) fn begin(
        key: &AesKey,
        ours: [u8; CHALLENGE],
        challenge: &[u8],
    ) -> Result<(Self, Vec<u8>), Garbled> {
        let mut theirs: [u8; CHALLENGE] = challenge.try_into().map_err(|_| Garbled)?;
        let mut answer = [0; 2 * CHALLENGE];
        let whole = key.decrypt([0; AES_BYTES], &mut theirs);
        answer[..CHALLENGE].copy_from_slice(&ours);
        answer[CHALLENGE..].copy_from_slice(&turned(theirs));
        let whole = whole && key.encrypt([0; AES_BYTES], &mut answer);
        let key = key.clone();
        let proof = Self { key, ours, theirs };
        whole
            .then(|| (proof, apdu(ADDITIONAL_FRAME, &answer)))
            .ok_or(Garbled)
    }

    /// The tag's half after [`first`]: the session, if it has the key.
    pub(super) fn opened_first(&self, answer: &[u8]) -> Result<Session, Garbled> {
        let mut plain: [u8; 32] = answer.try_into().map_err(|_| Garbled)?;
        let whole = self.key.decrypt([0; AES_BYTES], &mut plain);
        let [a, b, c, d, rest @ ..] = plain;
        let genuine = turned(self.ours).ct_eq(&rest[..CHALLENGE]);
        (whole && bool::from(genuine))
            .then(|| self.session([a, b, c, d], 0))
            .ok_or(Garbled)
    }

    /// The tag's half after [`non_first`]: identifier and counter go on.
    pub(super) fn opened_next(&self, answer: &[u8], before: &Session) -> Result<Session, Garbled> {
        let mut plain: [u8; CHALLENGE] = answer.try_into().map_err(|_| Garbled)?;
        let whole = self.key.decrypt([0; AES_BYTES], &mut plain);
        let genuine = turned(self.ours).ct_eq(&plain);
        (whole && bool::from(genuine))
            .then(|| self.session(before.transaction, before.counter))
            .ok_or(Garbled)
    }

    fn session(&self, transaction: [u8; 4], counter: u16) -> Session {
        let (a, b) = (&self.ours, &self.theirs);
        let mut tail = [0; 26];
        tail[..2].copy_from_slice(&a[..2]);
        (0..6).for_each(|i| tail[2 + i] = a[2 + i] ^ b[i]);
        tail[8..18].copy_from_slice(&b[6..]);
        tail[18..].copy_from_slice(&a[8..]);
        let key = |label: [u8; 6]| AesKey::from_bytes(self.key.cmac(&[&label, &tail]));
        Session {
            enc: key(SESSION_ENC),
            mac: key(SESSION_MAC),
            transaction,
            counter,
        }
    }
}

/// A session with the tag; both sides count its commands.
pub(super) struct Session {
    enc: AesKey,
    mac: AesKey,
    transaction: [u8; 4],
    counter: u16,
}

impl Session {
    /// The command as it goes over the air.
    pub(super) fn wrap(&self, command: &Command) -> Vec<u8> {
        let data = match command.mode {
            Mode::Full if !command.data.is_empty() => self.encrypted(&command.data),
            _ => command.data.to_vec(),
        };
        let mut body = [command.header.as_slice(), &data].concat();
        if command.mode != Mode::Plain {
            let counter = self.counter.to_le_bytes();
            let covered = [&[command.ins], &counter[..], &self.transaction, &body].concat();
            body.extend(self.mac.short_mac(&[&covered]));
        }
        apdu(command.ins, &body)
    }

    /// What a successful answer says, once its mac holds. Either way the command is counted.
    pub(super) fn unwrap(&mut self, command: &Command, answer: &[u8]) -> Result<Vec<u8>, Garbled> {
        self.counter = self.counter.wrapping_add(1);
        if command.mode == Mode::Plain || command.ends_session {
            return Ok(answer.to_vec());
        }
        let at = answer.len().checked_sub(MAC_BYTES).ok_or(Garbled)?;
        let (data, mac) = answer.split_at(at);
        let counter = self.counter.to_le_bytes();
        let expected = self
            .mac
            .short_mac(&[&[SUCCESS], &counter, &self.transaction, data]);
        if !bool::from(expected.ct_eq(mac)) {
            return Err(Garbled);
        }
        match command.mode {
            Mode::Full if !data.is_empty() => self.decrypted(data),
            _ => Ok(data.to_vec()),
        }
    }

    fn encrypted(&self, plain: &[u8]) -> Vec<u8> {
        let mut data = plain.to_vec();
        data.push(PADDING);
        data.resize(data.len().next_multiple_of(AES_BYTES), 0);
        let whole = self.enc.encrypt(self.iv(IV_COMMAND), &mut data);
        debug_assert!(whole, "padded to whole blocks above");
        data
    }

    fn decrypted(&self, data: &[u8]) -> Result<Vec<u8>, Garbled> {
        let mut plain = data.to_vec();
        if !self.enc.decrypt(self.iv(IV_ANSWER), &mut plain) {
            return Err(Garbled);
        }
        let end = plain.iter().rposition(|byte| *byte != 0).ok_or(Garbled)?;
        if plain[end] != PADDING {
            return Err(Garbled);
        }
        plain.truncate(end);
        Ok(plain)
    }

    /// An answer's counter is already one further: it was counted before it was opened.
    fn iv(&self, label: [u8; 2]) -> [u8; AES_BYTES] {
        let mut block = [0; AES_BYTES];
        block[..2].copy_from_slice(&label);
        block[2..6].copy_from_slice(&self.transaction);
        block[6..8].copy_from_slice(&self.counter.to_le_bytes());
        self.enc.encrypt_block(block)
    }
}

fn turned(mut bytes: [u8; CHALLENGE]) -> [u8; CHALLENGE] {
    bytes.rotate_left(1);
    bytes
}

#[cfg(test)]
mod tests;
