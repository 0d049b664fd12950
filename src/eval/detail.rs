//! What lies behind an accuracy: how far confidences can be believed, which classes are taken for which, and the worst mistakes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Evaluation, Observation};
use crate::frame::Stage;
use crate::gate;

/// Bins of the expected calibration error.
pub const BINS: usize = 15;
/// The most mistakes that are kept.
pub const WORST: usize = 20;

/// The pictures whose confidence lies between `i / 15` and `(i + 1) / 15`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Bin {
    /// How many.
    pub images: usize,
    /// Their mean confidence, 0 to 1; 0 without pictures.
    pub confidence: f64,
    /// The share of them that was answered rightly, 0 to 1; 0 without pictures.
    pub accuracy: f64,
}

/// How confidences compare with shares of right answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Reliability {
    /// The expected calibration error, 0 to 1: the mean over pictures of |accuracy − confidence| of their bin (Guo et al., 2017, equation 3).
    pub ece: f64,
    /// [`BINS`] bins of equal width.
    pub bins: Vec<Bin>,
}

impl Reliability {
    /// Of answers with their confidence and whether they are right. A confidence that is no number belongs to the lowest bin, as 0.
    pub fn of(answers: impl Iterator<Item = (f32, bool)>) -> Self {
        let mut sums = [(0usize, 0.0f64, 0usize); BINS];
        for (confidence, right) in answers {
            let confidence = if confidence.is_nan() { 0.0 } else { f64::from(confidence).clamp(0.0, 1.0) };
            // Bins are open below and closed above, as in the paper.
            let bin = ((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1;
            let (images, sum, rights) = &mut sums[bin];
            (*images, *sum, *rights) = (*images + 1, *sum + confidence, *rights + usize::from(right));
        }
        let all = sums.iter().map(|(images, ..)| images).sum::<usize>().max(1) as f64;
        let bin = |&(images, sum, rights): &(usize, f64, usize)| {
            let n = images.max(1) as f64;
            Bin { images, confidence: sum / n, accuracy: rights as f64 / n }
        };
        let bins: Vec<Bin> = sums.iter().map(bin).collect();
        let ece = bins.iter().map(|bin| bin.images as f64 / all * (bin.accuracy - bin.confidence).abs()).sum();
        Self { ece, bins }
    }
}

/// How far the confidences of each kind of answer can be believed.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Reliabilities {
    /// The coarse stage on every picture.
    pub coarse: Reliability,
    /// The fine stage on every picture.
    pub fine: Reliability,
    /// The cascade.
    pub dynamic: Reliability,
}

/// How the pictures of a class were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct ClassCounts {
    /// The class.
    pub class: usize,
    /// Its pictures.
    pub images: usize,
    /// Of them right by the coarse stage alone,
    pub coarse_right: usize,
    /// by the fine stage alone,
    pub fine_right: usize,
    /// and by the cascade.
    pub right: usize,
    /// Those that the cascade refined.
    pub fine: usize,
}

/// An answer of the cascade that is wrong.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Mistake {
    /// The file.
    pub image: String,
    /// The right class.
    pub class: usize,
    /// The answered one.
    pub label: usize,
    /// The probability that it was given.
    pub confidence: f64,
    /// Whether the fine stage answered.
    pub fine: bool,
}

/// An answer of the cascade.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Answer {
    label: usize,
    confidence: f32,
    right: bool,
    fine: bool,
}

impl Observation {
    fn answer(&self, threshold: f32) -> Answer {
        match gate::decide(self.confidence, threshold) == Stage::Fine {
            true => Answer {
                label: self.fine_label,
                confidence: self.fine_confidence,
                right: self.fine_rank == 0,
                fine: true,
            },
            false => Answer {
                label: self.coarse_label,
                confidence: self.confidence,
                right: self.coarse_rank == 0,
                fine: false,
            },
        }
    }
}

impl Evaluation {
    /// How far confidences can be believed, the cascade's at `threshold`.
    pub fn reliability(&self, threshold: f32) -> Reliabilities {
        let all = || self.observations.iter();
        Reliabilities {
            coarse: Reliability::of(all().map(|o| (o.confidence, o.coarse_rank == 0))),
            fine: Reliability::of(all().map(|o| (o.fine_confidence, o.fine_rank == 0))),
            dynamic: Reliability::of(all().map(|o| {
                let answer = o.answer(threshold);
                (answer.confidence, answer.right)
            })),
        }
    }

    /// The classes that have pictures, in class order.
    pub fn classes(&self, threshold: f32) -> Vec<ClassCounts> {
        let mut classes: BTreeMap<usize, ClassCounts> = BTreeMap::new();
        for o in &self.observations {
            let (answer, class) = (o.answer(threshold), o.class);
            let counts = classes.entry(class).or_insert(ClassCounts { class, ..ClassCounts::default() });
            counts.images += 1;
            counts.coarse_right += usize::from(o.coarse_rank == 0);
            counts.fine_right += usize::from(o.fine_rank == 0);
            counts.right += usize::from(answer.right);
            counts.fine += usize::from(answer.fine);
        }
        classes.into_values().collect()
    }

    /// `[right class, answered class, pictures]` of the cascade, in the order of classes; pairs that never came are left out.
    pub fn confusion(&self, threshold: f32) -> Vec<[usize; 3]> {
        let mut counts: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for o in &self.observations {
            *counts.entry((o.class, o.answer(threshold).label)).or_default() += 1;
        }
        counts.into_iter().map(|((class, label), images)| [class, label, images]).collect()
    }

