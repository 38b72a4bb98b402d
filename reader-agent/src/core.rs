//! What does the terminal do with what it hears?
//!
//! ```text
//!  frames of the authority ─┐                ┌─▶ board: faces and the one state that is shown
//!  schedules, keys ─────────┼─▶ [`Core`] ────┼─▶ errands: what to fetch
//!  connection up, down ─────┘                └─▶ saves: what must survive a power cut
//! ```
//! No I/O, and the time is told; `driver.rs` carries it out.

use protocol::ids::TerminalId;
use protocol::jwk::JwkSet;
use protocol::jws::BadJws;
use protocol::schedule::{BadSchedule, Rank};
use protocol::time::{Millis, Timestamp};
use protocol::window::WindowPolicy;
use protocol::wire::charges::TillCharge;
use protocol::wire::push::{ChargeStage, ChargeState, TerminalState};
use protocol::wire::schedules::ScheduleResponse;

use crate::checkpoint::Checkpoint;
use crate::receipts::{self, BadReceipt, PaidReceipt, Said};
use crate::rotation::{Blank, Faces, Fetch, Followed, NotFollowed, Rotation};
use crate::shown::{Asked, Paid, Shown};
use crate::spread::place;

/// How long "paid" and "ended" stay on the screen when nothing else happens.
pub const DONE_SHOWN_MS: Millis = 20_000;
/// How long after a refusal the same errand is not repeated by itself.
pub const REFUSED_PAUSE_MS: Millis = 30_000;

/// A terminal asks for more hours once it has used up this share of those it held, or so many of them.
pub const GROWTH_SHARE: u32 = 4;
pub const GROWTH_MAX_EPOCHS: u32 = 6;

/// What the screens show at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    pub terminal: TerminalId,
    /// The authority's time; none before it was heard.
    pub now: Option<Timestamp>,
    pub faces: Faces,
    pub shown: Shown,
    /// The till's charge that was heard of last, whatever the screens show; "paid" only with its receipt.
    pub charge: Option<TillCharge>,
    pub online: bool,
    /// Until when tokens can be shown without the authority.
    pub horizon: Option<Timestamp>,
    /// Why the authority is not heard, once a try has told.
    pub away: Option<Away>,
    /// How long the windows of the tag are at present.
    pub nfc: Option<WindowPolicy>,
}

/// Why the authority is not heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Away {
    /// Somebody else answered in its place.
    pub is_stranger: bool,
    /// With the next move of the person there.
    pub words: String,
}

/// What to fetch from the authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    Keys,
    Schedule(Fetch),
}

/// What must survive a power cut.
#[derive(Debug)]
pub enum Save {
    Schedule {
        response: ScheduleResponse,
        rank: Rank,
        fetch: Fetch,
    },
    /// The keys, and the tag under which the authority announced them.
    Keys {
        keys: JwkSet,
        tag: String,
    },
    Revision(u64),
    /// A checkpoint of the audit that is not older than the one kept before.
    Checkpoint(Checkpoint),
}

/// What the last run left.
#[derive(Debug, Default)]
pub struct Resumed {
    pub rank: Option<Rank>,
    pub revision: Option<u64>,
    pub keys: Option<JwkSet>,
    pub keys_tag: String,
    pub checkpoint: Option<Checkpoint>,
    /// In the order in which they were followed.
    pub schedules: Vec<(ScheduleResponse, Fetch)>,
}

/// The terminal between what it hears and what it shows.
pub struct Core {
    terminal: TerminalId,
    rotation: Rotation,
    keys: Option<JwkSet>,
    keys_tag: KeysTag,
    checkpoint: Option<Checkpoint>,
    last_rank: Option<Rank>,
    heard: Heard,
    wishes: Wishes,
    out_of_service: Option<String>,
}

/// What the authority's frames have said.
#[derive(Default)]
struct Heard {
    revision: Option<u64>,
    made: Option<Timestamp>,
    charge: Option<ChargeState>,
    charge_since: Option<Timestamp>,
    receipt: Option<Result<PaidReceipt, BadReceipt>>,
    online: bool,
    /// When the authority gave its last sign of life.
    online_at: Option<Timestamp>,
    away: Option<Away>,
    first_of_stream: bool,
}

/// Which keys are announced, and which are held.
#[derive(Default)]
struct KeysTag {
    /// Of the last frame; empty while none has said.
    told: String,
    /// Of the keys that are held.
    held: String,
}

