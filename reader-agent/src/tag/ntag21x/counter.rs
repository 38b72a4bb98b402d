//! How is the counter of an NTAG21x asked, and switched on?
//!
//! It counts the first read of every field session, ours included.

use super::pages::Header;
use crate::tag::{NativeError, NativeTransceive, StorageCard, TagError};

const READ_COUNTER: [u8; 2] = [0x39, 0x02];
pub(super) const COUNTER_ENABLED: u8 = 0x10;
pub(super) const CONFIGURATION_LOCKED: u8 = 0x40;

/// The counter's commands on one tag in one visit.
pub(super) struct CounterAccess<'a> {
    native: Box<dyn NativeTransceive + 'a>,
}

impl<'a> CounterAccess<'a> {
    pub(super) fn new(native: Box<dyn NativeTransceive + 'a>) -> CounterAccess<'a> {
        CounterAccess { native }
    }

    /// `None` when the chip refuses: counter off, or behind a password.
    pub(super) fn read(&mut self) -> Result<Option<u32>, TagError> {
        match self.native.transceive(&READ_COUNTER) {
            Ok(bytes) => match bytes[..] {
                [low, middle, high] => Ok(Some(u32::from_le_bytes([low, middle, high, 0]))),
                _ => Ok(None),
            },
            Err(NativeError::Refused) => Ok(None),
            Err(NativeError::Reader(error)) => Err(error),
        }
    }
}

/// Switches the counter on if it is off and may be; says whether it runs.
///
/// It is looked up in the configuration, not tried: a refused command would cost the tag's attention.
pub(super) fn ensure_enabled(card: &mut dyn StorageCard, header: Header) -> Result<bool, TagError> {
    let page = header.access_page();
    let configuration = card.read(page)?;
    let [access, rest @ ..] = [
        configuration[0],
        configuration[1],
        configuration[2],
        configuration[3],
    ];
    if access & COUNTER_ENABLED != 0 {
        return Ok(true);
    }
    if access & CONFIGURATION_LOCKED != 0 {
        return Ok(false);
    }
    let [a, b, c] = rest;
    match card.write(page, [access | COUNTER_ENABLED, a, b, c]) {
        Ok(()) => Ok(true),
        Err(TagError::WriteRefused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}
