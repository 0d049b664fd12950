//! The distribution of the times of whole frames, as few numbers as a curve takes.

use serde::{Deserialize, Serialize};

use super::stats::percentile;

/// How the times of whole frames are distributed: 101 values of each baseline, its percentiles 0 (the smallest) to 100 (the largest), in
/// milliseconds, by nearest rank.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Percentiles {
    /// Static.
    pub r#static: Vec<f64>,
    /// Coarse only.
    pub coarse_only: Vec<f64>,
    /// Fine always.
    pub fine_always: Vec<f64>,
    /// Adaptive.
    pub adaptive: Vec<f64>,
}

impl Percentiles {
    /// Of the times of whole frames, by [`Baseline`](super::schedule::Baseline).
    pub fn of(frames: &[Vec<f64>; 4]) -> Self {
        let [r#static, coarse_only, fine_always, adaptive] = frames.each_ref().map(|times| {
            let mut sorted = times.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            (0..=100).filter_map(|percent| percentile(&sorted, f64::from(percent))).collect()
        });
        Self { r#static, coarse_only, fine_always, adaptive }
    }

    /// All, as [`Baseline::ALL`](super::schedule::Baseline::ALL) orders them.
    pub fn all(&self) -> [&[f64]; 4] {
        [&self.r#static, &self.coarse_only, &self.fine_always, &self.adaptive]
    }
}
