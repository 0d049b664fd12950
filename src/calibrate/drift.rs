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
#[path = "drift_tests.rs"]
mod tests;
