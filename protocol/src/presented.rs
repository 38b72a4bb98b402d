//! What did the phone send us?

use alloc::format;
use alloc::string::String;

use crate::code::{BadCode, TypedCode};
use crate::ids::TerminalId;
use crate::link::{self, BadLink};
use crate::token::MachineToken;

/// A well-formed token that nobody has checked yet.
#[derive(Debug, Clone, Copy)]
pub enum Presented {
    /// From a tag or a QR code.
    Machine {
        terminal: TerminalId,
        token: MachineToken,
    },
    /// Typed by a person.
    Typed(TypedCode),
}

impl Presented {
    /// Reads a link, the `<terminal>.<token>` at its end, or a typed code.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        match TypedCode::parse(text) {
            // A link is never 15 digits long; a typed code may well have dots between its groups.
            Err(BadCode::Length) if text.contains('.') => {
                let (terminal, token) = link::parse(text)?;
                Ok(Self::Machine { terminal, token })
            }
            code => Ok(Self::Typed(code?)),
        }
    }

    /// The one way to write it: `<terminal>.<token>`, or the 15 digits of a typed code.
    ///
    /// It is the token itself, so it goes nowhere but into a hash.
    pub fn written(&self) -> String {
        match self {
            Self::Machine { terminal, token } => format!("{terminal}.{}", link::encode(token)),
            Self::Typed(code) => {
                let shown = code.shown();
                shown.chars().filter(char::is_ascii_digit).collect()
            }
        }
    }

    pub fn terminal(&self) -> TerminalId {
        match self {
            Self::Machine { terminal, .. } => *terminal,
            Self::Typed(code) => code.terminal(),
        }
    }
}

/// Neither a link nor a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error(transparent)]
    Link(#[from] BadLink),
    #[error(transparent)]
    Code(#[from] BadCode),
}
