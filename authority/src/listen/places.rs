//! Who has a place on a listener, and who gives it up?
//!
//! ```text
//! accepted ─▶ stranger: says its hello, waits ─▶ its turn ────────▶ certificate of ours ─▶ known: keeps its place
//!               gives way                        keeps its place    none ─▶ gives way
//! ```
//! A place costs whoever shows no certificate one socket, so it is only lent. When the listener is full, or the
//! strangers of one address are as many as may be, somebody gives way to who comes next: of the largest crowd the one
//! that came first. So nobody is kept out by sockets that are held open, not even behind the same address, and whoever
//! is known is never asked to go.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::ranked::{Ranked, Ranks};
use crate::services::sources::{Network, Source};

/// All places of one listener.
pub(super) struct Places {
    max: usize,
    /// Of one IPv4 address; none: nobody is a stranger here.
    strangers_per_address: Option<u32>,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    last_number: u64,
    strangers: Ranked<Strangers>,
}

/// The strangers of one network.
#[derive(Default)]
struct Strangers {
    all: u32,
    /// Who may be asked to give way; whoever came first, first.
    lent: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One place; free again when it is dropped, or given to somebody else before.
pub(super) struct Place {
    places: Arc<Places>,
    kind: Kind,
}

enum Kind {
    Known,
    Lent(Network, u64),
    /// A stranger's that is not asked to give way for now.
    Kept(Network, u64, oneshot::Sender<()>),
}

/// Tells a stranger to give way.
pub(super) struct Leave(Option<oneshot::Receiver<()>>);

/// Why somebody has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    Full,
    AddressFull,
}

impl Ranks for Strangers {
    /// The largest first; of those that are as large, the one whose first came first.
    fn rank(&self) -> Option<(usize, u64)> {
        let (number, _) = self.lent.first_key_value()?;
        Some((usize::MAX - self.lent.len(), *number))
    }

    fn is_over(&self) -> bool {
        self.all == 0
    }
}

impl Places {
    pub(super) fn new(max: usize, strangers_per_address: Option<u32>) -> Arc<Self> {
        Arc::new(Self {
            max,
            strangers_per_address,
            taken: Mutex::default(),
        })
    }

    pub(super) fn enter(self: &Arc<Self>, from: Source) -> Result<(Place, Leave), NoPlace> {
        let mut taken = self.taken();
        let Some(per_address) = self.strangers_per_address else {
            if taken.all >= self.max {
                return Err(NoPlace::Full);
            }
            taken.all += 1;
            return Ok((self.place(Kind::Known), Leave::never()));
        };
        let (network, times) = from.widest();
        let strangers = taken.strangers.change(network, |it| it.all);
        if strangers >= per_address.saturating_mul(times) && !taken.ask_one_of(network) {
            return Err(NoPlace::AddressFull);
        }
        if taken.all >= self.max && !taken.ask_one() {
            return Err(NoPlace::Full);
        }
        let (number, leave) = taken.lend(network);
        Ok((self.place(Kind::Lent(network, number)), Leave(Some(leave))))
    }

