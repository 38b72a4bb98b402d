//! How many connections does one client address have open?

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::services::sources::{Network, Source};

/// Connections open now, by where they come from and the networks around that; never more than three
/// entries for each connection.
#[derive(Default)]
pub(super) struct Crowd {
    open: Mutex<HashMap<Network, u32>>,
}

/// A connection that is counted, until it is dropped.
pub(super) struct Counted {
    crowd: Arc<Crowd>,
    from: Source,
}

impl Crowd {
    /// None if this address has `max` places already, or a network around it its own multiple of that.
    pub(super) fn enter(self: &Arc<Self>, from: Source, max: u32) -> Option<Counted> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let places = |network: &Network| open.get(network).copied().unwrap_or(0);
        let mut networks = from.networks();
        if networks.any(|(it, times)| places(&it) >= max.saturating_mul(times)) {
            return None;
        }
        for (network, _) in from.networks() {
            *open.entry(network).or_default() += 1;
        }
        Some(Counted {
            crowd: self.clone(),
            from,
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self
            .crowd
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (network, _) in self.from.networks() {
            if let Some(places) = open.get_mut(&network) {
                *places -= 1;
                if *places == 0 {
                    open.remove(&network);
                }
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

    #[test]
    fn a_48_has_sixteen_times_as_many_places_and_no_more() {
        let crowd = Arc::new(Crowd::default());
        let enter = |n: u32| {
            let address = format!("2001:db8:1:{n:x}::1");
            crowd.enter(Source::of(address.parse().unwrap()), 2)
        };
        let places: Vec<_> = (0..65_536).filter_map(enter).collect();
        assert_eq!(places.len(), 32);
        drop(places);
        assert!(crowd.open.lock().unwrap().is_empty());
    }
}
