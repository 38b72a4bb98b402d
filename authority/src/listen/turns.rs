//! Whose handshake is it now?
//!
//! ```text
//! accepted ─▶ says its whole hello ─▶ waits for its turn ─▶ handshake
//!             or HANDSHAKE_TIMEOUT     TURN_WAIT, then away
//! ```
//! After a restart a whole fleet knocks at one moment. If all handshakes went on side by side, each would
//! take as long as all of them, every client would give up before its own was done, and the work would be
//! for nothing. In turns, whoever gets in is done in milliseconds; whoever waits too long is turned away
//! before it has cost anything, and comes back later.
//!
//! A free turn goes to the network that has the fewest, and within it to who came first: an address that takes all
//! turns and falls silent keeps out nobody but itself.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::ranked::{Ranked, Ranks};
use crate::services::sources::Network;

/// Handshakes of one listener at a time: enough to keep every core busy across the time on the wire.
pub const HANDSHAKES_MAX: usize = 64;
/// How long a client waits for its turn. Less than the patience of an agent (5 s for a connection), so that
/// no turn goes to somebody who has left.
pub const TURN_WAIT: Duration = Duration::from_secs(3);
/// How long a turn may be kept: who is slower goes on without one, so that a few that fall silent in the
/// middle do not hold up everybody else.
pub const TURN_MAX: Duration = Duration::from_millis(250);

/// The turns of one listener.
pub(super) struct Turns {
    line: Mutex<Line>,
    wait: Duration,
    longest: Duration,
}

/// What became of a handshake in its turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome<T> {
    Done(T),
    /// It goes on without a turn.
    Slow,
    /// Its turn did not come, and it has not begun.
    TurnedAway,
}

/// Who waits; while somebody does, no turn is free.
struct Line {
    free: usize,
    last_number: u64,
    networks: Ranked<Party>,
}

/// Those of one network.
#[derive(Default)]
struct Party {
    turns: usize,
    waiting: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One turn, or a wait for one; either ends when it is dropped.
struct Turn<'t> {
    turns: &'t Turns,
    network: Network,
    /// In the line; none: it is its turn.
    waits: Option<u64>,
}

impl Ranks for Party {
    fn rank(&self) -> Option<(usize, u64)> {
        let (number, _) = self.waiting.first_key_value()?;
        Some((self.turns, *number))
    }

    fn is_over(&self) -> bool {
        self.turns == 0 && self.waiting.is_empty()
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self::new(HANDSHAKES_MAX, TURN_WAIT, TURN_MAX)
    }
}

impl Turns {
    fn new(at_once: usize, wait: Duration, longest: Duration) -> Self {
        let line = Line {
            free: at_once,
            last_number: 0,
            networks: Ranked::default(),
        };
        Self {
            line: Mutex::new(line),
            wait,
            longest,
        }
    }

    /// Carries the handshake of somebody from this network on in its turn, as far as that goes.
    pub(super) async fn take<H: Future>(
        &self,
        network: Network,
        handshake: Pin<&mut H>,
    ) -> Outcome<H::Output> {
        let Some(_turn) = self.turn(network).await else {
            return Outcome::TurnedAway;
        };
        let done = timeout(self.longest, handshake).await;
        done.map_or(Outcome::Slow, Outcome::Done)
    }

    async fn turn(&self, network: Network) -> Option<Turn<'_>> {
        let mut turn = Turn {
            turns: self,
            network,
            waits: None,
        };
        let Some((number, told)) = self.line().join(network) else {
            return Some(turn);
        };
        turn.waits = Some(number);
        timeout(self.wait, told).await.ok()?.ok()?;
        turn.waits = None;
        Some(turn)
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// None if it is this one's turn at once.
    fn join(&mut self, network: Network) -> Option<(u64, oneshot::Receiver<()>)> {
        if self.free > 0 {
            self.free -= 1;
            self.networks.change(network, |it| it.turns += 1);
            return None;
        }
        let (tell, told) = oneshot::channel();
        self.last_number += 1;
        let number = self.last_number;
        self.networks
            .change(network, |it| it.waiting.insert(number, tell));
        Some((number, told))
    }

