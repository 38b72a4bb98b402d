//! What do authority, terminal and two phones do to each other's turns?
//!
//! The smallest world in which every race of the design can happen: the authority's store is two
//! maps, the terminal is [`KnownTurns`] and a clock with an offset, and the network between them
//! loses, doubles and reorders. Windows, acceptance, moves and turns are the real ones.

use std::collections::{BTreeMap, BTreeSet};

use protocol::ids::TerminalId;
use protocol::time::{Millis, Timestamp};
use protocol::token::{Channel, TokenId, WindowId};
use protocol::turn::{KnownTurns, TURN_SHUT, TurnCause, TurnState, next_turn};
use protocol::window::{EpochClock, Policy, Window, WindowPlan, WindowPolicy};

use crate::common::key;

/// Everything that can happen, one at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    StartCharge,
    CancelCharge,
    /// The claim that holds the charge is not approved in time.
    Release,
    /// The claim that holds the charge is approved and paid.
    Approve,
    /// A phone takes in what the terminal shows now.
    See(usize, Channel),
    /// It sends that to the authority.
    Post(usize),
    /// The n-th frame under way arrives.
    Deliver(usize),
    /// It arrives and is still under way.
    Double(usize),
    Lose(usize),
    /// On to the next moment at which a window begins or ceases to count, opens or closes.
    Pass,
    /// The terminal restarts with nothing remembered and no connection.
    Restart,
    /// A new stream: its first frame is the whole state.
    Connect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Charge {
    None,
    Offered(u8),
    Held(u8),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    Claimed {
        charge: u8,
    },
    /// No window that counts now has this token at this turn.
    NotLive,
    NothingToPay,
    ChargeHeld,
}

/// What a phone saw, and which charge the authority had at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    pub token: TokenId,
    pub charge_then: Charge,
}

/// The windows of three epochs, drawn once.
pub struct Place {
    windows: Vec<(WindowId, Window, WindowPolicy)>,
    moments: Vec<Timestamp>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    pub now: Timestamp,
    /// How far the terminal's clock is ahead.
    pub ahead: Millis,
    pub turns: BTreeMap<WindowId, u16>,
    pub spent: BTreeSet<TokenId>,
    pub charge: Charge,
    charges: u8,
    pub known: KnownTurns,
    connected: bool,
    /// After a restart: the windows that stay blank until the first frame or the next boundary.
    blank: BTreeSet<WindowId>,
    pub network: Vec<Vec<(WindowId, u16)>>,
    pub seen: [Option<Seen>; 2],
    pub answers: Vec<Answer>,
}

pub const EPOCH: u32 = 495_000;

impl Place {
    /// `channels` only, so that an exhaustive walk has no more moments than it needs.
    pub fn new(channels: &[Channel]) -> Self {
        let terminal = TerminalId::from_number(4_711_042).unwrap();
        let policy = Policy::default().check().unwrap();
        let clock = EpochClock::of(terminal);
        let mut windows = Vec::new();
        for epoch in EPOCH..EPOCH + 2 {
            for channel in channels.iter().copied() {
                let key = key(u64::from(epoch));
                let plan = WindowPlan::draw(&key, &policy, channel, &clock, epoch);
                windows.extend(plan.windows().iter().map(|window| {
                    let id = WindowId {
                        terminal,
                        version: 1,
                        channel,
                        epoch,
                        window: window.index,
                    };
                    (id, *window, *policy.of(channel))
                }));
            }
        }
        let mut moments: Vec<_> = windows
            .iter()
            .flat_map(|(_, w, p)| [w.opens - 2_000, w.opens, w.closes + p.grace_ms])
            .collect();
        moments.sort();
        moments.dedup();
        Self { windows, moments }
    }

    /// When the n-th window of this channel and epoch opens.
    pub fn opens(&self, channel: Channel, epoch: u32, window: u16) -> Timestamp {
        let is = |id: &WindowId| (id.channel, id.epoch, id.window) == (channel, epoch, window);
        let found = self.windows.iter().find(|(id, ..)| is(id));
        found.expect("the plan has this window").1.opens
    }

    /// The windows that count at `now`.
    pub fn acceptable(&self, now: Timestamp) -> Vec<WindowId> {
        let counts = |(_, w, p): &&(WindowId, Window, WindowPolicy)| w.accepts(now, p);
        self.windows.iter().filter(counts).map(|w| w.0).collect()
    }

    fn at(&self, channel: Channel, now: Timestamp) -> Option<WindowId> {
        let here = |(id, w, _): &&(WindowId, Window, WindowPolicy)| {
            id.channel == channel && w.contains(now)
        };
        self.windows.iter().find(here).map(|window| window.0)
    }

    fn after(&self, now: Timestamp) -> Timestamp {
        let next = self.moments.partition_point(|moment| *moment <= now);
        self.moments.get(next).copied().unwrap_or(now)
    }
}

