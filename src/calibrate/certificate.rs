//! Making the certificate of a solution.

use jiff::Timestamp;

use super::{Keys, Observation, Risk, Solution, binomial};
use crate::files;
use crate::model::package::{BudgetTerms, Certificate, bits};

/// What the calibration frames were, as far as a certificate tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    /// Sum over the frames.
    pub data_sha256: String,
    /// How many independent frames they are worth.
    pub n_eff: f64,
    /// Hours from the first to the last, where they have times.
    pub span_h: Option<f64>,
    /// Seconds between audited frames, where it is an audit.
    pub slot_s: Option<f64>,
    /// What must hold for the promise.
    pub assumption: String,
}

/// The sum over `observations`: the same frames through the same engine give the same.
pub fn data_sha256(observations: &[Observation]) -> String {
    let mut bytes = Vec::with_capacity(20 * observations.len());
    for Observation { confidence, coarse, fine, label } in observations {
        bytes.extend(confidence.to_bits().to_le_bytes());
        for class in [Some(*coarse), Some(*fine), *label] {
            bytes.extend(class.map_or(u32::MAX, |class| class as u32).to_le_bytes());
        }
    }
    files::sha256(&bytes)
}

/// The certificate of `solution`, found at 1 − `delta` on `observations` for the engine of `keys`. `previous` is the one that it replaces: a different one from the same frames makes this one a further attempt.
pub fn certificate(
    solution: &Solution,
    (observations, delta): (&[Observation], f64),
    keys: &Keys,
    evidence: Evidence,
    previous: Option<&Certificate>,
    now: Timestamp,
) -> Certificate {
    let budget = solution.ceiling.as_ref().map(|ceiling| BudgetTerms {
        target: ceiling.budget.unit.target(),
        limit: ceiling.budget.limit,
        coarse: ceiling.means[0],
        coarse_upper: ceiling.uppers[0],
        fine: ceiling.means[1],
        fine_upper: ceiling.uppers[1],
        share: ceiling.share,
    });
    let (target, limit, bound, upper) = match (&solution.floor, &solution.ceiling) {
        (Some(floor), _) => (floor.accuracy.risk.target(), floor.accuracy.limit, floor.bound, floor.upper),
        (None, Some(ceiling)) => {
            let cost = ceiling.uppers[0] + solution.fine_share[2] * ceiling.uppers[1];
            (ceiling.budget.unit.target(), ceiling.budget.limit, ceiling.bound, cost)
        }
        // `solve` makes no such solution.
        (None, None) => {
            (crate::model::package::Target::Loss, 1.0, super::rule::Bound { eta: 2.0, allowed: 0, seen: 0 }, 1.0)
        }
    };
    let n = observations.len() as u64;
    let drift_limit = match &solution.floor {
        Some(floor) if floor.accuracy.risk == Risk::Disagreement => limit,
        _ => {
            let differ = observations.iter().filter(|o| o.differs() && o.stops(solution.eta)).count() as u64;
            binomial::upper(differ, n, delta)
        }
    };
    let floor = solution.floor.as_ref().map(|floor| floor.bound.eta).filter(|&floor| floor < solution.eta);
    let mut certificate = Certificate {
        // By way of its shortest decimal form: 0.7, not 0.699999988079071.
        eta: solution.eta.to_string().parse().unwrap_or(f64::from(solution.eta)),
        eta_bits: bits(solution.eta),
        target,
        limit,
        confidence: rounded(1.0 - delta),
        n,
        n_eff: rounded(evidence.n_eff),
        k_allowed: bound.allowed,
        k_seen: bound.seen,
        upper: rounded(upper),
        drift_limit: rounded(drift_limit).max(1e-6),
        fine_share: solution.fine_share.map(rounded),
        engine: keys.engine.clone(),
        engine_sha256: keys.engine_sha256.clone(),
        preprocess_sha256: keys.preprocess_sha256.clone(),
        data_sha256: evidence.data_sha256,
        power_mode: keys.power_mode.clone(),
        created: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        span_h: evidence.span_h.map(rounded),
        slot_s: evidence.slot_s,
        assumption: evidence.assumption,
        attempts: 1,
        floor_bits: floor.map(bits),
        budget,
    };
    if let Some(previous) = previous.filter(|previous| previous.data_sha256 == certificate.data_sha256) {
        certificate.attempts = previous.attempts.saturating_add(u32::from(!same_wish(previous, &certificate)));
    }
    certificate
}

/// Whether two certificates answer the same question: asking it again is no further attempt.
fn same_wish(a: &Certificate, b: &Certificate) -> bool {
    let budget = |c: &Certificate| c.budget.map(|budget| (budget.target, budget.limit));
    (a.target, a.limit, a.confidence, &a.engine_sha256, budget(a))
        == (b.target, b.limit, b.confidence, &b.engine_sha256, budget(b))
}

/// To six digits behind the point: nothing here is known better.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::{Accuracy, Prefer, Request, Risk, solve};

    fn observations() -> Vec<Observation> {
        (0..1000)
            .map(|i| Observation {
                confidence: i as f32 / 1000.0,
                coarse: usize::from(i % 9 == 0),
                fine: 0,
                label: None,
            })
            .collect()
    }

    fn made(limit: f64, previous: Option<&Certificate>) -> Certificate {
        let observations = observations();
        let accuracy = Some(Accuracy { risk: Risk::Disagreement, limit });
        let request = Request { accuracy, budget: None, delta: 0.05, prefer: Prefer::Cheap };
        let solution = solve(&observations, &request, None).unwrap();
        let keys = Keys {
            engine: "CPU".into(),
            engine_sha256: "e".into(),
            preprocess_sha256: "p".into(),
            power_mode: "none".into(),
        };
        let evidence = Evidence {
            data_sha256: data_sha256(&observations),
            n_eff: 1000.0,
            span_h: None,
            slot_s: None,
            assumption: "pictures independent".into(),
        };
        certificate(&solution, (&observations, 0.05), &keys, evidence, previous, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn the_certificate_says_what_was_found_and_passes_its_own_check() {
        let certificate = made(0.02, None);
        certificate.check().unwrap();
        assert_eq!((certificate.k_allowed, certificate.k_seen, certificate.attempts), (12, 12, 1));
        // Bad frames lie at multiples of 9: the 13th from above is 999 − 12 · 9 = 891.
        assert_eq!(certificate.threshold(), 0.891_f32.next_up());
        assert!(certificate.upper <= 0.02 && certificate.created == "1970-01-01T00:00:00Z");
    }

    #[test]
    fn another_wish_on_the_same_frames_is_a_further_attempt_and_the_same_one_is_not() {
        let first = made(0.02, None);
        assert_eq!(made(0.02, Some(&first)).attempts, 1);
        let second = made(0.05, Some(&first));
        assert_eq!(second.attempts, 2);
        assert_eq!(made(0.02, Some(&second)).attempts, 3);
        let other = Certificate { data_sha256: "other".into(), ..second };
        assert_eq!(made(0.02, Some(&other)).attempts, 1);
    }
}
