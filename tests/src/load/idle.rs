//! Who is free? A shopper goes to a free terminal; only when there is none does anybody wait.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

/// Things of which each is used by one at a time.
pub struct Idle<T> {
    free: Mutex<Vec<T>>,
    count: Semaphore,
}

/// One of them, in use; free again when this is dropped.
pub struct Taken<T> {
    of: Arc<Idle<T>>,
    it: Option<T>,
}

impl<T> Idle<T> {
    pub fn new(all: Vec<T>) -> Arc<Self> {
        Arc::new(Self {
            count: Semaphore::new(all.len()),
            free: Mutex::new(all),
        })
    }

    /// One of those that are free, by the draw; the next that gets free if none is.
    pub async fn take(self: &Arc<Self>, draw: u64) -> Taken<T> {
        let permit = self.count.acquire().await;
        permit.expect("nobody closes it").forget();
        let mut free = self.free();
        let place = draw as usize % free.len();
        Taken {
            it: Some(free.swap_remove(place)),
            of: self.clone(),
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<T>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Deref for Taken<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.it.as_ref().expect("it is there until the drop")
    }
}

impl<T> DerefMut for Taken<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.it.as_mut().expect("it is there until the drop")
    }
}

impl<T> Drop for Taken<T> {
    fn drop(&mut self) {
        self.of.free().extend(self.it.take());
        self.of.count.add_permits(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nobody_gets_what_another_one_has() {
        let idle = Idle::new(vec![1, 2, 3]);
        let (first, second, third) = (idle.take(7).await, idle.take(7).await, idle.take(7).await);
        let mut all = [*first, *second, *third];
        all.sort_unstable();
        assert_eq!(all, [1, 2, 3]);
        let freed = *second;
        let waiting = tokio::spawn({
            let idle = idle.clone();
            async move { *idle.take(0).await }
        });
        drop(second);
        assert_eq!(waiting.await.unwrap(), freed);
    }
}
