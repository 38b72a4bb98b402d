//! What must still be done here because of what other nodes did?
//!
//! ```text
//! news ──▶ owe ─┬▶ urgent: without it this node may serve what is refused ─┬▶ one at a time, beside the news
//!               └▶ the rest: compare keys in the HSM, judge, greet ────────┘     └─▶ done, or again a little later
//! ```
//! Reading keys anew takes its time, and a ban that comes next must not wait for it; comparing them in the HSM
//! takes longer, and no key waits for that. Nothing is forgotten because it failed once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::ids::TerminalId;
use tokio::sync::Notify;

use crate::clock::Moment;
use crate::store::LOST_AFTER;

/// Streams elsewhere whose place is still to be judged; with more than that the first ones are not, and an alarm of
/// theirs rings when they come again.
const OPENED_MAX: usize = 4_096;

/// From one hello to the next: all other nodes answer each with all that listens there.
const HELLO_PAUSE: Duration = Duration::from_secs(5);

/// Keys that changed elsewhere are read by then, or nothing is served: long enough for a database with much to do,
/// because a node that closes sends its whole fleet to the others.
const DARK_MAX: Duration = Duration::from_secs(5);

/// Work that other nodes give, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Duty {
    /// Whoever is connected is to be looked up: bans may have been missed.
    Bans,
    /// The generation is to be read.
    Generation,
    /// The keys are to be read.
    Keys,
    /// The HSM is to show that it has the same keys as the others'.
    Proof,
    /// The others are to be told who listens here.
    Answer,
    /// The others are to be asked who listens there, and told who listens here.
    Hello,
}

/// What is done one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    Urgent,
    Rest,
}

impl Duty {
    fn lane(self) -> Lane {
        match self.owed_at_most() {
            Some(_) => Lane::Urgent,
            None => Lane::Rest,
        }
    }

    /// A node that owes it for longer may serve what is refused elsewhere, and closes.
    fn owed_at_most(self) -> Option<Duration> {
        match self {
            Self::Bans => Some(LOST_AFTER),
            Self::Generation | Self::Keys => Some(DARK_MAX),
            Self::Proof | Self::Answer | Self::Hello => None,
        }
    }

    /// What a node says that closes because of it.
    pub(super) fn in_words(self) -> &'static str {
        match self {
            Self::Bans => "bans may have been missed and cannot be read",
            Self::Generation => "the generation may have been raised and cannot be read",
            Self::Keys => "keys changed there and cannot be read",
            Self::Proof | Self::Answer | Self::Hello => "other nodes are not answered",
        }
    }
}

/// A stream that began at another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) terminal: TerminalId,
    pub(super) certificate: String,
    pub(super) instance: Option<String>,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    Duty(Duty, Turn),
    Opened(Opened),
}

/// Which asking for a duty is meant: another one may have come meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn(u64);

/// All that is owed.
#[derive(Debug, Default)]
pub(super) struct Owed {
    list: Mutex<List>,
    urgent: Notify,
    rest: Notify,
}

#[derive(Debug, Default)]
struct List {
    duties: BTreeMap<Duty, Asked>,
    opened: VecDeque<Opened>,
    turns: u64,
    /// When the last hello was said.
    greeted: Option<Moment>,
}

#[derive(Debug)]
struct Asked {
    turn: Turn,
    since: Moment,
    /// Not before this has passed since `from`.
    from: Moment,
    wait: Duration,
}

impl Asked {
    fn rest(&self) -> Duration {
        self.wait.saturating_sub(self.from.age())
    }
}

impl Owed {
    /// From now on this is owed; at once, or as soon as what is under way is done.
    pub(super) fn owe(&self, duty: Duty) {
        let mut list = self.list();
        list.turns += 1;
        let (turn, now) = (Turn(list.turns), Moment::now());
        let (from, wait) = match list.greeted.filter(|_| duty == Duty::Hello) {
            Some(greeted) => (greeted, HELLO_PAUSE),
            None => (now, Duration::ZERO),
        };
        let asked = list.duties.entry(duty).or_insert(Asked {
            turn,
            since: now,
            from,
            wait,
        });
        (asked.turn, asked.from, asked.wait) = (turn, from, wait);
        self.more(duty.lane()).notify_one();
    }

