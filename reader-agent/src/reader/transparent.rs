//! How do an ACR1252U and an ACR1552U let native commands through?
//!
//! By the transparent session of PC/SC part 3: opened, one exchange, closed. Whether the tag still
//! knows afterwards who authenticated is the reader's affair, and tried before it is relied on.

use crate::tag::{Card, NativeError, NativeTransceive};

const OPEN: [u8; 7] = [0xFF, 0xC2, 0x00, 0x00, 0x02, 0x81, 0x00];
const CLOSE: [u8; 7] = [0xFF, 0xC2, 0x00, 0x00, 0x02, 0x82, 0x00];
/// ISO 14443A, layer 3: what is sent goes to the tag as it is.
const LAYER_3: [u8; 9] = [0xFF, 0xC2, 0x00, 0x02, 0x04, 0x8F, 0x02, 0x00, 0x03];
const EXCHANGE: [u8; 4] = [0xFF, 0xC2, 0x00, 0x01];
/// Longer than a tag writes a page; the readers' own limit is shorter.
const TIMEOUT_US: u32 = 20_000;
const TIMER: [u8; 3] = [0x5F, 0x46, 0x04];
const TRANSCEIVE: u8 = 0x95;
const STATUS: u8 = 0x96;
const DATA: u8 = 0x97;
/// By their manuals ("antenna field", "RF control"): off, and on with polling.
pub(super) const FIELD_OFF: [&[u8]; 1] = [&[0xE0, 0x00, 0x00, 0x25, 0x01, 0x00]];
pub(super) const FIELD_ON: [&[u8]; 1] = [&[0xE0, 0x00, 0x00, 0x25, 0x01, 0x01]];

const NATIVE_MAX: usize = 64;

/// Which of the family this reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Knows by itself which layer a storage card is on.
    Acr1252,
    /// Has to be told.
    Acr1552,
}

impl Kind {
    pub(super) fn of(reader_name: &str) -> Option<Kind> {
        if reader_name.contains("1552") {
            return Some(Kind::Acr1552);
        }
        reader_name.contains("1252").then_some(Kind::Acr1252)
    }
}

/// Native commands in a transparent session.
pub(super) struct Native<T>(pub(super) T, pub(super) Kind);

impl<T: Card> NativeTransceive for Native<T> {
    fn transceive(&mut self, command: &[u8]) -> Result<Vec<u8>, NativeError> {
        self.accepted(&OPEN)?;
        let answer = self.exchange(command);
        // An open session keeps everybody else from the tag.
        self.accepted(&CLOSE)?;
        answer
    }
}

impl<T: Card> Native<T> {
    fn exchange(&self, command: &[u8]) -> Result<Vec<u8>, NativeError> {
        if self.1 == Kind::Acr1552 {
            self.accepted(&LAYER_3)?;
        }
        let answer = self.0.transmit(&wrapped(command))?;
        unwrapped(&answer).ok_or(NativeError::Refused)
    }

    fn accepted(&self, apdu: &[u8]) -> Result<(), NativeError> {
        match self.0.transmit(apdu)?.ends_with(&[0x90, 0x00]) {
            true => Ok(()),
            false => Err(NativeError::Refused),
        }
    }
}

fn wrapped(command: &[u8]) -> Vec<u8> {
    let command = &command[..command.len().min(NATIVE_MAX)];
    let mut body = TIMER.to_vec();
    body.extend(TIMEOUT_US.to_le_bytes());
    body.extend([TRANSCEIVE, command.len() as u8]);
    body.extend_from_slice(command);
    [&EXCHANGE[..], &[body.len() as u8], &body, &[0x00]].concat()
}

/// The data, if the reader says that the tag answered without error.
fn unwrapped(answer: &[u8]) -> Option<Vec<u8>> {
    let mut rest = answer.strip_suffix(&[0x90, 0x00])?;
    let (mut is_clean, mut data) = (false, None);
    while let [tag, length, after @ ..] = rest {
        let (value, next) = after.split_at_checked(usize::from(*length))?;
        match *tag {
            STATUS => is_clean = value.first() == Some(&0),
            DATA => data = Some(value.to_vec()),
            _ => {}
        }
        rest = next;
    }
    data.filter(|data| is_clean && !is_refusal(data))
}

/// Four bits instead of an answer: all but 1010 are a no.
fn is_refusal(data: &[u8]) -> bool {
    matches!(data, [nibble] if *nibble < 0x10 && *nibble != 0x0A)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_told_by_name() {
        assert_eq!(
            Kind::of("ACS ACR1252 1S CL Reader [ACR1252 Reader PICC] 00 00"),
            Some(Kind::Acr1252)
        );
        assert_eq!(
            Kind::of("ACS ACR1552 1S CL Reader PICC 0"),
            Some(Kind::Acr1552)
        );
        assert_eq!(Kind::of("ACS ACR122U PICC Interface 00 00"), None);
    }

    #[test]
    fn a_command_goes_with_a_time_limit_and_its_length() {
        assert_eq!(
            wrapped(&[0x39, 0x02]),
            [
                0xFF, 0xC2, 0, 1, 11, 0x5F, 0x46, 4, 0x20, 0x4E, 0, 0, 0x95, 2, 0x39, 0x02, 0
            ]
        );
    }

    #[test]
    fn an_answer_counts_only_without_an_error() {
        let good = [0x96, 2, 0, 0, 0x97, 3, 7, 8, 9, 0x90, 0];
        assert_eq!(unwrapped(&good), Some(vec![7, 8, 9]));
        for bad in [
            &[0x96, 2, 1, 0, 0x97, 3, 7, 8, 9, 0x90, 0][..],
            &[0x96, 2, 0, 0, 0x97, 1, 0x04, 0x90, 0],
            &[0x96, 2, 0, 0, 0x97, 9, 7, 0x90, 0],
            &[0x97, 3, 7, 8, 9, 0x90, 0],
            &[0x63, 0x00],
            &[],
        ] {
            assert_eq!(unwrapped(bad), None, "{bad:02X?}");
        }
        let acknowledged = [0x96, 2, 0, 0, 0x97, 1, 0x0A, 0x90, 0];
        assert_eq!(unwrapped(&acknowledged), Some(vec![0x0A]));
    }
}