impl World {
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            ahead: 0,
            turns: BTreeMap::new(),
            spent: BTreeSet::new(),
            charge: Charge::None,
            charges: 0,
            known: KnownTurns::default(),
            connected: true,
            blank: BTreeSet::new(),
            network: Vec::new(),
            seen: [None, None],
            answers: Vec::new(),
        }
    }

    /// Does one thing; false when it cannot happen now.
    pub fn step(&mut self, place: &Place, op: Op) -> bool {
        match op {
            Op::StartCharge => self.start_charge(place),
            Op::CancelCharge => self.end_charge(place, |c| c != Charge::None),
            Op::Approve => self.end_charge(place, |c| matches!(c, Charge::Held(_))),
            Op::Release => self.release(place),
            Op::See(phone, channel) => self.see(place, phone, channel),
            Op::Post(phone) => self.post(place, phone),
            Op::Deliver(n) => self.deliver(n, false),
            Op::Double(n) => self.deliver(n, true),
            Op::Lose(n) => n < self.network.len() && !self.network.remove(n).is_empty(),
            Op::Pass => self.pass(place),
            Op::Restart => self.restart(place),
            Op::Connect => self.connect(place),
        }
    }

    pub fn run(&mut self, place: &Place, ops: &[Op]) {
        for op in ops {
            assert!(self.step(place, *op), "{op:?} cannot happen: {self:?}");
        }
    }

    pub fn turn_of(&self, window: &WindowId) -> u16 {
        self.turns.get(window).copied().unwrap_or(0)
    }

    /// What the terminal shows in this channel.
    pub fn shown(&self, place: &Place, channel: Channel) -> Option<TokenId> {
        let window = place.at(channel, self.now + self.ahead)?;
        if self.blank.contains(&window) {
            return None;
        }
        self.known.to_show(&window).map(|turn| window.turn(turn))
    }

    /// The whole state, as a new stream begins with it.
    pub fn frame(&self, place: &Place) -> Vec<(WindowId, u16)> {
        place
            .acceptable(self.now)
            .into_iter()
            .map(|window| (window, self.turn_of(&window)))
            .filter(|(_, turn)| *turn > 0)
            .collect()
    }

    fn start_charge(&mut self, place: &Place) -> bool {
        if self.charge != Charge::None {
            return false;
        }
        self.charges += 1;
        self.charge = Charge::Offered(self.charges);
        self.advance(place, TurnCause::ChargeStarted);
        true
    }

    fn end_charge(&mut self, place: &Place, can: fn(Charge) -> bool) -> bool {
        if !can(self.charge) {
            return false;
        }
        self.charge = Charge::None;
        self.advance(place, TurnCause::ChargeEnded);
        true
    }

    fn release(&mut self, place: &Place) -> bool {
        let Charge::Held(charge) = self.charge else {
            return false;
        };
        self.charge = Charge::Offered(charge);
        self.advance(place, TurnCause::ClaimReleased);
        true
    }

    /// The transaction: every window that moves does so by one, from the turn it has.
    fn advance(&mut self, place: &Place, cause: TurnCause) {
        for window in cause.moves(place.acceptable(self.now)) {
            if let Some(next) = next_turn(self.turn_of(&window)) {
                self.turns.insert(window, next);
            }
        }
        if self.connected {
            self.network.push(self.frame(place));
        }
    }

    fn see(&mut self, place: &Place, phone: usize, channel: Channel) -> bool {
        let Some(token) = self.shown(place, channel) else {
            return false;
        };
        let seen = Some(Seen {
            token,
            charge_then: self.charge,
        });
        let new = self.seen[phone] != seen;
        self.seen[phone] = seen;
        new
    }

    fn post(&mut self, place: &Place, phone: usize) -> bool {
        let Some(seen) = self.seen[phone] else {
            return false;
        };
        let answer = self.judge(place, seen.token);
        self.answers.push(answer);
        true
    }

    fn judge(&mut self, place: &Place, token: TokenId) -> Answer {
        let turn = self.turn_of(&token.window);
        let counts = place.acceptable(self.now).contains(&token.window);
        if !counts || turn != token.turn || turn == TURN_SHUT {
            return Answer::NotLive;
        }
        let charge = match self.charge {
            Charge::None => return Answer::NothingToPay,
            Charge::Held(_) => return Answer::ChargeHeld,
            Charge::Offered(charge) => charge,
        };
        assert!(self.spent.insert(token), "{token:?} was spent twice");
        self.charge = Charge::Held(charge);
        self.advance(place, TurnCause::Spent(token));
        Answer::Claimed { charge }
    }

    fn deliver(&mut self, n: usize, again: bool) -> bool {
        let Some(frame) = self.network.get(n).cloned() else {
            return false;
        };
        if !again {
            self.network.remove(n);
        }
        let state = |(window, turn)| TurnState { window, turn };
        let news = self.known.absorb(frame.into_iter().map(state));
        let woke = !self.blank.is_empty();
        self.blank.clear();
        !again || news || woke
    }

    fn pass(&mut self, place: &Place) -> bool {
        let next = place.after(self.now);
        let passed = next > self.now;
        self.now = next;
        passed
    }

    fn restart(&mut self, place: &Place) -> bool {
        let shown = |channel| place.at(channel, self.now + self.ahead);
        self.blank = Channel::ALL.into_iter().filter_map(shown).collect();
        self.known = KnownTurns::default();
        self.connected = false;
        self.network.clear();
        true
    }

    fn connect(&mut self, place: &Place) -> bool {
        if self.connected {
            return false;
        }
        self.connected = true;
        self.network.push(self.frame(place));
        true
    }
}
