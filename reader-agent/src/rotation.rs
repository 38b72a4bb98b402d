//! Which token does each channel show right now, and when does that change?
//!
//! ```text
//!  schedule ──handle_schedule──▶ ┌──────────┐
//!  turns ─────handle_turns─────▶ │ Rotation │ ──poll(now)──▶ a face per channel, or why it is blank
//!  restart ───resume───────────▶ └──────────┘ ──poll_timeout──▶ when to ask again
//! ```
//! It does no I/O and is told the time, which is the authority's. A stale token is never shown: what
//! is not certain is blank.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use protocol::code::TypedCode;
use protocol::ids::TerminalId;
use protocol::jwk::JwkSet;
use protocol::jws::{self, BadJws};
use protocol::link::LinkHost;
use protocol::live::LoadedEpoch;
use protocol::schedule::{self, BadSchedule, Rank, Schedule, ScheduleClaims};
use protocol::time::{Millis, Timestamp};
use protocol::token::{Channel, WindowId};
use protocol::turn::{KnownTurns, TurnState};
use protocol::window::{Behind, CheckedPolicy, EpochClock, Window, WindowPlan, WindowPolicy};
use protocol::wire::schedules::{EpochKeyEntry, ScheduleResponse};

/// How long tokens are shown from a schedule whose key is believed no more, while the next schedule is
/// fetched: a large fleet, which fetches all at once, needs minutes. Whoever took that key derives no
/// token with it, and a screen that goes blank helps nobody.
pub const UNBELIEVED_SHOWN_MS: Millis = 5 * 60_000;

/// What a terminal shows, and the window it belongs to. Mute about the token itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Face {
    /// A link for nfc and qr; the digits 5-5-5 for code.
    text: String,
    pub window: WindowId,
    pub turn: u16,
    pub opens: Timestamp,
    pub closes: Timestamp,
}

/// Why a channel shows nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Blank {
    #[error("no schedule has arrived yet")]
    NoSchedule,
    #[error("the authority has not yet said what time it is")]
    NoTime,
    #[error("the schedule ended at {ended}, and the authority has not sent a new one")]
    PastHorizon { ended: Timestamp },
    #[error("the schedule begins at {begins}")]
    BeforeSchedule { begins: Timestamp },
    #[error("restarted without the authority: shown again from {at}")]
    UntilBoundary { at: Timestamp },
}

/// A face, or the reason for none.
pub type Shows = Result<Face, Blank>;

/// All three channels at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faces {
    pub nfc: Shows,
    pub qr: Shows,
    pub code: Shows,
}

/// Which part of the horizon was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// From the current epoch on; replaces what is held.
    Whole,
    /// Only what follows this epoch.
    After(u32),
}

/// What a new schedule meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// It is followed.
    Yes,
    /// It is followed, but policy, host or generation changed under the epochs held before, so they
    /// were dropped: fetch the whole horizon.
    FetchWhole,
}

/// Why a schedule is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotFollowed {
    #[error("the schedule is not signed by a key of this authority: {0}")]
    Signature(BadJws),
    #[error(transparent)]
    Schedule(#[from] BadSchedule),
    #[error("the key of epoch {epoch} is not the one the schedule was signed for")]
    Key { epoch: u32 },
    #[error("the schedule names epoch {epoch}, but its key did not come with it")]
    KeyMissing { epoch: u32 },
}

/// The rotation of one terminal.
pub struct Rotation {
    terminal: TerminalId,
    clock: EpochClock,
    followed: Option<Following>,
    turns: KnownTurns,
    /// What the stream that is up said last: all there is to know, whatever the life of its database.
    said: Vec<TurnState>,
    doubt: Doubt,
    /// When epochs go whose key is believed no more; none while there are no such.
    unbelieved_until: Option<Timestamp>,
}

struct Following {
    rank: Rank,
    policy: CheckedPolicy,
    host: LinkHost,
    epochs: BTreeMap<u32, Epoch>,
}

