//! What does the fleet have to reach, and does it?
//!
//! Every bench part tells what it measured of these; "Targets at a glance" on docs/PERFORMANCE.md has a row for each.
#![allow(dead_code, reason = "each benchmark tells its own")]

use std::fmt;

/// A number that is asked for, beside what it is a ratio of.
pub(crate) struct Target {
    pub(crate) work: &'static str,
    pub(crate) beside: &'static str,
    pub(crate) bound: Bound,
    /// What measures it.
    pub(crate) part: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

pub(crate) const EPOCH_KEYS: Target = Target {
    work: "epoch keys/s from sealed seeds",
    beside: "bare loop of the same PKCS#11 calls on the same HSM token",
    bound: Bound::AtLeast(0.9),
    part: "side_by_side",
};
pub(crate) const SCHEDULES: Target = Target {
    work: "schedules/s: one new epoch, signed, over kept-alive mTLS",
    beside: "bare epoch keys, signatures and requests, one after the other",
    bound: Bound::AtLeast(0.8),
    part: "front",
};
pub(crate) const PAYMENTS: Target = Target {
    work: "payments/s: claim, approval, ledger, receipt",
    beside: "bare signature and durable insert in groups, one after the other",
    bound: Bound::AtLeast(0.5),
    part: "side_by_side",
};
pub(crate) const PAYMENTS_ON_POSTGRES: Target = Target {
    work: "the same on PostgreSQL",
    beside: "the same there",
    bound: Bound::AtLeast(0.5),
    part: "side_by_side",
};
pub(crate) const PAYMENTS_P99: Target = Target {
    work: "p99 of these payments",
    beside: "p99 of the bare durable commit",
    bound: Bound::AtMost(3.0),
    part: "side_by_side",
};
pub(crate) const PEER: Target = Target {
    work: "payments/s",
    beside: "privacyIDEA `/validate/check` as it comes",
    bound: Bound::AtLeast(1_000.0),
    part: "privacyidea",
};
pub(crate) const PEER_UNHASHED: Target = Target {
    work: "payments/s",
    beside: "privacyIDEA `/validate/check` with its hash of PINs off",
    bound: Bound::AtLeast(200.0),
    part: "privacyidea",
};
pub(crate) const HANDSHAKES: Target = Target {
    work: "server CPU of an mTLS handshake",
    beside: "nginx, the same client",
    bound: Bound::AtMost(0.5),
    part: "front",
};
pub(crate) const REQUESTS: Target = Target {
    work: "server CPU of a kept-alive mTLS request",
    beside: "nginx `return 200`",
    bound: Bound::AtMost(1.0 / 1.2),
    part: "front",
};
pub(crate) const CROWD: Target = Target {
    work: "a schedule's and a claim's cost in the crowd",
    beside: "with 1 000 terminals and nothing spent",
    bound: Bound::AtMost(1.2),
    part: "crowd",
};
pub(crate) const COMMANDS: Target = Target {
    work: "HSM commands for a terminal and day",
    beside: "one for each window of 30 s: 2 880",
    bound: Bound::AtMost(50.0),
    part: "test: journey, commands",
};
pub(crate) const IDLE: Target = Target {
    work: "memory of a connected idle agent",
    beside: "nginx, of an idle TLS connection",
    bound: Bound::AtMost(1.5),
    part: "front",
};
pub(crate) const RENEWING: Target = Target {
    work: "p99 of a payment while all schedules renew",
    beside: "without renewals",
    bound: Bound::AtMost(1.5),
    part: "load",
};

/// In the order of the page.
pub(crate) const ALL: [&Target; 13] = [
    &EPOCH_KEYS,
    &SCHEDULES,
    &PAYMENTS,
    &PAYMENTS_ON_POSTGRES,
    &PAYMENTS_P99,
    &PEER,
    &PEER_UNHASHED,
    &HANDSHAKES,
    &REQUESTS,
    &CROWD,
    &COMMANDS,
    &IDLE,
    &RENEWING,
];

const HEADING: &str = "| work | beside | target | measured | | by |\n|---|---|--:|--:|---|---|\n";

impl Target {
    pub(crate) fn is_met(&self, ratio: f64) -> bool {
        match self.bound {
            Bound::AtLeast(least) => ratio >= least,
            Bound::AtMost(most) => ratio <= most,
        }
    }

    pub(crate) fn verdict(&self, ratio: f64) -> &'static str {
        if self.is_met(ratio) { "met" } else { "missed" }
    }

    /// Two cells: what is asked for, and whether it is reached.
    pub(crate) fn cells(&self, ratio: f64) -> String {
        format!("{} | {}", self.bound, self.verdict(ratio))
    }

    fn begins(&self) -> String {
        format!("| {} | {} |", self.work, self.beside)
    }

    fn row(&self, measured: &str, verdict: &str, how: &str) -> String {
        let by = match how {
            "" => self.part.to_owned(),
            how => format!("{}: {how}", self.part),
        };
        format!(
            "{} {} | {measured} | {verdict} | {by} |\n",
            self.begins(),
            self.bound
        )
    }
}

/// This bench part's ratio onto the page, and onto the screen. `how`: what of it is not as the target says.
pub(crate) fn tell(target: &Target, ratio: f64, how: &str) -> std::io::Result<()> {
    say(target, &number(ratio), target.verdict(ratio), how)
}

/// The same for a ratio that means nothing, as on a machine that others keep busy.
pub(crate) fn tell_unjudged(target: &Target, ratio: f64, how: &str) -> std::io::Result<()> {
    say(target, &number(ratio), "not judged", how)
}

fn say(target: &Target, measured: &str, verdict: &str, how: &str) -> std::io::Result<()> {
    println!(
        "target: {}, beside {}: {measured}, {}: {verdict}",
        target.work, target.beside, target.bound
    );
    let row = target.row(measured, verdict, how);
    super::write("targets", &with(&super::read("targets")?, target, &row))
}

/// The table with this row in the place of the target's own; what was never told is not run.
fn with(table: &str, target: &Target, row: &str) -> String {
    let known = |it: &Target| table.lines().find(|line| line.starts_with(&it.begins()));
    let rows = ALL.iter().map(|it| match known(it) {
        _ if it.begins() == target.begins() => row.to_owned(),
        Some(line) => format!("{line}\n"),
        None => it.row("–", "not run", ""),
    });
    HEADING.to_owned() + &rows.collect::<String>()
}

fn number(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 100.0 => format!("{ratio:.0}"),
        ratio => format!("{ratio:.2}"),
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, number) = match self {
            Self::AtLeast(number) => ("≥", number),
            Self::AtMost(number) => ("≤", number),
        };
        let text = format!("{number:.2}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        write!(f, "{sign} {text}")
    }
}
