//! Who may do what with the file that phones read, and what does the tag put into it?
//!
//! Everybody reads, the terminal's key writes, the master key changes the settings. A tag that signs
//! its links has to know where in the file the link begins and ends, so the settings depend on how
//! long the host's name is.

use protocol::sun::{FromEnd, KeySlot};

use super::file::LENGTH_FIELD;
use crate::tag::TagError;

const FREE: u8 = 0xE;
const NEVER: u8 = 0xF;
const STANDARD_FILE: u8 = 0x00;
const FILE_SIZE: [u8; 3] = [0x00, 0x01, 0x00];
const SDM_ON: u8 = 0x40;
const MAC_MODE: u8 = 0x01;
const MIRROR_UID: u8 = 0x80;
const MIRROR_COUNTER: u8 = 0x40;
const ASCII: u8 = 0x01;
const NOWHERE: [u8; 3] = [0xFF; 3];
/// Plain, free for everybody but for the settings: as delivered.
const DELIVERED: [u8; 3] = [0x00, 0xE0, 0xEE];

/// What a tag does with the link when a phone reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mirror {
    /// Only counts.
    Plain,
    /// Signs it. The NDEF message is this long.
    Signed { message: u8 },
}

/// The settings of the NDEF file as `ChangeFileSettings` takes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSettings(Vec<u8>);

impl FileSettings {
    /// Of a tag that came from the factory.
    pub(super) fn delivered() -> Self {
        Self(DELIVERED.to_vec())
    }

    /// Of a terminal's tag.
    pub(super) fn of(mirror: Mirror) -> Result<Self, TagError> {
        let writer = KeySlot::Write.number();
        let mut bytes = vec![
            SDM_ON | MAC_MODE,
            rights(writer, KeySlot::Master.number()),
            rights(FREE, writer),
        ];
        match mirror {
            Mirror::Plain => {
                bytes.extend([MIRROR_COUNTER | ASCII]);
                bytes.extend([rights(NEVER, writer), rights(FREE, NEVER)]);
                bytes.extend(NOWHERE);
            }
            Mirror::Signed { message } => {
                let end = LENGTH_FIELD + usize::from(message);
                bytes.extend([MIRROR_UID | MIRROR_COUNTER | ASCII]);
                let (meta, mac) = (KeySlot::Meta.number(), KeySlot::Mac.number());
                bytes.extend([rights(NEVER, writer), rights(meta, mac)]);
                for from_end in [FromEnd::PICC, FromEnd::COVERED, FromEnd::MAC] {
                    bytes.extend(offset(end, from_end)?);
                }
            }
        }
        Ok(Self(bytes))
    }

    /// Reads what `GetFileSettings` answers; `None` if this is no file of ours.
    pub(super) fn read(answer: &[u8]) -> Option<Self> {
        match answer {
            [STANDARD_FILE, option, a, b, size @ ..] => {
                let rest = size.strip_prefix(&FILE_SIZE)?;
                Some(Self([&[*option, *a, *b], rest].concat()))
            }
            _ => None,
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Two access rights in one byte; a key's number, free or never.
const fn rights(high: u8, low: u8) -> u8 {
    high << 4 | low
}

fn offset(end: usize, from_end: usize) -> Result<[u8; 3], TagError> {
    let at = end.checked_sub(from_end);
    let at = at.and_then(|at| u8::try_from(at).ok());
    at.map(|at| [at, 0, 0]).ok_or(TagError::Bug)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_counting_file_is_read_by_all_and_written_by_one() {
        let settings = FileSettings::of(Mirror::Plain).unwrap();
        assert_eq!(
            settings.as_bytes(),
            [0x41, 0x10, 0xE1, 0x41, 0xF1, 0xEF, 0xFF, 0xFF, 0xFF]
        );
    }

    #[test]
    fn a_signing_file_covers_from_the_terminal_to_the_mac() {
        // 5 bytes of NDEF, host of 16, "/t/", 8 digits, dot, 26, dot, 32, dot, 16.
        let settings = FileSettings::of(Mirror::Signed { message: 109 }).unwrap();
        let (covered, picc, mac) = (2 + 5 + 16 + 3, 2 + 5 + 16 + 3 + 36, 2 + 109 - 16);
        assert_eq!(
            settings.as_bytes(),
            [
                0x41, 0x10, 0xE1, 0xC1, 0xF1, 0x23, picc, 0, 0, covered, 0, 0, mac, 0, 0
            ]
        );
        assert!(FileSettings::of(Mirror::Signed { message: 20 }).is_err());
    }

    #[test]
    fn what_the_tag_answers_is_what_was_set() {
        for settings in [
            FileSettings::delivered(),
            FileSettings::of(Mirror::Plain).unwrap(),
            FileSettings::of(Mirror::Signed { message: 109 }).unwrap(),
        ] {
            let [option, a, b, rest @ ..] = settings.as_bytes() else {
                unreachable!("settings have three bytes at least");
            };
            let answer = [&[0, *option, *a, *b, 0, 1, 0], rest].concat();
            assert_eq!(FileSettings::read(&answer), Some(settings));
        }
        assert_eq!(FileSettings::read(&[1, 0, 0xE0, 0xEE, 0, 1, 0]), None);
        assert_eq!(FileSettings::read(&[0, 0, 0xE0, 0xEE, 0, 2, 0]), None);
        assert_eq!(FileSettings::read(&[0, 0]), None);
    }
}
