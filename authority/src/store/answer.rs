//! How long does somebody who asks wait for the database?
//!
//! A server that stands still, or a line to it that does, answers nobody, and nobody at a counter can wait for
//! that. Their answer is then that nothing is known: what they asked for may still be done. Work that nobody waits
//! for at a counter may take its time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Result, StoreError};
use crate::clock::Moment;

/// Longest wait of whoever asks, for all that one request asks of the database together. Phones wait ten seconds,
/// terminals fifteen.
pub const ANSWER_MAX: Duration = Duration::from_secs(8);

tokio::task_local! {
    static PATIENCE: Patience;
}

/// How long work waits for the database.
#[derive(Debug, Clone)]
pub enum Patience {
    /// [`ANSWER_MAX`] for each answer.
    OfEach,
    /// [`ANSWER_MAX`] for all of them together: so many milliseconds are used up. What it waits for others, a bank
    /// say, has limits of its own.
    OfAll(Arc<AtomicU64>),
    Endless,
}

impl Patience {
    /// Of the work that is under way here.
    pub fn present() -> Self {
        PATIENCE.try_with(Clone::clone).unwrap_or(Self::OfEach)
    }

    /// Work that goes on elsewhere, with the same patience.
    pub async fn of<T>(self, work: impl Future<Output = T>) -> T {
        PATIENCE.scope(self, work).await
    }

    fn left(&self) -> Option<Duration> {
        match self {
            Self::OfEach => Some(ANSWER_MAX),
            Self::OfAll(used_ms) => {
                let used = Duration::from_millis(used_ms.load(Ordering::Relaxed));
                Some(ANSWER_MAX.saturating_sub(used))
            }
            Self::Endless => None,
        }
    }

    fn use_up(&self, waited: Duration) {
        if let Self::OfAll(used_ms) = self {
            let ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            used_ms.fetch_add(ms, Ordering::Relaxed);
        }
    }
}

/// One request, whose asker waits for all of its answers.
pub async fn hurried<T>(request: impl Future<Output = T>) -> T {
    Patience::OfAll(Arc::default()).of(request).await
}

/// What `work` asks of the store may take longer: nobody stands at a counter meanwhile.
pub async fn unhurried<T>(work: impl Future<Output = T>) -> T {
    Patience::Endless.of(work).await
}

/// The answer, or when the patience is over that there is none yet.
pub(super) async fn in_time<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    let patience = Patience::present();
    let Some(left) = patience.left() else {
        return answer.await;
    };
    let began = Moment::now();
    let answered = tokio::time::timeout(left, answer).await;
    patience.use_up(began.age());
    answered.unwrap_or(Err(StoreError::Late))
}

/// The same for a way that has another behind it: half of the patience is for that.
pub(super) async fn in_half_time<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    let Some(left) = Patience::present().left() else {
        return answer.await;
    };
    let answered = tokio::time::timeout(left / 2, answer).await;
    answered.unwrap_or(Err(StoreError::Late))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn never() -> Result<u8> {
        std::future::pending().await
    }

    #[tokio::test]
    async fn whoever_asks_hears_in_time_that_there_is_no_answer() {
        let used_up = Patience::OfAll(Arc::new(AtomicU64::new(8_000)));
        assert_eq!(used_up.left(), Some(Duration::ZERO));
        assert_eq!(used_up.of(in_time(never())).await, Err(StoreError::Late));
        assert_eq!(hurried(in_time(async { Ok(7) })).await, Ok(7));
        assert_eq!(Patience::present().left(), Some(ANSWER_MAX));
    }

    #[tokio::test]
    async fn all_answers_of_a_request_share_one_patience() {
        let patience = Patience::OfAll(Arc::default());
        let slow = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(7)
        };
        assert_eq!(patience.clone().of(in_time(slow)).await, Ok(7));
        assert!(patience.left().is_some_and(|it| it < ANSWER_MAX));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_takes_its_time() {
        assert_eq!(unhurried(async { Patience::present().left() }).await, None);
    }
}
