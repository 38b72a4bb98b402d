//! What do the pages that shoppers see call themselves, and in which colour?

use serde::Deserialize;

use super::check::Mistakes;

/// Longest name of the service, in characters: it stands in one line at the top of a phone.
const NAME_MAX: usize = 40;
/// Least contrast of the accent with what lies on or behind it (WCAG 2.2, 1.4.3).
const CONTRAST_MIN: f64 = 4.5;
/// What the accent is seen on, in the light and in the dark scheme of the style sheet.
const PAPERS: [&str; 2] = ["#f5f4ef", "#161d21"];
/// What stands on a button in the accent.
const LETTERS: [&str; 2] = ["#ffffff", "#0b1513"];

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PagesConfig {
    /// At the top of every page.
    pub service_name: String,
    /// Buttons and links, `#rrggbb`.
    pub accent: String,
    /// The same in the dark scheme.
    pub accent_dark: String,
}

impl Default for PagesConfig {
    fn default() -> Self {
        Self {
            service_name: "M2Key".into(),
            accent: "#0b5d57".into(),
            accent_dark: "#7fd1c4".into(),
        }
    }
}

impl PagesConfig {
    pub(super) fn check(&self, m: &mut Mistakes) {
        let length = self.service_name.trim().chars().count();
        if !(1..=NAME_MAX).contains(&length) {
            let problem = "the name is empty or too long";
            m.add("pages.service_name", problem, "1 to 40 characters");
        }
        let colours = [
            ("pages.accent", &self.accent),
            ("pages.accent_dark", &self.accent_dark),
        ];
        for ((key, colour), grounds) in colours.into_iter().zip(PAPERS.into_iter().zip(LETTERS)) {
            match luminance(colour) {
                None => m.add(key, format!("{colour:?} is not a colour"), "e.g. #0b5d57"),
                Some(seen) if !is_legible(seen, grounds) => {
                    let problem = format!("{colour} cannot be read on the page");
                    m.add(
                        key,
                        problem,
                        "a contrast of 4.5 to 1 at least: darker, or for accent_dark lighter",
                    );
                }
                Some(_) => {}
            }
        }
    }
}

fn is_legible(seen: f64, (paper, letters): (&str, &str)) -> bool {
    let enough = |ground: &str| {
        let ground = luminance(ground).unwrap_or(seen);
        (seen.max(ground) + 0.05) / (seen.min(ground) + 0.05) >= CONTRAST_MIN
    };
    enough(paper) && enough(letters)
}

/// Relative luminance of `#rrggbb` (WCAG 2.2).
fn luminance(colour: &str) -> Option<f64> {
    let digits = colour.strip_prefix('#').filter(|it| it.len() == 6)?;
    let number = digits.bytes().all(|c| c.is_ascii_hexdigit());
    let number = number
        .then(|| u32::from_str_radix(digits, 16).ok())
        .flatten()?;
    let channel = |shift: u32| {
        let value = f64::from((number >> shift) & 255) / 255.0;
        match value <= 0.04045 {
            true => value / 12.92,
            false => ((value + 0.055) / 1.055).powf(2.4),
        }
    };
    Some(0.2126 * channel(16) + 0.7152 * channel(8) + 0.0722 * channel(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistakes(config: &PagesConfig) -> usize {
        let mut mistakes = Mistakes::default();
        config.check(&mut mistakes);
        mistakes.len()
    }

    #[test]
    fn the_defaults_can_be_read() {
        assert_eq!(mistakes(&PagesConfig::default()), 0);
    }

    #[test]
    fn colours_that_nobody_can_read_or_that_are_none_are_refused() {
        for accent in ["#ffcc00", "teal", "#0b5d5", "#0b5d57;}", "#gggggg"] {
            let config = PagesConfig {
                accent: accent.into(),
                ..PagesConfig::default()
            };
            assert_eq!(mistakes(&config), 1, "{accent}");
        }
        let config = PagesConfig {
            accent_dark: "#0b5d57".into(),
            service_name: "  ".into(),
            ..PagesConfig::default()
        };
        assert_eq!(mistakes(&config), 2);
    }
}
