//! How is what lies on the reader reached, so that the watchdog sees every call?

use super::desk::Lease;
use super::native::native_of;
use super::pcsc_error::tag_error;
use crate::tag::{Card, NativeTransceive, TagError};

const RESPONSE_MAX: usize = 264;

/// A connected tag; every APDU is a call the watchdog can see.
#[derive(Clone, Copy)]
pub(super) struct ConnectedTag<'a> {
    pub(super) card: &'a pcsc::Card,
    pub(super) lease: &'a Lease,
    pub(super) atr: &'a [u8],
    pub(super) reader_name: &'a str,
}

impl Card for ConnectedTag<'_> {
    fn atr(&self) -> &[u8] {
        self.atr
    }

    fn transmit(&self, apdu: &[u8]) -> Result<Vec<u8>, TagError> {
        let mut buffer = [0; RESPONSE_MAX];
        let answer = self.lease.call(|| self.card.transmit(apdu, &mut buffer))?;
        answer.map(<[u8]>::to_vec).map_err(tag_error)
    }

    fn native(&self) -> Option<Box<dyn NativeTransceive + '_>> {
        native_of(self.reader_name, *self)
    }
}
