//! Exact binomial bounds: how many bad frames may be seen, and what a count says of the true share.
//!
//! Terms are summed in log space by their recurrence `t(i+1) = t(i) + ln((n − i)/(i + 1)) + ln(p/(1 − p))`, with Kahan's compensation: a
//! million terms lose less than 1e-9.

/// Walks through the terms of the binomial distribution of `n` trials with probability `p`, in log space.
struct Terms {
    n: u64,
    /// Index of the current term.
    i: u64,
    /// ln(p / (1 − p))
    odds: f64,
    /// ln of the current term, and what rounding has taken from it.
    term: f64,
    lost: f64,
    /// ln of the sum of the terms so far.
    sum: f64,
}

impl Terms {
    /// At the first term, `(1 − p)ⁿ`; `p` lies between 0 and 1.
    fn new(n: u64, p: f64) -> Self {
        let term = n as f64 * (-p).ln_1p();
        Self { n, i: 0, odds: p.ln() - (-p).ln_1p(), term, lost: 0.0, sum: term }
    }

    /// On to the next term; there is one.
    fn advance(&mut self) {
        let step = ((self.n - self.i) as f64 / (self.i + 1) as f64).ln() + self.odds - self.lost;
        let term = self.term + step;
        self.lost = (term - self.term) - step;
        self.term = term;
        self.i += 1;
        let (low, high) = if self.sum < term { (self.sum, term) } else { (term, self.sum) };
        self.sum = high + (low - high).exp().ln_1p();
    }
}

/// `P(K ≤ k)` for `K` binomial with `n` trials of probability `p`.
pub fn cdf(k: u64, n: u64, p: f64) -> f64 {
    if k >= n || p <= 0.0 {
        return 1.0;
    }
    if p >= 1.0 {
        return 0.0;
    }
    let mut terms = Terms::new(n, p);
    while terms.i < k {
        terms.advance();
    }
    terms.sum.exp().min(1.0)
}

/// `k*`: the most bad frames among `n` that still prove, with confidence `1 − delta`, a true share of at most `epsilon`:
/// `max {k : P(Bin(n, epsilon) ≤ k) ≤ delta}`. `None` where even no bad frame proves nothing: `n` is below [`fewest`].
pub fn allowed(n: u64, epsilon: f64, delta: f64) -> Option<u64> {
    if n == 0 || epsilon.is_nan() || epsilon <= 0.0 || delta <= 0.0 {
        return None;
    }
    if epsilon >= 1.0 {
        return Some(n);
    }
    let (mut terms, limit) = (Terms::new(n, epsilon), delta.ln());
    if terms.sum > limit {
        return None;
    }
    while terms.i < n {
        terms.advance();
        if terms.sum > limit {
            return Some(terms.i - 1);
        }
    }
    Some(n)
}

/// `n_min`: the fewest frames from which anything can be promised, `⌈ln delta / ln(1 − epsilon)⌉`; for `epsilon` and `delta` between 0
/// and 1.
pub fn fewest(epsilon: f64, delta: f64) -> u64 {
    let n = (delta.ln() / (-epsilon).ln_1p()).ceil().max(1.0) as u64;
    // The quotient may be off by a rounding; the definition decides.
    let proves = |n: u64| n as f64 * (-epsilon).ln_1p() <= delta.ln();
    if n > 1 && proves(n - 1) {
        n - 1
    } else if proves(n) {
        n
    } else {
        n + 1
    }
}

/// The fewest frames of which `room · epsilon` may be bad (`room` from 0 to below 1): the more room, the less the threshold gives away. At
/// most a billion.
pub fn comfortable(epsilon: f64, delta: f64, room: f64) -> u64 {
    let enough = |n: u64| allowed(n, epsilon, delta).is_some_and(|k| k as f64 >= room * epsilon * n as f64);
    let mut high = fewest(epsilon, delta);
    while !enough(high) && high < 1_000_000_000 {
        high *= 2;
    }
    let mut low = high / 2;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if enough(middle) { high = middle } else { low = middle }
    }
    high
}

/// Clopper and Pearson's upper bound: with confidence `1 − delta` the true share is at most this, `k` of `n` having been seen.
pub fn upper(k: u64, n: u64, delta: f64) -> f64 {
    if k >= n {
        return 1.0;
    }
    let (mut low, mut high) = (k as f64 / n as f64, 1.0);
    // Enough for every bit that a share of at least 1e-9 has.
    for _ in 0..64 {
        let middle = low + (high - low) / 2.0;
        if cdf(k, n, middle) > delta { low = middle } else { high = middle }
    }
    high
}

/// Clopper and Pearson's lower bound: with confidence `1 − delta` the true share is at least this, `k` of `n` having been seen.
pub fn lower(k: u64, n: u64, delta: f64) -> f64 {
    if n == 0 { 0.0 } else { 1.0 - upper(n - k.min(n), n, delta) }
}

