//! How is an NTAG read and written through the pseudo-APDUs that every PC/SC reader has?

use super::desk::Lease;
use super::pcsc_error::tag_error;
use crate::tag::{PAGE, READ, StorageCard, TagError};

const RESPONSE_MAX: usize = 264;
const OK: [u8; 2] = [0x90, 0x00];
const UID_MAX: usize = 10;

/// PC/SC part 3: a storage card under ISO 14443A-3 whose name is MIFARE Ultralight, as NTAG21x shows itself.
const ULTRALIGHT: [u8; 14] = [
    0x80, 0x4F, 0x0C, 0xA0, 0x00, 0x00, 0x03, 0x06, 0x03, 0x00, 0x03, 0x00, 0x00, 0x00,
];

pub(super) fn check_atr(atr: &[u8]) -> Result<(), TagError> {
    if atr.windows(ULTRALIGHT.len()).any(|w| w == ULTRALIGHT) {
        return Ok(());
    }
    Err(TagError::NotAnNtag { atr: atr.to_vec() })
}

pub(super) trait Transmit {
    fn transmit(&self, apdu: &[u8]) -> Result<Vec<u8>, TagError>;
}

/// A connected tag; every APDU is a call the watchdog can see.
#[derive(Clone, Copy)]
pub(super) struct ConnectedTag<'a> {
    card: &'a pcsc::Card,
    lease: &'a Lease,
}

impl<'a> ConnectedTag<'a> {
    pub(super) fn new(card: &'a pcsc::Card, lease: &'a Lease) -> ConnectedTag<'a> {
        ConnectedTag { card, lease }
    }

    pub(super) fn uid(&self) -> Result<Vec<u8>, TagError> {
        let answer = self.transmit(&[0xFF, 0xCA, 0x00, 0x00, 0x00])?;
        match answer.strip_suffix(&OK) {
            Some(uid) if (1..=UID_MAX).contains(&uid.len()) => Ok(uid.to_vec()),
            _ => Err(TagError::Unreadable { page: 0 }),
        }
    }
}

impl Transmit for ConnectedTag<'_> {
    fn transmit(&self, apdu: &[u8]) -> Result<Vec<u8>, TagError> {
        let mut buffer = [0; RESPONSE_MAX];
        let answer = self.lease.call(|| self.card.transmit(apdu, &mut buffer))?;
        answer.map(<[u8]>::to_vec).map_err(tag_error)
    }
}

impl StorageCard for ConnectedTag<'_> {
    fn read(&mut self, page: u8) -> Result<[u8; READ], TagError> {
        let answer = self.transmit(&[0xFF, 0xB0, 0x00, page, READ as u8])?;
        let data = answer.strip_suffix(&OK).and_then(|d| d.try_into().ok());
        data.ok_or(TagError::Unreadable { page })
    }

    fn write(&mut self, page: u8, data: [u8; PAGE]) -> Result<(), TagError> {
        let [a, b, c, d] = data;
        let answer = self.transmit(&[0xFF, 0xD6, 0x00, page, PAGE as u8, a, b, c, d])?;
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
    fn an_ntag_is_told_from_a_mifare_classic_by_its_atr() {
        let mut atr = vec![
            0x3B, 0x8F, 0x80, 0x01, 0x80, 0x4F, 0x0C, 0xA0, 0, 0, 3, 6, 3, 0, 3, 0, 0, 0, 0, 0x68,
        ];
        assert_eq!(check_atr(&atr), Ok(()));
        atr[14] = 1;
        assert_eq!(
            check_atr(&atr),
            Err(TagError::NotAnNtag { atr: atr.clone() })
        );
        assert!(check_atr(&[]).is_err());
    }
}
