//! Which steps does a payment take, and which a renewal?

use super::desk::Priority;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Payment,
    Renewal,
    /// Hours of a terminal in use, at a node that is not its own.
    Ahead,
    /// After a restart: the whole horizon, by somebody who backs off.
    Fetch,
    Report,
    Checkpoint,
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Step {
    /// One request to the HSM, and how long it occupies a session.
    Hsm(f64),
    Write,
}

/// How long each request to the HSM occupies one of its sessions.
#[derive(Debug, Clone, Copy)]
pub struct Takes {
    pub keys_s: f64,
    pub tap_s: f64,
    pub renewal_keys_s: f64,
    pub ahead_keys_s: f64,
    pub fetch_keys_s: f64,
    pub signature_s: f64,
}

/// From this step on a payment is paid, and only its receipt is missing.
pub const PAID: u8 = 6;

/// Something that is carried out in steps.
#[derive(Debug, Clone, Copy)]
pub struct Task {
    pub kind: Kind,
    pub began_s: f64,
    pub step: u8,
    pub tries: u32,
    /// The keys of its hour are not at hand where the till asks, nor where the phone does.
    pub loads_keys: [bool; 2],
    /// Its link is one that a tag signed.
    pub taps: bool,
    /// A schedule that was let in at the door.
    pub inside: bool,
}

impl Task {
    pub fn is_schedule(&self) -> bool {
        matches!(self.kind, Kind::Renewal | Kind::Fetch)
    }

    pub fn priority(&self) -> Priority {
        match self.kind {
            Kind::Payment => Priority::Payment,
            Kind::Renewal | Kind::Ahead | Kind::Fetch | Kind::Report | Kind::Checkpoint => {
                Priority::Renewal
            }
        }
    }

    /// The step it stands at, once those are passed over that it does not need; none if it is done.
    pub fn stand(&mut self, takes: &Takes) -> Option<Step> {
        loop {
            match self.at(takes) {
                Some(Step::Hsm(0.0)) => self.step += 1,
                step => return step,
            }
        }
    }

    fn at(&self, takes: &Takes) -> Option<Step> {
        let if_so = |so: bool, takes_s: f64| Step::Hsm(if so { takes_s } else { 0.0 });
        let steps: &[Step] = match self.kind {
            // Charge; tap, claim; approval; receipt.
            Kind::Payment => &[
                if_so(self.loads_keys[0], takes.keys_s),
                Step::Write,
                if_so(self.loads_keys[1], takes.keys_s),
                if_so(self.taps, takes.tap_s),
                Step::Write,
                Step::Write,
                Step::Hsm(takes.signature_s),
                Step::Write,
            ],
            Kind::Renewal => &[
                Step::Hsm(takes.renewal_keys_s),
                Step::Write,
                Step::Hsm(takes.signature_s),
            ],
            Kind::Ahead => &[Step::Hsm(takes.ahead_keys_s)],
            Kind::Fetch => &[
                Step::Hsm(takes.fetch_keys_s),
                Step::Write,
                Step::Hsm(takes.signature_s),
            ],
            Kind::Report => &[Step::Write],
            Kind::Checkpoint => &[Step::Hsm(takes.signature_s), Step::Write],
        };
        steps.get(usize::from(self.step)).copied()
    }
}
