//! What does an authority know and judge, without its machines?
//!
//! Derivation, acceptance and turns are the ones of `protocol`; a software key signs in the HSM's place.

use std::collections::{BTreeMap, BTreeSet};

use p256::ecdsa::signature::hazmat::PrehashSigner;
use p256::ecdsa::{Signature, SigningKey};
use protocol::derive::EpochKey;
use protocol::ids::{EventId, TerminalId};
use protocol::jwk::{Jwk, JwkSet};
use protocol::jws::Unsigned;
use protocol::live::{self, LoadedEpoch};
use protocol::presented::Presented;
use protocol::schedule::{EpochCheck, ScheduleClaims, validity};
use protocol::time::Timestamp;
use protocol::token::{Channel, WindowId};
use protocol::turn::{TurnState, next_turn};
use protocol::window::{Behind, CheckedPolicy, EpochClock, Policy, WindowPlan, WindowPolicy};
use protocol::wire::push::TerminalState;
use protocol::wire::reports::TerminalEvent;
use protocol::wire::schedules::{EpochKeyEntry, ScheduleResponse};
use reader_agent::rotation::{Face, Fetch};

/// Epochs that a schedule reaches ahead.
const HORIZON_EPOCHS: u32 = 24;
/// The host that links lead to.
const HOST: &str = "pay.example";
/// The channels that carry a link.
const CHANNELS: [Channel; 2] = [Channel::Nfc, Channel::Qr];

/// One terminal, as its authority sees it.
pub struct Authority {
    terminal: TerminalId,
    key: SigningKey,
    jwk: Jwk,
    policy: Policy,
    /// As each epoch was issued last; a later policy does not change what a terminal shows from it.
    issued: BTreeMap<u32, (CheckedPolicy, [WindowPlan; 2])>,
    last_issued: Option<u32>,
    sequence: u64,
    revision: u64,
    schedule_due: bool,
    turns: BTreeMap<WindowId, u16>,
    /// Every report, in the order in which it came first.
    pub reports: Vec<TerminalEvent>,
    known: BTreeSet<EventId>,
    /// Claims by channel.
    pub claims: u32,
}

impl Authority {
    pub fn new(terminal: TerminalId) -> Self {
        let key = SigningKey::from_slice(&[7; 32]).unwrap();
        let point = key.verifying_key().to_sec1_point(false);
        Self {
            terminal,
            jwk: Jwk::from_point(point.as_bytes().try_into().unwrap()).unwrap(),
            key,
            policy: Policy::default(),
            issued: BTreeMap::new(),
            last_issued: None,
            sequence: 0,
            revision: 0,
            schedule_due: false,
            turns: BTreeMap::new(),
            reports: Vec::new(),
            known: BTreeSet::new(),
            claims: 0,
        }
    }

    /// With windows of this length from the start.
    pub fn with_policy(terminal: TerminalId, policy: Policy) -> Self {
        Self {
            policy,
            ..Self::new(terminal)
        }
    }

    pub fn keys(&self) -> JwkSet {
        JwkSet {
            keys: vec![self.jwk.clone()],
        }
    }

    /// The epochs that are asked for, up to the horizon; none if there is nothing beyond.
    pub fn schedule(&mut self, fetch: Fetch, now: Timestamp) -> Option<ScheduleResponse> {
        let clock = EpochClock::of(self.terminal);
        let first = match fetch {
            Fetch::Whole => clock.epoch_at(now),
            Fetch::After(epoch) => epoch + 1,
        };
        let last = clock.epoch_at(now) + HORIZON_EPOCHS - 1;
        if first > last {
            return None;
        }
        // What was issued keeps its policy until the terminal asks for all of it anew.
        if fetch == Fetch::Whole {
            self.schedule_due = false;
            self.issued.retain(|epoch, _| *epoch < first);
        }
        self.sequence += 1;
        self.last_issued = self.last_issued.max(Some(last));
        let policy = self.policy.check().unwrap();
        let plans = |epoch| {
            let key = epoch_key(epoch);
            CHANNELS.map(|channel| WindowPlan::draw(&key, &policy, channel, &clock, epoch))
        };
        self.issued
            .extend((first..=last).map(|epoch| (epoch, (policy, plans(epoch)))));
        let entries: Vec<_> = (first..=last).map(entry).collect();
        let check = |entry: &EpochKeyEntry| EpochCheck::new(entry.epoch, entry.version, &entry.key);
        let epochs: Vec<_> = entries.iter().map(check).collect();
        let (valid_from, valid_until) = validity(self.terminal, &epochs)?;
        let claims = ScheduleClaims {
            iss: "spiffe://m2key.example/authority/one".into(),
            sub: format!("spiffe://m2key.example/terminal/{}", self.terminal),
            iat: now.secs(),
            terminal: self.terminal,
            generation: 1,
            sequence: self.sequence,
            valid_from,
            valid_until,
            policy: self.policy,
            nfc_paces: Vec::new(),
            link_host: HOST.into(),
            epochs,
        };
        let unsigned = Unsigned::new(&claims, self.jwk.kid.as_deref().unwrap());
        let signature: Signature = self.key.sign_prehash(&unsigned.digest()).unwrap();
        Some(ScheduleResponse {
            schedule: unsigned.with_signature(&signature.to_bytes().into()),
            epoch_keys: entries,
        })
    }

