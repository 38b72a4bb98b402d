//! What do demo and end-to-end tests stand on?
//!
//! A [`World`] of real parts, each in a process of its own, and the people in it:
//!
//! ```text
//!  Bank ◀──sign-in── Phone ──tap · scan · type──▶ Terminal: pcscd, reader, tag, m2key-agent ◀── Till
//!    ▲                 │ claim, approve                        ║
//!    └──JWKS────── Authority: m2key-authority ═════════════════╝   its HSM token in SoftHSM
//!                             │ local socket
//!                             m2key-pki signer, the issuing CA      its HSM token in SoftHSM
//! ```

pub mod authority;
pub mod bank;
pub mod browser;
pub mod capacity;
pub mod cluster;
pub mod failure;
pub mod identity_provider;
pub mod kannel;
pub mod kiosk;
pub mod load;
pub mod manager;
pub mod pcsc;
pub mod phone;
pub mod ports;
pub mod process;
pub mod simulated;
pub mod story;
pub mod terminal;
pub mod throwaway;
pub mod till;
pub mod tools;
pub mod wait;
pub mod web;
pub mod world;

pub use failure::Failure;
pub use world::World;
