//! When does the terminal renew its certificate or look after its roots, and which step comes next?
//!
//! ```text
//!  the disk ──────────── stage ──▶ ┌────────┐
//!  frames ──────── handle_told ──▶ │ Keeper │ ──poll(at)──▶ one step ──driver──▶ handle_done, _failed
//!  the stream ─ handle_proven, ──▶ └────────┘
//!               _refused, _stranger
//!
//!  MakeKey ─▶ Ask ─▶ KeepAnswer ─▶ Try ─▶ (the authority took it) ─▶ PromoteKey ─▶ PromoteChain
//!              ▲                     └──▶ (it was refused) ─▶ GoBack ─┐         ▲
//!              ├──────────────────────────────────────────────────────┘         │
//!              └──▶ (and the old one as well) ────────────────────────────────────┘
//! ```
//! No I/O, and the time is told; `upkeep_driver.rs` carries the steps out. Each leaves the disk such that
//! a start from there goes on (`identity/disk.rs`), so it does not matter where power fails.

use protocol::ids::TerminalId;
use protocol::time::{Millis, Timestamp};
use protocol::wire::upkeep::Upkeep;
use sha2::{Digest, Sha256};

use crate::identity::Identity;

/// How far from the middle of a certificate's life the renewal is drawn, as a share of that life.
pub const JITTER_SHARE: Millis = 10;
/// A renewal or a bundle that is asked of everybody at once begins within this time, unless the
/// configuration says another one.
pub const SPREAD_MS: Millis = 60_000;
/// The longest such time: whoever trusts a tainted root should not do so for longer.
pub const SPREAD_MAX_MS: Millis = 3_600_000;
/// A certificate that was just renewed is not renewed again on demand within this time.
pub const RENEWED_REST_MS: Millis = 10 * 60_000;
/// The first pause after a failure, and the longest.
pub const RETRY_FIRST_MS: Millis = 2_000;
pub const RETRY_LONGEST_MS: Millis = 15 * 60_000;
/// The longest that the authority can make us wait.
pub const WAIT_MAX_MS: Millis = 3_600_000;

/// One thing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Put a fresh key on the disk.
    MakeKey,
    /// Ask for its certificate.
    Ask,
    /// Put the answer on the disk.
    KeepAnswer,
    /// Call as the renewed identity from now on.
    Try,
    /// The new key takes the old one's place.
    PromoteKey,
    /// And its certificate. The renewal is done.
    PromoteChain,
    /// Call as the old identity again.
    GoBack,
    /// Remove a key that the authority will never certify.
    DropNext,
    /// Fetch the trust bundle from the authority.
    FetchTrust,
    /// Fetch it from whoever answers: it proves itself.
    Rebootstrap,
}

/// The steps of a renewal that meets no trouble.
pub const RENEWAL: [Step; 6] = [
    Step::MakeKey,
    Step::Ask,
    Step::KeepAnswer,
    Step::Try,
    Step::PromoteKey,
    Step::PromoteChain,
];

/// A moment: the authority's time for dates, and a count that only runs forward for pauses.
#[derive(Debug, Clone, Copy)]
pub struct At {
    pub now: Timestamp,
    pub ticks: Millis,
}

/// What a certificate means for its renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// Different for every terminal and certificate, and the same at every start.
    draw: u32,
}

/// How far a renewal has come. At a start the disk says which of the first three it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// No renewal is under way.
    Rest,
    /// The next key is on the disk.
    Key,
    /// Its certificate is on the disk, too.
    Certified(Life),
    /// The authority has answered; not on the disk yet.
    Answered,
    /// Calls are made under it, by this footing.
    Trying { footing: u64, life: Life },
    /// The authority refused it when it was used.
    GivenUp,
    /// The authority has taken it, or it is the one that can still be renewed.
    Used(Life),
    /// The next key is the key.
    KeyPromoted(Life),
    /// The authority will never certify the next key.
    KeyRejected,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The step has no more to say.
    Plainly,
    /// [`Step::KeepAnswer`]: the certificate that is next.
    Kept(Life),
    /// [`Step::Try`]: the footing that calls are made by.
    Trying { footing: u64 },
    /// [`Step::FetchTrust`], [`Step::Rebootstrap`]: the bundle that is followed now.
    Following { sequence: u64 },
}

/// Why a step came to nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// The same may succeed later; not before so many milliseconds, if the authority said so.
    Later { words: String, wait_ms: Millis },
    /// The authority says no to this terminal, in words. It is asked again, but rarely.
    Refused { words: String },
    /// The authority says no to the next key.
    Key,
}

/// What stands in the way of the upkeep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    pub words: String,
    /// Trying again will not help: somebody has to act.
    pub is_final: bool,
}

/// The upkeep of one terminal.
pub struct Keeper {
    life: Life,
    spread_ms: Millis,
    stage: Stage,
    /// The trust bundle that is followed.
    follows: u64,
    /// Who answers leads to no trusted root.
    stranger: bool,
    /// The authority does not take the certificate as it is: by its clock it may have expired.
    unwelcome: bool,
    /// The renewed certificate that was refused when it was used.
    given_up: Option<Life>,
    renew_at_ticks: Option<Millis>,
    trust_at_ticks: Option<Millis>,
    renewed_at_ticks: Option<Millis>,
    renewal: Tries,
    trust: Tries,
}

