//! What happens at one terminal: its shoppers, its tag, its agent, and who means harm.
//!
//! The agent is the one of `reader-agent/src/tag/taps.rs` and `tag_driver.rs`, in few words: it asks the counter
//! first and last, keeps it over a restart, and tells of what it knows.

use std::collections::HashMap;

use protocol::ids::{EventId, TerminalId};
use protocol::time::{Millis, Timestamp};
use protocol::token::Channel;
use protocol::window::EpochClock;
use protocol::wire::reports::{Seen, SeenWindow, TagCounter, TerminalEvent};

use crate::world::NOW;

pub(super) const HOUR: Millis = 3_600_000;
const MINUTE: Millis = 60_000;
/// Two in an hour: the longest that a policy allows is one.
const WINDOW: Millis = 30 * MINUTE;
/// The days of the week's weekend, and the day on which something happens.
const WEEKEND: [i64; 2] = [5, 6];
const THE_DAY: i64 = 4;

/// SplitMix64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn of_thousand(&mut self, chance: u64) -> bool {
        self.below(1_000) < chance
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trade {
    Cafe,
    Kiosk,
    /// Hardly used, but for Sundays.
    DonationBox,
    /// Open day and night.
    Machine,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Habit {
    Plain,
    ReaderDoesNotCount,
    /// One visit in ten fails half-way, and is repeated a minute later.
    ReaderFails,
    OfflineForTheWeekend,
    /// Every few hours.
    Crashes,
    TagExchanged,
    /// So that its chip counts from 0.
    TagPersonalised,
    /// The agent's database is moved away.
    MemoryLost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attack {
    /// Reads links all day and claims none.
    Harvests,
    /// One claim by who has the link from elsewhere.
    ClaimsOnce,
    /// Six of them on each of three days.
    ClaimsOften,
    /// A chip with the same number, read less often.
    CopiesTheTag,
    /// Spent links are brought again by others, as a relay or a list of links does.
    SpreadsLinks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Link {
    pub(super) epoch: u32,
    pub(super) window: u16,
    pub(super) turn: u16,
}

/// What one hour brought.
pub(super) struct Hour {
    pub(super) terminal: TerminalId,
    /// As it reaches the authority; nothing while the terminal is offline.
    pub(super) reports: Vec<TerminalEvent>,
    pub(super) spent: Vec<Link>,
    pub(super) elsewhere: u32,
    /// By the tag's own count.
    pub(super) reads: u32,
}

pub(super) struct Shop {
    pub(super) terminal: TerminalId,
    pub(super) trade: Trade,
    pub(super) habit: Habit,
    pub(super) attack: Option<Attack>,
    dice: Dice,
    clock: EpochClock,
    uid: String,
    /// The counter in the chip.
    chip: u32,
    on_tag: Option<Link>,
    agent: Agent,
    /// The turn that the authority takes next.
    turns: HashMap<(u32, u16), u16>,
    outbox: Vec<TerminalEvent>,
    events: u32,
    hour: Hour,
    /// Phones that read a link and claim a minute later.
    slow: Vec<Link>,
    happened: bool,
    /// Minutes until the agent is back.
    down: u32,
}

#[derive(Default)]
struct Agent {
    running: bool,
    /// What it left the counter at; in its database.
    base: Option<u32>,
    /// Its own read of a visit that failed may be in the difference.
    interrupted: bool,
    /// The last visit failed.
    again: bool,
    /// What it wrote, for the report of the next visit; only in memory.
    wrote: Option<Link>,
}

impl Shop {
    pub(super) fn new(
        terminal: TerminalId,
        trade: Trade,
        habit: Habit,
        attack: Option<Attack>,
        dice: Dice,
    ) -> Self {
        Self {
            terminal,
            trade,
            habit,
            attack,
            dice,
            clock: EpochClock::of(terminal),
            uid: format!("04{:08}", terminal.value()),
            chip: 300,
            on_tag: None,
            agent: Agent::default(),
            turns: HashMap::new(),
            outbox: Vec::new(),
            events: 0,
            hour: Self::empty(terminal),
            slow: Vec::new(),
            happened: false,
            down: 0,
        }
    }

    fn empty(terminal: TerminalId) -> Hour {
        Hour {
            terminal,
            reports: Vec::new(),
            spent: Vec::new(),
            elsewhere: 0,
            reads: 0,
        }
    }

    /// Lives through the hour with this number.
    pub(super) fn live(&mut self, hour: i64) -> Hour {
        let (day, of_day) = (hour / 24, hour % 24);
        let begins = NOW + hour * HOUR;
        if self.is_open(of_day) {
            self.happens(day, of_day, begins);
            for minute in 0..60 {
                self.minute(day, begins + minute * MINUTE);
            }
        } else if self.agent.running {
            self.stop(begins);
        }
        let mut lived = std::mem::replace(&mut self.hour, Self::empty(self.terminal));
        if self.is_online(day) {
            lived.reports = std::mem::take(&mut self.outbox);
        }
        lived
    }

    fn is_open(&self, of_day: i64) -> bool {
        match self.trade {
            Trade::Cafe => (8..20).contains(&of_day),
            Trade::Kiosk => (7..22).contains(&of_day),
            Trade::DonationBox => (9..18).contains(&of_day),
            Trade::Machine => true,
        }
    }

    fn is_online(&self, day: i64) -> bool {
        self.habit != Habit::OfflineForTheWeekend || !WEEKEND.contains(&day)
    }

    /// Shoppers in a thousand minutes.
    fn shoppers(&self, day: i64) -> u64 {
        let usual = match self.trade {
            Trade::Cafe => 70,
            Trade::Kiosk => 40,
            Trade::DonationBox => 5,
            Trade::Machine => 15,
        };
        match (self.trade, day) {
            (Trade::DonationBox, 6) => usual * 8,
            (Trade::Cafe, 5) => usual * 3 / 2,
            _ => usual,
        }
    }

    /// What is about this terminal.
    fn happens(&mut self, day: i64, of_day: i64, at: Timestamp) {
        if self.dice.of_thousand(5) {
            // Somebody plays with a phone on the tag.
            self.read(10 + self.dice.0 as u32 % 50);
        }
        if (day, of_day) != (THE_DAY, 12) {
            return;
        }
        match self.habit {
            Habit::TagExchanged => {
                self.uid.push('7');
                (self.chip, self.on_tag, self.agent.base) = (0, None, None);
            }
            Habit::TagPersonalised => {
                self.stop(at);
                (self.chip, self.agent.base) = (0, None);
            }
            Habit::MemoryLost => {
                self.agent = Agent::default();
            }
            _ => {}
        }
        if self.attack == Some(Attack::CopiesTheTag) {
            self.chip = 40;
        }
    }

    fn minute(&mut self, day: i64, at: Timestamp) {
        if self.habit == Habit::Crashes && self.dice.of_thousand(6) {
            self.crash(at);
        }
        self.down = self.down.saturating_sub(1);
        let here = self.window_at(at);
        let shown = self.agent.wrote.map(|link| (link.epoch, link.window));
        if self.down == 0 && (self.agent.again || shown != Some(here)) {
            self.agent.running = true;
            self.write(at);
        }
        for link in std::mem::take(&mut self.slow) {
            self.claim(link, day, at);
        }
        if self.dice.of_thousand(self.shoppers(day)) {
            self.shopper(day, at);
            if self.dice.of_thousand(100) {
                self.shopper(day, at);
            }
        }
        self.attacked(day, at);
    }

    fn shopper(&mut self, day: i64, at: Timestamp) {
        let Some(link) = self.on_tag else { return };
        // Some phones read twice.
        let reads = 1 + u32::from(self.dice.of_thousand(150));
        self.read(reads);
        if self.dice.of_thousand(20) {
            // Somebody else holds a phone there before the first one has claimed.
            self.read(1);
            self.slow.push(link);
        }
        match self.dice.below(100) {
            0..12 => {} // walks away
            12..20 => self.slow.push(link),
            _ => self.claim(link, day, at),
        }
    }

    fn attacked(&mut self, day: i64, at: Timestamp) {
        let Some(attack) = self.attack else { return };
        let of_day = (at - NOW) % (24 * HOUR);
        match attack {
            Attack::Harvests if day == THE_DAY && of_day % (2 * MINUTE) == 0 => self.read(1),
            Attack::ClaimsOnce if day == THE_DAY && !self.happened => {
                self.happened = true;
                self.steal(at);
            }
            Attack::ClaimsOften if (2..5).contains(&day) && of_day % (2 * HOUR) == 22 * MINUTE => {
                self.steal(at);
            }
            Attack::SpreadsLinks if day == THE_DAY && of_day % (20 * MINUTE) == 0 => {
                self.hour.elsewhere += 1;
            }
            _ => {}
        }
    }

    /// A claim of the token of the moment by who never was here.
    fn steal(&mut self, at: Timestamp) {
        let (epoch, window) = self.window_at(at);
        let turn = self.turns.get(&(epoch, window)).copied().unwrap_or(0);
        let link = Link {
            epoch,
            window,
            turn,
        };
        self.claim(link, THE_DAY, at);
    }

    /// The first one spends it, and the tag is written with the next turn if the terminal hears of it.
    fn claim(&mut self, link: Link, day: i64, at: Timestamp) {
        let place = (link.epoch, link.window);
        let turn = self.turns.entry(place).or_default();
        if *turn != link.turn {
            // Most phones are on a network of their own. Of a terminal that is offline nothing is counted.
            let elsewhere = self.dice.of_thousand(700) && self.is_online(day);
            self.hour.elsewhere += u32::from(elsewhere);
            return;
        }
        *turn += 1;
        self.hour.spent.push(link);
        if self.is_online(day) && self.agent.running && place == self.window_at(at) {
            self.write(at);
        }
    }

    fn read(&mut self, times: u32) {
        self.chip += times;
        self.hour.reads += times;
    }

    fn window_at(&self, at: Timestamp) -> (u32, u16) {
        let epoch = self.clock.epoch_at(at);
        let window = (at - self.clock.opens(epoch)) / WINDOW;
        (epoch, window as u16)
    }

    /// What the agent shows now; it does not hear of turns while it is offline.
    fn link_at(&self, at: Timestamp) -> Link {
        let (epoch, window) = self.window_at(at);
        let turn = match self.is_online((at - NOW) / (24 * HOUR)) {
            true => self.turns.get(&(epoch, window)).copied().unwrap_or(0),
            false => 0,
        };
        Link {
            epoch,
            window,
            turn,
        }
    }

    /// The agent's visit: counter, taps, write, counter.
    fn write(&mut self, at: Timestamp) {
        self.agent.again = self.habit == Habit::ReaderFails && self.dice.of_thousand(100);
        if self.agent.again {
            return self.fail(at);
        }
        let link = self.link_at(at);
        let counter = self.visit(at, false);
        let written = Seen::TagWritten {
            tag_uid: self.uid.clone(),
            pages: 11,
            window: seen(link),
            signs: None,
            wear: None,
            counter,
        };
        self.tell(at, written);
        (self.on_tag, self.agent.wrote) = (Some(link), Some(link));
    }

    /// A visit that fails, before it wrote or after, and is told of.
    fn fail(&mut self, at: Timestamp) {
        self.chip += 1;
        self.agent.interrupted = true;
        if self.dice.of_thousand(500) {
            self.on_tag = Some(self.link_at(at));
        }
        let reason = "the tag was taken away while it was written".into();
        self.tell(at, Seen::TagFailed { reason });
    }

    /// A power cut; one in three comes when the tag is written and that is not yet on the disk.
    fn crash(&mut self, at: Timestamp) {
        if self.dice.of_thousand(333) {
            self.chip += 1;
            self.on_tag = Some(self.link_at(at));
        }
        (self.agent.wrote, self.agent.interrupted) = (None, false);
        (self.agent.running, self.down) = (false, 10);
    }

    /// Stops in good order: nothing is left on the tag.
    fn stop(&mut self, at: Timestamp) {
        self.visit(at, true);
        (self.on_tag, self.agent.wrote, self.agent.running) = (None, None, false);
    }

    fn visit(&mut self, at: Timestamp, blanks: bool) -> Option<TagCounter> {
        if self.habit == Habit::ReaderDoesNotCount {
            return None;
        }
        let found = self.agent.base.map(|_| self.chip);
        let own = u32::from(std::mem::take(&mut self.agent.interrupted));
        let since = self.agent.base.and_then(|base| self.chip.checked_sub(base));
        let taps = since.map_or(0, |since| since.saturating_sub(own));
        // The agent's own reading.
        self.chip += 1;
        self.agent.base = Some(self.chip);
        let counter = TagCounter {
            found,
            left: self.chip,
        };
        if taps > 0 {
            let tap = Seen::Tap {
                tag_uid: self.uid.clone(),
                count: taps,
                window: self.agent.wrote.map(seen),
                counter: blanks.then_some(counter),
            };
            self.tell(at, tap);
        }
        Some(counter)
    }

    fn tell(&mut self, at: Timestamp, what: Seen) {
        self.events += 1;
        let mut random = [0; 10];
        random[..4].copy_from_slice(&self.terminal.value().to_be_bytes());
        random[4..8].copy_from_slice(&self.events.to_be_bytes());
        let id = EventId::from_parts(at.ms() as u64, &random);
        self.outbox.push(TerminalEvent { id, at, what });
    }
}

fn seen(link: Link) -> SeenWindow {
    SeenWindow {
        channel: Channel::Nfc,
        version: 1,
        epoch: link.epoch,
        window: link.window,
        turn: link.turn,
    }
}
