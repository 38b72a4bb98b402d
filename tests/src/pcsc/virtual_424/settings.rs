//! Which rights and mirrors does the NDEF file have, and what comes of them when it is read?

use super::messaging::every_second;
use super::{FILE_BYTES, Mode};
use protocol::aes_key::AesKey;

/// What opens something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Key(u8),
    Free,
    Never,
}

pub(super) const NEVER: Access = Access::Never;

#[derive(Clone, Debug)]
pub(super) struct Settings {
    raw: Vec<u8>,
    mode: Mode,
    sdm: Option<Mirrors>,
}

#[derive(Clone, Debug)]
struct Mirrors {
    options: u8,
    counter_read: Access,
    meta: Access,
    mac: Access,
    picc_at: usize,
    covered_from: usize,
    mac_at: usize,
}

impl Settings {
    pub(super) fn delivered() -> Settings {
        Settings::parse(&[0x00, 0xE0, 0xEE]).expect("these are of the factory")
    }

    /// As `ChangeFileSettings` brings them; of the mirrors those with encrypted PICC data, or none.
    pub(super) fn parse(bytes: &[u8]) -> Option<Settings> {
        let [option, first, second, rest @ ..] = bytes else {
            return None;
        };
        let mode = match option & !0x40 {
            0 => Mode::Plain,
            1 => Mode::Mac,
            3 => Mode::Full,
            _ => return None,
        };
        for right in [first >> 4, first & 15, second >> 4, second & 15] {
            access(right)?;
        }
        let sdm = match option & 0x40 {
            0 if rest.is_empty() => None,
            0 => return None,
            _ => Some(Mirrors::parse(rest)?),
        };
        Some(Settings {
            raw: bytes.to_vec(),
            mode,
            sdm,
        })
    }

    /// As `GetFileSettings` tells them.
    pub(super) fn told(&self) -> Vec<u8> {
        [&[0x00], &self.raw[..3], &[0x00, 0x01, 0x00], &self.raw[3..]].concat()
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn is_sdm(&self) -> bool {
        self.sdm.is_some()
    }

    pub(super) fn counts(&self) -> bool {
        self.sdm.as_ref().is_some_and(|sdm| sdm.options & 0x40 != 0)
    }

    pub(super) fn change(&self) -> Access {
        right(self.raw[1] & 15)
    }

    pub(super) fn reads(&self) -> [Access; 2] {
        [right(self.raw[2] >> 4), right(self.raw[1] >> 4)]
    }

    pub(super) fn writes(&self) -> [Access; 2] {
        [right(self.raw[2] & 15), right(self.raw[1] >> 4)]
    }

    pub(super) fn counter_read(&self) -> Access {
        self.sdm.as_ref().map_or(NEVER, |sdm| sdm.counter_read)
    }

    /// Puts what a phone shall see into a copy of the file.
    pub(super) fn mirror(
        &self,
        file: &mut [u8; FILE_BYTES],
        uid: [u8; 7],
        counter: u32,
        filler: [u8; 16],
        key: impl Fn(u8) -> AesKey,
    ) {
        let Some(sdm) = &self.sdm else { return };
        let counter = &counter.to_le_bytes()[..3];
        if let Access::Key(slot) = sdm.meta {
            let mut picc = filler;
            picc[0] = 0xC7;
            picc[1..8].copy_from_slice(&uid);
            picc[8..11].copy_from_slice(counter);
            assert!(key(slot).encrypt([0; 16], &mut picc));
            put(file, sdm.picc_at, &picc);
        }
        if let Access::Key(slot) = sdm.mac {
            let label = [0x3C, 0xC3, 0x00, 0x01, 0x00, 0x80];
            let vector = [&label[..], &uid, counter].concat();
            let session = AesKey::from_bytes(key(slot).cmac(&[&vector]));
            let mac = every_second(session.cmac(&[&file[sdm.covered_from..sdm.mac_at]]));
            put(file, sdm.mac_at, &mac);
        }
    }
}

impl Mirrors {
    fn parse(bytes: &[u8]) -> Option<Mirrors> {
        let [options, first, second, rest @ ..] = bytes else {
            return None;
        };
        let (uid, counted) = (options & 0x80 != 0, options & 0x40 != 0);
        // Limits and encrypted file data are not played here.
        if options & 0x3E != 0 || options & 1 == 0 || first >> 4 != 0xF {
            return None;
        }
        let mut mirrors = Mirrors {
            options: *options,
            counter_read: access(first & 15)?,
            meta: access(second >> 4)?,
            mac: access(second & 15).filter(|mac| *mac != Access::Free)?,
            picc_at: 0,
            covered_from: 0,
            mac_at: 0,
        };
        let mut offsets = rest.chunks(3).map(|three| match three {
            [a, b, c] => Some(u32::from_le_bytes([*a, *b, *c, 0])),
            _ => None,
        });
        let mut next = || offsets.next().flatten();
        match mirrors.meta {
            NEVER if uid => return None,
            NEVER => {}
            _ if !uid && !counted => return None,
            // Only a counter that is mirrored nowhere.
            Access::Free if !uid => (next()? == 0x00FF_FFFF).then_some(())?,
            Access::Free => return None,
            Access::Key(_) => mirrors.picc_at = within(next()?, 32)?,
        }
        if !counted && mirrors.counter_read != NEVER {
            return None;
        }
        if mirrors.mac != NEVER {
            mirrors.covered_from = within(next()?, 0)?;
            mirrors.mac_at = within(next()?, 16)?;
            let overlap = mirrors.meta != NEVER
                && mirrors.picc_at < mirrors.mac_at + 16
                && mirrors.mac_at < mirrors.picc_at + 32;
            if mirrors.covered_from > mirrors.mac_at || overlap {
                return None;
            }
        }
        offsets.next().is_none().then_some(mirrors)
    }
}

fn access(nibble: u8) -> Option<Access> {
    match nibble {
        0..=4 => Some(Access::Key(nibble)),
        0xE => Some(Access::Free),
        0xF => Some(NEVER),
        _ => None,
    }
}

fn right(nibble: u8) -> Access {
    access(nibble).unwrap_or(NEVER)
}

fn within(offset: u32, length: usize) -> Option<usize> {
    let at = usize::try_from(offset).ok()?;
    (at + length <= FILE_BYTES).then_some(at)
}

/// As hexadecimal digits.
fn put(file: &mut [u8; FILE_BYTES], at: usize, bytes: &[u8]) {
    let text: String = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
    file[at..at + text.len()].copy_from_slice(text.as_bytes());
}