struct Epoch {
    /// The key that signed for it.
    kid: Arc<str>,
    is_believed: bool,
    loaded: LoadedEpoch,
    plans: [WindowPlan; 3],
}

/// Whether turns may have moved while nobody here was listening.
enum Doubt {
    /// Just started: whatever window is open at the first poll may have moved on.
    Unasked,
    /// Windows that opened at or before this moment may have moved on.
    Since(Timestamp),
    /// The authority has spoken in this run.
    None,
}

impl Rotation {
    /// A rotation that has heard nothing yet.
    pub fn new(terminal: TerminalId) -> Self {
        Self {
            terminal,
            clock: EpochClock::of(terminal),
            followed: None,
            turns: KnownTurns::default(),
            said: Vec::new(),
            doubt: Doubt::Unasked,
            unbelieved_until: None,
        }
    }

    /// Takes in a schedule with its keys, if both are genuine, ours, and not older than `last` (of
    /// earlier runs) or what is followed already.
    pub fn handle_schedule(
        &mut self,
        response: &ScheduleResponse,
        fetch: Fetch,
        keys: &JwkSet,
        last: Option<Rank>,
    ) -> Result<Followed, NotFollowed> {
        let verified = jws::verify::<ScheduleClaims>(&response.schedule, keys)
            .map_err(NotFollowed::Signature)?;
        let kid = Arc::from(verified.kid());
        let schedule = schedule::accept(verified, self.terminal, last.max(self.rank()))?;
        let epochs = self.matched(&schedule, &response.epoch_keys, &kid)?;
        Ok(self.follow(&schedule, epochs, fetch))
    }

    /// Stops believing what was signed by a key that is not in the set any more; true if there is any. It
    /// goes as soon as another schedule takes its place, after [`UNBELIEVED_SHOWN_MS`] in any case.
    pub fn handle_keys(&mut self, keys: &JwkSet, now: Timestamp) -> bool {
        let mut all_believed = true;
        for epoch in self.followed.iter_mut().flat_map(|f| f.epochs.values_mut()) {
            epoch.is_believed = keys.find(&epoch.kid).is_some();
            all_believed &= epoch.is_believed;
        }
        self.unbelieved_until = match all_believed {
            true => None,
            // Asking for the keys again does not win time.
            false => self.unbelieved_until.or(Some(now + UNBELIEVED_SHOWN_MS)),
        };
        !all_believed
    }

    /// Takes in what the authority says of turns: absolute, so the past changes nothing.
    pub fn handle_turns(&mut self, turns: &[TurnState]) {
        let own = turns.iter().filter(|t| t.window.terminal == self.terminal);
        self.said = own.copied().collect();
        self.turns.absorb(self.said.iter().copied());
        self.doubt = Doubt::None;
    }

    /// The stream is down: the next one may be of another life of the database.
    pub fn handle_silence(&mut self) {
        self.said.clear();
    }

    /// What each channel shows at `now`.
    pub fn poll(&mut self, now: Timestamp) -> Faces {
        if matches!(self.doubt, Doubt::Unasked) {
            self.doubt = Doubt::Since(now);
        }
        self.forget_before(now);
        self.forget_unbelieved(now);
        Faces {
            nfc: self.face(Channel::Nfc, now),
            qr: self.face(Channel::Qr, now),
            code: self.face(Channel::Code, now),
        }
    }