#[derive(Default)]
struct Wishes {
    keys: bool,
    whole: bool,
    /// The same from this moment on: many were asked at once.
    whole_from: Option<Timestamp>,
    /// Asked for and not answered yet.
    keys_out: bool,
    /// What was announced when they were asked for.
    keys_tag_out: String,
    schedule_out: bool,
    /// The epoch in which the horizon was last asked to grow.
    grown_in: Option<u32>,
    not_before: Option<Timestamp>,
    /// The last schedule was signed with a key that even fresh keys did not hold.
    key_unknown: bool,
}

impl Core {
    /// Goes on where the last run stopped; what it left is verified like anything else.
    pub fn resume(terminal: TerminalId, resumed: Resumed) -> Self {
        let mut core = Self {
            terminal,
            rotation: Rotation::new(terminal),
            keys: resumed.keys,
            keys_tag: KeysTag {
                told: String::new(),
                held: resumed.keys_tag,
            },
            checkpoint: resumed.checkpoint,
            last_rank: resumed.rank,
            heard: Heard {
                revision: resumed.revision,
                ..Heard::default()
            },
            wishes: Wishes::default(),
            out_of_service: None,
        };
        for (response, fetch) in &resumed.schedules {
            core.follow_remembered(response, *fetch);
        }
        core
    }

    /// The push stream is up; its first frame is the whole state.
    pub fn handle_connected(&mut self) {
        self.heard.first_of_stream = true;
        self.wishes.not_before = None;
    }

    /// The push stream is down.
    pub fn handle_disconnected(&mut self) {
        self.heard.online = false;
        self.rotation.handle_silence();
    }

    /// Nobody is heard, and this is why. Whoever stands in the authority's place takes nothing away: what
    /// is shown offline goes on.
    pub fn handle_away(&mut self, away: Away) {
        self.heard.away = Some(away);
    }

    /// The stream has nothing to say, and is not dead: what it said last is so at `now`, too.
    pub fn handle_alive(&mut self, now: Timestamp) {
        if self.heard.online {
            self.heard.online_at = Some(now);
        }
    }

    /// A frame arrived. Late and doubled ones change nothing.
    pub fn handle_state(&mut self, state: TerminalState, now: Timestamp) -> Vec<Save> {
        self.heard.online = true;
        self.heard.online_at = Some(state.now);
        self.heard.away = None;
        self.out_of_service = None;
        let is_news = self.is_news(&state);
        if !is_news && self.heard.revision != Some(state.revision) {
            return Vec::new();
        }
        // What a terminal looks after changes without a new revision.
        let mut saves = Vec::from_iter(self.handle_upkeep(&state));
        if !is_news {
            return saves;
        }
        self.heard.first_of_stream = false;
        self.heard.revision = Some(state.revision);
        self.heard.made = Some(state.now);
        self.rotation.handle_turns(&state.turns);
        self.handle_charge(state.charge, now);
        saves.push(Save::Revision(state.revision));
        saves
    }

    /// The schedule that was asked for.
    pub fn handle_schedule(
        &mut self,
        response: ScheduleResponse,
        fetch: Fetch,
        now: Timestamp,
    ) -> (Vec<Save>, Result<(), NotFollowed>) {
        self.wishes.schedule_out = false;
        self.wishes.grown_in = Some(self.rotation.epoch_at(now));
        match self.follow(&response, fetch) {
            Ok(followed) => {
                self.wishes.whole = followed == Followed::FetchWhole;
                if fetch == Fetch::Whole {
                    self.wishes.whole_from = None;
                }
                self.wishes.key_unknown = false;
                self.out_of_service = None;
                (self.saved(response, fetch), Ok(()))
            }
            Err(error) => {
                self.refuse(error, now);
                (Vec::new(), Err(error))
            }
        }
    }

    /// The keys that were asked for; they verify what was waiting for them.
    pub fn handle_keys(&mut self, keys: JwkSet, now: Timestamp) -> Vec<Save> {
        self.wishes.keys_out = false;
        self.wishes.keys = false;
        let keys = receipts::trustworthy(keys);
        self.keys = Some(keys.clone());
        // What a key signed that is gone from the set is not believed any longer, and is replaced.
        self.wishes.whole |= self.rotation.handle_keys(&keys, now);
        self.heard.receipt = None;
        self.check_receipt();
        let tag = std::mem::take(&mut self.wishes.keys_tag_out);
        self.keys_tag.held.clone_from(&tag);
        if self.wishes.keys {
            // Fresh keys do not hold the receipt's either: asking at once would not end.
            self.wishes.not_before = Some(now + REFUSED_PAUSE_MS);
        }
        vec![Save::Keys { keys, tag }]
    }

