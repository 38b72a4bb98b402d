//! What does an ACR122U answer to each command it is sent?
//!
//! Pseudo-APDUs (FF ..) of its manual, and PN532 commands inside FF 00 00 00. Sans I/O.

use super::virtual_tag::{Frame, PAGE, TagModel, VirtualTag};

const OK: [u8; 2] = [0x90, 0x00];
const FAILED: [u8; 2] = [0x63, 0x00];
const UNKNOWN: [u8; 2] = [0x6A, 0x81];
/// PN532 status: no answer in time, which is also how it tells a NAK.
const PN532_TIMEOUT: u8 = 0x01;

/// How this reader differs from an obliging one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Manners {
    /// Answers 90 00 to a page write and does not write.
    pub(super) lies_about_writes: bool,
    pub(super) native: NativeWay,
    /// The tag is selected anew after each native command, and forgets who authenticated.
    pub(super) forgets: bool,
}

/// How native commands come through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum NativeWay {
    /// PN532, in FF 00 00 00.
    #[default]
    Pn532,
    /// The transparent session of PC/SC part 3, in FF C2; layer 3 is said or known.
    Transparent,
    /// Identiv's pass-through, in FF EF.
    Identiv,
}

impl NativeWay {
    pub(super) fn of(reader_name: &str) -> NativeWay {
        match reader_name {
            name if name.contains("ACR1252") || name.contains("ACR1552") => NativeWay::Transparent,
            name if name.contains("uTrust") => NativeWay::Identiv,
            _ => NativeWay::Pn532,
        }
    }
}

/// A command to the reader itself; `None` if it is one for the tag.
pub(super) enum ReaderCommand {
    Field(bool, Maker),
    /// Auto-polling: which bits, only acknowledged.
    Polling(u8, Maker),
}

/// Whose way of speaking to the reader itself it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    Pn532,
    /// ACR1252U, ACR1552U.
    Acs,
    Identiv,
}

pub(super) fn reader_command(apdu: &[u8]) -> Option<ReaderCommand> {
    match *apdu {
        [0xFF, 0, 0, 0, 4, 0xD4, 0x32, 0x01, on] => {
            Some(ReaderCommand::Field(on & 1 == 1, Maker::Pn532))
        }
        [0xFF, 0, 0x51, bits, 0] => Some(ReaderCommand::Polling(bits, Maker::Pn532)),
        [0xE0, 0, 0, 0x25, 1, on] => Some(ReaderCommand::Field(on != 0, Maker::Acs)),
        [0x96, on @ 0..=1] => Some(ReaderCommand::Field(on == 1, Maker::Identiv)),
        [0xAC, bits] => Some(ReaderCommand::Polling(bits, Maker::Identiv)),
        _ => None,
    }
}

pub(super) fn reader_answer(command: &ReaderCommand) -> Vec<u8> {
    match *command {
        ReaderCommand::Field(_, Maker::Pn532) => vec![0xD5, 0x33, 0x90, 0x00],
        ReaderCommand::Polling(bits, Maker::Pn532) => vec![0x90, bits],
        ReaderCommand::Field(on, Maker::Acs) => vec![0xE1, 0, 0, 0, 1, u8::from(on)],
        ReaderCommand::Polling(bits, Maker::Acs) => vec![0xE1, 0, 0, 0, 1, bits],
        ReaderCommand::Field(_, Maker::Identiv) | ReaderCommand::Polling(_, Maker::Identiv) => {
            Vec::new()
        }
    }
}

impl ReaderCommand {
    /// Whether a reader with this way for native commands takes it.
    pub(super) fn suits(&self, native: NativeWay) -> bool {
        let (Self::Field(_, maker) | Self::Polling(_, maker)) = self;
        matches!(
            (native, maker),
            (NativeWay::Pn532, Maker::Pn532)
                | (NativeWay::Transparent, Maker::Acs)
                | (NativeWay::Identiv, Maker::Identiv)
        )
    }
}

/// A page write, by pseudo-APDU or natively: what `tear_after` counts.
pub(super) fn is_write(apdu: &[u8]) -> bool {
    matches!(
        apdu,
        [0xFF, 0xD6, 0, _, 4, ..] | [0xFF, 0, 0, 0, _, 0xD4, 0x42, 0xA2, ..]
    )
}

pub(super) fn tag_answer(tag: &mut TagModel, apdu: &[u8], manners: Manners) -> Vec<u8> {
    match (tag, apdu) {
        (TagModel::Foreign(tag), [0xFF, 0xCA, 0, 0, _]) => with_ok(tag.uid.clone()),
        (TagModel::Foreign(_), _) => FAILED.to_vec(),
        (TagModel::Ntag213(tag), _) => ntag_answer(tag, apdu, manners),
        (TagModel::Ntag424(tag), [0xFF, 0xCA, 0, 0, _]) => with_ok(tag.uid()),
        (TagModel::Ntag424(_), [0xFF, ..]) => UNKNOWN.to_vec(),
        (TagModel::Ntag424(tag), _) => tag.transmit(apdu),
    }
}

