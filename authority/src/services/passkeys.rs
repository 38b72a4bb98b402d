//! How does a shopper confirm a payment more strongly than by being signed in?

pub mod webauthn;
