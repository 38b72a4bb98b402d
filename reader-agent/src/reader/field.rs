//! Can this reader take its field away, so that a phone can read the tag lying on it?

use super::{acr122u, identiv, transparent};

/// The escape commands that switch the field of one reader family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FieldSwitch {
    pub(super) on: &'static [&'static [u8]],
    pub(super) off: &'static [&'static [u8]],
}

impl FieldSwitch {
    /// `None` for a reader whose escape commands we do not know.
    pub(super) fn of(reader_name: &str) -> Option<FieldSwitch> {
        if acr122u::is_one(reader_name) {
            return Some(FieldSwitch {
                on: &acr122u::FIELD_ON,
                off: &acr122u::FIELD_OFF,
            });
        }
        if identiv::is_one(reader_name) {
            return Some(FieldSwitch {
                on: &identiv::FIELD_ON,
                off: &identiv::FIELD_OFF,
            });
        }
        transparent::Kind::of(reader_name).map(|_| FieldSwitch {
            on: &transparent::FIELD_ON,
            off: &transparent::FIELD_OFF,
        })
    }
}

/// PC/SC's code for "pass this to the reader itself" under libccid and Windows.
pub(super) const ESCAPE: u32 = 3500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_known_reader_has_a_switch_and_each_its_own() {
        let first = |name| FieldSwitch::of(name).map(|switch| switch.off[0][0]);
        assert_eq!(first("ACS ACR122U PICC Interface 00 00"), Some(0xFF));
        for acs in [
            "ACS ACR1252 1S CL Reader [ACR1252 Reader PICC] 00 00",
            "ACS ACR1552 1S CL Reader PICC 0",
        ] {
            assert_eq!(first(acs), Some(0xE0), "{acs}");
        }
        let identiv = "Identiv uTrust 3700 F CL Reader [CCID Interface] 00 00";
        assert_eq!(first(identiv), Some(0xAC));
        assert_eq!(FieldSwitch::of("Virtual PCD 00 00"), None);
    }
}