    /// The whole state, as it is pushed.
    pub fn frame(&self, now: Timestamp) -> TerminalState {
        let recent = EpochClock::of(self.terminal)
            .epoch_at(now)
            .saturating_sub(1);
        let turn = |(window, turn): (&WindowId, &u16)| TurnState {
            window: *window,
            turn: *turn,
        };
        let turns = self.turns.iter().filter(|(w, _)| w.epoch >= recent);
        TerminalState {
            revision: self.revision,
            now,
            turns: turns.map(turn).collect(),
            charge: None,
            schedule_due: self.schedule_due,
            schedule_within_ms: 0,
            upkeep: Default::default(),
        }
    }

    /// Whether what is shown would be taken now: the rule of [`live`] for one window, whose plan was
    /// drawn when it was issued.
    pub fn takes(&self, face: &Face, now: Timestamp) -> bool {
        let id = face.window;
        let Some((policy, plans)) = self.issued.get(&id.epoch) else {
            return false;
        };
        let windows = plans[usize::from(id.channel != Channel::Nfc)].windows();
        let window = windows.get(usize::from(id.window));
        let (_, token) = protocol::link::parse(face.text()).unwrap();
        let turn = self.turns.get(&id).copied().unwrap_or(0);
        let shown = epoch_key(id.epoch).token(id.channel, id.window, turn);
        window.is_some_and(|window| window.accepts(now, policy.of(id.channel)))
            && face.turn == turn
            && shown.matches(&token)
    }

    /// Takes a token once; true if it was good.
    pub fn claim(&mut self, link: &str, now: Timestamp) -> bool {
        let Some(window) = self.judge(link, now) else {
            return false;
        };
        let turn = self.turns.entry(window).or_default();
        *turn = next_turn(*turn).unwrap();
        self.revision += 1;
        self.claims += 1;
        true
    }

    fn judge(&self, link: &str, now: Timestamp) -> Option<WindowId> {
        let (terminal, token) = protocol::link::parse(link).ok()?;
        let presented = Presented::Machine { terminal, token };
        // Each epoch by the policy that it was issued with.
        let epochs = live::epochs_needed(self.terminal, now).into_iter();
        let found = epochs.filter_map(|epoch| {
            let (policy, _) = self.issued.get(&epoch)?;
            let loaded = [loaded(epoch, *policy)];
            let mut candidates = live::candidates(self.terminal, now, &loaded, &CHANNELS);
            for candidate in &mut candidates {
                candidate.turn = self.turns.get(&candidate.id).copied().unwrap_or(0);
            }
            let live = live::recognise(&presented, &candidates).ok()?;
            Some(live.token().window)
        });
        found.into_iter().next()
    }

    /// When a window that was issued opens.
    pub fn opens(&self, epoch: u32, channel: Channel, window: u16) -> Option<Timestamp> {
        let (_, plans) = self.issued.get(&epoch)?;
        let place = CHANNELS.iter().position(|it| *it == channel)?;
        let window = plans[place].windows().get(usize::from(window))?;
        Some(window.opens)
    }

    /// Windows of another length from what is issued next; the terminal is told to fetch.
    pub fn change_policy(&mut self, number: u8) {
        let seconds = |shortest: i64, longest: i64| WindowPolicy {
            shortest_ms: shortest * 1000,
            longest_ms: longest * 1000,
            grace_ms: 30_000,
        };
        self.policy.nfc = match number {
            0 => Policy::default().nfc,
            1 => seconds(60, 120),
            _ => seconds(600, 1_800),
        };
        self.schedule_due = true;
        self.revision += 1;
    }

    /// Revisions begin anew.
    pub fn reboot(&mut self) {
        self.revision = 0;
    }

    /// Takes reports in; a repeat is harmless.
    pub fn report(&mut self, events: &[TerminalEvent]) -> Vec<EventId> {
        for event in events {
            if self.known.insert(event.id) {
                self.reports.push(event.clone());
            }
        }
        events.iter().map(|event| event.id).collect()
    }

    /// The last moment for which this authority ever handed out a token.
    pub fn horizon(&self) -> Option<Timestamp> {
        let clock = EpochClock::of(self.terminal);
        self.last_issued.map(|epoch| clock.closes(epoch))
    }
}

fn entry(epoch: u32) -> EpochKeyEntry {
    EpochKeyEntry {
        epoch,
        version: 1,
        key: epoch_key(epoch),
    }
}

fn loaded(epoch: u32, policy: CheckedPolicy) -> LoadedEpoch {
    LoadedEpoch {
        policy,
        version: 1,
        epoch,
        key: epoch_key(epoch),
        behind: Behind::default(),
    }
}

fn epoch_key(epoch: u32) -> EpochKey {
    let mut bytes = [1; 32];
    bytes[..4].copy_from_slice(&epoch.to_be_bytes());
    EpochKey::from_bytes(bytes)
}
