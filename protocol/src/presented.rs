//! What did the phone send us?

use alloc::format;
use alloc::string::String;

use crate::code::{BadCode, TypedCode};
use crate::ids::TerminalId;
use crate::link::{self, BadLink};
use crate::sun::{BadSun, SunLink};
use crate::token::MachineToken;

/// A well-formed token that nobody has checked yet.
#[derive(Debug, Clone)]
pub enum Presented {
    /// From a tag or a QR code.
    Machine {
        terminal: TerminalId,
        token: MachineToken,
    },
    /// From a tag that signs its links; whether it did is not checked.
    Signed(SunLink),
    /// Typed by a person.
    Typed(TypedCode),
}

impl Presented {
    /// Reads a link, the `<terminal>.<token>` at its end, or a typed code.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        match TypedCode::parse(text) {
            // A link is never 15 digits long; a typed code may well have dots between its groups.
            Err(BadCode::Length) if is_signed(text)? => Ok(Self::Signed(SunLink::parse(text)?)),
            Err(BadCode::Length) if text.contains('.') => {
                let (terminal, token) = link::parse(text)?;
                Ok(Self::Machine { terminal, token })
            }
            code => Ok(Self::Typed(code?)),
        }
    }

    /// The one way to write it: `<terminal>.<token>`, or the 15 digits of a typed code. What a tag
    /// added is no part of the token.
    ///
    /// It is the token itself, so it goes nowhere but into a hash.
    pub fn written(&self) -> String {
        match self {
            Self::Machine { terminal, token } => written(*terminal, token),
            Self::Signed(link) => written(link.terminal(), link.token()),
            Self::Typed(code) => {
                let shown = code.shown();
                shown.chars().filter(char::is_ascii_digit).collect()
            }
        }
    }

    pub fn terminal(&self) -> TerminalId {
        match self {
            Self::Machine { terminal, .. } => *terminal,
            Self::Signed(link) => link.terminal(),
            Self::Typed(code) => code.terminal(),
        }
    }

    /// The token that a tag or a QR code carried; none of a typed code.
    pub fn machine_token(&self) -> Option<&MachineToken> {
        match self {
            Self::Machine { token, .. } => Some(token),
            Self::Signed(link) => Some(link.token()),
            Self::Typed(_) => None,
        }
    }

    /// What the tag added, if it was one that signs.
    pub fn signed(&self) -> Option<&SunLink> {
        match self {
            Self::Signed(link) => Some(link),
            Self::Machine { .. } | Self::Typed(_) => None,
        }
    }
}

/// Whether more than a terminal and a token stands in a link.
fn is_signed(text: &str) -> Result<bool, BadLink> {
    Ok(text.contains('.') && link::tail(text)?.matches('.').count() > 1)
}

fn written(terminal: TerminalId, token: &MachineToken) -> String {
    format!("{terminal}.{}", link::encode(token))
}

/// Neither a link nor a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error(transparent)]
    Link(#[from] BadLink),
    #[error("what the tag added to the link is damaged")]
    Sun,
    #[error(transparent)]
    Code(#[from] BadCode),
}

impl From<BadSun> for Malformed {
    fn from(error: BadSun) -> Self {
        match error {
            BadSun::Link(link) => Self::Link(link),
            BadSun::Shape | BadSun::Mac => Self::Sun,
        }
    }
}
