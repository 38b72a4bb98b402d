//! Whose handshake is it now?
//!
//! ```text
//! accepted ─▶ says something ─▶ waits for its turn ─▶ handshake
//!             or HANDSHAKE_TIMEOUT  TURN_WAIT, then away
//! ```
//! After a restart a whole fleet knocks at one moment. If all handshakes went on side by side, each would
//! take as long as all of them, every client would give up before its own was done, and the work would be
//! for nothing. In turns, whoever gets in is done in milliseconds; whoever waits too long is turned away
//! before it has cost anything, and comes back later.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Handshakes of one listener at a time: enough to keep every core busy across the time on the wire.
pub const HANDSHAKES_MAX: usize = 64;
/// How long a client waits for its turn. Less than the patience of an agent (5 s for a connection), so that
/// no turn goes to somebody who has left.
pub const TURN_WAIT: Duration = Duration::from_secs(3);
/// How long a turn may be kept: who is slower goes on without one, so that a few that fall silent in the
/// middle do not hold up everybody else.
pub const TURN_MAX: Duration = Duration::from_millis(250);

/// The turns of one listener; first come, first served.
pub(super) struct Turns {
    free: Semaphore,
    wait: Duration,
    longest: Duration,
}

impl Default for Turns {
    fn default() -> Self {
        Self::new(HANDSHAKES_MAX, TURN_WAIT, TURN_MAX)
    }
}

impl Turns {
    fn new(at_once: usize, wait: Duration, longest: Duration) -> Self {
        Self {
            free: Semaphore::new(at_once),
            wait,
            longest,
        }
    }

    /// Carries the handshake out when it is its turn; none if that takes too long.
    pub(super) async fn take<T>(&self, handshake: impl Future<Output = T>) -> Option<T> {
        let turn = timeout(self.wait, self.free.acquire()).await.ok()?;
        let mut handshake = pin!(handshake);
        if let Ok(done) = timeout(self.longest, handshake.as_mut()).await {
            return Some(done);
        }
        drop(turn);
        Some(handshake.await)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::*;

    const NEVER: Duration = Duration::from_secs(3_600);
    const SOON: Duration = Duration::from_millis(1);

    type Ends = oneshot::Sender<u8>;

    /// A handshake that has begun, and what ends it.
    async fn begun(turns: &Arc<Turns>) -> (tokio::task::JoinHandle<Option<u8>>, Ends) {
        let ((begins, has_begun), (ends, ended)) = (oneshot::channel(), oneshot::channel());
        let turns = turns.clone();
        let handshake = tokio::spawn(async move {
            let shake = async {
                let _ = begins.send(());
                ended.await.unwrap_or(0)
            };
            turns.take(shake).await
        });
        assert!(has_begun.await.is_ok(), "it does not begin");
        (handshake, ends)
    }

    #[tokio::test]
    async fn no_more_than_so_many_go_on_at_once_and_the_next_gets_the_first_free_turn() {
        let turns = Arc::new(Turns::new(2, NEVER, NEVER));
        let (first, first_ends) = begun(&turns).await;
        let (_second, _second_ends) = begun(&turns).await;
        let waiting = turns.clone();
        let third = tokio::spawn(async move { waiting.take(async { 3 }).await });
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        assert_eq!(first_ends.send(1), Ok(()));
        assert_eq!(first.await.ok(), Some(Some(1)));
        assert_eq!(third.await.ok(), Some(Some(3)));
    }

    #[tokio::test]
    async fn who_waits_too_long_is_turned_away_and_has_not_begun() {
        let turns = Arc::new(Turns::new(1, SOON, NEVER));
        let (_first, _first_ends) = begun(&turns).await;
        let begins = async { panic!("it has begun") };
        assert_eq!(turns.take::<u8>(begins).await, None);
    }

    #[tokio::test]
    async fn who_falls_silent_in_the_middle_holds_up_nobody_and_is_not_cut_for_it() {
        let turns = Arc::new(Turns::new(1, NEVER, SOON));
        let (slow, slow_ends) = begun(&turns).await;
        assert_eq!(turns.take(async { 2 }).await, Some(2));
        assert_eq!(slow_ends.send(1), Ok(()));
        assert_eq!(slow.await.ok(), Some(Some(1)));
    }
}
