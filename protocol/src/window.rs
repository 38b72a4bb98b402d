//! When does a token change?
//!
//! Each channel of each epoch has its own plan of windows. They touch, their lengths are random
//! within the policy, they end with the epoch, and nobody without the epoch key can tell them.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::derive::EpochKey;
use crate::ids::TerminalId;
use crate::time::{Millis, Timestamp};
use crate::token::Channel;

/// An epoch is one hour of one terminal.
pub const EPOCH_MS: Millis = 3_600_000;
/// A token counts this long before its window opens: the terminal's clock may be ahead.
pub const EARLY_MS: Millis = 2_000;
/// Shortest window any policy may ask for, so that a plan has at most 3 600 windows.
pub const SHORTEST_MIN_MS: Millis = 1_000;
/// Longest grace any policy may grant, so that a page opened in time can still be confirmed.
pub const GRACE_MAX_MS: Millis = 60_000;

const OFFSET: &[u8] = b"m2key/epoch-offset/1\0";

/// How long the windows of one channel are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowPolicy {
    pub shortest_ms: Millis,
    pub longest_ms: Millis,
    /// How long a token still counts after its window closed.
    pub grace_ms: Millis,
}

/// The window policies of a terminal; signed in its schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    pub nfc: WindowPolicy,
    pub qr: WindowPolicy,
    pub code: WindowPolicy,
}

impl Default for Policy {
    /// qr 20 to 40 s, code 60 to 120 s (people type; WCAG 2.2.1), nfc 3 to 6 min (tags wear out).
    fn default() -> Self {
        let policy = |shortest_s: Millis, longest_s: Millis, grace_s: Millis| WindowPolicy {
            shortest_ms: shortest_s * 1000,
            longest_ms: longest_s * 1000,
            grace_ms: grace_s * 1000,
        };
        Self {
            nfc: policy(180, 360, 30),
            qr: policy(20, 40, 30),
            code: policy(60, 120, 60),
        }
    }
}

impl Policy {
    pub fn of(&self, channel: Channel) -> &WindowPolicy {
        match channel {
            Channel::Nfc => &self.nfc,
            Channel::Qr => &self.qr,
            Channel::Code => &self.code,
        }
    }

    /// Refuses what the derivation cannot serve.
    pub fn check(&self) -> Result<CheckedPolicy, BadPolicy> {
        for channel in Channel::ALL {
            self.of(channel)
                .check()
                .map_err(|rule| BadPolicy { channel, rule })?;
        }
        Ok(CheckedPolicy(*self))
    }
}

impl WindowPolicy {
    /// Half of the windows are shorter, but for the last one of an epoch; never 0.
    pub fn mean_ms(&self) -> Millis {
        (self.shortest_ms.saturating_add(self.longest_ms) / 2).max(1)
    }

    fn check(&self) -> Result<(), PolicyRule> {
        if self.shortest_ms < SHORTEST_MIN_MS {
            return Err(PolicyRule::Shortest);
        }
        if self.longest_ms < self.shortest_ms.saturating_mul(2) || self.longest_ms > EPOCH_MS {
            return Err(PolicyRule::Longest);
        }
        if !(0..=GRACE_MAX_MS).contains(&self.grace_ms) {
            return Err(PolicyRule::Grace);
        }
        Ok(())
    }
}

/// A policy whose rules hold; only [`Policy::check`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedPolicy(Policy);

impl CheckedPolicy {
    pub fn get(&self) -> &Policy {
        &self.0
    }

    pub fn of(&self, channel: Channel) -> &WindowPolicy {
        self.0.of(channel)
    }

    /// The same with these windows of the nfc channel, which may not be shorter.
    pub fn paced(&self, nfc: NfcWindows) -> Result<Self, BadPolicy> {
        let mut policy = self.0;
        policy.nfc.shortest_ms = nfc.shortest_ms;
        policy.nfc.longest_ms = nfc.longest_ms;
        let is_shorter =
            nfc.shortest_ms < self.0.nfc.shortest_ms || nfc.longest_ms < self.0.nfc.longest_ms;
        match is_shorter {
            true => Err(BadPolicy {
                channel: Channel::Nfc,
                rule: PolicyRule::Paced,
            }),
            false => policy.check(),
        }
    }
}

/// Lengths of the nfc channel's windows that take the place of the policy's, to spare a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NfcWindows {
    pub shortest_ms: Millis,
    pub longest_ms: Millis,
}

/// Why a policy is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the policy of channel {channel}: {rule}")]
pub struct BadPolicy {
    pub channel: Channel,
    pub rule: PolicyRule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyRule {
    #[error("the shortest window is at least {SHORTEST_MIN_MS} ms")]
    Shortest,
    #[error("the longest window is at least twice the shortest and at most one hour")]
    Longest,
    #[error("the grace is between 0 and {GRACE_MAX_MS} ms")]
    Grace,
    #[error("a pace never makes windows shorter")]
    Paced,
}

/// Where a terminal's hours begin: its own offset, so that a fleet does not renew all at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochClock {
    offset_ms: Millis,
}

impl EpochClock {
    pub fn of(terminal: TerminalId) -> Self {
        let mut hash = Sha256::new();
        hash.update(OFFSET);
        hash.update(terminal.value().to_be_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&hash.finalize()[..8]);
        Self {
            offset_ms: (u64::from_be_bytes(first) % EPOCH_MS as u64) as Millis,
        }
    }

