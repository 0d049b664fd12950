//! Steady labels: a moving average over the probabilities of one camera, and hysteresis, so that a label does not flap between two
//! classes that take turns at the top. Pure; no clock, no I/O.

use crate::gate;

/// How strongly labels are smoothed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smoothing {
    /// The share of the old average that stays at each frame: `average ← factor · average + (1 − factor) · probabilities`. From 0
    /// (smoothing is off: the smooth label is the raw one) to [`Smoothing::MAX_FACTOR`].
    pub factor: f32,
    /// By how much the average of another class must lead before it becomes the label, 0 to 1.
    pub hysteresis: f32,
}

impl Smoothing {
    /// The largest factor: an average over about a thousand frames.
    pub const MAX_FACTOR: f32 = 0.999;
    /// No smoothing.
    pub const OFF: Smoothing = Smoothing { factor: 0.0, hysteresis: 0.0 };

    /// Two classes that win in turns, each with certainty, move the lead in the average between plus and minus this value. With a
    /// hysteresis above it the label stands still.
    pub fn swing(&self) -> f32 {
        (1.0 - self.factor) / (1.0 + self.factor)
    }
}

/// An average over about five frames, and a hysteresis above its swing (0.11).
impl Default for Smoothing {
    fn default() -> Self {
        Self { factor: 0.8, hysteresis: 0.15 }
    }
}

/// The smoothed answer of one camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Smooth {
    /// The class that holds.
    pub label: usize,
    /// Its average probability, 0 to 1.
    pub confidence: f32,
}

/// The average of one camera. Its memory is reused from frame to frame.
#[derive(Clone, Debug, Default)]
pub struct Smoother {
    average: Vec<f32>,
    label: usize,
}

impl Smoother {
    /// Takes the `probabilities` (`[classes]`) of one frame and gives the answer that holds now. The first frame starts the average.
    /// Probabilities that are not finite leave the average as it is.
    pub fn update(&mut self, smoothing: Smoothing, probabilities: &[f32]) -> Smooth {
        let usable = !probabilities.is_empty() && probabilities.iter().all(|p| p.is_finite());
        if usable && (smoothing.factor <= 0.0 || self.average.len() != probabilities.len()) {
            self.average.clear();
            self.average.extend_from_slice(probabilities);
            self.label = gate::argmax(&self.average).0;
        } else if usable {
            for (average, p) in self.average.iter_mut().zip(probabilities) {
                *average = smoothing.factor * *average + (1.0 - smoothing.factor) * p;
            }
            let (best, lead) = gate::argmax(&self.average);
            if lead - self.average[self.label] > smoothing.hysteresis {
                self.label = best;
            }
        }
        let confidence = self.average.get(self.label).copied().unwrap_or(0.0);
        Smooth { label: self.label, confidence }
    }

    /// Forgets everything: the next frame starts the average anew.
    pub fn reset(&mut self) {
        self.average.clear();
        self.label = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn probabilities(classes: usize) -> impl Strategy<Value = Vec<f32>> {
        prop::collection::vec(-8f32..8.0, classes).prop_map(|logits| {
            let mut p = Vec::new();
            gate::softmax(&logits, &mut p);
            p
        })
    }

    fn smoothing() -> impl Strategy<Value = Smoothing> {
        (0f32..=Smoothing::MAX_FACTOR, 0f32..=1.0).prop_map(|(factor, hysteresis)| Smoothing { factor, hysteresis })
    }

    proptest! {
        #[test]
        fn the_average_stays_a_distribution(
            frames in prop::collection::vec((probabilities(5), any::<bool>()), 1..80),
            smoothing in smoothing(),
        ) {
            let mut smoother = Smoother::default();
            for (mut frame, broken) in frames {
                if broken {
                    frame[2] = f32::NAN;
                }
                let smooth = smoother.update(smoothing, &frame);
                prop_assert!(smooth.label < 5 && (0.0..=1.0001).contains(&smooth.confidence), "{:?}", smooth);
                let sum: f32 = smoother.average.iter().sum();
                prop_assert!(smoother.average.is_empty() || (sum - 1.0).abs() < 1e-3, "{}", sum);
            }
        }

        #[test]
        fn two_classes_that_take_turns_change_the_label_at_most_once(
            a in probabilities(4), b in probabilities(4), factor in 0.01f32..=Smoothing::MAX_FACTOR, extra in 0.001f32..0.5,
        ) {
            let swing = Smoothing { factor, hysteresis: 0.0 }.swing();
            let smoothing = Smoothing { factor, hysteresis: swing + extra };
            let mut smoother = Smoother::default();
            let labels: Vec<usize> =
                (0..400).map(|i| smoother.update(smoothing, if i % 2 == 0 { &a } else { &b }).label).collect();
            let changes = labels.windows(2).filter(|pair| pair[0] != pair[1]).count();
            // One more is possible where a third class has the largest mean.
            prop_assert!(changes <= 2, "{} changes", changes);
            prop_assert!(labels[200..].windows(2).all(|pair| pair[0] == pair[1]) || factor > 0.97);
        }

        #[test]
        fn without_smoothing_the_label_is_the_raw_one(
            frames in prop::collection::vec(probabilities(3), 1..30), hysteresis in 0f32..=1.0,
        ) {
            let mut smoother = Smoother::default();
            for frame in frames {
                let smooth = smoother.update(Smoothing { factor: 0.0, hysteresis }, &frame);
                prop_assert_eq!((smooth.label, smooth.confidence), gate::argmax(&frame));
            }
        }
    }

    #[test]
    fn a_lasting_change_gets_through_and_one_odd_frame_does_not() {
        let (cat, dog) = ([0.9, 0.1], [0.1, 0.9]);
        let (mut smoother, smoothing) = (Smoother::default(), Smoothing::default());
        let mut label = |frame: &[f32]| smoother.update(smoothing, frame).label;
        assert_eq!((0..10).map(|_| label(&cat)).sum::<usize>(), 0);
        assert_eq!(label(&dog), 0, "one odd frame");
        assert_eq!((0..5).map(|_| label(&cat)).sum::<usize>(), 0);
        assert!((0..12).map(|_| label(&dog)).last() == Some(1), "a lasting change");
        smoother.reset();
        assert_eq!(smoother.update(smoothing, &cat).label, 0);
    }

    #[test]
    fn the_default_hysteresis_is_above_its_swing() {
        let default = Smoothing::default();
        assert!(default.hysteresis > default.swing());
        assert_eq!(Smoother::default().update(default, &[]), Smooth { label: 0, confidence: 0.0 });
    }
}
