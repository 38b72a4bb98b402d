//! Which reads may be answered by a copy that is a little behind?
//!
//! Whoever looks, and decides nothing by it, says so around the whole look. Within it one replica is read from, so that
//! what is read later is never older; once something was written, or the replica fails, the primary is.

use std::cell::Cell;

tokio::task_local! {
    static CHOSEN: Cell<Choice>;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    Open,
    /// Which of the replicas.
    Replica(usize),
    Primary,
}

/// Reads of `work` may come from a replica that is current within the store's bound. Never for what decides about
/// money, keys, tokens or bans.
pub async fn may_lag<T>(work: impl Future<Output = T>) -> T {
    CHOSEN.scope(Cell::new(Choice::Open), work).await
}

/// The replica to read from now; none: the primary. `pick` finds one that is current, `is_current` says whether
/// one still is.
pub(super) fn choose(
    pick: impl FnOnce() -> Option<usize>,
    is_current: impl FnOnce(usize) -> bool,
) -> Option<usize> {
    let choose = |chosen: &Cell<Choice>| {
        let found = match chosen.get() {
            Choice::Open => pick(),
            Choice::Replica(which) => Some(which).filter(|which| is_current(*which)),
            Choice::Primary => None,
        };
        chosen.set(found.map_or(Choice::Primary, Choice::Replica));
        found
    };
    CHOSEN.try_with(choose).ok().flatten()
}

/// From now on the primary is read from: something was written, or the replica failed.
pub(super) fn stay_with_primary() {
    // Without a scope it is, anyway.
    let _ = CHOSEN.try_with(|chosen| chosen.set(Choice::Primary));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(pick: Option<usize>, is_current: bool) -> Option<usize> {
        choose(|| pick, |_| is_current)
    }

    #[tokio::test]
    async fn a_look_stays_with_its_replica_and_never_comes_back_from_the_primary() {
        assert_eq!(chosen(Some(1), true), None, "nobody said that it may lag");
        may_lag(async {
            assert_eq!(chosen(Some(1), true), Some(1));
            assert_eq!(chosen(Some(0), true), Some(1));
            assert_eq!(chosen(Some(0), false), None);
            assert_eq!(chosen(Some(0), true), None);
        })
        .await;
        may_lag(async {
            assert_eq!(chosen(None, true), None);
            assert_eq!(chosen(Some(0), true), None);
        })
        .await;
    }

    #[tokio::test]
    async fn who_has_written_reads_what_was_written() {
        may_lag(async {
            assert_eq!(chosen(Some(0), true), Some(0));
            stay_with_primary();
            assert_eq!(chosen(Some(0), true), None);
        })
        .await;
    }
}