    /// The epoch that `now` lies in; times before epoch 0 count as epoch 0, whose windows are all
    /// still to come then.
    pub fn epoch_at(&self, now: Timestamp) -> u32 {
        let epoch = (now - self.offset_ms).ms().div_euclid(EPOCH_MS);
        epoch.clamp(0, Millis::from(u32::MAX)) as u32
    }

    pub fn opens(&self, epoch: u32) -> Timestamp {
        Timestamp::from_ms(Millis::from(epoch) * EPOCH_MS + self.offset_ms)
    }

    pub fn closes(&self, epoch: u32) -> Timestamp {
        self.opens(epoch) + EPOCH_MS
    }
}

/// The time one token lives: `opens` inclusive, `closes` exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Number within the epoch and channel, from 0.
    pub index: u16,
    pub opens: Timestamp,
    pub closes: Timestamp,
}

impl Window {
    pub fn contains(&self, now: Timestamp) -> bool {
        self.opens <= now && now < self.closes
    }

    /// True while the authority takes a token of this window.
    pub fn accepts(&self, now: Timestamp, policy: &WindowPolicy) -> bool {
        self.opens - EARLY_MS <= now && now < self.closes + policy.grace_ms
    }
}

/// All windows of one channel in one epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowPlan(Vec<Window>);

impl WindowPlan {
    /// Draws the plan: while the rest of the epoch is longer than the longest length, a length
    /// uniform in [shortest, min(longest, rest − shortest)]; the rest is the last window.
    pub fn draw(
        key: &EpochKey,
        policy: &CheckedPolicy,
        channel: Channel,
        clock: &EpochClock,
        epoch: u32,
    ) -> Self {
        Self(Windows::of(key, policy, channel, clock, epoch).collect())
    }

    pub fn windows(&self) -> &[Window] {
        &self.0
    }

    /// The window that `now` lies in, if it lies in this epoch.
    pub fn at(&self, now: Timestamp) -> Option<&Window> {
        let after = self.0.partition_point(|window| window.opens <= now);
        after
            .checked_sub(1)
            .map(|i| &self.0[i])
            .filter(|window| window.contains(now))
    }
}

/// The windows of a plan one after the other, each drawn when it is asked for.
#[derive(Debug, Clone)]
pub struct Windows<'a> {
    key: &'a EpochKey,
    lengths: &'a WindowPolicy,
    channel: Channel,
    index: u16,
    opens: Timestamp,
    end: Timestamp,
}

impl<'a> Windows<'a> {
    pub fn of(
        key: &'a EpochKey,
        policy: &'a CheckedPolicy,
        channel: Channel,
        clock: &EpochClock,
        epoch: u32,
    ) -> Self {
        Self {
            key,
            lengths: policy.of(channel),
            channel,
            index: 0,
            opens: clock.opens(epoch),
            end: clock.closes(epoch),
        }
    }

    /// The same from this window of theirs on.
    pub fn from(self, window: Window) -> Self {
        Self {
            index: window.index,
            opens: window.opens,
            ..self
        }
    }
}

impl Iterator for Windows<'_> {
    type Item = Window;

    fn next(&mut self) -> Option<Window> {
        let (opens, rest) = (self.opens, self.end - self.opens);
        if rest <= 0 {
            return None;
        }
        let index = self.index;
        let closes = opens + length(self.key, self.lengths, self.channel, index, rest);
        (self.index, self.opens) = (index.saturating_add(1), closes);
        Some(Window {
            index,
            opens,
            closes,
        })
    }
}

/// A window of each channel that opened long ago: whoever looks for what is accepted now need not draw
/// those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Behind([Option<Window>; Channel::ALL.len()]);

impl Behind {
    /// The windows that can accept a token at `now`, and some before them; `windows` begin with the epoch.
    pub fn walk<'a>(
        &self,
        windows: Windows<'a>,
        now: Timestamp,
    ) -> impl Iterator<Item = Window> + use<'a> {
        let behind = self.0[place(windows.channel)];
        let windows = match behind.filter(|window| lies_behind(window, now)) {
            Some(window) => windows.from(window),
            None => windows,
        };
        windows.take_while(move |window| window.opens - EARLY_MS <= now)
    }

    /// As far on as `now` allows.
    pub fn follow(&mut self, windows: Windows<'_>, now: Timestamp) {
        let place = place(windows.channel);
        let last = self
            .walk(windows, now)
            .take_while(|it| lies_behind(it, now))
            .last();
        self.0[place] = last.or(self.0[place]);
    }
}

/// Every window before this one has closed, and its grace is over.
fn lies_behind(window: &Window, now: Timestamp) -> bool {
    window.opens + GRACE_MAX_MS <= now
}

fn place(channel: Channel) -> usize {
    match channel {
        Channel::Nfc => 0,
        Channel::Qr => 1,
        Channel::Code => 2,
    }
}

/// The length of window `index` when `rest` of the epoch is left.
fn length(
    key: &EpochKey,
    policy: &WindowPolicy,
    channel: Channel,
    index: u16,
    rest: Millis,
) -> Millis {
    if rest <= policy.longest_ms {
        return rest;
    }
    let longest = policy.longest_ms.min(rest - policy.shortest_ms);
    let choices = (longest - policy.shortest_ms + 1) as u64;
    policy.shortest_ms + key.draw(channel, index, choices) as Millis
}
