//! Does this reader let native commands through to the chip?

use super::{acr122u, identiv, transparent};
use crate::tag::{Card, NativeTransceive};

/// The way past this reader; `None` for a reader whose way we do not know.
pub(super) fn native_of<'a>(
    reader_name: &str,
    card: impl Card + 'a,
) -> Option<Box<dyn NativeTransceive + 'a>> {
    if acr122u::is_one(reader_name) {
        return Some(Box::new(acr122u::Native(card)));
    }
    if identiv::is_one(reader_name) {
        return Some(Box::new(identiv::Native(card)));
    }
    let kind = transparent::Kind::of(reader_name)?;
    Some(Box::new(transparent::Native(card, kind)))
}
