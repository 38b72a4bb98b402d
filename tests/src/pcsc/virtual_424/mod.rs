//! What does an NTAG 424 DNA do with each command, and what does a phone see of it?
//!
//! Sans I/O: APDUs in, APDUs out, over real memory, after NXP's data sheet NT4H2421Gx. It shares the
//! agent's AES and nothing else, so a slip of the agent's is not made twice. A write is one frame or
//! is refused, as on a tag whose chained writing was switched off.

mod messaging;
mod settings;

use std::collections::VecDeque;

use messaging::{Messaging, Pending};
use protocol::aes_key::AesKey;
use settings::{Access, NEVER, Settings};

const FILE_BYTES: usize = 256;
const NDEF_FILE: u8 = 2;
const NDEF_EF: [u8; 2] = [0xE1, 0x04];
/// Of the 128 bytes of a frame: its own three, and what an APDU has besides data.
const APDU_MAX: usize = 125;

const DONE: u8 = 0x00;
const MORE: u8 = 0xAF;
const INTEGRITY: u8 = 0x1E;
const NO_SUCH_KEY: u8 = 0x40;
const LENGTH: u8 = 0x7E;
const DENIED: u8 = 0x9D;
const PARAMETER: u8 = 0x9E;
const AUTHENTICATION: u8 = 0xAE;
const BOUNDARY: u8 = 0xBE;
const COMMAND: u8 = 0x1C;
const NO_FILE: u8 = 0xF0;

/// How much of an exchange is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Plain,
    Mac,
    Full,
}

enum Granted {
    ByKey,
    ToAll,
}

/// An answer that is good, or the status of a refusal.
type Said = Result<Vec<u8>, u8>;

/// One NTAG 424 DNA.
#[derive(Clone)]
pub struct VirtualNtag424 {
    uid: [u8; 7],
    keys: [(AesKey, u8); 5],
    file: [u8; FILE_BYTES],
    settings: Settings,
    counter: u32,
    selected: bool,
    ef: bool,
    pending: Option<Pending>,
    session: Option<Messaging>,
    version_part: u8,
    /// What a phone is being shown: reads in a row are one.
    shown: Option<[u8; FILE_BYTES]>,
    chance: VecDeque<u8>,
    drawn: u64,
    writes: u32,
    failures: u32,
    is_worn_out: bool,
}

impl VirtualNtag424 {
    /// A chip as delivered: its keys zero, its file empty and free. `serial` tells tags apart.
    pub fn new(serial: u32) -> VirtualNtag424 {
        let s = serial.to_be_bytes();
        VirtualNtag424 {
            uid: [0x04, 0x42, 0x4D, s[0], s[1], s[2], s[3]],
            keys: std::array::from_fn(|_| (AesKey::DELIVERY, 0)),
            file: [0; FILE_BYTES],
            settings: Settings::delivered(),
            counter: 0,
            selected: false,
            ef: false,
            pending: None,
            session: None,
            version_part: 0,
            shown: None,
            chance: VecDeque::new(),
            drawn: 0,
            writes: 0,
            failures: 0,
            is_worn_out: false,
        }
    }

    /// A copy with the same UID, of somebody who does not have the keys.
    pub fn copied(&self) -> VirtualNtag424 {
        let mut copy = self.clone();
        for (key, _) in &mut copy.keys {
            *key = AesKey::from_bytes([0xC0; 16]);
        }
        copy
    }

    pub fn uid(&self) -> Vec<u8> {
        self.uid.to_vec()
    }

    /// Its file keeps what it holds, and the tag does not notice.
    pub fn wear_out(&mut self) {
        self.is_worn_out = true;
    }

    /// The same keys in another chip.
    pub fn set_uid(&mut self, uid: [u8; 7]) {
        self.uid = uid;
    }

    pub fn atr(&self) -> Vec<u8> {
        vec![0x3B, 0x81, 0x80, 0x01, 0x80, 0x80]
    }

    /// What is stored, not what is shown.
    pub fn file(&self) -> &[u8] {
        &self.file
    }

    pub fn counter(&self) -> u32 {
        self.counter
    }

    /// How often anything was programmed.
    pub fn writes(&self) -> u32 {
        self.writes
    }