/// A share with a two-sided interval of confidence `1 − delta`: lower end, estimate, upper end.
pub fn interval(k: u64, n: u64, delta: f64) -> [f64; 3] {
    [lower(k, n, delta / 2.0), k as f64 / n.max(1) as f64, upper(k, n, delta / 2.0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_published_table_of_allowed_counts() {
        let frames = [300, 1000, 2000, 5000, 10_000];
        for (epsilon, fewest_frames, counts) in [
            (0.005, 598, [None, Some(1), Some(4), Some(16), Some(38)]),
            (0.01, 299, [Some(0), Some(4), Some(12), Some(38), Some(83)]),
            (0.02, 149, [Some(1), Some(12), Some(29), Some(83), Some(176)]),
            (0.05, 59, [Some(8), Some(38), Some(83), Some(224), Some(463)]),
        ] {
            assert_eq!(frames.map(|n| allowed(n, epsilon, 0.05)), counts, "{epsilon}");
            assert_eq!(fewest(epsilon, 0.05), fewest_frames);
            assert_eq!(allowed(fewest_frames, epsilon, 0.05), Some(0));
            assert_eq!(allowed(fewest_frames - 1, epsilon, 0.05), None);
        }
        assert_eq!([100, 300, 1000, 10_000].map(|n| allowed(n, 0.3, 0.05)), [22, 76, 275, 2924].map(Some));
    }

    #[test]
    fn the_definition_holds_from_one_frame_to_a_million() {
        for n in [1, 2, 10, 59, 300, 4096, 99_999, 1_000_000] {
            for epsilon in [1e-6, 1e-4, 0.003, 0.02, 0.3, 0.5, 0.97, 1.0 - 1e-6] {
                for delta in [0.2, 0.05, 0.001] {
                    let Some(k) = allowed(n, epsilon, delta) else {
                        assert!(cdf(0, n, epsilon) > delta && n < fewest(epsilon, delta));
                        continue;
                    };
                    assert!(n >= fewest(epsilon, delta), "n = {n}, ε = {epsilon}, δ = {delta}");
                    assert!(cdf(k, n, epsilon) <= delta, "n = {n}, ε = {epsilon}, δ = {delta}");
                    assert!(delta < cdf(k + 1, n, epsilon), "n = {n}, ε = {epsilon}, δ = {delta}");
                }
            }
        }
        assert_eq!([allowed(0, 0.1, 0.1), allowed(9, 0.0, 0.1), allowed(9, f64::NAN, 0.1)], [None; 3]);
        assert_eq!(allowed(9, 1.0, 0.05), Some(9));
    }

    /// Sums of many terms, against sums of decimal numbers with 60 digits.
    #[test]
    fn cumulated_terms_are_right_for_large_counts() {
        for (k, n, p, expected) in REFERENCE {
            let found = cdf(k, n, p);
            assert!((found / expected - 1.0).abs() < 1e-8, "{k} of {n} at {p}: {found}, expected {expected}");
        }
    }

    const REFERENCE: [(u64, u64, f64, f64); 5] = [
        (12, 1000, 0.02, 3.760481039718489e-2),
        (8000, 1000000, 0.008, 5.029735166798897e-1),
        (299500, 1000000, 0.3, 1.378508922241409e-1),
        (490000, 1000000, 0.5, 2.772181643849612e-89),
        (2, 1000000, 0.000001, 9.196986948985504e-1),
    ];

    #[test]
    fn clopper_and_pearson_s_bounds_are_the_inverse() {
        // 0 of n: 1 − δ^(1/n), in closed form.
        assert!((upper(0, 100, 0.05) - (1.0 - 0.05_f64.powf(0.01))).abs() < 1e-12);
        assert!((lower(100, 100, 0.05) - 0.05_f64.powf(0.01)).abs() < 1e-12);
        assert_eq!(
            (lower(0, 100, 0.05), upper(100, 100, 0.05), lower(0, 0, 0.05), upper(0, 0, 0.05)),
            (0.0, 1.0, 0.0, 1.0)
        );
        for (k, n) in [(1, 10), (12, 1000), (275, 1000), (5000, 10_000)] {
            assert!((cdf(k, n, upper(k, n, 0.05)) / 0.05 - 1.0).abs() < 1e-9);
            let [low, estimate, high] = interval(k, n, 0.05);
            assert!(low < estimate && estimate < high);
        }
    }

    #[test]
    fn more_frames_leave_more_room() {
        assert_eq!(comfortable(0.02, 0.05, 0.0), 149);
        let n = comfortable(0.02, 0.05, 0.6);
        assert!((1000..=1100).contains(&n), "{n}: 12 of 1000 are 60 % of 2 points, but not of 1001");
        assert!(comfortable(0.02, 0.05, 0.8) > n && comfortable(0.01, 0.05, 0.6) > n);
    }

    proptest! {
        #[test]
        fn the_upper_bound_of_the_allowed_count_keeps_the_promise(n in 1u64..3000, epsilon in 0.001f64..0.6, delta in 0.001f64..0.3) {
            if let Some(k) = allowed(n, epsilon, delta) {
                prop_assert!(upper(k, n, delta) <= epsilon * (1.0 + 1e-9));
                prop_assert!(k + 1 > n || upper(k + 1, n, delta) > epsilon * (1.0 - 1e-9));
            }
        }
    }
}
