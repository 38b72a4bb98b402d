//! What happens for one schedule, one claim, one payment?
//!
//! Counted in the services of the authority: a change there is a change here.

use std::ops::{Add, Mul};

use super::costs;
use super::fleet::Fleet;

/// Commands that an HSM is given.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Commands {
    pub hmac: f64,
    pub unwrap: f64,
    pub cmac: f64,
    pub sign: f64,
    /// Of the unwrapped seed, when its batch is over.
    pub destroy: f64,
}

/// A receipt, a schedule or a checkpoint.
pub const SIGNATURE: Commands = Commands {
    hmac: 0.0,
    unwrap: 0.0,
    cmac: 0.0,
    sign: 1.0,
    destroy: 0.0,
};

/// The two keys that check the link of a tag.
pub const TAP: Commands = Commands {
    hmac: 0.0,
    unwrap: 0.0,
    cmac: 2.0,
    sign: 0.0,
    destroy: 0.0,
};

/// The binding is verified, the seed unwrapped, one mac computed for each epoch, the seed destroyed.
pub fn epoch_keys(epochs: f64) -> Commands {
    Commands {
        hmac: 1.0 + epochs,
        unwrap: 1.0,
        destroy: 1.0,
        ..Commands::default()
    }
}

impl Commands {
    /// All but the destroying, which no device does work for.
    pub fn count(&self) -> f64 {
        self.hmac + self.unwrap + self.cmac + self.sign
    }
}

impl Add for Commands {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            hmac: self.hmac + other.hmac,
            unwrap: self.unwrap + other.unwrap,
            cmac: self.cmac + other.cmac,
            sign: self.sign + other.sign,
            destroy: self.destroy + other.destroy,
        }
    }
}

impl Mul<f64> for Commands {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self {
            hmac: self.hmac * times,
            unwrap: self.unwrap * times,
            cmac: self.cmac * times,
            sign: self.sign * times,
            destroy: self.destroy * times,
        }
    }
}

/// How often the keys of the present hour are derived for one payment of the busiest hour.
///
/// A node keeps them for so many terminals. The till comes to the terminal's own node, phones come to any;
/// what is kept and not found again is derived once more, and a terminal in its hour at least once on
/// every node that it was paid through.
pub fn keys_loaded_per_payment(fleet: &Fleet, nodes: f64, kept: f64) -> f64 {
    let payments = fleet.payments_at_peak_an_hour().max(f64::MIN_POSITIVE);
    let elsewhere = (nodes - 1.0) * (1.0 - (1.0 - 1.0 / nodes).powf(payments));
    let places = 1.0 + elsewhere;
    let on_a_node = fleet.terminals * places / nodes;
    let lost = (1.0 - kept / on_a_node).max(0.0);
    let asked = 1.0 + (nodes - 1.0) / nodes;
    (places / payments).min(asked).max(asked * lost)
}

/// What a day of one terminal costs an HSM.
#[derive(Debug, Clone, Copy)]
pub struct TerminalDay {
    pub schedules: Commands,
    pub judging: Commands,
    pub receipts: Commands,
}

pub fn terminal_day(fleet: &Fleet) -> TerminalDay {
    let renewals = 24.0 / fleet.renewal_h;
    let payments = fleet.payments_a_day;
    TerminalDay {
        schedules: (epoch_keys(fleet.renewal_h) + SIGNATURE) * renewals,
        judging: epoch_keys(1.0) * fleet.open_hours + TAP * (payments * fleet.taps),
        receipts: SIGNATURE * payments,
    }
}

/// Writes a second, all nodes together.
pub fn writes_per_s(fleet: &Fleet) -> f64 {
    fleet.payments_at_peak_per_s() * costs::PAYMENT_WRITES.value
        + fleet.renewals_per_s()
        + fleet.reports_per_s()
}

pub fn reads_per_s(fleet: &Fleet, look_reads: f64) -> f64 {
    fleet.payments_at_peak_per_s() * costs::PAYMENT_READS.value + fleet.look_reads_per_s(look_reads)
}
