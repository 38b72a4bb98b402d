//! How long did they wait?

/// Everything that was measured, so that percentiles are exact.
#[derive(Debug, Clone, Default)]
pub struct Waits(Vec<f32>);

impl Waits {
    pub fn add(&mut self, seconds: f64) {
        self.0.push(seconds as f32);
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn mean_s(&self) -> f64 {
        let sum: f64 = self.0.iter().map(|it| f64::from(*it)).sum();
        sum / (self.0.len() as f64).max(1.0)
    }

    /// So many of a hundred waited at most this long.
    pub fn percentile_s(&self, percent: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let last = sorted.len().saturating_sub(1);
        let place = (last as f64 * percent / 100.0).round() as usize;
        sorted.get(place).map_or(0.0, |it| f64::from(*it))
    }
}
