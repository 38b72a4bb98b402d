//! What wears a tag, and who counts it?
//!
//! EEPROM bears so many programming cycles at one place. What is written most is counted: on an NTAG21x
//! the page with the length, twice for a link; on an NTAG 424 DNA one frame for a link. The count is on
//! the disk before the tag is touched, so a cut leaves a cycle too many, never one too few.

use super::family::At;

/// What one family of tags bears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endurance {
    /// Cycles of one place.
    cycles: u32,
    /// Cycles of the place that a link wears most.
    per_link: u32,
}

/// NXP, NTAG213/215/216 product data sheet, features: write endurance 100 000 cycles.
pub(super) const NTAG21X: Endurance = Endurance {
    cycles: 100_000,
    per_link: 2,
};
/// NXP, NT4H2421Gx product data sheet, 2.2: write endurance 200 000 cycles at least.
pub(super) const NTAG424: Endurance = Endurance {
    cycles: 200_000,
    per_link: 1,
};

/// What a visit is about to program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Programming {
    /// How often the place that is written most.
    pub cycles: u32,
    /// Pages or frames in all.
    pub pages: u32,
    /// What this kind of tag bears.
    pub endurance: u32,
    /// Cycles of one link on this kind of tag.
    pub per_link: u32,
}

impl Endurance {
    pub(super) fn programming(self, cycles: usize, pages: usize) -> Programming {
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Programming {
            cycles: number(cycles),
            pages: number(pages),
            endurance: self.cycles,
            per_link: self.per_link,
        }
    }
}

impl Programming {
    /// Both at once.
    pub fn and(self, other: Self) -> Self {
        Self {
            cycles: self.cycles.saturating_add(other.cycles),
            pages: self.pages.saturating_add(other.pages),
            ..self
        }
    }
}

impl At<'_> {
    /// Counts what the tag is about to be programmed with. A full disk does not keep a stale link on the
    /// tag: what could not be counted waits.
    pub(super) fn count(&self, programming: Programming) {
        if programming.pages == 0 {
            return;
        }
        if let Err(error) = self.safe.count(self.uid, &programming) {
            tracing::error!("the wear of the tag is counted in memory only: {error}");
        }
    }
}
