//! Is this token good right now?
//!
//! ```text
//! Presented ──▶ candidates(now) ──▶ recognise(turns of the database) ──▶ Live | Refusal
//! ```
//! A candidate is a window the authority accepts at `now`. The caller looks up the stored turn of
//! each; only [`recognise`] makes a [`Live`], and only a [`Live`] can be spent.

use alloc::vec::Vec;

use crate::derive::EpochKey;
use crate::ids::TerminalId;
use crate::presented::Presented;
use crate::time::Timestamp;
use crate::token::{Channel, TokenId, WindowId};
use crate::turn::TURN_SHUT;
use crate::window::{
    Behind, CheckedPolicy, EARLY_MS, EpochClock, GRACE_MAX_MS, Window, WindowPlan, Windows,
};

/// Earlier turns of a window that a refusal looks back over to say "spent" rather than "unknown".
const SPENT_LOOK_BACK: u16 = 64;
/// First turns of a passed window that a refusal looks at to say "passed" rather than "unknown".
const PASSED_TURNS: u16 = 4;

/// An epoch key with what it is the key of.
#[derive(Debug, Clone)]
pub struct LoadedEpoch {
    pub version: u32,
    pub epoch: u32,
    pub key: EpochKey,
    /// Under which the epoch was issued, and so is judged.
    pub policy: CheckedPolicy,
    /// Windows of this policy that nobody need draw again; [`Behind::default`] where none is known.
    pub behind: Behind,
}

impl LoadedEpoch {
    /// The windows of one channel, from the first on.
    pub fn windows(&self, channel: Channel, clock: &EpochClock) -> Windows<'_> {
        Windows::of(&self.key, &self.policy, channel, clock, self.epoch)
    }
}

/// A window that accepts tokens now, with its key and the turn the database holds (0 if none).
#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    pub id: WindowId,
    pub window: Window,
    pub turn: u16,
    key: &'a EpochKey,
}

/// A token that is good now. Only [`recognise`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    token: TokenId,
    window: Window,
}

impl Live {
    pub fn token(&self) -> TokenId {
        self.token
    }

    pub fn window(&self) -> Window {
        self.window
    }
}

/// Why a well-formed token is not good. What strangers are told is decided where it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the token was spent or has moved on")]
    Spent,
    #[error("the token's window has passed")]
    Passed,
    #[error("no such token")]
    Unknown,
}

/// The epochs whose keys are needed to judge a token at `now`: at most three.
pub fn epochs_needed(terminal: TerminalId, now: Timestamp) -> Vec<u32> {
    let clock = EpochClock::of(terminal);
    let mut epochs: Vec<u32> = [now - GRACE_MAX_MS, now, now + EARLY_MS]
        .into_iter()
        .map(|moment| clock.epoch_at(moment))
        .collect();
    epochs.dedup();
    epochs
}

/// Every window of `channels` that accepts a token at `now`, with turn 0.
pub fn candidates<'a>(
    terminal: TerminalId,
    now: Timestamp,
    loaded: &'a [LoadedEpoch],
    channels: &[Channel],
) -> Vec<Candidate<'a>> {
    let clock = EpochClock::of(terminal);
    let epochs = epochs_needed(terminal, now);
    let mut found = Vec::new();
    for entry in loaded.iter().filter(|entry| epochs.contains(&entry.epoch)) {
        for channel in channels {
            let lengths = entry.policy.of(*channel);
            let windows = entry.behind.walk(entry.windows(*channel, &clock), now);
            let accepting = windows.filter(|window| window.accepts(now, lengths));
            found.extend(accepting.map(|window| Candidate {
                id: WindowId {
                    terminal,
                    version: entry.version,
                    channel: *channel,
                    epoch: entry.epoch,
                    window: window.index,
                },
                window,
                turn: 0,
                key: &entry.key,
            }));
        }
    }
    found
}

/// The channels a presented token can have come by.
pub fn channels_of(presented: &Presented) -> &'static [Channel] {
    match presented {
        Presented::Machine { .. } => &[Channel::Nfc, Channel::Qr],
        Presented::Signed(_) => &[Channel::Nfc],
        Presented::Typed(_) => &[Channel::Code],
    }
}

/// Finds the candidate whose token this is, at exactly its stored turn.
///
/// A typed code refused as [`Refusal::Spent`] is a miss like any other: it counts in the limiter.
pub fn recognise(presented: &Presented, candidates: &[Candidate<'_>]) -> Result<Live, Refusal> {
    for candidate in candidates {
        if candidate.turn != TURN_SHUT && candidate.is(presented, candidate.turn) {
            let token = candidate.id.turn(candidate.turn);
            return Ok(Live {
                token,
                window: candidate.window,
            });
        }
    }
    Err(match recall(presented, candidates) {
        Some(_) => Refusal::Spent,
        None => Refusal::Unknown,
    })
}

/// Which token it was, of a turn that these windows have left behind.
pub fn recall(presented: &Presented, candidates: &[Candidate<'_>]) -> Option<TokenId> {
    candidates.iter().find_map(|candidate| {
        let mut earlier = candidate.turn.saturating_sub(SPENT_LOOK_BACK)..candidate.turn;
        let turn = earlier.find(|turn| candidate.is(presented, *turn))?;
        Some(candidate.id.turn(turn))
    })
}

/// Was it a token of a window that has passed? Asked only to explain a refusal: `loaded` may hold
/// whatever keys are at hand, and typed codes are never looked up this way.
pub fn explain(presented: &Presented, now: Timestamp, loaded: &[LoadedEpoch]) -> Refusal {
    let Some(token) = presented.machine_token() else {
        return Refusal::Unknown;
    };
    let clock = EpochClock::of(presented.terminal());
    let passed = |entry: &LoadedEpoch| {
        let policy = &entry.policy;
        channels_of(presented).iter().any(|channel| {
            let plan = WindowPlan::draw(&entry.key, policy, *channel, &clock, entry.epoch);
            plan.windows()
                .iter()
                .filter(|window| window.closes + policy.of(*channel).grace_ms <= now)
                .any(|window| {
                    (0..PASSED_TURNS).any(|turn| {
                        let shown = entry.key.token(*channel, window.index, turn);
                        shown.matches(token)
                    })
                })
        })
    };
    if loaded.iter().any(passed) {
        Refusal::Passed
    } else {
        Refusal::Unknown
    }
}

impl Candidate<'_> {
    fn is(&self, presented: &Presented, turn: u16) -> bool {
        let fits = self.id.terminal == presented.terminal()
            && channels_of(presented).contains(&self.id.channel);
        let shown = || self.key.token(self.id.channel, self.id.window, turn);
        fits && match presented {
            Presented::Machine { token, .. } => shown().matches(token),
            Presented::Signed(link) => shown().matches(link.token()),
            Presented::Typed(code) => code.matches(self.key.code(self.id.window, turn)),
        }
    }
}
