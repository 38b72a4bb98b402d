//! Which requests are refused before they reach the device?

use crate::{BATCH_MAX, CONTEXT_MAX, HsmError, KeyLabel, LABEL_MAX, MESSAGE_MAX, RANDOM_MAX};

pub(crate) fn label(label: &KeyLabel) -> Result<(), HsmError> {
    in_range("key label", label.0.len(), 1, LABEL_MAX)
}

pub(crate) fn context(context: &[u8]) -> Result<(), HsmError> {
    in_range("context", context.len(), 0, CONTEXT_MAX)
}

pub(crate) fn batch(messages: &[Vec<u8>]) -> Result<(), HsmError> {
    in_range("batch", messages.len(), 1, BATCH_MAX)?;
    let longest = messages.iter().map(Vec::len).max().unwrap_or(0);
    in_range("message", longest, 0, MESSAGE_MAX)
}

pub(crate) fn random(len: usize) -> Result<(), HsmError> {
    in_range("random request", len, 1, RANDOM_MAX)
}

fn in_range(what: &str, len: usize, min: usize, max: usize) -> Result<(), HsmError> {
    if (min..=max).contains(&len) {
        return Ok(());
    }
    Err(HsmError::CallerFault {
        detail: format!("a {what} has {min} to {max} elements, not {len}"),
    })
}