fn ntag_answer(tag: &mut VirtualTag, apdu: &[u8], manners: Manners) -> Vec<u8> {
    match *apdu {
        [0xFF, 0xCA, 0, 0, _] => with_ok(tag.uid()),
        [0xFF, 0xB0, 0, page, length] if length <= 16 => match tag.transceive(&[0x30, page]) {
            Frame::Data(data) => with_ok(data[..usize::from(length)].to_vec()),
            _ => FAILED.to_vec(),
        },
        [0xFF, 0xD6, 0, _, 4, ..] if apdu.len() == 5 + PAGE && manners.lies_about_writes => {
            OK.to_vec()
        }
        [0xFF, 0xD6, 0, page, 4, a, b, c, d] => match tag.transceive(&[0xA2, page, a, b, c, d]) {
            Frame::Ack => OK.to_vec(),
            _ => FAILED.to_vec(),
        },
        _ => passed(tag, apdu, manners).unwrap_or(UNKNOWN.to_vec()),
    }
}

/// A native command, if it comes in this reader's way.
fn passed(tag: &mut VirtualTag, apdu: &[u8], manners: Manners) -> Option<Vec<u8>> {
    let native = match (manners.native, apdu) {
        (NativeWay::Pn532, [0xFF, 0, 0, 0, length, 0xD4, 0x42, native @ ..])
            if native.len() + 2 == usize::from(*length) =>
        {
            native
        }
        (NativeWay::Identiv, [0xFF, 0xEF, 1, 0, length, native @ ..])
            if native.len() == usize::from(*length) =>
        {
            native
        }
        (NativeWay::Transparent, [0xFF, 0xC2, 0, 0, 2, 0x81 | 0x82, 0]) => return Some(OK.into()),
        (NativeWay::Transparent, [0xFF, 0xC2, 0, 2, 4, 0x8F, 2, 0, 3]) => return Some(OK.into()),
        (
            NativeWay::Transparent,
            [
                0xFF,
                0xC2,
                0,
                1,
                all,
                0x5F,
                0x46,
                4,
                _,
                _,
                _,
                _,
                0x95,
                length,
                native @ ..,
                0,
            ],
        ) if native.len() == usize::from(*length) && native.len() + 9 == usize::from(*all) => {
            native
        }
        _ => return None,
    };
    let frame = tag.transceive(native);
    if manners.forgets {
        tag.power_up();
    }
    Some(said(manners.native, frame))
}

fn said(way: NativeWay, frame: Frame) -> Vec<u8> {
    let (is_clean, bytes) = match frame {
        Frame::Data(data) => (true, data),
        Frame::Ack => (true, vec![0x0A]),
        Frame::Nak(code) => (false, vec![code]),
    };
    with_ok(match way {
        // InCommunicateThru: D5 43, status, then what the tag said; a refusal is silence.
        NativeWay::Pn532 if is_clean => [vec![0xD5, 0x43, 0x00], bytes].concat(),
        NativeWay::Pn532 => vec![0xD5, 0x43, PN532_TIMEOUT],
        NativeWay::Identiv => bytes,
        NativeWay::Transparent => {
            let length = bytes.len() as u8;
            [vec![0x96, 2, 0, 0, 0x97, length], bytes].concat()
        }
    })
}

fn with_ok(mut data: Vec<u8>) -> Vec<u8> {
    data.extend(OK);
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(apdu: &[u8]) -> Vec<u8> {
        let mut tag = TagModel::Ntag213(Box::new(VirtualTag::new(5)));
        tag_answer(&mut tag, apdu, Manners::default())
    }

    #[test]
    fn uid_and_pages_are_read() {
        assert_eq!(answer(&[0xFF, 0xCA, 0, 0, 0]).len(), 9);
        let read = answer(&[0xFF, 0xB0, 0, 3, 16]);
        assert_eq!(read.len(), 18);
        assert_eq!(read[..4], [0xE1, 0x10, 0x12, 0]);
    }

    #[test]
    fn a_native_command_passes_through_and_a_refusal_reads_as_a_timeout() {
        let version = answer(&[0xFF, 0, 0, 0, 3, 0xD4, 0x42, 0x60]);
        assert_eq!(version, [0xD5, 0x43, 0, 0, 4, 4, 2, 1, 0, 0x0F, 3, 0x90, 0]);
        let refused = answer(&[0xFF, 0, 0, 0, 7, 0xD4, 0x42, 0x1B, 0, 0, 0, 0]);
        assert_eq!(refused, [0xD5, 0x43, 1, 0x90, 0]);
    }

    #[test]
    fn a_foreign_tag_gives_its_uid_and_nothing_else() {
        let mut tag = TagModel::Foreign(super::super::ForeignTag::mifare_classic());
        let mut ask = |apdu: &[u8]| tag_answer(&mut tag, apdu, Manners::default());
        assert_eq!(ask(&[0xFF, 0xCA, 0, 0, 0]).len(), 6);
        assert_eq!(ask(&[0xFF, 0xB0, 0, 4, 16]), FAILED);
    }

    #[test]
    fn what_is_no_command_is_refused() {
        for apdu in [&[][..], &[0xFF], &[0xFF, 0xD6, 0, 4, 4, 1], &[0; 5]] {
            assert_eq!(answer(apdu), UNKNOWN);
        }
    }
}
