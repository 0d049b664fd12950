//! What both stages of the bundled model said of the Imagenette photographs, and of the same ones blurred and darkened, drawn as a camera would give
//! them: no alarm without a change, and one after it as fast as is published.

use super::*;
use crate::bench::schedule::Random;
use crate::calibrate::{Accuracy, Observation, Prefer, Request, Risk, halves_tests, solve};

const BLURRED: &str = include_str!("../../tests/data/calibration/blurred.csv");
const CLASSES: usize = 10;
const LIMIT: f64 = 0.02;
const SEEDS: u64 = 20;

fn certified(observations: &[Observation]) -> f32 {
    let accuracy = Some(Accuracy { risk: Risk::Disagreement, limit: LIMIT });
    let request = Request { accuracy, budget: None, delta: 0.05, prefer: Prefer::Cheap };
    solve(observations, &request, None).unwrap().eta
}

/// The share of exits to which refining would give another answer.
fn risk(observations: &[Observation], eta: f32) -> f64 {
    observations.iter().filter(|o| o.differs() && o.stops(eta)).count() as f64 / observations.len() as f64
}

/// A camera that shows random ones of `scene`, ten a slot.
struct Camera {
    run: Run,
    random: Random,
    _keeper: Keeper,
}

impl Camera {
    fn new(eta: f32, seed: u64) -> Self {
        let settings = Settings { seed, ..settings(None) };
        let camera = super::Camera { name: "door".into(), promise: Some(certificate(LIMIT)), threshold: eta };
        let (guard, keeper) = start(&settings, vec![camera], &keys(), CLASSES, None).unwrap();
        let run = Run { configured: eta, ..Run::new(guard, settings.slot, CLASSES) };
        Self { run, random: Random(seed), _keeper: keeper }
    }

    /// The slots until the alarm, if it comes within so many.
    fn watch(&mut self, scene: &[Observation], slots: u32) -> Option<u32> {
        for slot in 0..slots {
            for _ in 0..10 {
                let Observation { confidence: c, coarse, fine, .. } = scene[self.random.below(scene.len())];
                // Of ten classes the one with this lead has the probability c.
                let lead = (f64::from(c) * (CLASSES - 1) as f64 / (1.0 - f64::from(c))).ln();
                self.run.decide(coarse, fine, lead as f32);
            }
            if self.run.guard.degraded("door") {
                return Some(slot + 1);
            }
        }
        None
    }
}

#[test]
fn a_blurred_and_darkened_scene_raises_the_alarm_and_none_comes_without_it() {
    let (clear, blurred) = (halves_tests::observations(), halves_tests::parsed(BLURRED));
    let eta = certified(&clear);
    let (before, after) = (risk(&clear, eta), risk(&blurred, eta));
    assert!(before < LIMIT && (1.8..2.4).contains(&(after / LIMIT)), "{before} {after}");
    let mut delays = Vec::new();
    for seed in 0..SEEDS {
        let mut camera = Camera::new(eta, seed);
        // Eight hours at ten seconds a slot.
        assert_eq!(camera.watch(&clear, 3000), None, "seed {seed}: an alarm without a change");
        delays.push(camera.watch(&blurred, 4000).unwrap_or_else(|| panic!("seed {seed}: no alarm")));
        assert_eq!(camera.run.guard.threshold("door", eta), ALWAYS_REFINE);
    }
    delays.sort_unstable();
    let median = delays[delays.len() / 2];
    println!("η = {eta}, risk {:.1} % → {:.1} %, alarm after {delays:?} slots", 100.0 * before, 100.0 * after);
    // 959 audits are published for a doubled risk at a limit of 2 %.
    assert!(f64::from(median) < 1.2 * 959.0 && f64::from(median) > 0.5 * 959.0, "{median}: {delays:?}");
}