    /// The [`WORST`] wrong answers that the cascade was surest of, as (sample, mistake); `name` names a sample's file.
    pub fn worst(&self, threshold: f32, name: impl Fn(usize) -> String) -> Vec<(usize, Mistake)> {
        let wrong = self.observations.iter().map(|o| (o, o.answer(threshold))).filter(|(_, answer)| !answer.right);
        let mut wrong: Vec<(&Observation, Answer)> = wrong.collect();
        // Equals keep the order of the samples.
        wrong.sort_by(|(_, a), (_, b)| b.confidence.total_cmp(&a.confidence));
        wrong.truncate(WORST);
        let mistake = |(o, answer): &(&Observation, Answer)| Mistake {
            image: name(o.sample),
            class: o.class,
            label: answer.label,
            confidence: if answer.confidence.is_finite() { f64::from(answer.confidence) } else { 0.0 },
            fine: answer.fine,
        };
        wrong.iter().map(|wrong| (wrong.0.sample, mistake(wrong))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Family, Geometry};
    use proptest::prelude::*;

    #[test]
    fn the_calibration_error_is_the_papers() {
        // Bins 12 and 15 (closed above): |1/2 − 0.77| · 2/3 + |1 − 1| · 1/3.
        let reliability = Reliability::of([(0.79, true), (0.75, false), (1.0, true)].into_iter());
        assert!((reliability.ece - 2.0 / 3.0 * 0.27).abs() < 1e-6, "{reliability:?}");
        assert_eq!((reliability.bins[11].images, reliability.bins[14].images), (2, 1));
        assert_eq!(Reliability::of(std::iter::empty()).ece, 0.0);
        assert_eq!(Reliability::of([(f32::NAN, false), (0.0, true)].into_iter()).bins[0].images, 2);
    }

    fn evaluation(observations: &[Observation]) -> Evaluation {
        let geometry = Geometry {
            family: Family::Deit,
            grid: 7,
            patch: 16,
            width: 192,
            depth: 6,
            heads: 3,
            hidden: 768,
            classes: 10,
            stem: 0,
        };
        let mut evaluation = Evaluation::new(&geometry);
        observations.iter().for_each(|&o| evaluation.add(o));
        evaluation
    }

    #[test]
    fn the_worst_are_the_surest_wrong_answers_of_the_stage_that_answers() {
        let of = |sample, confidence, coarse_rank, fine_confidence, fine_rank| Observation {
            sample,
            confidence,
            coarse_rank,
            fine_confidence,
            fine_rank,
            coarse_label: usize::from(coarse_rank > 0),
            fine_label: 2 * usize::from(fine_rank > 0),
            ..Observation::default()
        };
        let all = [of(0, 0.9, 1, 0.2, 0), of(1, 0.3, 0, 0.99, 1), of(2, 0.95, 0, 0.5, 1), of(3, 0.4, 1, 0.6, 1)];
        let worst = evaluation(&all).worst(0.5, |sample| format!("{sample}.jpg"));
        let found: Vec<_> = worst.iter().map(|(_, m)| (m.image.as_str(), m.label, m.fine)).collect();
        assert_eq!(found, [("1.jpg", 2, true), ("0.jpg", 1, false), ("3.jpg", 2, true)]);
    }

    proptest! {
        #[test]
        fn classes_and_confusion_count_every_picture_once(
            drawn in prop::collection::vec((0f32..1.0, 0usize..4, 0usize..4, 0usize..4), 0..80), threshold in 0f32..1.0,
        ) {
            let observe = |(i, &(confidence, class, coarse_label, fine_label)): (usize, &(f32, usize, usize, usize))| Observation {
                sample: i,
                class,
                confidence,
                coarse_label,
                fine_label,
                fine_confidence: 1.0 - confidence,
                coarse_rank: usize::from(coarse_label != class),
                fine_rank: usize::from(fine_label != class),
                static_rank: Some(0),
            };
            let observations: Vec<_> = drawn.iter().enumerate().map(observe).collect();
            let evaluation = evaluation(&observations);
            let (classes, confusion) = (evaluation.classes(threshold), evaluation.confusion(threshold));
            let images = evaluation.images();
            prop_assert_eq!(classes.iter().map(|c| c.images).sum::<usize>(), images);
            prop_assert_eq!(confusion.iter().map(|c| c[2]).sum::<usize>(), images);
            let right: usize = classes.iter().map(|c| c.right).sum();
            prop_assert_eq!(confusion.iter().filter(|c| c[0] == c[1]).map(|c| c[2]).sum::<usize>(), right);
            prop_assert!((evaluation.dynamic(threshold).top1 - 100.0 * right as f64 / images.max(1) as f64).abs() < 1e-9);
            prop_assert_eq!(evaluation.worst(threshold, |_| String::new()).len(), (images - right).min(WORST));
            let reliability = evaluation.reliability(threshold);
            for one in [&reliability.coarse, &reliability.fine, &reliability.dynamic] {
                prop_assert_eq!(one.bins.iter().map(|bin| bin.images).sum::<usize>(), images);
                prop_assert!((0.0..=1.0).contains(&one.ece));
            }
            prop_assert_eq!(evaluation.full().is_some(), images > 0);
        }
    }
}
