//! Histograms that the decision thread fills without a lock.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Fixed buckets. One thread records, any may read; the counts of a reading may be one record apart.
#[derive(Debug)]
pub struct Histogram {
    /// Upper bounds, ascending; above the last one everything counts together.
    bounds: &'static [f64],
    /// One more than bounds.
    counts: Box<[AtomicU64]>,
    sum_bits: AtomicU64,
}

/// What a [`Histogram`] had counted at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counted {
    /// Upper bound and count of each bucket, not cumulated; the last bound is infinite.
    pub buckets: Vec<(f64, u64)>,
    /// The sum of all values.
    pub sum: f64,
}

impl Histogram {
    /// Seconds, from half a millisecond to one second.
    pub const SECONDS: &'static [f64] = &[
        0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0,
    ];
    /// Probabilities.
    pub const RATIO: &'static [f64] = &[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99];

    /// Empty, with `bounds` that ascend.
    pub fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum_bits: AtomicU64::new(0f64.to_bits()) }
    }

    /// Counts `value`; what is not finite is not counted. From one thread only: the sum is read and written in two steps.
    pub fn record(&self, value: f64) {
        if !value.is_finite() {
            return;
        }
        let at = self.bounds.partition_point(|&bound| bound < value);
        self.counts[at].fetch_add(1, Relaxed);
        self.sum_bits.store((f64::from_bits(self.sum_bits.load(Relaxed)) + value).to_bits(), Relaxed);
    }

    /// What was counted so far.
    pub fn counted(&self) -> Counted {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        Counted {
            buckets: bounds.zip(self.counts.iter().map(|count| count.load(Relaxed))).collect(),
            sum: f64::from_bits(self.sum_bits.load(Relaxed)),
        }
    }
}

impl Counted {
    /// How many values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum()
    }

    /// Their mean; `None` without any.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum / count as f64)
    }

    /// What came after `earlier`.
    pub fn since(&self, earlier: &Counted) -> Counted {
        let before = earlier.buckets.iter().map(|(_, count)| *count).chain(std::iter::repeat(0));
        let later = self.buckets.iter().zip(before);
        Counted {
            buckets: later.map(|(&(bound, count), before)| (bound, count.saturating_sub(before))).collect(),
            sum: self.sum - earlier.sum,
        }
    }

    /// The value below which the share `q` lies, straight between the bounds of its bucket; in the last bucket its lower bound. `None`
    /// without values.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = q.clamp(0.0, 1.0) * self.count() as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for &(upper, count) in self.buckets.iter() {
            let reached = below + count as f64;
            if count > 0 && reached >= rank {
                return Some(if upper.is_finite() {
                    lower + (upper - lower) * (rank - below) / count as f64
                } else {
                    lower
                });
            }
            (below, lower) = (reached, upper);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_one_bucket_and_what_is_no_number_in_none() {
        let histogram = Histogram::new(Histogram::RATIO);
        [0.1, 0.100_001, 0.99, 1.0, f64::NAN, f64::INFINITY].iter().for_each(|&value| histogram.record(value));
        let counted = histogram.counted();
        assert_eq!(counted.count(), 4);
        assert_eq!((counted.buckets[0], counted.buckets[1]), ((0.1, 1), (0.2, 1)));
        assert_eq!((counted.buckets[10].1, counted.buckets[11]), (1, (f64::INFINITY, 1)));
        assert!((counted.sum - 2.190_001).abs() < 1e-9);
    }

    #[test]
    fn quantiles_lie_in_their_bucket_and_differences_are_what_came_between() {
        let histogram = Histogram::new(Histogram::SECONDS);
        assert_eq!(histogram.counted().quantile(0.5), None);
        (1..=100).for_each(|ms| histogram.record(f64::from(ms) / 1e3));
        let first = histogram.counted();
        let near = |found: Option<f64>, truth: f64| (found.unwrap() - truth).abs() < 0.002;
        assert!(near(first.quantile(0.5), 0.05) && near(first.quantile(0.99), 0.099), "{first:?}");
        histogram.record(7.0);
        let later = histogram.counted().since(&first);
        assert_eq!((later.count(), later.quantile(0.5), later.mean().map(f64::round)), (1, Some(1.0), Some(7.0)));
    }
}
