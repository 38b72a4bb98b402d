//! How does a shopper with any phone pay: what do they text, and what are they told?
//!
//! ```text
//! shopper                                          us
//!   12345 67890 12345  [4,20] ────────────────────▶ claim: the code is spent, the charge is held
//!   ◀──────────── "Pay 4.20 EUR to …? Reply 271828" offer: a number that only this phone sees
//!   271828 ────────────────────────────────────────▶ approval: exactly what the offer said
//!   ◀──────────────────────────── "Paid. Receipt …" receipt
//! ```
//! The sender of an SMS can be forged; the receiver cannot be chosen so. That is why a text alone never
//! pays, and the reply does. Here is what decides: told the time, without a database or a gateway.
//! [`crate::services::sms`] carries it out.

pub mod amount;
pub mod gsm;
pub mod number;
pub mod one_time;
pub mod say;
pub mod talk;
pub mod text;

pub use amount::TypedAmount;
pub use number::{PhoneNumber, Prefix};
pub use one_time::{SecretError, SmsSecret};
pub use say::{Language, Say, Why};
pub use talk::{Stage, Talk, TalkId};
