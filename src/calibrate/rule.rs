//! From confidences to η: one exact binomial bound on a curve that falls with η (Bates et al., arXiv 2101.02703, Theorem 1, with Clopper and
//! Pearson's bound; Angelopoulos et al., arXiv 2110.01052).
//!
//! **Errors.** Let `G(t) = P(c > t and bad)`, right-continuous and falling, and `t* = inf {t: G(t) ≤ ε}`, so that `G(t*) ≤ ε`. With `s` the
//! (k*+1)-th largest confidence of a bad frame and η just above `s`, the promise `G(s) ≤ ε` is broken iff `s < t*`: iff at most `k*` of
//! the `n` frames are bad with `c ≥ t*`. Each is so with probability `G(t*−) ≥ ε`, so that has probability at most
//! `P(Bin(n, ε) ≤ k*) ≤ δ`. Ties change nothing.
//!
//! **Share of fine.** `F(t) = P(c < t)` is left-continuous and grows; `t* = sup {t: F(t) ≤ f}`, so that `F(t*) ≤ f`. With η the (k*+1)-th
//! smallest confidence, `F(η) ≤ f` is broken iff `η > t*`: iff at most `k*` frames have `c ≤ t*`, of probability at least `f` each.

use super::binomial;

/// A threshold and the counts that it rests on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bound {
    /// η. Above 1 (the smallest such number) where only refining every frame keeps the limit.
    pub eta: f32,
    /// `k*`: frames that the bound allows.
    pub allowed: u64,
    /// Frames that broke the limit at η.
    pub seen: u64,
}

/// The smallest η that keeps the share of bad frames with `c ≥ η` at `epsilon`, with confidence `1 − delta`, among `n` frames of which
/// those with the confidences `bad` are bad. `None` where `n` is too small to promise anything. `bad` is sorted; NaN (which never stops) is
/// left out.
pub fn floor(bad: &mut Vec<f32>, n: u64, epsilon: f64, delta: f64) -> Option<Bound> {
    let allowed = binomial::allowed(n, epsilon, delta)?;
    bad.retain(|confidence| !confidence.is_nan());
    bad.sort_unstable_by(|a, b| b.total_cmp(a));
    let cut = usize::try_from(allowed).ok().and_then(|k| bad.get(k)).copied();
    let eta = cut.map_or(0.0, |s| s.next_up().max(0.0));
    let seen = bad.iter().take_while(|&&confidence| confidence >= eta).count() as u64;
    Some(Bound { eta, allowed, seen })
}

/// The largest η that keeps the share of frames with `c < η` at `share`, with confidence `1 − delta`; above 1 for a share of 1. NaN is always
/// refined. `None` where there are too few frames to promise anything. `confidences` is sorted.
pub fn ceiling(confidences: &mut [f32], share: f64, delta: f64) -> Option<Bound> {
    let allowed = binomial::allowed(confidences.len() as u64, share, delta)?;
    // What is never sure enough comes first.
    let key = |confidence: f32| if confidence.is_nan() { f32::NEG_INFINITY } else { confidence };
    confidences.sort_unstable_by(|a, b| key(*a).total_cmp(&key(*b)));
    let cut = usize::try_from(allowed).ok().and_then(|k| confidences.get(k)).copied();
    let eta = cut.map_or(1.0_f32.next_up(), |c| key(c).max(0.0));
    let seen = confidences.iter().filter(|&&c| c.is_nan() || c < eta).count() as u64;
    Some(Bound { eta, allowed, seen })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibrate::Observation;
    use proptest::prelude::*;

    #[test]
    fn ties_and_ends() {
        // 59 frames and 5 %: k* = 0.
        let eta = |bad: &[f32]| floor(&mut bad.to_vec(), 59, 0.05, 0.05).map(|bound| bound.eta);
        assert_eq!(eta(&[]), Some(0.0), "none bad: the coarse stage always");
        assert_eq!(eta(&[0.5, 0.9, 0.7]), Some(0.9_f32.next_up()));
        assert_eq!(eta(&[1.0; 59]), Some(1.0_f32.next_up()), "all bad and all sure: fine always");
        assert_eq!(eta(&[f32::NAN; 59]), Some(0.0), "they never stop anyway");
        assert_eq!(floor(&mut vec![], 58, 0.05, 0.05), None, "too few");
        // 300 frames and 2 %: k* = 1. The two largest are equal, so both are cut.
        let bound = floor(&mut vec![0.9, 0.3, 0.9], 300, 0.02, 0.05).unwrap();
        assert_eq!(bound, Bound { eta: 0.9_f32.next_up(), allowed: 1, seen: 0 });
        let bound = floor(&mut vec![0.9, 0.3, 0.8], 300, 0.02, 0.05).unwrap();
        assert_eq!(bound, Bound { eta: 0.8_f32.next_up(), allowed: 1, seen: 1 });
    }

    #[test]
    fn the_mirror_image_for_the_share() {
        let mut confidences: Vec<f32> = (0..100).map(|i| i as f32 / 100.0).collect();
        confidences.reverse();
        let bound = ceiling(&mut confidences, 0.3, 0.05).unwrap();
        assert_eq!(bound, Bound { eta: 0.22, allowed: 22, seen: 22 });
        assert_eq!(ceiling(&mut [1.0; 100], 0.3, 0.05).unwrap().eta, 1.0, "c ≡ 1 never refines at η = 1");
        assert_eq!(ceiling(&mut [0.5; 100], 1.0, 0.05).unwrap().eta, 1.0_f32.next_up());
        let nan = ceiling(&mut [f32::NAN; 100], 0.3, 0.05).unwrap();
        assert_eq!((nan.eta, nan.seen), (0.0, 100), "the caller sees that more are refined than allowed");
        assert_eq!(ceiling(&mut [0.5; 8], 0.3, 0.05), None, "(1 − 0.3)^8 > 0.05");
    }

    proptest! {
        #[test]
        fn the_bound_is_kept_by_the_counts_and_tight(
            mut bad in prop::collection::vec((0u8..40).prop_map(|c| f32::from(c) / 40.0), 0..80), epsilon in 0.02f64..0.3,
        ) {
            let n = 300;
            let bound = floor(&mut bad, n, epsilon, 0.05).unwrap();
            prop_assert!(bound.seen <= bound.allowed);
            if bound.eta > 0.0 {
                let below = bad.iter().filter(|&&c| c >= bound.eta.next_down()).count() as u64;
                prop_assert!(below > bound.allowed, "a smaller η would stop too many bad frames");
            }
        }

        #[test]
        fn the_loss_falls_with_eta_on_every_frame_and_higher_thresholds_keep_the_promise(
            frames in prop::collection::vec((0f32..=1.0, 0usize..3, 0usize..3), 1..50), floor in 0f32..1.1,
            steps in prop::collection::vec(0f32..0.5, 50),
        ) {
            let frames = frames.into_iter().map(|(confidence, coarse, fine)| Observation { confidence, coarse, fine, label: None });
            for (frame, step) in frames.zip(steps) {
                let bad = |eta: f32| frame.differs() && frame.stops(eta);
                prop_assert!(!bad(floor + step) || bad(floor));
            }
        }
    }
}