    /// A receipt that the screens do not know is by a key that is not held.
    pub fn handle_key_missing(&mut self) {
        self.wishes.keys = true;
    }

    /// The authority has nothing beyond what is held: ask again in the next epoch.
    pub fn handle_nothing_new(&mut self, now: Timestamp) {
        self.wishes.schedule_out = false;
        self.wishes.grown_in = Some(self.rotation.epoch_at(now));
    }

    /// The authority refuses this terminal, in words; its errands rest for a while.
    pub fn handle_refused(&mut self, errand: Option<Errand>, reason: String, now: Timestamp) {
        self.out_of_service = Some(reason);
        if let Some(errand) = errand {
            self.handle_put_off(errand, now);
        }
    }

    /// An errand that came to nothing rests for a while, or until a stream is up again.
    pub fn handle_put_off(&mut self, errand: Errand, now: Timestamp) {
        match errand {
            Errand::Keys => self.wishes.keys_out = false,
            Errand::Schedule(fetch) => {
                self.wishes.schedule_out = false;
                self.wishes.whole |= fetch == Fetch::Whole;
            }
        }
        self.wishes.not_before = Some(now + REFUSED_PAUSE_MS);
    }

    /// What to fetch now. Each errand is handed out once until it is answered.
    pub fn poll_errand(&mut self, now: Timestamp) -> Option<Errand> {
        if self.wishes.not_before.is_some_and(|t| now < t) {
            return None;
        }
        if !self.wishes.keys_out && self.keys_due() {
            self.wishes.keys_out = true;
            self.wishes.keys_tag_out.clone_from(&self.keys_tag.told);
            return Some(Errand::Keys);
        }
        if self.keys.is_none() || self.wishes.schedule_out {
            return None;
        }
        let fetch = self.fetch_due(now)?;
        self.wishes.schedule_out = true;
        Some(Errand::Schedule(fetch))
    }

    /// What the screens show at `now`, the authority's time.
    pub fn poll(&mut self, now: Option<Timestamp>) -> Board {
        let faces = match now {
            Some(now) => self.rotation.poll(now),
            None => Faces::blank(Blank::NoTime),
        };
        let shown = self.shown(&faces, now);
        Board {
            terminal: self.terminal,
            now,
            faces,
            shown,
            charge: self.told(),
            online: self.heard.online,
            horizon: now.and_then(|now| self.horizon(now)),
            away: self.heard.away.clone(),
            nfc: now.and_then(|now| self.rotation.nfc(now)),
        }
    }

    /// The next moment at which [`Self::poll`] may answer differently by itself.
    pub fn poll_timeout(&self, now: Timestamp) -> Option<Timestamp> {
        let done = self.done_until().filter(|t| *t > now);
        [self.rotation.poll_timeout(now), done]
            .into_iter()
            .flatten()
            .min()
    }

    /// How far the schedule reaches.
    pub fn horizon(&self, now: Timestamp) -> Option<Timestamp> {
        self.rotation.horizon(now)
    }

    pub fn revision(&self) -> Option<u64> {
        self.heard.revision
    }

    fn handle_upkeep(&mut self, state: &TerminalState) -> Option<Save> {
        self.handle_schedule_due(state);
        self.keys_tag.told.clone_from(&state.upkeep.keys_tag);
        self.kept_checkpoint(state.upkeep.checkpoint.as_deref())
    }

    /// Saying it again moves nothing, unless it is more urgent now.
    fn handle_schedule_due(&mut self, state: &TerminalState) {
        let wishes = &mut self.wishes;
        match (state.schedule_due, state.schedule_within_ms) {
            (false, _) => wishes.whole_from = None,
            (true, 0) => wishes.whole = true,
            (true, within_ms) => {
                let at = state.now + place(self.terminal, state.now, within_ms);
                wishes.whole_from = Some(wishes.whole_from.map_or(at, |from| from.min(at)));
            }
        }
    }

