//! What can be asked of whatever lies on a reader?

use super::{NativeTransceive, PAGE, READ, StorageCard, TagError};

const OK: [u8; 2] = [0x90, 0x00];
const UID_MAX: usize = 10;

/// PC/SC part 3: a storage card under ISO 14443A-3 whose name is MIFARE Ultralight, as NTAG21x shows itself.
const ULTRALIGHT: [u8; 14] = [
    0x80, 0x4F, 0x0C, 0xA0, 0x00, 0x00, 0x03, 0x06, 0x03, 0x00, 0x03, 0x00, 0x00, 0x00,
];
/// The beginning of what every storage card's ATR has in common; the others have a processor.
const STORAGE_CARD: [u8; 8] = [0x80, 0x4F, 0x0C, 0xA0, 0x00, 0x00, 0x03, 0x06];

/// One card, in one visit.
pub trait Card {
    /// How it answered power-up.
    fn atr(&self) -> &[u8];
    fn transmit(&self, apdu: &[u8]) -> Result<Vec<u8>, TagError>;
    /// The way past the reader; `None` if the reader has none that we know.
    fn native(&self) -> Option<Box<dyn NativeTransceive + '_>>;
}

/// The UID, as every reader tells it.
pub fn uid(card: &dyn Card) -> Result<Vec<u8>, TagError> {
    let answer = card.transmit(&[0xFF, 0xCA, 0x00, 0x00, 0x00])?;
    match answer.strip_suffix(&OK) {
        Some(uid) if (1..=UID_MAX).contains(&uid.len()) => Ok(uid.to_vec()),
        _ => Err(TagError::Unreadable { page: 0 }),
    }
}

pub(super) fn is_ultralight(atr: &[u8]) -> bool {
    contains(atr, &ULTRALIGHT)
}

pub(super) fn is_storage_card(atr: &[u8]) -> bool {
    contains(atr, &STORAGE_CARD)
}

fn contains(atr: &[u8], part: &[u8]) -> bool {
    atr.windows(part.len()).any(|window| window == part)
}

/// Pages through the pseudo-APDUs that every PC/SC reader has.
pub(super) struct Pages<'a>(pub(super) &'a dyn Card);

impl StorageCard for Pages<'_> {
    fn read(&mut self, page: u8) -> Result<[u8; READ], TagError> {
        let answer = self.0.transmit(&[0xFF, 0xB0, 0x00, page, READ as u8])?;
        let data = answer.strip_suffix(&OK).and_then(|d| d.try_into().ok());
        data.ok_or(TagError::Unreadable { page })
    }

    fn write(&mut self, page: u8, data: [u8; PAGE]) -> Result<(), TagError> {
        let [a, b, c, d] = data;
        let answer = self
            .0
            .transmit(&[0xFF, 0xD6, 0x00, page, PAGE as u8, a, b, c, d])?;
        if answer == OK {
            Ok(())
        } else {
            Err(TagError::WriteRefused { page })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ntag_is_told_from_a_mifare_classic_and_both_from_a_processor() {
        let mut atr = vec![
            0x3B, 0x8F, 0x80, 0x01, 0x80, 0x4F, 0x0C, 0xA0, 0, 0, 3, 6, 3, 0, 3, 0, 0, 0, 0, 0x68,
        ];
        assert!(is_ultralight(&atr) && is_storage_card(&atr));
        atr[14] = 1;
        assert!(!is_ultralight(&atr) && is_storage_card(&atr));
        for processor in [&[0x3B, 0x81, 0x80, 0x01, 0x80, 0x80][..], &[]] {
            assert!(!is_ultralight(processor) && !is_storage_card(processor));
        }
    }
}