    pub(super) fn opened(&self, opened: Opened) {
        let mut list = self.list();
        if list.opened.len() == OPENED_MAX {
            list.opened.pop_front();
        }
        list.opened.push_back(opened);
        self.more(Lane::Rest).notify_one();
    }

    fn more(&self, lane: Lane) -> &Notify {
        match lane {
            Lane::Urgent => &self.urgent,
            Lane::Rest => &self.rest,
        }
    }

    /// Waits until something is due in this lane. A duty stays owed until [`done`](Self::done).
    pub(super) async fn next(&self, lane: Lane) -> Next {
        let more = self.more(lane);
        loop {
            let rest = match self.look(lane) {
                Ok(next) => return next,
                Err(rest) => rest,
            };
            match rest {
                Some(rest) => {
                    let _ = tokio::time::timeout(rest, more.notified()).await;
                }
                None => more.notified().await,
            }
        }
    }

    /// What is due, or how long nothing is; none: until more comes.
    fn look(&self, lane: Lane) -> Result<Next, Option<Duration>> {
        let mut list = self.list();
        let here = list.duties.iter().filter(|(duty, _)| duty.lane() == lane);
        if let Some((duty, asked)) = here.clone().find(|(_, it)| it.rest().is_zero()) {
            return Ok(Next::Duty(*duty, asked.turn));
        }
        let rest = here.map(|(_, asked)| asked.rest()).min();
        let opened = match lane {
            Lane::Urgent => None,
            Lane::Rest => list.opened.pop_front(),
        };
        opened.map(Next::Opened).ok_or(rest)
    }

    /// It is done, as far as it was asked for in this turn.
    pub(super) fn done(&self, duty: Duty, turn: Turn) {
        let mut list = self.list();
        if list.duties.get(&duty).is_some_and(|it| it.turn == turn) {
            list.duties.remove(&duty);
        }
        if duty == Duty::Hello {
            list.greeted = Some(Moment::now());
        }
    }

    /// It is tried again after so long.
    pub(super) fn later(&self, duty: Duty, wait: Duration) {
        if let Some(asked) = self.list().duties.get_mut(&duty) {
            (asked.from, asked.wait) = (Moment::now(), wait);
        }
    }

    /// Whether this process may have missed a ban, or have old keys or an old generation.
    pub(super) fn in_the_dark(&self) -> bool {
        let list = self.list();
        list.duties.keys().any(|it| it.owed_at_most().is_some())
    }

