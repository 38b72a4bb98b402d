//! How does the tag's side of a session go?

use super::Mode;
use protocol::aes_key::AesKey;

/// A challenge is out, the proof is awaited.
#[derive(Clone)]
pub(super) struct Pending {
    slot: u8,
    key: AesKey,
    challenge: [u8; 16],
    before: Option<Messaging>,
}

impl Pending {
    pub(super) fn new(
        slot: u8,
        key: AesKey,
        challenge: [u8; 16],
        before: Option<Messaging>,
    ) -> (Pending, Vec<u8>) {
        let mut sent = challenge;
        assert!(key.encrypt([0; 16], &mut sent));
        let pending = Pending {
            slot,
            key,
            challenge,
            before,
        };
        (pending, sent.to_vec())
    }

    /// The session and our half of the proof, if theirs is right.
    pub(super) fn judge(self, proof: &[u8], chance: [u8; 16]) -> Option<(Messaging, Vec<u8>)> {
        let mut plain: [u8; 32] = proof.try_into().ok()?;
        if !self.key.decrypt([0; 16], &mut plain) {
            return None;
        }
        let (a, turned_b) = plain.split_at(16);
        let b = self.challenge;
        if turned_b[15] != b[0] || turned_b[..15] != b[1..] {
            return None;
        }
        let mut tail = a[..2].to_vec();
        tail.extend(a[2..8].iter().zip(&b[..6]).map(|(a, b)| a ^ b));
        tail.extend_from_slice(&b[6..]);
        tail.extend_from_slice(&a[8..]);
        let derive = |label: [u8; 2]| {
            let vector = [&label[..], &[0x00, 0x01, 0x00, 0x80], &tail].concat();
            AesKey::from_bytes(self.key.cmac(&[&vector]))
        };
        let turned_a = [&a[1..], &a[..1]].concat();
        let (transaction, counter, mut answer) = match &self.before {
            Some(before) => (before.transaction, before.counter, turned_a),
            None => {
                let transaction = [chance[0], chance[1], chance[2], chance[3]];
                let capabilities = [0; 12];
                let answer = [&transaction[..], &turned_a, &capabilities].concat();
                (transaction, 0, answer)
            }
        };
        assert!(self.key.encrypt([0; 16], &mut answer));
        let session = Messaging {
            slot: self.slot,
            enc: derive([0xA5, 0x5A]),
            mac: derive([0x5A, 0xA5]),
            transaction,
            counter,
        };
        Some((session, answer))
    }
}

/// Somebody has proved to have a key.
#[derive(Clone)]
pub(super) struct Messaging {
    slot: u8,
    enc: AesKey,
    mac: AesKey,
    transaction: [u8; 4],
    counter: u16,
}

impl Messaging {
    pub(super) fn slot(&self) -> u8 {
        self.slot
    }

    /// A command that is not played here was carried out.
    #[cfg(test)]
    pub(super) fn count(&mut self) {
        self.counter += 1;
    }

    /// What a command carries behind its header, if its mac is right; it is counted.
    pub(super) fn opened(
        &mut self,
        ins: u8,
        header: usize,
        body: &[u8],
        mode: Mode,
    ) -> Option<Vec<u8>> {
        if mode == Mode::Plain {
            self.counter += 1;
            return body.get(header..).map(<[u8]>::to_vec);
        }
        let (covered, mac) = body.split_at_checked(body.len().checked_sub(8)?)?;
        let place = self.counter.to_le_bytes();
        let input = [&[ins], &place[..], &self.transaction, covered].concat();
        if every_second(self.mac.cmac(&[&input])) != mac {
            return None;
        }
        let mut data = covered.get(header..)?.to_vec();
        if mode == Mode::Full && !data.is_empty() {
            if !self.enc.decrypt(self.iv([0xA5, 0x5A]), &mut data) {
                return None;
            }
            let end = data.iter().rposition(|byte| *byte != 0)?;
            (data[end] == 0x80).then(|| data.truncate(end))?;
        }
        self.counter += 1;
        Some(data)
    }

    pub(super) fn sealed(&mut self, plain: &[u8], mode: Mode) -> Vec<u8> {
        if mode == Mode::Plain {
            return plain.to_vec();
        }
        let mut data = plain.to_vec();
        if mode == Mode::Full && !data.is_empty() {
            data.push(0x80);
            data.resize(data.len().div_ceil(16) * 16, 0);
            assert!(self.enc.encrypt(self.iv([0x5A, 0xA5]), &mut data));
        }
        let place = self.counter.to_le_bytes();
        let input = [&[0x00], &place[..], &self.transaction, &data].concat();
        let mac = every_second(self.mac.cmac(&[&input]));
        [data, mac].concat()
    }

    fn iv(&self, label: [u8; 2]) -> [u8; 16] {
        let place = self.counter.to_le_bytes();
        let block = [&label[..], &self.transaction, &place, &[0; 8]].concat();
        let block: [u8; 16] = block.try_into().expect("2 + 4 + 2 + 8 are 16");
        self.enc.encrypt_block(block)
    }
}

pub(super) fn every_second(mac: [u8; 16]) -> Vec<u8> {
    mac.into_iter().skip(1).step_by(2).collect()
}

/// CRC-32 without its last inversion, least significant byte first.
pub(super) fn crc(bytes: &[u8]) -> [u8; 4] {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let low = crc & 1;
            crc >>= 1;
            crc ^= if low == 1 { 0xEDB8_8320 } else { 0 };
        }
    }
    crc.to_le_bytes()
}
