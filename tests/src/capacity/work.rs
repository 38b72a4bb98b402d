//! What happens for one schedule, one claim, one payment?
//!
//! Counted in the services of the authority: a change there is a change here.

use std::ops::{Add, Mul};

use super::costs;
use super::fleet::Fleet;
use super::keeping::{Asked, first_in_first_out, first_of, forgotten_at_once};

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

/// The seed unwrapped, one mac computed for each epoch, the seed destroyed; its binding held before.
pub fn epoch_keys(epochs: f64) -> Commands {
    Commands {
        hmac: epochs,
        unwrap: 1.0,
        destroy: 1.0,
        ..Commands::default()
    }
}

/// The same where its binding must be computed first: after a start, or where it was forgotten.
pub fn epoch_keys_anew(epochs: f64) -> Commands {
    Commands {
        hmac: 1.0 + epochs,
        ..epoch_keys(epochs)
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

/// Which node phones come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phones {
    Anywhere,
    /// To that of the terminal whose token they bring.
    AtTheTerminals,
}

/// How a node comes by the keys of hours.
#[derive(Debug, Clone, Copy)]
pub struct Loads {
    /// Of the present hour, for one payment of the busiest hour, while the shopper waits.
    pub per_payment: f64,
    pub of_payment: Commands,
    /// Of hours to come, ahead of time: a second, all nodes together.
    pub ahead_per_s: f64,
    pub ahead: Commands,
    /// For a schedule.
    pub renewal: Commands,
}

/// A node keeps the keys of so many terminals in use, where somebody paid lately. At a terminal's own node they come
/// with its schedules; others that phones come to load them hours ahead. Where more are in use than are kept, the one
/// that came first gives way. If it does before hours loaded ahead could be of use, none are, and each request that
/// needs a key may have to wait for it: the till's, which comes to the terminal's own node, and the phone's.
pub fn loads(fleet: &Fleet, nodes: f64, phones: Phones, kept: f64) -> Loads {
    let (others, at_own) = match phones {
        Phones::Anywhere => (nodes - 1.0, 1.0 / nodes),
        Phones::AtTheTerminals => (0.0, 1.0),
    };
    let lately = fleet.payments_a_day / 24.0 * costs::IN_USE_H.value;
    let elsewhere = others * (1.0 - (1.0 - 1.0 / nodes).powf(lately));
    let per_s = fleet.payments_at_peak_an_hour() / 3_600.0;
    let count = fleet.terminals / nodes;
    // At one node: its own terminals, and those of others.
    let asked = [
        Asked {
            count,
            per_s: per_s * (1.0 + at_own),
        },
        Asked {
            count: count * others,
            per_s: per_s / nodes,
        },
    ];
    let stay = first_in_first_out(&asked, kept);
    let there = stay.share;
    let ahead_s = costs::AHEAD_H.value * 3_600.0;
    let (lacking, ahead_per_s) = match stay.for_s < ahead_s {
        // Crowded: nothing is loaded ahead, so each hour is loaded once at least where somebody pays in it.
        true => {
            let new = asked.map(|it| first_of(3_600.0, it.per_s));
            let lacking = [0, 1].map(|it| new[it].max(1.0 - there[it]));
            (lacking, 0.0)
        }
        // A phone may come to a node where nobody paid at that terminal lately.
        false => {
            let lately = (1.0 - 1.0 / nodes).powf(lately);
            let lacking = [1.0 - there[0], lately.max(1.0 - there[1])];
            (lacking, fleet.terminals * elsewhere * there[1] / ahead_s)
        }
    };
    let loaded = [(1.0 + at_own) * lacking[0], (1.0 - at_own) * lacking[1]];
    let renewals_per_s = 1.0 / (fleet.renewal_h * 3_600.0);
    let opened = [
        Asked {
            count,
            per_s: renewals_per_s + per_s * loaded[0],
        },
        Asked {
            count: asked[1].count,
            per_s: asked[1].per_s * lacking[1] + ahead_per_s / fleet.terminals / others.max(1.0),
        },
    ];
    let [own, other] = forgotten_at_once(&opened, costs::BINDINGS_KEPT.value);
    let per_payment = loaded[0] + loaded[1];
    let known = (loaded[0] * own + loaded[1] * other) / per_payment.max(f64::MIN_POSITIVE);
    Loads {
        per_payment,
        of_payment: epoch_keys_if(known, 1.0),
        ahead_per_s,
        ahead: epoch_keys_if(other, costs::AHEAD_H.value),
        renewal: epoch_keys_if(own, fleet.renewal_h),
    }
}

/// If the binding is known of this share.
fn epoch_keys_if(known: f64, epochs: f64) -> Commands {
    epoch_keys(epochs) * known + epoch_keys_anew(epochs) * (1.0 - known)
}

/// What a day of one terminal costs an HSM, where its node keeps its keys and nobody else judges its tokens.
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
        judging: TAP * (payments * fleet.taps),
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
