//! The gate: is the coarse answer good enough? Pure functions, shared by every backend.
//!
//! `confidence = max softmax(coarse logits)`; `confidence ≥ η` makes the coarse answer final (section 3.3 of the paper,
//! arXiv 2203.03821; the published code uses the same rule in its sweep and in its early-exit path).

use crate::frame::Stage;

/// The softmax of `logits` (`[classes]`) into `probabilities` (same length, overwritten). Stable for any finite input; `NaN`
/// logits give `NaN` probabilities.
pub fn softmax(logits: &[f32], probabilities: &mut Vec<f32>) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    probabilities.clear();
    probabilities.extend(logits.iter().map(|&x| (x - max).exp()));
    let sum: f32 = probabilities.iter().sum();
    probabilities.iter_mut().for_each(|p| *p /= sum);
}

/// The index and the value of the largest element of `values`; the first of equals, `(0, NaN)` for an empty slice.
pub fn argmax(values: &[f32]) -> (usize, f32) {
    let mut best = (0, values.first().copied().unwrap_or(f32::NAN));
    for (i, &v) in values.iter().enumerate().skip(1) {
        if v > best.1 {
            best = (i, v);
        }
    }
    best
}

/// The `count` largest of `values` with their indices into `best`, largest first; equals in the order of their indices.
pub fn best(values: &[f32], count: usize, best: &mut Vec<(usize, f32)>) {
    best.clear();
    for (i, &value) in values.iter().enumerate() {
        let at = best.partition_point(|&(_, better)| better >= value);
        if at < count {
            best.insert(at, (i, value));
            best.truncate(count);
        }
    }
}

/// Which stage answers: coarse iff `confidence ≥ threshold`. A `NaN` confidence is never enough, so a broken coarse pass
/// asks for the fine one instead of being believed.
pub fn decide(confidence: f32, threshold: f32) -> Stage {
    if confidence >= threshold { Stage::Coarse } else { Stage::Fine }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_rule_at_its_edges() {
        assert_eq!(decide(0.0, 0.0), Stage::Coarse, "η = 0 never refines");
        assert_eq!(decide(1.0, 1.0), Stage::Coarse, "a confidence of exactly 1 meets η = 1");
        assert_eq!(decide(1.0, 1.1), Stage::Fine, "η > 1 always refines");
        assert_eq!(decide(f32::NAN, 0.0), Stage::Fine);
    }

    #[test]
    fn argmax_takes_the_first_of_equals() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0]), (1, 3.0));
        assert!(argmax(&[]).1.is_nan());
    }

    proptest! {
        #[test]
        fn the_best_are_those_that_sorting_finds(values in prop::collection::vec(0f32..1.0, 0..40), count in 0usize..8) {
            let mut sorted: Vec<(usize, f32)> = values.iter().copied().enumerate().collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1));
            sorted.truncate(count);
            let mut found = vec![(7, 7.0)];
            best(&values, count, &mut found);
            prop_assert_eq!(found, sorted);
        }

        #[test]
        fn softmax_is_a_distribution_and_keeps_the_order(logits in prop::collection::vec(-80f32..80.0, 1..200)) {
            let mut p = Vec::new();
            softmax(&logits, &mut p);
            prop_assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-4);
            prop_assert!(p.iter().all(|&x| (0.0..=1.0).contains(&x)));
            prop_assert_eq!(argmax(&p).0, argmax(&logits).0);
        }
    }
}
