//! Which commands of an NTAG 424 DNA do we use, and how are they written?
//!
//! All in ISO 7816 dress: `90 command 00 00 length … 00`, answered with `91` and a status.

use protocol::aes_key::{AES_BYTES, AesKey};
use protocol::sun::KeySlot;
use zeroize::Zeroizing;

const CLA: u8 = 0x90;
const STATUS: u8 = 0x91;
const SUCCESS: u8 = 0x00;
const ADDITIONAL_FRAME: u8 = 0xAF;

const GET_VERSION: u8 = 0x60;
const GET_KEY_VERSION: u8 = 0x64;
const GET_CARD_UID: u8 = 0x51;
const GET_FILE_SETTINGS: u8 = 0xF5;
const CHANGE_FILE_SETTINGS: u8 = 0x5F;
const GET_FILE_COUNTERS: u8 = 0xF6;
const READ_DATA: u8 = 0xAD;
const WRITE_DATA: u8 = 0x8D;
const CHANGE_KEY: u8 = 0xC4;

/// The file that phones read.
pub(super) const NDEF_FILE: u8 = 0x02;
/// SELECT of the NDEF application by its name (NFC Forum type 4 tag).
pub(super) const SELECT_NDEF: [u8; 13] = [
    0x00, 0xA4, 0x04, 0x0C, 0x07, 0xD2, 0x76, 0x00, 0x00, 0x85, 0x01, 0x01, 0x00,
];

/// How much of a command and its answer is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Plain,
    /// Nobody can change it.
    Mac,
    /// Nobody can read it either.
    Full,
}

/// One command; `header` is never encrypted.
pub(super) struct Command {
    pub ins: u8,
    pub header: Vec<u8>,
    pub data: Zeroizing<Vec<u8>>,
    pub mode: Mode,
    /// The tag forgets the session with it, and its answer carries no mac.
    pub ends_session: bool,
}

impl Command {
    pub(super) fn get_version() -> Self {
        Self::new(GET_VERSION, &[], Mode::Plain)
    }

    /// The next part of an answer in parts.
    pub(super) fn go_on() -> Self {
        Self::new(ADDITIONAL_FRAME, &[], Mode::Plain)
    }

    pub(super) fn get_key_version(slot: KeySlot) -> Self {
        Self::new(GET_KEY_VERSION, &[slot.number()], Mode::Plain)
    }

    pub(super) fn get_card_uid() -> Self {
        Self::new(GET_CARD_UID, &[], Mode::Full)
    }

    pub(super) fn get_file_settings(mode: Mode) -> Self {
        Self::new(GET_FILE_SETTINGS, &[NDEF_FILE], mode)
    }

    pub(super) fn change_file_settings(settings: &[u8]) -> Self {
        Self::new(CHANGE_FILE_SETTINGS, &[NDEF_FILE], Mode::Full).with(settings)
    }

    pub(super) fn get_file_counters() -> Self {
        Self::new(GET_FILE_COUNTERS, &[NDEF_FILE], Mode::Full)
    }

    pub(super) fn read(offset: u8, length: u8, mode: Mode) -> Self {
        Self::new(READ_DATA, &at(offset, length), mode)
    }

    /// At most [`super::file::WRITE_MAX`] bytes, or it is more than one frame.
    pub(super) fn write(offset: u8, data: &[u8], mode: Mode) -> Self {
        let length = u8::try_from(data.len()).unwrap_or(u8::MAX);
        Self::new(WRITE_DATA, &at(offset, length), mode).with(data)
    }

    /// Puts another key into a slot; under the master key only.
    pub(super) fn change_key(slot: KeySlot, old: &AesKey, new: &AesKey, version: u8) -> Self {
        let mut data = Zeroizing::new(new.expose().to_vec());
        if slot != KeySlot::Master {
            (0..AES_BYTES).for_each(|i| data[i] ^= old.expose()[i]);
        }
        data.push(version);
        if slot != KeySlot::Master {
            data.extend(crc32(new.expose()));
        }
        let mut command = Self::new(CHANGE_KEY, &[slot.number()], Mode::Full);
        command.data = data;
        command.ends_session = slot == KeySlot::Master;
        command
    }

    /// As it is sent outside a session.
    pub(super) fn bare(&self) -> Vec<u8> {
        apdu(self.ins, &[self.header.as_slice(), &self.data].concat())
    }

    fn new(ins: u8, header: &[u8], mode: Mode) -> Self {
        Self {
            ins,
            header: header.to_vec(),
            data: Zeroizing::default(),
            mode,
            ends_session: false,
        }
    }

    fn with(mut self, data: &[u8]) -> Self {
        self.data = Zeroizing::new(data.to_vec());
        self
    }
}

/// What the tag said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done(Vec<u8>),
    /// There is more: ask with [`Command::go_on`], or answer the challenge.
    More(Vec<u8>),
    Refused(u8),
    /// Not an answer of such a tag.
    Foreign,
}

impl Answer {
    pub(super) fn of(response: &[u8]) -> Self {
        match response {
            [data @ .., STATUS, SUCCESS] => Self::Done(data.to_vec()),
            [data @ .., STATUS, ADDITIONAL_FRAME] => Self::More(data.to_vec()),
            [.., STATUS, status] => Self::Refused(*status),
            _ => Self::Foreign,
        }
    }
}

pub(super) fn apdu(ins: u8, body: &[u8]) -> Vec<u8> {
    let mut apdu = vec![CLA, ins, 0x00, 0x00];
    if !body.is_empty() {
        // Every command here is far below a short APDU's 255 bytes.
        apdu.push(u8::try_from(body.len()).unwrap_or(u8::MAX));
        apdu.extend_from_slice(body);
    }
    apdu.push(0x00);
    apdu
}

fn at(offset: u8, length: u8) -> [u8; 7] {
    [NDEF_FILE, offset, 0, 0, length, 0, 0]
}

/// CRC-32 of IEEE 802.3 without its last inversion, least significant byte first.
fn crc32(bytes: &[u8]) -> [u8; 4] {
    let bit = |crc: u32, _| match crc & 1 {
        1 => (crc >> 1) ^ 0xEDB8_8320,
        _ => crc >> 1,
    };
    let byte = |crc: u32, byte: &u8| (0..8).fold(crc ^ u32::from(*byte), bit);
    bytes.iter().fold(u32::MAX, byte).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_without_data_has_no_length() {
        assert_eq!(Command::get_version().bare(), [0x90, 0x60, 0, 0, 0]);
        assert_eq!(
            Command::get_file_settings(Mode::Plain).bare(),
            [0x90, 0xF5, 0, 0, 1, 2, 0]
        );
    }

    #[test]
    fn an_answer_is_what_its_last_two_bytes_say() {
        assert_eq!(Answer::of(&[7, 0x91, 0x00]), Answer::Done(vec![7]));
        assert_eq!(Answer::of(&[7, 0x91, 0xAF]), Answer::More(vec![7]));
        assert_eq!(Answer::of(&[0x91, 0xAE]), Answer::Refused(0xAE));
        for foreign in [&[0x90, 0x00][..], &[0x91], &[]] {
            assert_eq!(Answer::of(foreign), Answer::Foreign);
        }
    }

    #[test]
    fn the_crc_of_a_new_key_is_the_published_one() {
        let key = [
            0xF3, 0x84, 0x7D, 0x62, 0x77, 0x27, 0xED, 0x3B, 0xC9, 0xC4, 0xCC, 0x05, 0x04, 0x89,
            0xB9, 0x66,
        ];
        assert_eq!(crc32(&key), [0x78, 0x9D, 0xFA, 0xDC]);
    }
}
