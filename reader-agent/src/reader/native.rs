//! Does this reader let native commands through to the chip?

use super::acr122u;
use super::card::Transmit;
use crate::tag::NativeTransceive;

/// The way past this reader; `None` for a reader whose way we do not know.
pub(super) fn native_of<'a>(
    reader_name: &str,
    transmit: impl Transmit + 'a,
) -> Option<Box<dyn NativeTransceive + 'a>> {
    acr122u::is_one(reader_name).then(|| Box::new(acr122u::Native(transmit)) as _)
}