    fn place(self: &Arc<Self>, kind: Kind) -> Place {
        Place {
            places: self.clone(),
            kind,
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn lend(&mut self, network: Network) -> (u64, oneshot::Receiver<()>) {
        let (told, leave) = oneshot::channel();
        self.all += 1;
        self.last_number += 1;
        let number = self.last_number;
        self.strangers.change(network, |it| {
            it.all += 1;
            it.lent.insert(number, told);
        });
        (number, leave)
    }

    fn ask_one(&mut self) -> bool {
        let crowd = self.strangers.first();
        crowd.is_some_and(|network| self.ask_one_of(network))
    }

    /// Who is asked has no place from now on, even if it takes a moment to leave.
    fn ask_one_of(&mut self, network: Network) -> bool {
        let asked = self.strangers.change(network, |it| {
            let (_, told) = it.lent.pop_first()?;
            it.all -= 1;
            Some(told)
        });
        let Some(told) = asked else {
            return false;
        };
        self.all -= 1;
        // Whoever left at this very moment need not be told.
        let _ = told.send(());
        true
    }

    fn take_back(&mut self, network: Network, number: u64) -> Option<oneshot::Sender<()>> {
        self.strangers.change(network, |it| it.lent.remove(&number))
    }
}

impl Place {
    /// Not asked to give way from now on.
    pub(super) fn keep(&mut self) {
        let Kind::Lent(network, number) = self.kind else {
            return;
        };
        let told = self.places.taken().take_back(network, number);
        if let Some(told) = told {
            self.kind = Kind::Kept(network, number, told);
        }
    }

    /// May be asked to give way again.
    pub(super) fn lend(&mut self) {
        let kind = std::mem::replace(&mut self.kind, Kind::Known);
        self.kind = match kind {
            Kind::Kept(network, number, told) => {
                let mut taken = self.places.taken();
                taken.strangers.change(network, |it| {
                    it.lent.insert(number, told);
                });
                Kind::Lent(network, number)
            }
            other => other,
        };
    }

    /// It is no stranger's any more; false: it was given to somebody else already.
    pub(super) fn is_known(&mut self) -> bool {
        self.keep();
        let (kind, known) = match std::mem::replace(&mut self.kind, Kind::Known) {
            Kind::Known => (Kind::Known, true),
            Kind::Lent(network, number) => (Kind::Lent(network, number), false),
            Kind::Kept(network, _, _) => {
                let mut taken = self.places.taken();
                taken.strangers.change(network, |it| it.all -= 1);
                (Kind::Known, true)
            }
        };
        self.kind = kind;
        known
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_known() {
            self.places.taken().all -= 1;
        }
    }
}

impl Leave {
    pub(super) fn never() -> Self {
        Self(None)
    }

    /// Returns once the place is somebody else's.
    pub(super) async fn told(&mut self) {
        match &mut self.0 {
            // The teller goes only after telling, or with the place.
            Some(told) => drop(told.await),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    type Guest = (Place, Leave);

    fn enter(places: &Arc<Places>, from: &str) -> Result<Guest, NoPlace> {
        places.enter(Source::of(from.parse().unwrap()))
    }

    fn leaves(guest: &mut Guest) -> bool {
        guest.1.0.as_mut().unwrap().try_recv().is_ok()
    }

    #[test]
    fn who_comes_to_a_full_room_gets_the_place_of_the_stranger_that_has_been_there_longest() {
        let places = Places::new(2, Some(9));
        let mut first = enter(&places, "192.0.2.1").unwrap();
        let mut second = enter(&places, "192.0.2.1").unwrap();
        let third = enter(&places, "192.0.2.2").unwrap();
        assert_eq!((leaves(&mut first), leaves(&mut second)), (true, false));
        drop((first, second));
        assert_eq!(places.taken().all, 1, "one of them had no place any more");
        drop(third);
        assert_eq!(places.taken().all, 0);
        assert!(places.taken().strangers.is_empty());
    }

    #[test]
    fn the_largest_crowd_gives_way_first_and_a_48_is_one_crowd() {
        let places = Places::new(4, Some(9));
        let mut alone = enter(&places, "192.0.2.1").unwrap();
        let of_48 = |n: u32| enter(&places, &format!("2001:db8:1:{n:x}::1")).unwrap();
        let mut crowd: Vec<Guest> = (0..3).map(of_48).collect();
        let _newcomer = enter(&places, "192.0.2.2").unwrap();
        assert!(leaves(&mut crowd[0]));
        assert!(!leaves(&mut alone));
    }

    #[test]
    fn whoever_is_known_stays_and_so_does_who_waits_for_a_turn() {
        let places = Places::new(2, Some(9));
        let mut agent = enter(&places, "192.0.2.1").unwrap();
        let mut in_turn = enter(&places, "192.0.2.1").unwrap();
        assert!(agent.0.is_known());
        in_turn.0.keep();
        let refused = enter(&places, "192.0.2.2").err();
        assert_eq!(refused, Some(NoPlace::Full));
        in_turn.0.lend();
        let mut newcomer = enter(&places, "192.0.2.2").unwrap();
        assert!(leaves(&mut in_turn));
        in_turn.0.keep();
        assert!(!in_turn.0.is_known(), "its place is somebody else's");
        assert!(newcomer.0.is_known());
        assert!(enter(&places, "192.0.2.3").is_err());
        drop((agent, in_turn, newcomer));
        assert_eq!(places.taken().all, 0);
        assert!(places.taken().strangers.is_empty());
    }

    #[test]
    fn strangers_of_one_address_are_so_many_and_agents_behind_it_do_not_count() {
        let places = Places::new(99, Some(2));
        let agents: Vec<Guest> = (0..5)
            .map(|_| {
                let mut agent = enter(&places, "192.0.2.1").unwrap();
                assert!(agent.0.is_known());
                agent
            })
            .collect();
        let mut first = enter(&places, "192.0.2.1").unwrap();
        let mut second = enter(&places, "192.0.2.1").unwrap();
        let mut third = enter(&places, "192.0.2.1").unwrap();
        assert!(leaves(&mut first));
        assert_eq!(places.taken().all, agents.len() + 2);
        second.0.keep();
        third.0.keep();
        let refused = enter(&places, "192.0.2.1").err();
        assert_eq!(refused, Some(NoPlace::AddressFull));
        let wide: Vec<_> = (0..33)
            .map(|n| enter(&places, &format!("2001:db8:1:{n:x}::1")).unwrap())
            .collect();
        assert_eq!(places.taken().all, agents.len() + 2 + 32);
        drop(wide);
    }

    #[test]
    fn without_strangers_a_full_listener_refuses() {
        let places = Places::new(1, None);
        let _inside = enter(&places, "192.0.2.1").unwrap();
        assert_eq!(enter(&places, "192.0.2.1").err(), Some(NoPlace::Full));
    }
}
