//! How does a shop make the screen its own, and what can it not do to it?
//!
//! A theme is a small file with a name, four colours and a logo. What cannot be read on the screen, or
//! is more than that, is refused with what to write instead; the screen then keeps its plain look,
//! because a theme is never worth a payment.

pub mod colour;
pub mod logo;

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::error::AgentError;
use crate::words::Language;
use colour::{CONTRAST_MIN, Colour};

/// Largest theme file worth reading, in bytes.
pub const THEME_MAX: u64 = 8_192;
/// Longest name of a shop, in characters: one line of a small screen.
pub const NAME_MAX: usize = 32;

/// Language and theme of every screen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    pub language: Language,
    pub theme: Theme,
    /// Why the shop's own theme is not shown.
    pub trouble: Option<String>,
}

/// A checked theme.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Theme {
    pub name: Option<String>,
    pub colours: Colours,
    /// A PNG.
    pub logo: Option<Vec<u8>>,
}

/// What is drawn in what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Colours {
    /// Behind everything, but for the QR code: that is black on white.
    pub paper: Colour,
    pub ink: Colour,
    /// For what matters less.
    pub quiet: Colour,
    pub accent: Colour,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    logo: Option<String>,
    #[serde(default)]
    colours: Colours,
}

impl Look {
    /// Always a look; a theme that is refused leaves the plain one, and says why.
    pub fn load(language: Language, theme_file: Option<&Path>) -> Self {
        let (theme, trouble) = match theme_file.map(Theme::load) {
            None => (Theme::default(), None),
            Some(Ok(theme)) => (theme, None),
            Some(Err(error)) => (
                Theme::default(),
                Some(format!("{error}. Next: {}.", error.hint())),
            ),
        };
        Self {
            language,
            theme,
            trouble,
        }
    }
}

impl Theme {
    /// Reads and checks a theme file; its logo lies beside it.
    pub fn load(path: &Path) -> Result<Self, AgentError> {
        let read = || -> std::io::Result<String> {
            if fs::metadata(path)?.len() > THEME_MAX {
                return Err(std::io::Error::other("larger than any theme"));
            }
            fs::read_to_string(path)
        };
        let text = read().map_err(|error| {
            AgentError::operator(
                format!("{}: {error}", path.display()),
                "let the agent read this file, or take theme_file out of its configuration",
            )
        })?;
        let (name, logo, colours) = check(&text)?;
        let logo = logo.map(|file| {
            let file = path.with_file_name(file);
            logo::read(&file).map_err(|what| {
                refused(
                    format!("logo: {}: {what}", file.display()),
                    "save the logo as a PNG of at most 256 KiB beside the theme file",
                )
            })
        });
        Ok(Self {
            name: Some(name),
            colours,
            logo: logo.transpose()?,
        })
    }
}

impl Default for Colours {
    fn default() -> Self {
        Self {
            paper: Colour::new(0xfbfaf7),
            ink: Colour::new(0x16202b),
            quiet: Colour::new(0x5a6672),
            accent: Colour::new(0x0b5d57),
        }
    }
}

impl Colours {
    /// Shown where something is not as it should be.
    const WARN: Colour = Colour::new(0x8f3a12);

    /// As custom properties of the page. The rest follows from the four, and can be read, too.
    pub fn style(self) -> String {
        let Self {
            paper,
            ink,
            quiet,
            accent,
        } = self;
        let (line, warn) = (ink.over(paper, 15), Self::WARN.readable_on(paper));
        format!(
            ":root {{ --paper: {paper}; --ink: {ink}; --quiet: {quiet}; --accent: {accent}; \
             --line: {line}; --warn: {warn}; }}\n"
        )
    }

    fn check(self) -> Result<(), AgentError> {
        let drawn = [
            ("ink", self.ink),
            ("quiet", self.quiet),
            ("accent", self.accent),
        ];
        match drawn
            .into_iter()
            .find(|(_, it)| !it.is_readable_on(self.paper))
        {
            None => Ok(()),
            Some((name, colour)) => Err(unreadable(name, colour, self.paper)),
        }
    }
}

fn unreadable(name: &str, colour: Colour, paper: Colour) -> AgentError {
    let way = match paper.opposite() == Colour::BLACK {
        true => "darker",
        false => "lighter",
    };
    let contrast = (colour.contrast(paper) * 100.0).floor() / 100.0;
    refused(
        format!(
            "colours: {name} {colour} on paper {paper} has a contrast of {contrast}, less than {CONTRAST_MIN}"
        ),
        format!(
            "make {name} {way}, for example {name} = \"{}\"",
            colour.readable_on(paper)
        ),
    )
}

fn check(text: &str) -> Result<(String, Option<String>, Colours), AgentError> {
    let raw: Raw = toml::from_str(text).map_err(|error| {
        refused(
            format!("the theme cannot be read: {error}"),
            "compare it with config/theme.toml, which shows every key",
        )
    })?;
    check_name(&raw.name)?;
    raw.logo.as_deref().map(check_logo_name).transpose()?;
    raw.colours.check()?;
    Ok((raw.name, raw.logo, raw.colours))
}

fn check_name(name: &str) -> Result<(), AgentError> {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '<' | '>');
    let fits = (1..=NAME_MAX).contains(&name.chars().count());
    if fits && name.trim() == name && name.chars().all(is_plain) {
        return Ok(());
    }
    Err(refused(
        format!("name: not 1 to {NAME_MAX} characters of plain text"),
        "write the shop's name as it stands above its door, without < and >",
    ))
}

/// The name of a file, and no way to another folder or machine.
fn check_logo_name(file: &str) -> Result<(), AgentError> {
    let is_name =
        Path::new(file).file_name() == Some(OsStr::new(file)) && !file.contains(['\\', ':']);
    match is_name {
        true => Ok(()),
        false => Err(refused(
            format!("logo: {file:?} is not the name of a file"),
            "put the PNG beside the theme file and write its name, such as logo.png",
        )),
    }
}

fn refused(what: impl std::fmt::Display, hint: impl std::fmt::Display) -> AgentError {
    AgentError::usage(what, hint)
}

#[cfg(test)]
mod tests;
