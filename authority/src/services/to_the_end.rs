//! How does work go on when its asker hangs up?
//!
//! Money that has moved gets its receipt, and a verb that has begun announces what it commits.

use std::pin::Pin;

use tokio::sync::oneshot;
use tracing::Instrument;

use crate::store::Patience;

/// Runs the work as a task of its own; what it answers, or nothing where it panicked, which is logged, or
/// the process ends.
pub async fn to_the_end<T, W>(work: W) -> Option<T>
where
    T: Send + 'static,
    W: Future<Output = T> + Send + 'static,
{
    let (answer, answered) = oneshot::channel();
    let patience = Patience::present();
    let work = async move {
        // Nobody listens any more: the work is done all the same.
        let _ = answer.send(patience.of(work).await);
    };
    // One type of task for all work: the scheduler's code is compiled once, not once for each.
    let work: Pin<Box<dyn Future<Output = ()> + Send>> = Box::pin(work.in_current_span());
    tokio::spawn(work);
    answered.await.ok()
}