    fn give_back(&mut self, network: Network) {
        self.networks.change(network, |it| it.turns -= 1);
        let Some(next) = self.networks.first() else {
            self.free += 1;
            return;
        };
        self.networks.change(next, |it| {
            it.turns += 1;
            if let Some((_, tell)) = it.waiting.pop_first() {
                // Whoever left at this very moment gives it back.
                let _ = tell.send(());
            }
        });
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut line = self.turns.line();
        let waited = self.waits.is_some_and(|number| {
            let network = self.network;
            let left = line
                .networks
                .change(network, |it| it.waiting.remove(&number));
            left.is_some()
        });
        // Whoever left the line had none; who is not in it any more was given one.
        if !waited {
            line.give_back(self.network);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::pin::pin;
    use std::sync::Arc;

    use super::*;
    use crate::services::sources::Source;

    const NEVER: Duration = Duration::from_secs(3_600);
    const SOON: Duration = Duration::from_millis(1);

    type Ends = oneshot::Sender<u8>;
    type Shaking = tokio::task::JoinHandle<Outcome<u8>>;

    fn network(text: &str) -> Network {
        Source::of(text.parse().unwrap()).widest().0
    }

    /// A handshake that waits for its turn, and what ends it.
    async fn asked(turns: &Arc<Turns>, from: &str) -> (Shaking, oneshot::Receiver<()>, Ends) {
        let ((begins, has_begun), (ends, ended)) = (oneshot::channel(), oneshot::channel());
        let (turns, from) = (turns.clone(), network(from));
        let handshake = tokio::spawn(async move {
            let shake = pin!(async {
                let _ = begins.send(());
                ended.await.unwrap_or(0)
            });
            turns.take(from, shake).await
        });
        // On this one thread it is in the line by now.
        tokio::task::yield_now().await;
        (handshake, has_begun, ends)
    }

    /// One that has begun.
    async fn begun(turns: &Arc<Turns>, from: &str) -> (Shaking, Ends) {
        let (handshake, has_begun, ends) = asked(turns, from).await;
        has_begun.await.expect("it does not begin");
        (handshake, ends)
    }

    fn nobody_is_left(turns: &Turns, free: usize) {
        let line = turns.line();
        assert_eq!(line.free, free);
        assert!(line.networks.is_empty());
    }

    #[tokio::test]
    async fn no_more_than_so_many_go_on_at_once_and_the_next_gets_the_first_free_turn() {
        let turns = Arc::new(Turns::new(2, NEVER, NEVER));
        let (first, first_ends) = begun(&turns, "192.0.2.1").await;
        let (second, second_ends) = begun(&turns, "192.0.2.1").await;
        let (third, third_begins, third_ends) = asked(&turns, "192.0.2.1").await;
        assert!(!third.is_finished());
        first_ends.send(1).unwrap();
        assert_eq!(first.await.unwrap(), Outcome::Done(1));
        third_begins.await.unwrap();
        third_ends.send(3).unwrap();
        assert_eq!(third.await.unwrap(), Outcome::Done(3));
        second_ends.send(2).unwrap();
        assert_eq!(second.await.unwrap(), Outcome::Done(2));
        nobody_is_left(&turns, 2);
    }

    #[tokio::test]
    async fn the_next_turn_goes_to_the_network_that_has_the_fewest() {
        let turns = Arc::new(Turns::new(2, NEVER, NEVER));
        let (first, first_ends) = begun(&turns, "192.0.2.1").await;
        let _second = begun(&turns, "192.0.2.1").await;
        let crowd = [
            asked(&turns, "192.0.2.1").await,
            asked(&turns, "192.0.2.1").await,
        ];
        let (_alone, alone_begins, _ends) = asked(&turns, "192.0.2.2").await;
        first_ends.send(1).unwrap();
        assert_eq!(first.await.unwrap(), Outcome::Done(1));
        let [(_, earlier, _), (_, early, _)] = crowd;
        tokio::select! {
            began = alone_begins => began.unwrap(),
            _ = earlier => panic!("a third of the crowd came first"),
            _ = early => panic!("a third of the crowd came first"),
        }
    }

    #[tokio::test]
    async fn who_waits_too_long_is_turned_away_and_has_not_begun() {
        let turns = Arc::new(Turns::new(1, SOON, NEVER));
        let (first, first_ends) = begun(&turns, "192.0.2.1").await;
        let begins = pin!(async { panic!("it has begun") });
        let outcome = turns.take(network("192.0.2.1"), begins).await;
        assert_eq!(outcome, Outcome::<u8>::TurnedAway);
        first_ends.send(1).unwrap();
        first.await.unwrap();
        nobody_is_left(&turns, 1);
    }

    #[tokio::test]
    async fn who_leaves_the_line_or_its_turn_holds_up_nobody() {
        let turns = Arc::new(Turns::new(1, NEVER, NEVER));
        let (first, _first_ends) = begun(&turns, "192.0.2.1").await;
        let (second, _, _second_ends) = asked(&turns, "192.0.2.1").await;
        let (_third, third_begins, _third_ends) = asked(&turns, "192.0.2.1").await;
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        first.abort();
        third_begins.await.unwrap();
    }

    #[tokio::test]
    async fn who_falls_silent_in_the_middle_holds_up_nobody_and_is_not_cut_for_it() {
        let turns = Arc::new(Turns::new(1, NEVER, SOON));
        let (ends, ended) = oneshot::channel();
        let mut slow = pin!(async { ended.await.unwrap_or(0) });
        let outcome = turns.take(network("192.0.2.1"), slow.as_mut()).await;
        assert_eq!(outcome, Outcome::Slow);
        let another = turns.take(network("192.0.2.1"), pin!(async { 2 })).await;
        assert_eq!(another, Outcome::Done(2));
        ends.send(1).unwrap();
        assert_eq!(slow.await, 1);
    }
}
