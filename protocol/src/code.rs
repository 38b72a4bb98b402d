//! What does a person type when the phone can neither tap nor scan?
//!
//! 15 digits shown 5-5-5: the terminal's 7 digits without its check digit, 7 rotating digits, and a
//! Damm digit over all 14, so that a slip is caught before it counts as a guess.

use alloc::format;
use alloc::string::String;
use core::fmt;

use subtle::ConstantTimeEq;

use crate::damm;
use crate::derive::CODE_DIGITS;
use crate::ids::TerminalId;
use crate::typed::Digits;

/// Digits of a typed code, check digit included: no longer than a card number.
pub const TYPED_CODE_DIGITS: usize = 15;

/// A typed code whose check digit fits. Mute, because its rotating digits are a token.
#[derive(Clone, Copy)]
pub struct TypedCode {
    terminal: TerminalId,
    rotating: u32,
}

impl TypedCode {
    /// `rotating` is taken modulo 10^7.
    pub fn new(terminal: TerminalId, rotating: u32) -> Self {
        Self {
            terminal,
            rotating: rotating % 10u32.pow(CODE_DIGITS),
        }
    }

    /// Reads what people type; see [`Digits::parse`].
    pub fn parse(text: &str) -> Result<Self, BadCode> {
        let digits = Digits::<TYPED_CODE_DIGITS>::parse(text).map_err(|_| BadCode::Length)?;
        if !damm::is_valid(digits.iter()) {
            return Err(BadCode::Slip);
        }
        let body = digits.value() / 10;
        let scale = 10u64.pow(CODE_DIGITS);
        let terminal =
            TerminalId::from_number((body / scale) as u32).map_err(|_| BadCode::Length)?;
        Ok(Self {
            terminal,
            rotating: (body % scale) as u32,
        })
    }

    pub fn terminal(&self) -> TerminalId {
        self.terminal
    }

    pub fn matches(&self, rotating: u32) -> bool {
        self.rotating.ct_eq(&rotating).into()
    }

    /// `12345-67890-12345`, as the screen shows it.
    pub fn shown(&self) -> String {
        let body = format!("{:07}{:07}", self.terminal.number(), self.rotating);
        let check = damm::check_digit(body.bytes().map(|c| c - b'0'));
        let all = format!("{body}{check}");
        format!("{}-{}-{}", &all[..5], &all[5..10], &all[10..])
    }
}

impl fmt::Debug for TypedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TypedCode({}, ..)", self.terminal)
    }
}

/// Why a typed code is refused before it counts as a guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCode {
    #[error("a code has {TYPED_CODE_DIGITS} digits")]
    Length,
    #[error("the code has a slip in it: compare it with the screen")]
    Slip,
}