    /// How often somebody proved not to have a key.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn key_versions(&self) -> [u8; 5] {
        std::array::from_fn(|slot| self.keys[slot].1)
    }

    /// As one who has the master key may.
    pub fn change_settings(&mut self, bytes: &[u8]) {
        self.settings = Settings::parse(bytes).expect("the settings of a test are sound");
    }

    /// What the next challenges are made of.
    pub fn script_chance(&mut self, bytes: &[u8]) {
        self.chance.extend(bytes);
    }

    /// A field appeared: nothing is selected, nobody is authenticated.
    pub fn power_up(&mut self) {
        self.selected = false;
        self.ef = false;
        self.pending = None;
        self.session = None;
        self.version_part = 0;
        self.shown = None;
    }

    /// What a phone finds in its own field: the NDEF message, or nothing that it would act on.
    pub fn read_by_phone(&mut self) -> Option<Vec<u8>> {
        self.power_up();
        let name = [0xD2, 0x76, 0x00, 0x00, 0x85, 0x01, 0x01];
        self.iso(&[&[0x00, 0xA4, 0x04, 0x00, 0x07], &name[..], &[0x00]].concat())?;
        self.iso(&[&[0x00, 0xA4, 0x00, 0x0C, 0x02], &NDEF_EF[..]].concat())?;
        let length = self.iso(&[0x00, 0xB0, 0x00, 0x00, 0x02])?;
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let mut message = Vec::new();
        while message.len() < length {
            let at = u8::try_from(2 + message.len()).ok()?;
            let count = u8::try_from((length - message.len()).min(59)).ok()?;
            message.extend(self.iso(&[0x00, 0xB0, 0x00, at, count])?);
        }
        (length > 0).then_some(message)
    }

    fn iso(&mut self, apdu: &[u8]) -> Option<Vec<u8>> {
        let answer = self.transmit(apdu);
        answer.strip_suffix(&[0x90, 0x00]).map(<[u8]>::to_vec)
    }

    /// One APDU.
    pub fn transmit(&mut self, apdu: &[u8]) -> Vec<u8> {
        if apdu.len() > APDU_MAX {
            return vec![0x91, DENIED];
        }
        if !matches!(apdu, [0x00, 0xB0, ..] | [0x90, 0xAD, ..]) {
            self.shown = None;
        }
        match apdu {
            [0x00, 0xA4, p1, _, rest @ ..] => self.select(*p1, rest),
            [0x00, 0xB0, high, low, count] => self.read_binary(*high, *low, *count),
            [0x90, ins, 0, 0, rest @ ..] => self.native(*ins, rest),
            _ => vec![0x6E, 0x00],
        }
    }

    fn select(&mut self, p1: u8, rest: &[u8]) -> Vec<u8> {
        self.session = None;
        self.pending = None;
        let data = match rest {
            [length, data @ ..] if data.len() >= usize::from(*length) => {
                &data[..usize::from(*length)]
            }
            _ => return vec![0x67, 0x00],
        };
        let found = match p1 {
            4 => {
                self.selected = data == [0xD2, 0x76, 0x00, 0x00, 0x85, 0x01, 0x01];
                self.selected
            }
            _ => {
                self.ef = self.selected && data == NDEF_EF;
                self.ef
            }
        };
        match found {
            true => vec![0x90, 0x00],
            false => vec![0x6A, 0x82],
        }
    }

    fn read_binary(&mut self, high: u8, low: u8, count: u8) -> Vec<u8> {
        if !self.ef || self.session.is_some() {
            return vec![0x69, 0x82];
        }
        if !self.settings.reads().contains(&Access::Free) {
            return vec![0x69, 0x82];
        }
        let at = usize::from(u16::from_be_bytes([high, low]));
        let count = match count {
            0 => FILE_BYTES,
            count => usize::from(count),
        };
        let shown = self.shown();
        match shown.get(at..) {
            Some(rest) => [&rest[..count.min(rest.len())], &[0x90, 0x00]].concat(),
            None => vec![0x6B, 0x00],
        }
    }

    /// The file as it is shown to who has not authenticated.
    fn shown(&mut self) -> [u8; FILE_BYTES] {
        if let Some(shown) = self.shown {
            return shown;
        }
        let mut shown = self.file;
        if self.settings.counts() {
            self.counter = (self.counter + 1).min(0x00FF_FFFF);
            let filler = self.draw();
            let keys = |slot: u8| self.keys[usize::from(slot)].0.clone();
            self.settings
                .mirror(&mut shown, self.uid, self.counter, filler, keys);
        }
        self.shown = Some(shown);
        shown
    }

    fn native(&mut self, ins: u8, rest: &[u8]) -> Vec<u8> {
        let body = match rest {
            [0] => &[][..],
            [length, body @ .., 0] if usize::from(*length) == body.len() => body,
            _ => return vec![0x91, LENGTH],
        };
        let (data, status) = match self.command(ins, body) {
            Ok((data, status)) => (data, status),
            Err(status) => {
                self.session = None;
                self.pending = None;
                (Vec::new(), status)
            }
        };
        [data, vec![0x91, status]].concat()
    }

    fn command(&mut self, ins: u8, body: &[u8]) -> Result<(Vec<u8>, u8), u8> {
        match (ins, body) {
            (0x60, []) if self.session.is_none() => {
                self.version_part = 1;
                return Ok((vec![0x04, 0x04, 0x02, 0x30, 0x00, 0x11, 0x05], MORE));
            }
            (0xAF, []) if self.version_part == 1 => {
                self.version_part = 2;
                return Ok((vec![0x04, 0x04, 0x02, 0x01, 0x02, 0x11, 0x05], MORE));
            }
            (0xAF, []) if self.version_part == 2 => {
                self.version_part = 0;
                let production = [0xCD, 0x65, 0x93, 0x5D, 0x40, 0x21, 0x18];
                return Ok(([&self.uid[..], &production].concat(), DONE));
            }
            _ => self.version_part = 0,
        }
        if !self.selected {
            return Err(DENIED);
        }
        match (ins, body) {
            (0x71, [slot, 0]) => Ok((self.challenge(*slot, None)?, MORE)),
            (0x77, [slot]) => {
                let before = self.session.take().ok_or(DENIED)?;
                Ok((self.challenge(*slot, Some(before))?, MORE))
            }
            (0xAF, proof) => {
                let pending = self.pending.take().ok_or(COMMAND)?;
                let transaction = self.draw();
                match pending.judge(proof, transaction) {
                    Some((session, answer)) => {
                        self.session = Some(session);
                        Ok((answer, DONE))
                    }
                    None => {
                        self.failures += 1;
                        Err(AUTHENTICATION)
                    }
                }
            }
            _ => Ok((self.secured(ins, body)?, DONE)),
        }
    }

    fn challenge(&mut self, slot: u8, before: Option<Messaging>) -> Said {
        let key = self
            .keys
            .get(usize::from(slot))
            .ok_or(NO_SUCH_KEY)?
            .0
            .clone();
        let (pending, challenge) = Pending::new(slot, key, self.draw(), before);
        self.session = None;
        self.pending = Some(pending);
        Ok(challenge)
    }

    /// Commands that go through secure messaging in a session.
    fn secured(&mut self, ins: u8, body: &[u8]) -> Said {
        let header = match ins {
            0x51 => 0,
            0x64 | 0xF5 | 0xF6 | 0x5F | 0xC4 => 1,
            0xAD | 0x8D => 7,
            _ => return Err(COMMAND),
        };
        let mode = self.mode(ins, body)?;
        let Some(mut session) = self.session.take() else {
            if body.len() < header {
                return Err(LENGTH);
            }
            return self.carry_out(ins, &body[..header], &body[header..]);
        };
        let data = session.opened(ins, header, body, mode).ok_or(INTEGRITY)?;
        // Commands look for the session to know who asks.
        self.session = Some(session);
        let answer = self.carry_out(ins, &body[..header], &data)?;
        let changes_master = ins == 0xC4 && body[0] == 0;
        let mut session = self.session.take().ok_or(AUTHENTICATION)?;
        let sealed = session.sealed(&answer, mode);
        if changes_master {
            return Ok(Vec::new());
        }
        self.session = Some(session);
        Ok(sealed)
    }

    /// How this command must come, given who asks.
    fn mode(&self, ins: u8, body: &[u8]) -> Result<Mode, u8> {
        let in_session = |mode| match self.session {
            Some(_) => mode,
            None => Mode::Plain,
        };
        Ok(match ins {
            0x64 | 0xF5 => in_session(Mode::Mac),
            0x51 if self.session.is_none() => return Err(AUTHENTICATION),
            0x51 => Mode::Full,
            0xC4 if self.slot() != Some(0) => return Err(AUTHENTICATION),
            0xC4 => Mode::Full,
            0x5F => match self.granted(&[self.settings.change()])? {
                Granted::ByKey => Mode::Full,
                Granted::ToAll => Mode::Plain,
            },
            0xF6 if !self.settings.is_sdm() => return Err(DENIED),
            0xF6 => match self.granted(&[self.settings.counter_read()])? {
                Granted::ByKey => Mode::Full,
                Granted::ToAll => in_session(Mode::Mac),
            },
            0xAD => self.data_mode(&self.settings.reads())?,
            0x8D if body.first() != Some(&NDEF_FILE) => return Err(NO_FILE),
            _ => self.data_mode(&self.settings.writes())?,
        })
    }

    /// A key that fits gives the file's mode; what is free to all stays plain.
    fn data_mode(&self, rights: &[Access]) -> Result<Mode, u8> {
        Ok(match self.granted(rights)? {
            Granted::ByKey => self.settings.mode(),
            Granted::ToAll => Mode::Plain,
        })
    }

    fn granted(&self, rights: &[Access]) -> Result<Granted, u8> {
        let slot = self.slot();
        let fits = |right: &Access| matches!(right, Access::Key(key) if Some(*key) == slot);
        if rights.iter().any(fits) {
            return Ok(Granted::ByKey);
        }
        if rights.contains(&Access::Free) {
            return Ok(Granted::ToAll);
        }
        match rights.iter().all(|right| *right == NEVER) {
            true => Err(DENIED),
            false => Err(AUTHENTICATION),
        }
    }

    fn slot(&self) -> Option<u8> {
        self.session.as_ref().map(Messaging::slot)
    }

    fn carry_out(&mut self, ins: u8, header: &[u8], data: &[u8]) -> Said {
        if matches!(ins, 0xF5 | 0xF6 | 0x5F | 0xAD | 0x8D) && header[0] != NDEF_FILE {
            return Err(NO_FILE);
        }
        match ins {
            0x51 => Ok(self.uid.to_vec()),
            0x64 => {
                let key = self.keys.get(usize::from(header[0]));
                key.map(|(_, version)| vec![*version]).ok_or(NO_SUCH_KEY)
            }
            0xF5 => Ok(self.settings.told()),
            0xF6 => Ok([&self.counter.to_le_bytes()[..3], &[0, 0]].concat()),
            0x5F => {
                self.settings = Settings::parse(data).ok_or(PARAMETER)?;
                self.counter = 0;
                self.writes += 1;
                Ok(Vec::new())
            }
            0xC4 => self.change_key(header[0], data),
            0xAD => self.read_data(header),
            _ => self.write_data(header, data),
        }
    }

    fn change_key(&mut self, slot: u8, data: &[u8]) -> Said {
        let at = usize::from(slot);
        let old = self.keys.get(at).ok_or(NO_SUCH_KEY)?.0.clone();
        let (mut new, version) = match (slot, data) {
            (0, [key @ .., version]) if key.len() == 16 => (key.to_vec(), *version),
            (1.., [key @ .., version, _, _, _, _]) if key.len() == 16 => (key.to_vec(), *version),
            _ => return Err(LENGTH),
        };
        if slot > 0 {
            (0..16).for_each(|i| new[i] ^= old.expose()[i]);
            if messaging::crc(&new) != data[17..] {
                return Err(INTEGRITY);
            }
        }
        let new: [u8; 16] = new.try_into().map_err(|_| LENGTH)?;
        self.keys[at] = (AesKey::from_bytes(new), version);
        self.writes += 1;
        Ok(Vec::new())
    }

    fn read_data(&mut self, header: &[u8]) -> Said {
        let (at, count) = span(header);
        let file = match self.session {
            Some(_) => self.file,
            None => self.shown(),
        };
        let rest = file.get(at..).ok_or(BOUNDARY)?;
        match count {
            0 => Ok(rest.to_vec()),
            count => rest.get(..count).map(<[u8]>::to_vec).ok_or(BOUNDARY),
        }
    }

    fn write_data(&mut self, header: &[u8], data: &[u8]) -> Said {
        let (at, count) = span(header);
        if count != data.len() {
            return Err(LENGTH);
        }
        let room = self.file.get_mut(at..at + count).ok_or(BOUNDARY)?;
        if !self.is_worn_out {
            room.copy_from_slice(data);
        }
        self.writes += 1;
        Ok(Vec::new())
    }

    fn draw(&mut self) -> [u8; 16] {
        if self.chance.len() >= 16 {
            return std::array::from_fn(|_| self.chance.pop_front().unwrap_or_default());
        }
        self.drawn += 1;
        let mut block = [0; 16];
        block[..8].copy_from_slice(&self.drawn.to_le_bytes());
        AesKey::from_bytes([0xD1; 16]).encrypt_block(block)
    }
}

fn span(header: &[u8]) -> (usize, usize) {
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], 0]);
    (number(1) as usize, number(4) as usize)
}

#[cfg(test)]
mod tests;
