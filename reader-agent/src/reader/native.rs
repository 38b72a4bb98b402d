//! Does this reader let native commands through to the chip?

use super::acr122u;
use crate::tag::{Card, NativeTransceive};

/// The way past this reader; `None` for a reader whose way we do not know.
pub(super) fn native_of<'a>(
    reader_name: &str,
    card: impl Card + 'a,
) -> Option<Box<dyn NativeTransceive + 'a>> {
    acr122u::is_one(reader_name).then(|| Box::new(acr122u::Native(card)) as _)
}
