//! Who is asking about this payment just now?
//!
//! One at a time, in this process. It saves calls; that nothing is done twice does not depend on it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use protocol::ids::PaymentId;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// A lane per payment in hand.
#[derive(Default)]
pub(super) struct Lanes(Mutex<HashMap<PaymentId, Arc<AsyncMutex<()>>>>);

/// The lane is taken until this is dropped.
pub(super) struct Lane<'a> {
    lanes: &'a Lanes,
    payment: PaymentId,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Lanes {
    pub(super) async fn enter(&self, payment: PaymentId) -> Lane<'_> {
        let mut lane = self.lane(payment, None);
        let mutex = self.of(payment);
        lane.guard = Some(mutex.lock_owned().await);
        lane
    }

    /// None if somebody has it.
    pub(super) fn try_enter(&self, payment: PaymentId) -> Option<Lane<'_>> {
        let guard = self.of(payment).try_lock_owned().ok()?;
        Some(self.lane(payment, Some(guard)))
    }

    fn lane(&self, payment: PaymentId, guard: Option<OwnedMutexGuard<()>>) -> Lane<'_> {
        Lane {
            lanes: self,
            payment,
            guard,
        }
    }

    fn of(&self, payment: PaymentId) -> Arc<AsyncMutex<()>> {
        self.all().entry(payment).or_default().clone()
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<PaymentId, Arc<AsyncMutex<()>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut all = self.lanes.all();
        // The map's own is the last one: nobody has it, and nobody waits.
        if all
            .get(&self.payment)
            .is_some_and(|lane| Arc::strong_count(lane) == 1)
        {
            all.remove(&self.payment);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lane_is_for_one_and_is_gone_with_the_last() {
        let (lanes, payment) = (Lanes::default(), PaymentId::from_parts(1, &[0; 10]));
        let first = lanes.enter(payment).await;
        assert!(lanes.try_enter(payment).is_none());
        assert!(
            lanes
                .try_enter(PaymentId::from_parts(2, &[0; 10]))
                .is_some()
        );
        drop(first);
        assert!(lanes.try_enter(payment).is_some());
        assert_eq!(lanes.all().len(), 0);
    }
}