    /// The next moment at which [`Self::poll`] may answer differently by itself.
    pub fn poll_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let next = |channel: &Channel| match self.window(*channel, now) {
            Some((_, window)) => Some(window.closes),
            None => self.begins_after(now),
        };
        let boundaries = Channel::ALL.iter().filter_map(next);
        boundaries.chain(self.unbelieved_until).min()
    }

    /// Where the schedule that is followed stands in the order of all.
    pub fn rank(&self) -> Option<Rank> {
        self.followed.as_ref().map(|f| f.rank)
    }

    /// How far the held epochs reach without a gap from `now`.
    pub fn horizon(&self, now: Timestamp) -> Option<Timestamp> {
        self.last_epoch(now).map(|epoch| self.clock.closes(epoch))
    }

    /// The last epoch of the unbroken run that starts at `now`.
    pub fn last_epoch(&self, now: Timestamp) -> Option<u32> {
        let epochs = &self.followed.as_ref()?.epochs;
        let first = self.clock.epoch_at(now);
        (first..).take_while(|e| epochs.contains_key(e)).last()
    }

    /// How long the windows of the tag are in the epoch of `now`.
    pub fn nfc(&self, now: Timestamp) -> Option<WindowPolicy> {
        let epochs = &self.followed.as_ref()?.epochs;
        let epoch = epochs.get(&self.clock.epoch_at(now))?;
        Some(epoch.loaded.policy.get().nfc)
    }

    pub fn epoch_at(&self, now: Timestamp) -> u32 {
        self.clock.epoch_at(now)
    }

    fn matched(
        &self,
        schedule: &Schedule,
        keys: &[EpochKeyEntry],
        kid: &Arc<str>,
    ) -> Result<BTreeMap<u32, Epoch>, NotFollowed> {
        let mut epochs = BTreeMap::new();
        for check in &schedule.claims().epochs {
            let epoch = check.epoch;
            let entry = keys
                .iter()
                .find(|k| k.epoch == epoch && k.version == check.version)
                .ok_or(NotFollowed::KeyMissing { epoch })?;
            if !check.fits(&entry.key) {
                return Err(NotFollowed::Key { epoch });
            }
            epochs.insert(
                epoch,
                self.planned(entry, schedule.policy_of(epoch), kid.clone()),
            );
        }
        Ok(epochs)
    }

    fn planned(&self, entry: &EpochKeyEntry, policy: &CheckedPolicy, kid: Arc<str>) -> Epoch {
        let plan =
            |channel| WindowPlan::draw(&entry.key, policy, channel, &self.clock, entry.epoch);
        Epoch {
            kid,
            is_believed: true,
            loaded: LoadedEpoch {
                version: entry.version,
                epoch: entry.epoch,
                key: entry.key.clone(),
                policy: *policy,
                behind: Behind::default(),
            },
            plans: Channel::ALL.map(plan),
        }
    }

    fn follow(
        &mut self,
        schedule: &Schedule,
        mut epochs: BTreeMap<u32, Epoch>,
        fetch: Fetch,
    ) -> Followed {
        let (rank, host) = (schedule.rank(), schedule.link_host());
        let same_life = |held: Rank| held.generation == rank.generation;
        if self.rank().is_some_and(|held| !same_life(held)) {
            // Another life of the database counts its turns anew. Its stream was there before its
            // schedule, and what that said is of this life.
            self.turns = KnownTurns::default();
            self.turns.absorb(self.said.iter().copied());
        }
        let held = self.followed.take();
        let fits = held
            .as_ref()
            .is_none_or(|f| same_life(f.rank) && f.policy == *schedule.policy() && f.host == *host);
        if let (Fetch::After(after), Some(held), true) = (fetch, held, fits) {
            epochs.extend(held.epochs.into_iter().filter(|(epoch, _)| *epoch <= after));
        }
        if epochs.values().all(|epoch| epoch.is_believed) {
            self.unbelieved_until = None;
        }
        self.followed = Some(Following {
            rank,
            policy: *schedule.policy(),
            host: host.clone(),
            epochs,
        });
        match fetch {
            Fetch::After(_) if !fits => Followed::FetchWhole,
            _ => Followed::Yes,
        }
    }

    fn face(&self, channel: Channel, now: Timestamp) -> Shows {
        let Some(following) = &self.followed else {
            return Err(Blank::NoSchedule);
        };
        let Some((epoch, window)) = self.window(channel, now) else {
            return Err(self.outside(now));
        };
        if matches!(self.doubt, Doubt::Since(start) if window.opens <= start) {
            return Err(Blank::UntilBoundary { at: window.closes });
        }
        let id = WindowId {
            terminal: self.terminal,
            version: epoch.loaded.version,
            channel,
            epoch: epoch.loaded.epoch,
            window: window.index,
        };
        let turn = self.turns.to_show(&id);
        let turn = turn.ok_or(Blank::UntilBoundary { at: window.closes })?;
        Ok(Face {
            text: self.text(following, epoch, id, turn),
            window: id,
            turn,
            opens: window.opens,
            closes: window.closes,
        })
    }

    fn text(&self, following: &Following, epoch: &Epoch, id: WindowId, turn: u16) -> String {
        let key = &epoch.loaded.key;
        match id.channel {
            Channel::Nfc | Channel::Qr => {
                let token = key.token(id.channel, id.window, turn);
                following.host.link(self.terminal, &token)
            }
            Channel::Code => TypedCode::new(self.terminal, key.code(id.window, turn)).shown(),
        }
    }

    fn window(&self, channel: Channel, now: Timestamp) -> Option<(&Epoch, &Window)> {
        let epoch = self
            .followed
            .as_ref()?
            .epochs
            .get(&self.clock.epoch_at(now))?;
        let plan = &epoch.plans[usize::from(channel.byte()) - 1];
        plan.at(now).map(|window| (epoch, window))
    }

    fn outside(&self, now: Timestamp) -> Blank {
        match self.begins_after(now) {
            Some(begins) => Blank::BeforeSchedule { begins },
            None => match self.ended() {
                Some(ended) => Blank::PastHorizon { ended },
                None => Blank::NoSchedule,
            },
        }
    }

    fn begins_after(&self, now: Timestamp) -> Option<Timestamp> {
        let epochs = self.followed.as_ref()?.epochs.keys();
        let mut later = epochs.map(|e| self.clock.opens(*e)).filter(|o| *o > now);
        later.next()
    }

    /// Where the last epoch that was held ended.
    fn ended(&self) -> Option<Timestamp> {
        let last = self.followed.as_ref()?.epochs.keys().next_back()?;
        Some(self.clock.closes(*last))
    }

    /// Past epochs and their keys go, but the last one stays to tell when the schedule ended.
    fn forget_before(&mut self, now: Timestamp) {
        let current = self.clock.epoch_at(now);
        let Some(following) = &mut self.followed else {
            return;
        };
        let last = following.epochs.keys().next_back().copied();
        following
            .epochs
            .retain(|epoch, _| *epoch >= current || Some(*epoch) == last);
        self.turns.forget_before(current.saturating_sub(1));
    }
}