    /// Keys are asked for when there are none, when one was missing, and when others are announced.
    fn keys_due(&self) -> bool {
        let announced = !self.keys_tag.told.is_empty() && self.keys_tag.told != self.keys_tag.held;
        self.keys.is_none() || self.wishes.keys || announced
    }

    /// What the authority says of its audit, if it is genuine and not older than what is kept: a
    /// restored authority must not talk this terminal out of what it saw.
    fn kept_checkpoint(&mut self, said: Option<&str>) -> Option<Save> {
        let said = said.filter(|text| self.checkpoint.as_ref().is_none_or(|c| c.jws != *text))?;
        let checkpoint = Checkpoint::verify(said, self.keys.as_ref()?).ok()?;
        if self
            .checkpoint
            .as_ref()
            .is_some_and(|kept| kept.rank > checkpoint.rank)
        {
            return None;
        }
        self.checkpoint = Some(checkpoint.clone());
        Some(Save::Checkpoint(checkpoint))
    }

    fn follow_remembered(&mut self, response: &ScheduleResponse, fetch: Fetch) {
        // What no longer verifies is simply fetched again.
        let followed = match &self.keys {
            Some(keys) => self
                .rotation
                .handle_schedule(response, fetch, keys, None)
                .is_ok(),
            None => false,
        };
        self.wishes.whole |= !followed;
    }

    fn follow(
        &mut self,
        response: &ScheduleResponse,
        fetch: Fetch,
    ) -> Result<Followed, NotFollowed> {
        let none = JwkSet::default();
        let keys = self.keys.as_ref().unwrap_or(&none);
        self.rotation
            .handle_schedule(response, fetch, keys, self.last_rank)
    }

    fn saved(&mut self, response: ScheduleResponse, fetch: Fetch) -> Vec<Save> {
        self.last_rank = self.rotation.rank();
        let save = |rank| Save::Schedule {
            response,
            rank,
            fetch,
        };
        self.last_rank.map(save).into_iter().collect()
    }

    fn refuse(&mut self, error: NotFollowed, now: Timestamp) {
        let unknown = error == NotFollowed::Signature(BadJws::UnknownKey);
        let new_key = unknown && !self.wishes.key_unknown;
        self.wishes.key_unknown = unknown;
        self.wishes.keys |= unknown;
        self.wishes.whole |= matches!(
            error,
            NotFollowed::Signature(_)
                | NotFollowed::KeyMissing { .. }
                | NotFollowed::Schedule(BadSchedule::Horizon)
        );
        if !new_key {
            self.out_of_service = Some(format!("The schedule is refused: {error}."));
            self.wishes.whole = true;
        }
        self.wishes.not_before = Some(now + pause_after(new_key));
    }

    /// Within a stream the revision rises. The first frame of a new stream may start anew, if it was
    /// made later than the last one: what counts then is the authority's own clock.
    fn is_news(&self, state: &TerminalState) -> bool {
        let rises = self.heard.revision.is_none_or(|r| state.revision > r);
        let restarts =
            self.heard.first_of_stream && self.heard.made.is_none_or(|made| state.now >= made);
        rises || restarts
    }

    fn handle_charge(&mut self, charge: Option<ChargeState>, now: Timestamp) {
        if charge == self.heard.charge {
            return;
        }
        self.heard.charge = charge;
        self.heard.charge_since = Some(now);
        self.heard.receipt = None;
        self.check_receipt();
    }

    fn check_receipt(&mut self) {
        let Some((said, keys)) = self.said().zip(self.keys.as_ref()) else {
            return;
        };
        if matches!(self.heard.receipt, Some(Ok(_))) {
            return;
        }
        let checked = receipts::check(said, self.terminal, keys);
        self.wishes.keys |= checked == Err(BadReceipt::Signature(BadJws::UnknownKey));
        self.heard.receipt = Some(checked);
    }

