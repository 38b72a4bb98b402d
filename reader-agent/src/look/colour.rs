//! Can this colour be read on that one?
//!
//! Contrast as WCAG 2.2 defines it (relative luminance of sRGB); text needs 4.5 to 1 (1.4.3, level AA).

use std::fmt;

use serde::{Deserialize, Deserializer};

/// What text needs.
pub const CONTRAST_MIN: f64 = 4.5;

/// An opaque colour of sRGB, written `#rrggbb` and in no other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour([u8; 3]);

impl Colour {
    pub const BLACK: Self = Self::new(0x00_00_00);
    pub const WHITE: Self = Self::new(0xff_ff_ff);

    pub const fn new(rgb: u32) -> Self {
        let [_, red, green, blue] = rgb.to_be_bytes();
        Self([red, green, blue])
    }

    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix('#')?;
        let plain = digits.len() == 6 && digits.bytes().all(|c| c.is_ascii_hexdigit());
        let rgb = plain.then(|| u32::from_str_radix(digits, 16).ok());
        rgb.flatten().map(Self::new)
    }

    /// From 1 to 21, whichever of the two is the lighter.
    pub fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance(), other.luminance());
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    pub fn is_readable_on(self, paper: Self) -> bool {
        self.contrast(paper) >= CONTRAST_MIN
    }

    /// `percent` of this in the other.
    pub fn over(self, other: Self, percent: u16) -> Self {
        let mix = |place: usize| {
            let (a, b) = (u16::from(self.0[place]), u16::from(other.0[place]));
            ((a * percent + b * (100 - percent) + 50) / 100) as u8
        };
        Self([mix(0), mix(1), mix(2)])
    }

    /// The colour nearest to this one, towards black or white, that can be read on `paper`.
    pub fn readable_on(self, paper: Self) -> Self {
        let end = paper.opposite();
        let nearer = (0..=100).map(|percent| end.over(self, percent));
        let mut readable = nearer.filter(|it| it.is_readable_on(paper));
        readable.next().unwrap_or(end)
    }

    /// Black or white, whichever can be read on this.
    pub fn opposite(self) -> Self {
        match Self::BLACK.contrast(self) > Self::WHITE.contrast(self) {
            true => Self::BLACK,
            false => Self::WHITE,
        }
    }

    fn luminance(self) -> f64 {
        let linear = |channel: u8| {
            let part = f64::from(channel) / 255.0;
            match part <= 0.04045 {
                true => part / 12.92,
                false => ((part + 0.055) / 1.055).powf(2.4),
            }
        };
        let [red, green, blue] = self.0.map(linear);
        0.2126 * red + 0.7152 * green + 0.0722 * blue
    }
}

impl fmt::Display for Colour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [red, green, blue] = self.0;
        write!(f, "#{red:02x}{green:02x}{blue:02x}")
    }
}

impl<'de> Deserialize<'de> for Colour {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| {
            serde::de::Error::custom(format!(
                "{text:?} is not a colour; write # and six digits of 0-9 and a-f, such as \"#16202b\""
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn contrast_is_what_the_recommendation_computes() {
        let of = |a, b| (Colour::new(a).contrast(Colour::new(b)) * 100.0).round() / 100.0;
        assert_eq!(of(0x000000, 0xffffff), 21.0);
        assert_eq!(of(0xffffff, 0xffffff), 1.0);
        // The darkest grey that fails on white, and the next one, as the tools of the W3C tell them.
        assert_eq!(of(0x777777, 0xffffff), 4.48);
        assert_eq!(of(0x767676, 0xffffff), 4.54);
        assert_eq!(of(0xff0000, 0xffffff), 4.0);
    }

    #[test]
    fn only_six_hexadecimal_digits_are_a_colour() {
        assert_eq!(Colour::parse("#16202b").unwrap().to_string(), "#16202b");
        for bad in [
            "16202b",
            "#16202",
            "#16202bf",
            "#fff",
            "red",
            "#16 02b",
            "#+6202b",
            "#é02b",
            "url(x)",
            "#16202b;}*{color:red",
            "",
        ] {
            assert_eq!(Colour::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn on_any_paper_there_is_a_colour_near_the_wanted_one_that_can_be_read() {
        for paper in (0..=255).map(|grey| Colour::new(grey * 0x01_01_01)) {
            for wanted in [Colour::new(0x8f3a12), paper, Colour::WHITE, Colour::BLACK] {
                assert!(
                    wanted.readable_on(paper).is_readable_on(paper),
                    "{wanted} on {paper}"
                );
            }
        }
        let fine = Colour::new(0x16202b);
        assert_eq!(fine.readable_on(Colour::WHITE), fine);
    }
}
