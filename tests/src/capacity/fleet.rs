//! How many terminals are there, and how busy is their day?

use super::costs;

const HOURS: usize = 24;
/// The busiest hour.
pub const LUNCH_H: usize = 12;
/// What is paid in each hour beside the mean of the day: a quiet night, a lunch, an evening. They sum to
/// 24.
const DAY: [f64; HOURS] = [
    0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3, 0.9, 1.5, 1.2, 1.2, 1.9, 4.0, 2.6, 1.3, 1.2, 1.4, 2.0, 2.1,
    1.3, 0.7, 0.3, 0.1, 0.0,
];

/// What a bank knows about its terminals.
#[derive(Debug, Clone, Copy)]
pub struct Fleet {
    pub terminals: f64,
    pub payments_a_day: f64,
    pub peak: f64,
    pub taps: f64,
    pub tags: f64,
    pub horizon_h: f64,
    pub renewal_h: f64,
    /// Events of a terminal that are told in one request.
    pub told_together: f64,
}

/// How often an agent asks for more hours, of so many that a schedule reaches ahead.
pub fn renewal_h(horizon_h: f64) -> f64 {
    (horizon_h / 4.0).floor().clamp(1.0, costs::RENEWAL_H.value)
}

impl Fleet {
    pub fn of(terminals: f64) -> Self {
        Self {
            terminals,
            payments_a_day: costs::PAYMENTS_A_DAY.value,
            peak: costs::PEAK.value,
            taps: costs::TAPS.value,
            tags: costs::TAGS.value,
            horizon_h: costs::HORIZON_H.value,
            renewal_h: renewal_h(costs::HORIZON_H.value),
            told_together: costs::TOLD_TOGETHER.value,
        }
    }

    /// Payments a second of all terminals, `hour` hours after midnight.
    pub fn payments_per_s(&self, hour: f64) -> f64 {
        self.terminals * self.payments_a_day / DAY_S * self.curve(hour)
    }

    /// In the busiest hour.
    pub fn payments_at_peak_per_s(&self) -> f64 {
        self.payments_per_s(LUNCH_H as f64)
    }

    /// Of one terminal, in its busiest hour.
    pub fn payments_at_peak_an_hour(&self) -> f64 {
        self.payments_a_day / HOURS as f64 * self.peak
    }

    /// Each terminal renews at its own offset, so they come evenly.
    pub fn renewals_per_s(&self) -> f64 {
        self.terminals / (self.renewal_h * 3_600.0)
    }

    /// Every window of a tag is written, and what was written is told.
    pub fn reports_per_s(&self) -> f64 {
        self.tag_writes_per_s() / self.told_together
    }

    pub fn tag_writes_per_s(&self) -> f64 {
        self.terminals * self.tags / costs::TAG_WINDOW_S.value
    }

    pub fn signs_per_s(&self) -> f64 {
        self.terminals / costs::SIGN_S.value
    }

    /// Of streams that look by themselves, and of their nodes, which look for lost wakes of many at once.
    pub fn look_reads_per_s(&self, look_reads: f64) -> f64 {
        self.looks_per_s() * look_reads + self.signs_per_s() / costs::LOOKED_AROUND.value
    }

    pub fn looks_per_s(&self) -> f64 {
        self.terminals / costs::LOOK_S.value
    }

    /// What is paid at this hour beside the mean; the peak is the bank's, the rest of the day shrinks
    /// for it.
    fn curve(&self, hour: f64) -> f64 {
        let at = (hour.rem_euclid(HOURS as f64)) as usize % HOURS;
        if at == LUNCH_H {
            return self.peak;
        }
        let rest = HOURS as f64 - DAY[LUNCH_H];
        DAY[at] * (HOURS as f64 - self.peak) / rest
    }
}

pub const DAY_S: f64 = 86_400.0;
