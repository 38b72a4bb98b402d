//! Can this reader take its field away, so that a phone can read the tag lying on it?

use super::acr122u;

/// The escape commands that switch the field of one reader family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FieldSwitch {
    pub(super) on: &'static [&'static [u8]],
    pub(super) off: &'static [&'static [u8]],
}

impl FieldSwitch {
    /// `None` for a reader whose escape commands we do not know.
    pub(super) fn of(reader_name: &str) -> Option<FieldSwitch> {
        acr122u::is_one(reader_name).then_some(FieldSwitch {
            on: &acr122u::FIELD_ON,
            off: &acr122u::FIELD_OFF,
        })
    }
}

/// PC/SC's code for "pass this to the reader itself" under libccid and Windows.
pub(super) const ESCAPE: u32 = 3500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_reader_has_a_switch() {
        assert!(FieldSwitch::of("ACS ACR122U PICC Interface 00 00").is_some());
        assert_eq!(FieldSwitch::of("Virtual PCD 00 00"), None);
    }
}