/// The tries of one kind of errand, and when the next may be made.
#[derive(Debug, Default)]
struct Tries {
    failures: u32,
    not_before_ticks: Option<Millis>,
    trouble: Option<Trouble>,
}

impl Failed {
    /// A short, stable name for metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Later { .. } => "later",
            Self::Refused { .. } => "refused",
            Self::Key => "key-refused",
        }
    }
}

impl Life {
    pub fn of(identity: &Identity) -> Self {
        Self {
            not_before: identity.not_before(),
            not_after: identity.not_after(),
            draw: draw(
                identity.terminal(),
                identity.leaf().fingerprint().as_bytes(),
            ),
        }
    }

    /// Half-life, a tenth of the life sooner or later, so that a fleet does not renew all at once.
    pub fn renews_at(&self) -> Timestamp {
        let life = (self.not_after - self.not_before).max(0);
        let reach = life / JITTER_SHARE;
        self.not_before + life / 2 - reach + self.drawn(2 * reach)
    }

    pub fn is_over(&self, now: Timestamp) -> bool {
        now > self.not_after
    }

    /// This terminal's place in a span of time.
    fn drawn(&self, span: Millis) -> Millis {
        (i128::from(span) * i128::from(self.draw) / i128::from(u32::MAX)) as Millis
    }
}

impl Keeper {
    /// Goes on from what is on the disk.
    pub fn new(life: Life, stage: Stage, follows: u64) -> Self {
        Self {
            life,
            spread_ms: SPREAD_MS,
            stage,
            follows,
            stranger: false,
            unwelcome: false,
            given_up: None,
            renew_at_ticks: None,
            trust_at_ticks: None,
            renewed_at_ticks: None,
            renewal: Tries::default(),
            trust: Tries::default(),
        }
    }

    /// Begins what is asked of everybody at once within this time instead of [`SPREAD_MS`].
    pub fn spread_over(self, spread_ms: Millis) -> Self {
        Self { spread_ms, ..self }
    }

    /// What the last frame said of upkeep. Saying it again changes nothing.
    pub fn handle_told(&mut self, told: &Upkeep, at: At) {
        // The authority knows how many there are, and the configuration what this place wants.
        let spread_ms = self
            .spread_ms
            .max(Millis::from(told.spread_ms).min(SPREAD_MAX_MS));
        let rests = self
            .renewed_at_ticks
            .is_some_and(|t| at.ticks - t < RENEWED_REST_MS);
        self.renew_at_ticks = match told.renew_now && !rests {
            true => self
                .renew_at_ticks
                .or(Some(at.ticks + self.life.drawn(spread_ms))),
            false => None,
        };
        self.trust_at_ticks = match told.trust_sequence > self.follows {
            true => self
                .trust_at_ticks
                .or(Some(at.ticks + self.life.drawn(spread_ms))),
            false => None,
        };
    }

    /// The authority took a call of this footing.
    pub fn handle_proven(&mut self, by: u64) {
        if std::mem::take(&mut self.stranger) {
            // What a stranger answered is no trouble of the authority's roots.
            self.trust = Tries::default();
        }
        self.unwelcome = false;
        if let Stage::Trying { footing, life } = self.stage
            && by >= footing
        {
            self.stage = Stage::Used(life);
        }
    }

    /// The authority refused the certificate of the present footing, in words.
    pub fn handle_refused(&mut self, words: &str, at: At) {
        match self.stage {
            Stage::Trying { life, .. } => {
                self.stage = Stage::GivenUp;
                self.given_up = Some(life);
                let words = format!("the renewed certificate is not taken: {words}");
                self.renewal.later(words, 0, at, &self.life);
            }
            _ => self.unwelcome = true,
        }
    }

    /// Who answers leads to no root that is trusted here.
    pub fn handle_stranger(&mut self) {
        self.stranger = true;
    }

    /// What to do now, one thing after the other; each is answered before the next is asked for.
    pub fn poll(&mut self, at: At) -> Option<Step> {
        self.trust_step(at).or_else(|| self.renewal_step(at))
    }

    /// A step was carried out.
    pub fn handle_done(&mut self, step: Step, done: Done, at: At) {
        match (step, done) {
            (Step::FetchTrust | Step::Rebootstrap, Done::Following { sequence }) => {
                self.follows = sequence;
                self.stranger = false;
                self.trust_at_ticks = None;
                self.trust = Tries::default();
            }
            (Step::PromoteChain, _) => self.renewed(at),
            (Step::GoBack, _) => self.stage = Stage::Key,
            _ => self.stage = self.stage_after(step, done),
        }
    }

