//! Which bytes of the NDEF file are written, in which order, so that a phone never reads half a link?
//!
//! The tag writes one frame whole or not at all. Of two links of one terminal only the token differs,
//! and that is one frame. What needs more goes the long way: length 0, the rest, the length.
//!
//! ```text
//!  0      2                                 257
//!  length message ...
//! ```

use super::super::TagError;

/// Bytes of the length in front of the message.
pub(super) const LENGTH_FIELD: usize = 2;
/// Bytes of the file.
pub(super) const FILE_BYTES: usize = 256;
/// Most bytes in one frame: of its 128, 3 are the frame's, 21 the command's with its mac, and two may
/// be the reader's.
pub(super) const WRITE_MAX: usize = 102;

/// Bytes to write at an offset, in one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileWrite {
    pub offset: u8,
    pub data: Vec<u8>,
}

/// The file as it shall read.
pub(super) fn wanted(message: &[u8]) -> Result<Vec<u8>, TagError> {
    let have = FILE_BYTES - LENGTH_FIELD;
    let need = message.len();
    match u8::try_from(need) {
        Ok(length) if need <= have => Ok([&[0, length], message].concat()),
        _ => Err(TagError::TooSmall { need, have }),
    }
}

/// What turns the beginning of the file into what is wanted; `is` is at least as long.
pub(super) fn plan(is: &[u8], wanted: &[u8]) -> Vec<FileWrite> {
    if let Some(write) = in_one_frame(is, wanted) {
        return write.into_iter().collect();
    }
    let mut writes = Vec::new();
    let (length, message) = wanted.split_at(LENGTH_FIELD);
    if is[..LENGTH_FIELD] != [0; LENGTH_FIELD] {
        writes.push(at(0, &[0; LENGTH_FIELD]));
    }
    let chunks = message
        .chunks(WRITE_MAX)
        .zip(is[LENGTH_FIELD..].chunks(WRITE_MAX));
    for (index, (chunk, old)) in chunks.enumerate() {
        let start = LENGTH_FIELD + index * WRITE_MAX;
        writes.extend(changed(old, chunk).map(|span| at(start + span.start, &chunk[span])));
    }
    writes.push(at(0, length));
    writes
}

/// `Some(None)`: nothing to do.
fn in_one_frame(is: &[u8], wanted: &[u8]) -> Option<Option<FileWrite>> {
    match changed(is, wanted) {
        None => Some(None),
        Some(span) if span.len() <= WRITE_MAX => Some(Some(at(span.start, &wanted[span]))),
        Some(_) => None,
    }
}

/// From the first byte that differs to the last.
fn changed(is: &[u8], wanted: &[u8]) -> Option<std::ops::Range<usize>> {
    let differs = |i: &usize| is.get(*i) != wanted.get(*i);
    let first = (0..wanted.len()).find(differs)?;
    let last = (0..wanted.len()).rfind(differs)?;
    Some(first..last + 1)
}

fn at(offset: usize, data: &[u8]) -> FileWrite {
    FileWrite {
        offset: u8::try_from(offset).unwrap_or(u8::MAX),
        data: data.to_vec(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn file(message: &[u8]) -> Vec<u8> {
        let mut file = wanted(message).unwrap();
        file.resize(FILE_BYTES, 0x55);
        file
    }

    fn apply(file: &[u8], writes: &[FileWrite]) -> Vec<u8> {
        let mut file = file.to_vec();
        for write in writes {
            let at = usize::from(write.offset);
            file[at..at + write.data.len()].copy_from_slice(&write.data);
        }
        file
    }

    fn phone(file: &[u8]) -> Option<Vec<u8>> {
        let length = usize::from(u16::from_be_bytes([file[0], file[1]]));
        (length > 0).then(|| file[LENGTH_FIELD..LENGTH_FIELD + length].to_vec())
    }

    fn link(token: &str) -> Vec<u8> {
        let text = format!("pay.example.with.a.host:8443/t/47110422.{token}");
        [&[0xD1, 1, text.len() as u8 + 1, b'U', 4], text.as_bytes()].concat()
    }

    #[test]
    fn another_token_is_one_frame_and_nothing_but_the_token() {
        let (old, new) = ("448FT7303N447EFB8H2JK8WRP4", "9Z8FT7303N447EFB8H2JK8WRP8");
        let writes = plan(&file(&link(old)), &wanted(&link(new)).unwrap());
        assert_eq!(writes.len(), 1);
        assert!(writes[0].data.len() <= new.len());
    }

    #[test]
    fn the_same_link_is_not_written_and_none_costs_one_frame() {
        let is = file(&link("A"));
        assert_eq!(plan(&is, &wanted(&link("A")).unwrap()), []);
        let blank = plan(&is, &wanted(&[]).unwrap());
        assert_eq!(blank.len(), 1);
        assert_eq!(phone(&apply(&is, &blank)), None);
    }

    #[test]
    fn a_message_that_fills_the_file_fits_and_one_byte_more_does_not() {
        assert!(wanted(&[7; 254]).is_ok());
        let refused = Err(TagError::TooSmall {
            need: 255,
            have: 254,
        });
        assert_eq!(wanted(&[7; 255]), refused);
        assert!(wanted(&[7; 300]).is_err());
    }

    proptest! {
        #[test]
        fn a_cut_after_any_frame_leaves_old_nothing_or_new_and_the_next_plan_heals(
            old in proptest::collection::vec(any::<u8>(), 0..254),
            new in proptest::collection::vec(any::<u8>(), 0..254),
            third in proptest::collection::vec(any::<u8>(), 1..254),
        ) {
            let before = file(&old);
            let writes = plan(&before, &wanted(&new).unwrap());
            for cut in 0..=writes.len() {
                prop_assert!(writes.iter().all(|w| w.data.len() <= WRITE_MAX));
                let torn = apply(&before, &writes[..cut]);
                let seen = phone(&torn).unwrap_or_default();
                prop_assert!(seen.is_empty() || seen == old || seen == new);
                let heal = plan(&torn, &wanted(&third).unwrap());
                prop_assert_eq!(phone(&apply(&torn, &heal)), Some(third.clone()));
            }
            prop_assert_eq!(phone(&apply(&before, &writes)).unwrap_or_default(), new);
        }
    }
}
