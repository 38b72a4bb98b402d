//! How fast is which HSM, and can it do what M2Key asks of it?

use super::costs::Source;
use super::work::Commands;

/// One kind of HSM.
#[derive(Debug, Clone, Copy)]
pub struct Hsm {
    pub name: &'static str,
    /// Commands it works on at once.
    pub at_once: f64,
    /// How long one command takes, its way there and back included.
    pub sign_ms: f64,
    pub hmac_ms: f64,
    pub unwrap_ms: f64,
    pub cmac_ms: f64,
    pub destroy_ms: f64,
    pub sign_source: Source,
    pub rest_source: Source,
}

/// A stick in a USB port: one command after the other.
pub const SLOW: Hsm = Hsm {
    name: "slow",
    at_once: 1.0,
    sign_ms: 73.0,
    hmac_ms: 4.0,
    unwrap_ms: 10.0,
    cmac_ms: 10.0,
    destroy_ms: 4.0,
    sign_source: Source::Documented("Yubico, YubiHSM 2: 73 ms"),
    rest_source: Source::Documented("Yubico: HMAC 4 ms, wrap 10 ms; CMAC and destroy assumed"),
};

/// An appliance in the same building, its smallest model.
pub const NETWORK: Hsm = Hsm {
    name: "network",
    at_once: 8.0,
    sign_ms: 4.0,
    hmac_ms: 1.0,
    unwrap_ms: 1.0,
    cmac_ms: 1.0,
    destroy_ms: 1.0,
    sign_source: Source::Assumed(
        "2 000/s, a small model of Luna or nShield; large ones do ten times that",
    ),
    rest_source: Source::Assumed("a round trip of 1 ms"),
};

/// A partition somewhere in a provider's network.
pub const CLOUD: Hsm = Hsm {
    name: "cloud",
    at_once: 10.0,
    sign_ms: 6.67,
    hmac_ms: 3.0,
    unwrap_ms: 3.0,
    cmac_ms: 3.0,
    destroy_ms: 3.0,
    sign_source: Source::Documented("AWS CloudHSM hsm2m.medium: 3 000/s of two"),
    rest_source: Source::Assumed("not published; a round trip of 3 ms"),
};

pub const ALL: [Hsm; 3] = [SLOW, NETWORK, CLOUD];

impl Hsm {
    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|it| it.name == name)
    }

    /// How long one of its sessions is occupied by all of these, one after the other.
    pub fn occupied_s(&self, commands: Commands) -> f64 {
        let ms = commands.sign * self.sign_ms
            + commands.hmac * self.hmac_ms
            + commands.unwrap * self.unwrap_ms
            + commands.cmac * self.cmac_ms
            + commands.destroy * self.destroy_ms;
        ms / 1_000.0
    }
}
