//! Which numbers does a seed give?

/// SplitMix64: small, good enough for arrivals, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// Evenly in [0, 1).
    pub fn even(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Until the next of so many a second, by chance.
    pub fn until_next_s(&mut self, per_s: f64) -> f64 {
        -(1.0 - self.even()).ln() / per_s
    }

    pub fn happens(&mut self, share: f64) -> bool {
        self.even() < share
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
