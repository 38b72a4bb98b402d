//! Whose turn is it among crowds, when each crowd counts as one?
//!
//! Crowds are the networks that clients come from. Their order is kept beside them, so that the first of a hundred
//! thousand is found as fast as the first of two.

use std::collections::{BTreeSet, HashMap};

use crate::services::sources::Network;

/// What is known of one network.
pub(super) trait Ranks: Default {
    /// Its place in the order, the least first; none: it has none.
    fn rank(&self) -> Option<(usize, u64)>;

    /// Nothing needs to be known of it.
    fn is_over(&self) -> bool;
}

/// Crowds in their order.
pub(super) struct Ranked<C> {
    crowds: HashMap<Network, C>,
    order: BTreeSet<(usize, u64, Network)>,
}

impl<C> Default for Ranked<C> {
    fn default() -> Self {
        Self {
            crowds: HashMap::new(),
            order: BTreeSet::new(),
        }
    }
}

impl<C: Ranks> Ranked<C> {
    /// Changes one of them, and its place in the order.
    pub(super) fn change<T>(&mut self, network: Network, change: impl FnOnce(&mut C) -> T) -> T {
        let crowd = self.crowds.entry(network).or_default();
        if let Some((rank, number)) = crowd.rank() {
            self.order.remove(&(rank, number, network));
        }
        let changed = change(crowd);
        if let Some((rank, number)) = crowd.rank() {
            self.order.insert((rank, number, network));
        }
        if crowd.is_over() {
            self.crowds.remove(&network);
        }
        changed
    }

    pub(super) fn first(&self) -> Option<Network> {
        self.order.first().map(|(_, _, network)| *network)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.crowds.is_empty() && self.order.is_empty()
    }
}
