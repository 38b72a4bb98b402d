//! How do Identiv's uTrust 3700 F and 4701 F let native commands through?

use crate::tag::{Card, NativeError, NativeTransceive};

/// Pass-through of layer 3; the reader makes the CRC and takes it off.
const PASS_THROUGH: [u8; 4] = [0xFF, 0xEF, 0x01, 0x00];
/// By its manual: firmware polling off, then the antenna, and back. Escape codes, without an answer.
pub(super) const FIELD_OFF: [&[u8]; 2] = [&[0xAC, 0x01], &[0x96, 0x00]];
pub(super) const FIELD_ON: [&[u8]; 2] = [&[0x96, 0x01], &[0xAC, 0x00]];

const NATIVE_MAX: usize = 64;

pub(super) fn is_one(reader_name: &str) -> bool {
    ["3700", "4701"].iter().any(|n| reader_name.contains(n))
}

/// Native commands as they are.
pub(super) struct Native<T>(pub(super) T);

impl<T: Card> NativeTransceive for Native<T> {
    fn transceive(&mut self, command: &[u8]) -> Result<Vec<u8>, NativeError> {
        let answer = self.0.transmit(&wrapped(command))?;
        unwrapped(&answer).ok_or(NativeError::Refused)
    }
}

fn wrapped(command: &[u8]) -> Vec<u8> {
    let command = &command[..command.len().min(NATIVE_MAX)];
    [&PASS_THROUGH[..], &[command.len() as u8], command].concat()
}

/// A single byte is a yes (0A) or a no.
fn unwrapped(answer: &[u8]) -> Option<Vec<u8>> {
    let data = answer.strip_suffix(&[0x90, 0x00])?;
    match data {
        [] => None,
        [nibble] if *nibble != 0x0A => None,
        data => Some(data.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_are_told_by_name() {
        assert!(is_one(
            "Identiv uTrust 3700 F CL Reader [CCID Interface] 00 00"
        ));
        assert!(is_one("Identiv uTrust 4701 F Dual Interface Reader 01 00"));
        assert!(!is_one("ACS ACR122U PICC Interface 00 00"));
    }

    #[test]
    fn a_command_goes_as_it_is_and_a_refusal_is_none() {
        assert_eq!(wrapped(&[0x39, 0x02]), [0xFF, 0xEF, 1, 0, 2, 0x39, 0x02]);
        assert_eq!(unwrapped(&[7, 8, 9, 0x90, 0]), Some(vec![7, 8, 9]));
        assert_eq!(unwrapped(&[0x0A, 0x90, 0]), Some(vec![0x0A]));
        for no in [&[0x04, 0x90, 0][..], &[0x90, 0], &[0x63, 0], &[]] {
            assert_eq!(unwrapped(no), None);
        }
    }
}
