//! Statistics of measurements: pure functions.

use serde::{Deserialize, Serialize};

/// How a set of times is spread. All in the unit of the values, milliseconds here, but for `runs` and `cv_percent`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Summary {
    /// How many values.
    pub runs: usize,
    /// The smallest.
    pub min: f64,
    /// The arithmetic mean.
    pub mean: f64,
    /// The 50th percentile.
    pub median: f64,
    /// The 90th percentile.
    pub p90: f64,
    /// The 95th percentile.
    pub p95: f64,
    /// The 99th percentile.
    pub p99: f64,
    /// The 99.9th percentile.
    pub p99_9: f64,
    /// Coefficient of variation: standard deviation (of a sample, n − 1) over mean, in percent; 0 for a single value.
    pub cv_percent: f64,
}

impl Summary {
    /// The summary of `values`; `None` where there is none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |percent| percentile(&sorted, percent);
        let mean = mean(values)?;
        let deviation = variance(values, mean).sqrt();
        Some(Self {
            runs: values.len(),
            min: *sorted.first()?,
            mean,
            median: at(50.0)?,
            p90: at(90.0)?,
            p95: at(95.0)?,
            p99: at(99.0)?,
            p99_9: at(99.9)?,
            cv_percent: if mean > 0.0 { 100.0 * deviation / mean } else { 0.0 },
        })
    }

    /// The mean with Student's 95 % interval, as if the values were independent; `None` for fewer than two values.
    pub fn interval(&self) -> Option<Interval> {
        let half = (self.runs >= 2).then(|| student_95(self.runs - 1) * self.mean_variance().sqrt())?;
        Some(Interval { mean: self.mean, low: self.mean - half, high: self.mean + half })
    }

    /// The variance of the mean: its standard error squared.
    fn mean_variance(&self) -> f64 {
        (self.cv_percent / 100.0 * self.mean).powi(2) / self.runs.max(1) as f64
    }
}

/// The percentile of ascending values by nearest rank: the smallest value that at least `percent` of all do not exceed. Always one of
/// the values, nothing is interpolated; `None` where there is none.
pub fn percentile(sorted: &[f64], percent: f64) -> Option<f64> {
    // Before the ceiling, what rounding added to a whole rank is taken off: 99.9 % of 1000 is 999, not 999.0000000000001.
    let rank = (percent / 100.0 * sorted.len() as f64 - 1e-9).ceil().max(1.0) as usize;
    sorted.get(rank.min(sorted.len()).checked_sub(1)?).copied()
}

/// A mean difference with its 95 % confidence interval.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Interval {
    /// The mean.
    pub mean: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The mean of `a[i] − b[i]` over rounds `i`, with Student's 95 % interval: rounds are the unit, so what disturbs both alike cancels.
/// `None` for fewer than two rounds.
pub fn paired_difference(a: &[f64], b: &[f64]) -> Option<Interval> {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    if differences.len() < 2 {
        return None;
    }
    let mean = mean(&differences)?;
    let n = differences.len() as f64;
    let half = student_95(differences.len() - 1) * (variance(&differences, mean) / n).sqrt();
    Some(Interval { mean, low: mean - half, high: mean + half })
}

/// The difference of two means, `a − b`, of values that were not measured together, with Welch's 95 % interval. `None` for fewer than two
/// values of either.
pub fn difference(a: &Summary, b: &Summary) -> Option<Interval> {
    if a.runs < 2 || b.runs < 2 {
        return None;
    }
    let (of_a, of_b) = (a.mean_variance(), b.mean_variance());
    let sum = of_a + of_b;
    // Welch and Satterthwaite: between the smaller number of degrees and the sum of both.
    let degrees = sum.powi(2) / (of_a.powi(2) / (a.runs - 1) as f64 + of_b.powi(2) / (b.runs - 1) as f64);
    let degrees = if degrees.is_finite() { degrees as usize } else { a.runs + b.runs - 2 };
    let (mean, half) = (a.mean - b.mean, student_95(degrees.max(1)) * sum.sqrt());
    Some(Interval { mean, low: mean - half, high: mean + half })
}

