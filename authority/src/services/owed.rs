//! What must still be done here because of what other nodes did?
//!
//! ```text
//! news ──▶ owe ──▶ due: one at a time, beside the news ──▶ done, or owed again a little later
//! ```
//! Reading keys anew, or comparing them in the HSM, takes its time, and a ban that comes next must not wait
//! for it. Nothing is forgotten because it failed once.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use protocol::ids::TerminalId;
use tokio::sync::Notify;

use crate::clock::Moment;

/// Streams elsewhere whose place is still to be judged; with more than that the first ones are not, and an alarm of
/// theirs rings when they come again.
const OPENED_MAX: usize = 4_096;

/// From one hello to the next: all other nodes answer each with all that listens there.
const HELLO_PAUSE: Duration = Duration::from_secs(5);

/// Work that other nodes give, the most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Duty {
    /// The generation is to be read.
    Generation,
    /// The keys are to be read.
    Keys,
    /// The HSM is to show that it has the same keys as the others'.
    Proof,
    /// The others are to be asked who listens there, and told who listens here.
    Hello,
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
    more: Notify,
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
        self.more.notify_one();
    }

    pub(super) fn opened(&self, opened: Opened) {
        let mut list = self.list();
        if list.opened.len() == OPENED_MAX {
            list.opened.pop_front();
        }
        list.opened.push_back(opened);
        self.more.notify_one();
    }

    /// Waits until something is due. A duty stays owed until [`done`](Self::done).
    pub(super) async fn next(&self) -> Next {
        loop {
            let rest = match self.look() {
                Ok(next) => return next,
                Err(rest) => rest,
            };
            match rest {
                Some(rest) => {
                    let _ = tokio::time::timeout(rest, self.more.notified()).await;
                }
                None => self.more.notified().await,
            }
        }
    }

    /// What is due, or how long nothing is; none: until more comes.
    fn look(&self) -> Result<Next, Option<Duration>> {
        let mut list = self.list();
        let due = list.duties.iter().find(|(_, it)| it.rest().is_zero());
        if let Some((duty, asked)) = due {
            return Ok(Next::Duty(*duty, asked.turn));
        }
        if let Some(opened) = list.opened.pop_front() {
            return Ok(Next::Opened(opened));
        }
        Err(list.duties.values().map(Asked::rest).min())
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

    /// For how long the keys, or the generation, of this process may have been old ones.
    pub(super) fn in_the_dark(&self) -> Option<Duration> {
        let list = self.list();
        let dark = [Duty::Generation, Duty::Keys].into_iter();
        dark.filter_map(|duty| list.duties.get(&duty))
            .map(|asked| asked.since.age())
            .max()
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

    #[test]
    fn what_failed_is_owed_until_it_is_done_and_the_rest_does_not_wait_for_it() {
        let owed = Owed::default();
        assert_eq!(owed.look(), Err(None));
        owed.owe(Duty::Hello);
        owed.owe(Duty::Keys);
        let (first, turn) = duty(owed.look());
        assert_eq!(first, Duty::Keys);
        assert!(owed.in_the_dark().is_some());
        owed.later(first, AN_HOUR);
        let (second, hello) = duty(owed.look());
        assert_eq!(second, Duty::Hello);
        owed.done(second, hello);
        assert!(matches!(owed.look(), Err(Some(rest)) if rest > AN_HOUR / 2));
        assert!(owed.in_the_dark().is_some(), "not read yet");
        // Keys have moved once more: now, and not in an hour.
        owed.owe(Duty::Keys);
        let (again, newer) = duty(owed.look());
        assert_eq!(again, Duty::Keys);
        owed.done(Duty::Keys, turn);
        assert_eq!(
            duty(owed.look()),
            (again, newer),
            "an older look is not enough"
        );
        owed.done(Duty::Keys, newer);
        assert_eq!(owed.look(), Err(None));
        assert_eq!(owed.in_the_dark(), None);
    }

    #[test]
    fn a_hello_keeps_to_its_time_however_often_it_is_asked_for() {
        let owed = Owed::default();
        owed.owe(Duty::Hello);
        let (_, turn) = duty(owed.look());
        owed.done(Duty::Hello, turn);
        for _ in 0..2 {
            owed.owe(Duty::Hello);
            assert!(matches!(owed.look(), Err(Some(rest)) if rest > HELLO_PAUSE / 2));
        }
    }

    #[test]
    fn of_streams_elsewhere_a_bounded_number_waits() {
        let owed = Owed::default();
        let terminal = TerminalId::from_number(1).expect("below the limit");
        for number in 0..=OPENED_MAX {
            owed.opened(Opened {
                terminal,
                certificate: number.to_string(),
                instance: None,
            });
        }
        match owed.look() {
            Ok(Next::Opened(opened)) => assert_eq!(opened.certificate, "1"),
            other => panic!("{other:?}"),
        }
        assert_eq!(owed.list().opened.len(), OPENED_MAX - 1);
    }
}