impl Rotation {
    fn forget_unbelieved(&mut self, now: Timestamp) {
        if self.unbelieved_until.is_none_or(|until| now < until) {
            return;
        }
        self.unbelieved_until = None;
        if let Some(following) = &mut self.followed {
            following.epochs.retain(|_, epoch| epoch.is_believed);
        }
    }
}

impl Face {
    /// The link or the code itself, for the one who shows it.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn length_ms(&self) -> Millis {
        self.closes - self.opens
    }

    /// True when it is the same token, whatever the time.
    pub fn is_token_of(&self, other: &Self) -> bool {
        self.window == other.window && self.turn == other.turn
    }
}

impl fmt::Debug for Face {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = &self.window;
        write!(
            f,
            "Face({} {}/{} turn {}, ..)",
            id.channel, id.epoch, id.window, self.turn
        )
    }
}

impl Faces {
    /// All three blank for one reason.
    pub fn blank(reason: Blank) -> Self {
        Self {
            nfc: Err(reason),
            qr: Err(reason),
            code: Err(reason),
        }
    }

    pub fn of(&self, channel: Channel) -> &Shows {
        match channel {
            Channel::Nfc => &self.nfc,
            Channel::Qr => &self.qr,
            Channel::Code => &self.code,
        }
    }
}

#[cfg(test)]
impl Face {
    pub(crate) fn for_tests(text: &str, window: WindowId, turn: u16) -> Self {
        Self {
            text: text.into(),
            window,
            turn,
            opens: Timestamp::from_ms(0),
            closes: Timestamp::from_ms(1),
        }
    }
}

#[cfg(test)]
mod tests;