/// A share with Wilson's 95 % interval for `successes` of `n` independent trials (E. B. Wilson, 1927), 0 to 1. `None` without a trial.
pub fn share(successes: f64, n: usize) -> Option<Interval> {
    if n == 0 {
        return None;
    }
    let (n, p) = (n as f64, (successes / n as f64).clamp(0.0, 1.0));
    let shrink = 1.0 + Z_95 * Z_95 / n;
    let centre = (p + Z_95 * Z_95 / (2.0 * n)) / shrink;
    let half = Z_95 / shrink * (p * (1.0 - p) / n + Z_95 * Z_95 / (4.0 * n * n)).sqrt();
    Some(Interval { mean: p, low: (centre - half).clamp(0.0, p), high: (centre + half).clamp(p, 1.0) })
}

/// The difference `a − b` of two shares of different trials, with Newcombe's 95 % interval (R. G. Newcombe, 1998, method 10), from their
/// [`share`]s.
pub fn share_difference(a: &Interval, b: &Interval) -> Interval {
    let mean = a.mean - b.mean;
    let below = ((a.mean - a.low).powi(2) + (b.high - b.mean).powi(2)).sqrt();
    let above = ((a.high - a.mean).powi(2) + (b.mean - b.low).powi(2)).sqrt();
    Interval { mean, low: mean - below, high: mean + above }
}

/// The two-sided 95 % quantile of the normal distribution.
const Z_95: f64 = 1.959_964;

/// The two-sided 95 % quantile of Student's t distribution with `degrees` (at least 1) of freedom: a table for few, the Cornish-Fisher
/// expansion around the normal quantile for more (right to three decimals).
pub fn student_95(degrees: usize) -> f64 {
    const FEW: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    if let Some(&quantile) = FEW.get(degrees.max(1) - 1) {
        return quantile;
    }
    let (z, v) = (Z_95, degrees as f64);
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / v + second / v.powi(2) + third / v.powi(3)
}

