//! Whether the promise still holds on this camera: an e-SR detector on the audited frames (Shin, Ramdas and Rinaldo, "E-detectors", 2022).
//!
//! An audited frame is bad when the coarse answer was final and the fine stage would have said something else. While that happens with
//! probability at most ε given the past, every factor `L_q` below has a mean of at most 1, so that alarms come on average no more often than
//! once in `patience` audits, even where η changes meanwhile. For each suspected share `q`:
//! `M ← (M + 1) · L_q`, `L_q(bad) = q/ε`, `L_q(good) = (1 − q)/(1 − ε)`; alarm when the mean of the `M` reaches `patience`.

use serde::{Deserialize, Serialize};

/// Suspected shares, in multiples of ε: from a slow decay to a sudden failure.
const SUSPECTED: [f64; 5] = [1.5, 2.0, 3.0, 5.0, 8.0];
/// A suspected share above this is none.
const MOST: f64 = 0.95;
/// Seconds between false alarms, on average at least: 30 days.
pub const PATIENCE_S: f64 = 30.0 * 86_400.0;

/// Watches one camera under one certificate. Kept across restarts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Detector {
    /// ε: the share of bad frames that is no alarm.
    epsilon: f64,
    /// Audits between false alarms.
    patience: f64,
    /// ln M for each suspected share; −∞ at the start.
    log_m: [f64; SUSPECTED.len()],
    /// Audits seen since the start or the last alarm.
    audits: u64,
}

impl Detector {
    /// Nothing seen yet. `epsilon` lies between 0 and 1, `patience` is at least 1.
    pub fn new(epsilon: f64, patience: f64) -> Self {
        Self {
            epsilon: epsilon.clamp(1e-9, 0.6),
            patience: patience.max(1.0),
            log_m: [f64::NEG_INFINITY; 5],
            audits: 0,
        }
    }

    /// Whether it is one for the same settings as `fresh`, and what it holds can be.
    pub fn is_like(&self, fresh: &Self) -> bool {
        (self.epsilon, self.patience) == (fresh.epsilon, fresh.patience)
            && self.log_m.iter().all(|m| !m.is_nan() && *m < 700.0)
    }

    /// Takes an audit; true for an alarm. It starts anew then.
    pub fn push(&mut self, bad: bool) -> bool {
        self.audits += 1;
        let epsilon = self.epsilon;
        let mut sum = f64::NEG_INFINITY;
        let mut suspected = 0_u32;
        for (log_m, factor) in self.log_m.iter_mut().zip(SUSPECTED) {
            let q = factor * epsilon;
            if q > MOST {
                continue;
            }
            let step = if bad { factor.ln() } else { (-q).ln_1p() - (-epsilon).ln_1p() };
            *log_m = add(*log_m, 0.0) + step;
            sum = add(sum, *log_m);
            suspected += 1;
        }
        let alarm = suspected > 0 && sum - f64::from(suspected).ln() >= self.patience.ln();
        if alarm {
            self.log_m = [f64::NEG_INFINITY; 5];
            self.audits = 0;
        }
        alarm
    }

    /// How near an alarm is: 0 far, 1 alarm.
    pub fn level(&self) -> f64 {
        let used = SUSPECTED.iter().filter(|&&factor| factor * self.epsilon <= MOST).count().max(1);
        let sum = self.log_m.iter().take(used).fold(f64::NEG_INFINITY, |sum, &m| add(sum, m));
        ((sum - (used as f64).ln()) / self.patience.ln().max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }

    /// Audits seen since the start or the last alarm.
    pub fn audits(&self) -> u64 {
        self.audits
    }
}

/// `ln(e^a + e^b)`
fn add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if high == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::schedule::Random;

    fn happens(random: &mut Random, p: f64) -> bool {
        (random.next_u64() as f64 / u64::MAX as f64) < p
    }

    /// Audits until the alarm, at most `cap`.
    fn run(detector: &mut Detector, random: &mut Random, p: f64, cap: u64) -> u64 {
        (1..=cap).find(|_| detector.push(happens(random, p))).unwrap_or(cap)
    }

    /// The middle of so many delays, of detectors that start with the risk `p`; what has run before is not slower.
    fn median_delay(epsilon: f64, p: f64, trials: u64) -> u64 {
        let mut delays: Vec<u64> = (0..trials)
            .map(|seed| {
                let (mut random, mut detector) = (Random(seed), Detector::new(epsilon, 259_200.0));
                run(&mut detector, &mut random, p, 100_000)
            })
            .collect();
        delays.sort_unstable();
        delays[delays.len() / 2]
    }

    #[test]
    fn false_alarms_come_no_more_often_than_promised() {
        let (patience, runs) = (2000.0, 300);
        for epsilon in [0.01, 0.02] {
            let mut random = Random(9);
            let total: u64 =
                (0..runs).map(|_| run(&mut Detector::new(epsilon, patience), &mut random, epsilon, 9000)).sum();
            let mean = total as f64 / f64::from(runs);
            // Cut off at 9000, so the true mean is larger still.
            assert!(mean >= patience, "ε = {epsilon}: {mean}");
            println!("ε = {epsilon}: mean run {mean:.0} audits (cap 9000), promised {patience}");
        }
    }

    #[test]
    fn alarms_come_as_fast_as_was_computed() {
        // Medians of 1001 runs of another program; within 20 %.
        for (epsilon, factor, expected) in [
            (0.01, 2.0, 1615.0),
            (0.01, 3.0, 582.0),
            (0.01, 5.0, 220.0),
            (0.02, 2.0, 931.0),
            (0.02, 3.0, 320.0),
            (0.02, 5.0, 118.0),
        ] {
            let delay = median_delay(epsilon, factor * epsilon, 301);
            println!("ε = {epsilon}, risk {factor} ε: {delay} audits, expected {expected}");
            let ratio = delay as f64 / expected;
            assert!((0.8..=1.2).contains(&ratio), "ε = {epsilon}, risk {factor} ε: {delay}, expected {expected}");
        }
    }

    #[test]
    fn a_detector_survives_a_restart() {
        let (mut random, mut whole) = (Random(3), Detector::new(0.02, 1000.0));
        let mut restarted = whole;
        for i in 0..3000 {
            let bad = happens(&mut random, 0.02);
            assert_eq!(whole.push(bad), restarted.push(bad));
            if i % 100 == 0 {
                let text = toml::to_string(&restarted).unwrap();
                restarted = toml::from_str(&text).unwrap();
                let like = |epsilon, patience| restarted.is_like(&Detector::new(epsilon, patience));
                assert!(like(0.02, 1000.0) && !like(0.02, 999.0) && !like(0.01, 1000.0));
            }
        }
        assert_eq!(whole, restarted);
    }

    #[test]
    fn a_flood_of_bad_frames_is_an_alarm_at_once_and_none_never() {
        let mut detector = Detector::new(0.01, 259_200.0);
        assert!((0..10).any(|_| detector.push(true)));
        assert_eq!(detector, Detector::new(0.01, 259_200.0), "it starts anew");
        assert!((0..100_000).all(|_| !detector.push(false)));
        assert!(detector.level() < 0.5 && detector.audits() == 100_000);
        // A large limit: what cannot be is not suspected.
        let mut wide = Detector::new(0.5, 1000.0);
        assert!((0..200).any(|_| wide.push(true)));
    }
}
