//! Does a shopper confirm a payment more strongly when the limits say so, and never with less?

#[path = "step_up/authenticator.rs"]
mod authenticator;
#[path = "step_up/browser.rs"]
mod browser;
#[path = "step_up/paying.rs"]
mod paying;
#[path = "step_up/webauthn.rs"]
mod webauthn;

pub use authenticator::Passkey;
pub use paying::paid_with;
