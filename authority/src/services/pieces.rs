//! How does much work in the background leave room for payments?
//!
//! ```text
//! piece ─▶ rest as long as it took ─▶ piece ─▶ rest ─▶ …   each piece one transaction of bounded size
//! ```
//! So it takes at most half of a writer's time. Nothing is begun any more once the daemon goes down, or once another
//! node does this chore.

use std::time::Duration;

use super::Failure;
use crate::app::App;
use crate::clock::Moment;
use crate::store::{Chore, StoreError};

/// Shortest rest: whoever waits for the writer comes first, however little a piece took.
pub const REST_MIN: Duration = Duration::from_millis(5);
/// Pieces of one run, where nothing else is said: the rest is left to the next.
pub const PIECES_MAX: usize = 256;
/// Longest rest, after a piece that waited for a database that stood still.
pub const REST_MAX: Duration = Duration::from_secs(10);

/// Does at most so many pieces; one that does less than `whole` is the last. Answers how much they did.
pub async fn in_pieces<P, F>(
    app: &App,
    chore: Chore,
    pieces_max: usize,
    whole: usize,
    piece: P,
) -> Result<usize, Failure>
where
    P: Fn() -> F,
    F: Future<Output = Result<usize, StoreError>>,
{
    let goes_on = || !app.is_draining() && app.store.leads(chore);
    let rests = |took| rest(took, app.draining());
    Ok(one_by_one(pieces_max, whole, goes_on, rests, piece).await?)
}

async fn one_by_one<P, F, R>(
    pieces_max: usize,
    whole: usize,
    goes_on: impl Fn() -> bool,
    rests: impl Fn(Duration) -> R,
    piece: P,
) -> Result<usize, StoreError>
where
    P: Fn() -> F,
    F: Future<Output = Result<usize, StoreError>>,
    R: Future<Output = ()>,
{
    let mut all = 0;
    for _ in 0..pieces_max {
        if !goes_on() {
            break;
        }
        let began = Moment::now();
        let done = piece().await?;
        all += done;
        if done < whole {
            break;
        }
        rests(began.age()).await;
    }
    Ok(all)
}

/// Nobody who goes down waits for it.
async fn rest(took: Duration, over: impl Future<Output = ()>) {
    tokio::select! {
        () = tokio::time::sleep(took.clamp(REST_MIN, REST_MAX)) => {}
        () = over => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::{Cell, RefCell};
    use std::future::{pending, ready};
    use std::rc::Rc;

    use tokio::sync::Notify;
    use tokio::task::LocalSet;

    use super::*;

    const NO_TIME: Duration = Duration::ZERO;

    #[tokio::test]
    async fn who_wants_to_write_comes_in_between_two_pieces() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let done = Rc::new(Notify::new());
        let (payments, piece_done) = (seen.clone(), done.clone());
        let local = LocalSet::new();
        local.spawn_local(async move {
            loop {
                piece_done.notified().await;
                payments.borrow_mut().push("payment");
            }
        });
        let piece = || {
            seen.borrow_mut().push("piece");
            done.notify_one();
            ready(Ok(1))
        };
        let rests = |took| rest(took, pending());
        let all = local.run_until(one_by_one(3, 1, || true, rests, piece));
        assert_eq!(all.await.unwrap(), 3);
        let expected = ["piece", "payment"].repeat(3);
        assert_eq!(*seen.borrow(), expected);
    }

    #[tokio::test]
    async fn it_rests_as_long_as_a_piece_took() {
        let rested = RefCell::new(Vec::new());
        let rests = |took| {
            rested.borrow_mut().push(took);
            ready(())
        };
        let piece = || async {
            tokio::time::sleep(REST_MIN).await;
            Ok(1)
        };
        let all = one_by_one(2, 1, || true, rests, piece).await;
        assert_eq!(all, Ok(2));
        assert!(rested.borrow().iter().all(|took| *took >= REST_MIN));
    }

    #[tokio::test]
    async fn a_piece_that_does_less_is_the_last_and_nothing_is_begun_for_whoever_stops() {
        let left = Cell::new(25);
        let piece = || {
            let done = left.get().min(10);
            left.set(left.get() - done);
            ready(Ok(done))
        };
        let rests = |_| ready(());
        let goes_on = || left.get() > 5;
        assert_eq!(one_by_one(1, 10, goes_on, rests, piece).await, Ok(10));
        assert_eq!(one_by_one(9, 10, goes_on, rests, piece).await, Ok(10));
        assert_eq!(one_by_one(9, 10, || true, rests, piece).await, Ok(5));
        // A rest of seconds ends at once.
        rest(REST_MAX, ready(())).await;
    }

    #[tokio::test]
    async fn after_a_longer_piece_the_rest_is_longer() {
        tokio::select! {
            biased;
            () = rest(REST_MAX, pending()) => unreachable!("it is over with the shortest"),
            () = rest(NO_TIME, pending()) => {}
        }
    }
}
