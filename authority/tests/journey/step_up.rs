//! Does a shopper confirm a payment more strongly when the limits say so, and never with less?

#[path = "step_up/authenticator.rs"]
mod authenticator;
#[path = "step_up/webauthn.rs"]
mod webauthn;
