//! How is an event waited for that nobody announces? By looking again, with a deadline.

use std::time::{Duration, Instant};

use crate::Failure;

/// How long anything may take before it counts as never; nothing is ever asserted about less.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until there is something to see, at most for [`LIMIT`].
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> Result<T, Failure> {
    until_within(LIMIT, what, look).await
}

/// Looks until there is something to see, at most for `limit`.
pub async fn until_within<T>(
    limit: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Result<T, Failure> {
    let looking = async {
        let mut pauses = tokio::time::interval(PAUSE);
        loop {
            pauses.tick().await;
            if let Some(seen) = look().await {
                return seen;
            }
        }
    };
    tokio::time::timeout(limit, looking)
        .await
        .map_err(|_| Failure::new(format!("waited {} s in vain for {what}", limit.as_secs())))
}

/// A moment that has to come, because something is refused only from then on.
pub struct Later(Instant);

impl Later {
    pub fn after_ms(milliseconds: u64) -> Self {
        Self(Instant::now() + Duration::from_millis(milliseconds))
    }

    /// Waits until it is there.
    pub async fn arrived(&self) -> Result<(), Failure> {
        until("a window to pass", async || {
            (Instant::now() >= self.0).then_some(())
        })
        .await
    }
}
