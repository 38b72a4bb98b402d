//! What does an ACR122U (a PN532 behind CCID) understand beyond PC/SC?

use crate::tag::{Card, NativeError, NativeTransceive};

/// Auto-polling off, then the antenna: in this order, or polling brings the field back.
pub(super) const FIELD_OFF: [&[u8]; 2] = [
    &[0xFF, 0x00, 0x51, 0x7F, 0x00],
    &[0xFF, 0x00, 0x00, 0x00, 0x04, 0xD4, 0x32, 0x01, 0x00],
];
pub(super) const FIELD_ON: [&[u8]; 2] = [
    &[0xFF, 0x00, 0x00, 0x00, 0x04, 0xD4, 0x32, 0x01, 0x01],
    &[0xFF, 0x00, 0x51, 0xFF, 0x00],
];

const NATIVE_MAX: usize = 64;
const THRU_OK: [u8; 3] = [0xD5, 0x43, 0x00];

pub(super) fn is_one(reader_name: &str) -> bool {
    reader_name.contains("ACR122")
}

/// Native commands by InCommunicateThru.
pub(super) struct Native<T>(pub(super) T);

impl<T: Card> NativeTransceive for Native<T> {
    fn transceive(&mut self, command: &[u8]) -> Result<Vec<u8>, NativeError> {
        let answer = self.0.transmit(&wrapped(command))?;
        unwrapped(&answer).ok_or(NativeError::Refused)
    }
}

fn wrapped(command: &[u8]) -> Vec<u8> {
    let command = &command[..command.len().min(NATIVE_MAX)];
    let mut apdu = vec![0xFF, 0, 0, 0, command.len() as u8 + 2, 0xD4, 0x42];
    apdu.extend_from_slice(command);
    apdu
}

fn unwrapped(answer: &[u8]) -> Option<Vec<u8>> {
    let data = answer.strip_suffix(&[0x90, 0x00])?;
    data.strip_prefix(&THRU_OK).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_native_command_is_wrapped_with_its_length() {
        assert_eq!(
            wrapped(&[0x39, 0x02]),
            [0xFF, 0, 0, 0, 4, 0xD4, 0x42, 0x39, 0x02]
        );
    }

    #[test]
    fn an_answer_counts_only_with_both_status_words() {
        assert_eq!(unwrapped(&[0xD5, 0x43, 0, 7, 0x90, 0]), Some(vec![7]));
        assert_eq!(unwrapped(&[0xD5, 0x43, 1, 0x90, 0]), None);
        assert_eq!(unwrapped(&[0x63, 0]), None);
    }
}