    /// A step came to nothing.
    pub fn handle_failed(&mut self, step: Step, failed: Failed, at: At) {
        if let (Step::Ask, Failed::Refused { .. }, Some(life)) = (step, &failed, self.given_up) {
            // Neither is taken as it is. If one can be renewed it is the younger: by being used, it
            // has put the older out of force.
            self.given_up = None;
            self.stage = Stage::Used(life);
            return;
        }
        let tries = match step {
            Step::FetchTrust | Step::Rebootstrap => &mut self.trust,
            _ => &mut self.renewal,
        };
        match failed {
            Failed::Later { words, wait_ms } => tries.later(words, wait_ms, at, &self.life),
            Failed::Refused { words } => tries.refused(words, at),
            Failed::Key => self.stage = Stage::KeyRejected,
        }
    }

    /// When the certificate is renewed by itself.
    pub fn renews_at(&self) -> Timestamp {
        self.life.renews_at()
    }

    /// A renewal is under way.
    pub fn is_renewing(&self) -> bool {
        self.stage != Stage::Rest
    }

    /// What stands in the way, the certificate first.
    pub fn troubles(&self) -> Vec<Trouble> {
        let both = [&self.renewal, &self.trust];
        both.into_iter().filter_map(|t| t.trouble.clone()).collect()
    }

    fn trust_step(&self, at: At) -> Option<Step> {
        if !self.trust.may_try(at) {
            return None;
        }
        if self.stranger {
            return Some(Step::Rebootstrap);
        }
        let due = self.trust_at_ticks.is_some_and(|t| at.ticks >= t);
        due.then_some(Step::FetchTrust)
    }

    fn renewal_step(&mut self, at: At) -> Option<Step> {
        if self.stage == Stage::GivenUp {
            return Some(Step::GoBack);
        }
        if !self.renewal.may_try(at) {
            return None;
        }
        if let Stage::Certified(life) = self.stage
            && life.is_over(at.now)
        {
            // Both have expired. The younger one was taken or can still be renewed, and the authority
            // would answer the older one with nothing newer.
            self.stage = Stage::Used(life);
        }
        match self.stage {
            Stage::Rest => self.is_due(at).then_some(Step::MakeKey),
            Stage::Key => self.is_due(at).then_some(Step::Ask),
            Stage::Answered => Some(Step::KeepAnswer),
            Stage::Certified(_) => Some(Step::Try),
            Stage::Trying { .. } | Stage::GivenUp => None,
            Stage::Used(_) => Some(Step::PromoteKey),
            Stage::KeyPromoted(_) => Some(Step::PromoteChain),
            Stage::KeyRejected => Some(Step::DropNext),
        }
    }

    fn is_due(&self, at: At) -> bool {
        let on_demand = self.renew_at_ticks.is_some_and(|t| at.ticks >= t);
        !self.stranger && (on_demand || self.unwelcome || at.now >= self.renews_at())
    }

    fn stage_after(&self, step: Step, done: Done) -> Stage {
        match (step, done, self.stage) {
            (Step::MakeKey, ..) => Stage::Key,
            (Step::Ask, ..) => Stage::Answered,
            (Step::KeepAnswer, Done::Kept(life), _) => Stage::Certified(life),
            (Step::Try, Done::Trying { footing }, Stage::Certified(life)) => {
                Stage::Trying { footing, life }
            }
            (Step::PromoteKey, _, Stage::Used(life)) => Stage::KeyPromoted(life),
            (Step::DropNext, ..) => Stage::Rest,
            (_, _, unchanged) => unchanged,
        }
    }

    fn renewed(&mut self, at: At) {
        if let Stage::KeyPromoted(life) = self.stage {
            self.life = life;
        }
        self.stage = Stage::Rest;
        self.unwelcome = false;
        self.given_up = None;
        self.renew_at_ticks = None;
        self.renewed_at_ticks = Some(at.ticks);
        self.renewal = Tries::default();
    }
}

impl Tries {
    fn may_try(&self, at: At) -> bool {
        self.not_before_ticks.is_none_or(|t| at.ticks >= t)
    }

    /// Doubles the pause with every failure; each terminal has its own place in the upper half of it.
    fn later(&mut self, words: String, wait_ms: Millis, at: At, life: &Life) {
        let ceiling = RETRY_FIRST_MS
            .saturating_mul(1 << self.failures.min(16))
            .min(RETRY_LONGEST_MS);
        let drawn = ceiling / 2 + life.drawn(ceiling / 2);
        self.failures = self.failures.saturating_add(1);
        self.pause(drawn.max(wait_ms.min(WAIT_MAX_MS)), at);
        self.trouble = Some(Trouble {
            words,
            is_final: false,
        });
    }

    fn refused(&mut self, words: String, at: At) {
        self.pause(RETRY_LONGEST_MS, at);
        self.trouble = Some(Trouble {
            words,
            is_final: true,
        });
    }

    fn pause(&mut self, ms: Millis, at: At) {
        self.not_before_ticks = Some(at.ticks + ms);
    }
}

/// A number that is different for every terminal and certificate.
fn draw(terminal: TerminalId, fingerprint: &[u8; 32]) -> u32 {
    let mut hash = Sha256::new();
    hash.update(b"m2key/renewal-draw/1\0");
    hash.update(terminal.number().to_be_bytes());
    hash.update(fingerprint);
    let digest = hash.finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

#[cfg(test)]
mod tests;
