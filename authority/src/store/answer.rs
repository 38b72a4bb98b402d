//! How long does somebody who asks wait for the database?
//!
//! A server that stands still, or a line to it that does, answers nobody, and nobody at a counter can wait for
//! that. Their answer is then that nothing is known: what they asked for may still be done. Work that nobody waits
//! for at a counter may take its time.

use std::time::Duration;

use super::{Result, StoreError};

/// Longest wait of whoever asks for one answer. Phones wait ten seconds, terminals fifteen.
pub const ANSWER_MAX: Duration = Duration::from_secs(8);

tokio::task_local! {
    static UNHURRIED: ();
}

/// What `work` asks of the store may take longer: nobody stands at a counter meanwhile.
pub async fn unhurried<T>(work: impl Future<Output = T>) -> T {
    UNHURRIED.scope((), work).await
}

/// The answer, or after [`ANSWER_MAX`] that there is none yet.
pub(super) async fn in_time<T>(answer: impl Future<Output = Result<T>>) -> Result<T> {
    within(ANSWER_MAX, answer).await
}

async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T>>) -> Result<T> {
    if UNHURRIED.try_with(|()| ()).is_ok() {
        return answer.await;
    }
    let waited = tokio::time::timeout(limit, answer).await;
    waited.unwrap_or(Err(StoreError::Late))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_asks_hears_in_time_that_there_is_no_answer() {
        let never = within(Duration::ZERO, std::future::pending::<Result<()>>());
        assert_eq!(never.await, Err(StoreError::Late));
        assert_eq!(in_time(async { Ok(7) }).await, Ok(7));
    }

    #[tokio::test]
    async fn work_that_nobody_waits_for_takes_its_time() {
        let slow = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(7)
        };
        assert_eq!(unhurried(within(Duration::ZERO, slow)).await, Ok(7));
    }
}