    fn said(&self) -> Option<Said<'_>> {
        let charge = self.heard.charge.as_ref()?;
        match &charge.stage {
            ChargeStage::Paid {
                claim,
                mark,
                receipt,
            } => Some(Said {
                charge: charge.charge,
                claim: *claim,
                mark: *mark,
                amount: charge.amount,
                receipt,
            }),
            _ => None,
        }
    }

    fn fetch_due(&self, now: Timestamp) -> Option<Fetch> {
        match self.rotation.last_epoch(now) {
            None => Some(Fetch::Whole),
            Some(_) if self.wishes.whole => Some(Fetch::Whole),
            Some(_) if self.wishes.whole_from.is_some_and(|from| now >= from) => Some(Fetch::Whole),
            Some(last) => self.growth_due(last, now).then_some(Fetch::After(last)),
        }
    }

    /// Each terminal has its place among the hours, and asks when the hour begins by its own clock, so
    /// that a fleet that was once told everything at one moment does not ask together ever after.
    fn growth_due(&self, last: u32, now: Timestamp) -> bool {
        let Some(asked_in) = self.wishes.grown_in else {
            return true;
        };
        let present = self.rotation.epoch_at(now);
        let held = last.saturating_sub(asked_in);
        let every = (held / GROWTH_SHARE).clamp(1, GROWTH_MAX_EPOCHS);
        let is_its_place = (present % every) == (self.terminal.number() % every);
        let is_late = present >= asked_in.saturating_add(every);
        present != asked_in && (is_its_place || is_late || present < asked_in)
    }

    fn shown(&self, faces: &Faces, now: Option<Timestamp>) -> Shown {
        if let Some(reason) = &self.out_of_service {
            return Shown::OutOfService {
                reason: reason.clone(),
            };
        }
        match &faces.qr {
            Err(Blank::NoSchedule | Blank::NoTime) if !self.heard.online => Shown::Starting,
            Err(reason @ (Blank::PastHorizon { .. } | Blank::BeforeSchedule { .. })) => {
                Shown::OutOfService {
                    reason: format!("Out of service: {reason}."),
                }
            }
            _ if !self.heard.online => Shown::Offline {
                standing: self.standing(),
            },
            _ => self.charge_shown(now),
        }
    }

    fn told(&self) -> Option<TillCharge> {
        Some(TillCharge {
            state: self.charge_shown(None).charge_state()?,
            stale: !self.heard.online,
            as_of: self.heard.online_at?,
        })
    }

    fn standing(&self) -> Option<Asked> {
        let asked = self.heard.charge.as_ref().map(Asked::of);
        asked.filter(Asked::is_standing)
    }

    fn charge_shown(&self, now: Option<Timestamp>) -> Shown {
        let idle = Shown::Idle { standing: None };
        let over = now.zip(self.done_until()).is_some_and(|(n, t)| n >= t);
        match &self.heard.charge {
            None => idle,
            Some(_) if over => idle,
            Some(charge) => Shown::unpaid(charge).unwrap_or_else(|| self.paid_shown(charge)),
        }
    }

    /// A charge that says "paid" is shown so only with its receipt; until then the phone still has
    /// it, and a receipt that is not believed stops everything.
    fn paid_shown(&self, charge: &ChargeState) -> Shown {
        let ChargeStage::Paid {
            claim,
            mark,
            receipt,
        } = &charge.stage
        else {
            return Shown::Idle { standing: None };
        };
        let asked = Asked::of(charge);
        match &self.heard.receipt {
            Some(Ok(verified)) => Shown::Paid(Box::new(Paid {
                asked,
                claim: *claim,
                mark: *mark,
                receipt: verified.clone(),
                signed: receipt.clone(),
            })),
            Some(Err(error)) if *error != BadReceipt::Signature(BadJws::UnknownKey) => {
                Shown::OutOfService {
                    reason: format!("A receipt arrived that is not believed: {error}."),
                }
            }
            _ => Shown::Held {
                asked,
                claim: *claim,
                mark: *mark,
                until: self.heard.charge_since.unwrap_or(Timestamp::from_ms(0)) + DONE_SHOWN_MS,
            },
        }
    }

    fn done_until(&self) -> Option<Timestamp> {
        let charge = self.heard.charge.as_ref()?;
        let done = match charge.stage {
            ChargeStage::Ended { .. } => true,
            ChargeStage::Paid { .. } => matches!(self.heard.receipt, Some(Ok(_))),
            _ => false,
        };
        self.heard
            .charge_since
            .filter(|_| done)
            .map(|since| since + DONE_SHOWN_MS)
    }
}

fn pause_after(new_key: bool) -> Millis {
    if new_key { 0 } else { REFUSED_PAUSE_MS }
}

#[cfg(test)]
mod offline_tests;
#[cfg(test)]
mod tests;