/// The arithmetic mean; `None` where there is no value.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The variance of a sample around its `mean`; 0 for fewer than two values.
fn variance(values: &[f64], mean: f64) -> f64 {
    if values.len() < 2 {
        return 0.0;
    }
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let values: Vec<f64> = (1..=1000).map(f64::from).collect();
        let at = |percent| percentile(&values, percent);
        assert_eq!([at(50.0), at(90.0), at(99.0), at(99.9)], [500.0, 900.0, 990.0, 999.0].map(Some));
        assert_eq!([at(0.0), at(100.0), at(99.95)], [1.0, 1000.0, 1000.0].map(Some));
        assert_eq!(percentile(&[7.0], 99.9), Some(7.0));
        assert_eq!(percentile(&[1.0, 2.0, 3.0], 50.0), Some(2.0));
        assert_eq!(percentile(&[], 50.0), None);
    }

    #[test]
    fn a_summary_of_known_values() {
        let summary = Summary::of(&[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((summary.runs, summary.min, summary.mean, summary.median, summary.p90), (4, 1.0, 2.5, 2.0, 4.0));
        assert!((summary.cv_percent - 100.0 * (5.0f64 / 3.0).sqrt() / 2.5).abs() < 1e-9);
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[3.0]).unwrap().cv_percent, 0.0);
        assert_eq!(Summary::of(&[0.0, 0.0]).unwrap().cv_percent, 0.0, "no division by a mean of zero");
    }

    #[test]
    fn student_quantiles_match_the_printed_tables() {
        let table = [
            (1, 12.706),
            (4, 2.776),
            (6, 2.447),
            (9, 2.262),
            (10, 2.228),
            (11, 2.201),
            (20, 2.086),
            (30, 2.042),
            (120, 1.980),
        ];
        for (degrees, quantile) in table {
            assert!((student_95(degrees) - quantile).abs() < 6e-4, "{degrees}: {}", student_95(degrees));
        }
    }

    #[test]
    fn what_disturbs_both_alike_cancels() {
        let noise = [0.0, 50.0, 3.0, 700.0];
        let (a, b) = (noise.map(|n| n + 12.0), noise.map(|n| n + 10.0));
        let interval = paired_difference(&a, &b).unwrap();
        assert!([interval.mean, interval.low, interval.high].iter().all(|x| (x - 2.0).abs() < 1e-9));
        // Differences 1, 2, 3: mean 2, standard error 1/√3, t with 2 degrees 4.303.
        let interval = paired_difference(&[1.0, 2.0, 3.0], &[0.0; 3]).unwrap();
        assert!((interval.high - (2.0 + 4.303 / 3f64.sqrt())).abs() < 1e-9);
        assert_eq!(paired_difference(&[1.0], &[0.0]), None);
    }

    #[test]
    fn shares_have_wilsons_and_their_differences_newcombes_interval() {
        let near = |found: f64, expected: f64| assert!((found - expected).abs() < 5e-4, "{found} {expected}");
        // The worked example of the cited paper: 56 of 70 and 48 of 80.
        let (a, b) = (share(56.0, 70).unwrap(), share(48.0, 80).unwrap());
        near(a.low, 0.6918);
        near(a.high, 0.8769);
        let difference = share_difference(&a, &b);
        near(difference.mean, 0.2);
        near(difference.low, 0.0524);
        near(difference.high, 0.3339);
        assert_eq!(share(0.0, 0), None);
        let (none, all) = (share(0.0, 10).unwrap(), share(10.0, 10).unwrap());
        assert!(none.low == 0.0 && none.high > 0.2 && all.high == 1.0 && all.low < 0.8, "{none:?} {all:?}");
    }

    #[test]
    fn means_of_different_runs_differ_within_welchs_interval() {
        let of = |values: &[f64]| Summary::of(values).unwrap();
        let (a, b) = (of(&[1.0, 2.0, 3.0]), of(&[2.0, 4.0, 6.0, 8.0]));
        // Variances 1 and 20/3, so se² = 1/3 + 5/3 and 4 / ((1/3)²/2 + (5/3)²/3) = 4.08 degrees: t is 2.776.
        let found = difference(&b, &a).unwrap();
        assert!(
            (found.mean - 3.0).abs() < 1e-9 && (found.high - (3.0 + 2.776 * 2f64.sqrt())).abs() < 1e-9,
            "{found:?}"
        );
        assert_eq!(difference(&of(&[1.0]), &a), None);
        let same = difference(&of(&[2.0, 2.0]), &of(&[1.0, 1.0])).unwrap();
        assert_eq!((same.low, same.high), (1.0, 1.0), "nothing scatters");
        let interval = a.interval().unwrap();
        assert!((interval.high - (2.0 + 4.303 / 3f64.sqrt())).abs() < 1e-9, "{interval:?}");
    }

    proptest! {
        #[test]
        fn a_summary_is_ordered_and_made_of_the_values(values in prop::collection::vec(0.0f64..1e4, 1..300)) {
            let s = Summary::of(&values).unwrap();
            let order = [s.min, s.median, s.p90, s.p95, s.p99, s.p99_9];
            prop_assert!(order.is_sorted());
            prop_assert!(order.iter().all(|x| values.contains(x)));
            let max = values.iter().copied().fold(0.0, f64::max);
            prop_assert!(s.min <= s.mean + 1e-9 && s.mean <= max + 1e-9 && s.cv_percent >= 0.0);
        }

        #[test]
        fn a_percentile_is_the_smallest_value_that_covers_its_share(
            mut values in prop::collection::vec(0.0f64..100.0, 1..200), percent in 0.0f64..=100.0,
        ) {
            values.sort_unstable_by(f64::total_cmp);
            let found = percentile(&values, percent).unwrap();
            let share = |limit: f64| values.iter().filter(|&&v| v <= limit).count() as f64 / values.len() as f64;
            prop_assert!(share(found) * 100.0 >= percent - 1e-6);
            let smaller = values.iter().copied().rfind(|&v| v < found);
            prop_assert!(smaller.is_none_or(|v| share(v) * 100.0 < percent + 1e-6));
        }

        #[test]
        fn the_interval_holds_the_mean_and_follows_shifts(
            pairs in prop::collection::vec((0.0f64..100.0, 0.0f64..100.0), 2..60), shift in -50.0f64..50.0,
        ) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let interval = paired_difference(&a, &b).unwrap();
            prop_assert!(interval.low <= interval.mean && interval.mean <= interval.high);
            let shifted: Vec<f64> = a.iter().map(|x| x + shift).collect();
            let moved = paired_difference(&shifted, &b).unwrap();
            prop_assert!((moved.low - interval.low - shift).abs() < 1e-6);
            let turned = paired_difference(&b, &a).unwrap();
            prop_assert!((turned.high + interval.low).abs() < 1e-9);
        }
    }
}