    /// What has been owed for longer than it may be.
    pub(super) fn too_late(&self) -> Option<Duty> {
        let list = self.list();
        let late = |(duty, asked): &(&Duty, &Asked)| {
            let most = duty.owed_at_most();
            most.is_some_and(|most| asked.since.age() >= most)
        };
        list.duties.iter().find(late).map(|(duty, _)| *duty)
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AN_HOUR: Duration = Duration::from_secs(3_600);

    fn duty(next: Result<Next, Option<Duration>>) -> (Duty, Turn) {
        match next {
            Ok(Next::Duty(duty, turn)) => (duty, turn),
            other => panic!("{other:?}"),
        }
    }

    fn opened(number: usize) -> Opened {
        Opened {
            terminal: TerminalId::from_number(1).expect("below the limit"),
            certificate: number.to_string(),
            instance: None,
        }
    }

    #[test]
    fn what_failed_is_owed_until_it_is_done_and_the_rest_does_not_wait_for_it() {
        let owed = Owed::default();
        assert_eq!(owed.look(Lane::Urgent), Err(None));
        owed.owe(Duty::Generation);
        owed.owe(Duty::Keys);
        let (first, _) = duty(owed.look(Lane::Urgent));
        assert_eq!(first, Duty::Generation);
        owed.later(first, AN_HOUR);
        let (second, turn) = duty(owed.look(Lane::Urgent));
        assert_eq!(second, Duty::Keys);
        owed.later(second, AN_HOUR);
        assert!(matches!(owed.look(Lane::Urgent), Err(Some(rest)) if rest > AN_HOUR / 2));
        assert!(owed.in_the_dark(), "not read yet");
        // Keys have moved once more: now, and not in an hour.
        owed.owe(Duty::Keys);
        let (again, newer) = duty(owed.look(Lane::Urgent));
        assert_eq!(again, Duty::Keys);
        owed.done(Duty::Keys, turn);
        assert_eq!(
            duty(owed.look(Lane::Urgent)),
            (again, newer),
            "an older look is not enough"
        );
        owed.done(Duty::Keys, newer);
        owed.owe(Duty::Generation);
        let (first, turn) = duty(owed.look(Lane::Urgent));
        owed.done(first, turn);
        assert_eq!(owed.look(Lane::Urgent), Err(None));
        assert!(!owed.in_the_dark());
    }

    #[tokio::test]
    async fn what_closes_a_node_waits_for_nothing_that_does_not() {
        let owed = Owed::default();
        let rest = [Duty::Proof, Duty::Answer, Duty::Hello];
        rest.into_iter().for_each(|it| owed.owe(it));
        owed.opened(opened(1));
        // The HSM takes its time over this.
        let (slow, _) = duty(Ok(owed.next(Lane::Rest).await));
        assert_eq!(slow, Duty::Proof);
        assert!(!owed.in_the_dark());
        let urgent = [Duty::Keys, Duty::Generation, Duty::Bans];
        urgent.into_iter().for_each(|it| owed.owe(it));
        for expected in [Duty::Bans, Duty::Generation, Duty::Keys] {
            let (urgent, turn) = duty(Ok(owed.next(Lane::Urgent).await));
            assert_eq!(urgent, expected);
            assert!(owed.in_the_dark());
            owed.done(urgent, turn);
        }
        assert!(!owed.in_the_dark());
    }

    /// Owed for so long.
    fn since(duty: Duty, age: Duration) -> Owed {
        let owed = Owed::default();
        owed.owe(duty);
        if let Some(asked) = owed.list().duties.get_mut(&duty) {
            asked.since = Moment::ago(age);
        }
        owed
    }

    #[test]
    fn bans_are_late_after_a_moment_keys_after_seconds_and_the_rest_never() {
        for (duty, most) in [
            (Duty::Bans, LOST_AFTER),
            (Duty::Generation, DARK_MAX),
            (Duty::Keys, DARK_MAX),
        ] {
            assert_eq!(since(duty, most / 2).too_late(), None);
            let late = since(duty, most);
            assert_eq!(late.too_late(), Some(duty));
            // Asked for once more, and tried in vain: it is as late as it was.
            late.owe(duty);
            late.later(duty, AN_HOUR);
            assert_eq!(late.too_late(), Some(duty));
            late.owe(duty);
            let (_, turn) = super::tests::duty(late.look(Lane::Urgent));
            late.done(duty, turn);
            assert_eq!(late.too_late(), None);
        }
        for duty in [Duty::Proof, Duty::Answer, Duty::Hello] {
            assert_eq!(since(duty, AN_HOUR / 60).too_late(), None);
        }
    }

    #[test]
    fn a_hello_keeps_to_its_time_however_often_it_is_asked_for() {
        let owed = Owed::default();
        owed.owe(Duty::Hello);
        let (_, turn) = duty(owed.look(Lane::Rest));
        owed.done(Duty::Hello, turn);
        for _ in 0..2 {
            owed.owe(Duty::Hello);
            assert!(matches!(owed.look(Lane::Rest), Err(Some(rest)) if rest > HELLO_PAUSE / 2));
        }
    }

    #[test]
    fn of_streams_elsewhere_a_bounded_number_waits() {
        let owed = Owed::default();
        for number in 0..=OPENED_MAX {
            owed.opened(opened(number));
        }
        match owed.look(Lane::Rest) {
            Ok(Next::Opened(opened)) => assert_eq!(opened.certificate, "1"),
            other => panic!("{other:?}"),
        }
        assert_eq!(owed.list().opened.len(), OPENED_MAX - 1);
    }
}
