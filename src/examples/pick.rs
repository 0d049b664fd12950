//! Which frames are worth keeping, seen from the decision thread.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::example::{Example, Reason};
use super::shelf::Shelf;
use crate::cascade::{Cascade, Verdict};
use crate::config::{Auto, CollectSettings};
use crate::frame::Stage;
use crate::gate;
use crate::pipeline::{CameraId, Decision, Observer};

/// So many of the most probable classes are written down.
const TOP: usize = 5;

/// What the choice looks at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Which stage answered.
    pub stage: Stage,
    /// The class of the answer,
    pub label: usize,
    /// and its probability.
    pub confidence: f32,
    /// The class of the coarse stage; meaningless where the static pass answered.
    pub coarse_label: usize,
}

/// Whether a frame is to be kept, and why. `draw` is a number from 0 to 1 by chance. Both stages are compared only where both ran anyway.
pub fn wanted(settings: &CollectSettings, seen: Seen, draw: f64) -> Option<Reason> {
    let (low, high) = settings.band;
    match settings.auto {
        Auto::Off => None,
        Auto::Disagree => (seen.stage == Stage::Fine && seen.label != seen.coarse_label).then_some(Reason::Disagree),
        Auto::Unsure => (low..=high).contains(&f64::from(seen.confidence)).then_some(Reason::Unsure),
        Auto::Random => (draw < settings.probability).then_some(Reason::Random),
    }
}

/// The observer that keeps what is wanted, at most one frame of a camera in [`CollectSettings::interval_s`].
pub struct Picker {
    settings: CollectSettings,
    interval: Duration,
    shelf: Arc<Shelf>,
    /// When a frame of each camera was taken last.
    taken: Vec<(CameraId, Instant)>,
    coarse: Vec<f32>,
    dice: u64,
}

impl Picker {
    /// Keeps on `shelf` what `settings` want.
    pub fn new(settings: CollectSettings, shelf: Arc<Shelf>) -> Self {
        let interval = Duration::from_secs_f64(settings.interval_s);
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { settings, interval, shelf, taken: Vec::new(), coarse: Vec::new(), dice: since.as_nanos() as u64 }
    }

    /// From 0 to below 1, evenly: splitmix64 (Steele, Lea, Flood 2014).
    fn draw(&mut self) -> f64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.dice;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn example(&mut self, verdict: &Verdict, decision: &Decision<'_>, reason: Reason) -> Example {
        let (mut top, mut coarse_top) = (Vec::new(), Vec::new());
        gate::best(&verdict.probabilities, TOP, &mut top);
        if verdict.stage != Stage::Static {
            gate::softmax(&verdict.coarse.logits, &mut self.coarse);
            gate::best(&self.coarse, TOP, &mut coarse_top);
        }
        let informative = if verdict.stage == Stage::Fine { verdict.choice.informative.clone() } else { Vec::new() };
        Example {
            camera: decision.camera_name.to_owned(),
            seq: decision.frame.seq,
            captured: SystemTime::now().checked_sub(decision.latency).unwrap_or(SystemTime::UNIX_EPOCH),
            stage: verdict.stage,
            top,
            coarse_top,
            coarse_confidence: verdict.coarse_confidence,
            threshold: decision.threshold,
            informative,
            reason,
        }
    }
}

impl Observer for Picker {
    fn decided(&mut self, decision: &Decision<'_>, cascade: &mut Cascade) {
        let verdict = cascade.verdict();
        let seen = Seen {
            stage: verdict.stage,
            label: verdict.label,
            confidence: verdict.confidence,
            coarse_label: gate::argmax(&verdict.coarse.logits).0,
        };
        let draw = self.draw();
        let Some(reason) = wanted(&self.settings, seen, draw) else { return };
        let (now, interval) = (Instant::now(), self.interval);
        let is_early = |taken: &Instant| now.saturating_duration_since(*taken) < interval;
        if self.taken.iter().any(|(camera, taken)| *camera == decision.camera && is_early(taken)) {
            return;
        }
        let example = self.example(verdict, decision, reason);
        if self.shelf.offer(&decision.frame.picture, example) {
            // Cameras that left are forgotten here, too.
            self.taken.retain(|(camera, taken)| *camera != decision.camera && is_early(taken));
            self.taken.push((decision.camera, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn settings(auto: Auto) -> CollectSettings {
        CollectSettings { auto, band: (0.3, 0.6), probability: 0.25, ..CollectSettings::default() }
    }

    #[test]
    fn each_mode_wants_its_own() {
        let seen = Seen { stage: Stage::Fine, label: 1, confidence: 0.5, coarse_label: 2 };
        assert_eq!(wanted(&settings(Auto::Off), seen, 0.0), None);
        assert_eq!(wanted(&settings(Auto::Disagree), seen, 1.0), Some(Reason::Disagree));
        assert_eq!(wanted(&settings(Auto::Disagree), Seen { coarse_label: 1, ..seen }, 0.0), None);
        for stage in [Stage::Coarse, Stage::Static] {
            assert_eq!(wanted(&settings(Auto::Disagree), Seen { stage, ..seen }, 0.0), None, "one stage alone");
        }
        assert_eq!(wanted(&settings(Auto::Unsure), seen, 1.0), Some(Reason::Unsure));
        for confidence in [0.29, 0.61, f32::NAN] {
            assert_eq!(wanted(&settings(Auto::Unsure), Seen { confidence, ..seen }, 0.0), None);
        }
        assert_eq!(wanted(&settings(Auto::Random), seen, 0.24), Some(Reason::Random));
        assert_eq!(wanted(&settings(Auto::Random), seen, 0.25), None);
    }

    proptest! {
        #[test]
        fn off_wants_nothing_and_a_band_only_what_is_in_it(confidence in 0f32..1.0, label in 0usize..9, coarse_label in 0usize..9, draw in 0f64..1.0) {
            let seen = Seen { stage: Stage::Fine, label, confidence, coarse_label };
            prop_assert_eq!(wanted(&settings(Auto::Off), seen, draw), None);
            prop_assert_eq!(wanted(&settings(Auto::Unsure), seen, draw).is_some(), (0.3..=0.6).contains(&f64::from(confidence)));
            prop_assert_eq!(wanted(&settings(Auto::Disagree), seen, draw).is_some(), label != coarse_label);
            prop_assert_eq!(wanted(&settings(Auto::Random), seen, draw).is_some(), draw < 0.25);
        }
    }
}
