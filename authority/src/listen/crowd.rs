//! How many connections does one client address have open?

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::services::sources::Source;

/// Connections open now, by where they come from; never more entries than connections.
#[derive(Default)]
pub(super) struct Crowd {
    open: Mutex<HashMap<Source, u32>>,
}

/// A connection's place; free again when it is dropped.
pub(super) struct Place {
    crowd: Arc<Crowd>,
    from: Source,
}

impl Crowd {
    /// None if this address has `max` places already.
    pub(super) fn enter(self: &Arc<Self>, from: Source, max: u32) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let places = open.entry(from).or_default();
        if *places >= max {
            return None;
        }
        *places += 1;
        Some(Place {
            crowd: self.clone(),
            from,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self
            .crowd
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(places) = open.get_mut(&self.from) {
            *places -= 1;
            if *places == 0 {
                open.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let crowd = Arc::new(Crowd::default());
        let from = |text: &str| Source::of(text.parse().unwrap());
        let one = crowd.enter(from("192.0.2.1"), 2).unwrap();
        let two = crowd.enter(from("192.0.2.1"), 2).unwrap();
        assert!(crowd.enter(from("192.0.2.1"), 2).is_none());
        assert!(crowd.enter(from("192.0.2.2"), 2).is_some());
        drop(one);
        assert!(crowd.enter(from("192.0.2.1"), 2).is_some());
        drop(two);
        assert!(crowd.open.lock().unwrap().is_empty());
    }
}
