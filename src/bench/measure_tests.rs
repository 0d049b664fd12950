//! The series and the energy blocks on an engine that computes nothing.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::bench::energy::{self, Blocks};
use crate::bench::synthetic;
use crate::engine::Engine;
use crate::frame::{Choice, CoarseOutput};
use crate::model::{Family, Geometry};
use crate::power::{Meter, Reading};

/// Which passes ran: `c`oarse, `f`ine, `s`tatic.
type Log = Arc<Mutex<String>>;

/// Answers every second coarse pass surely.
struct Puppet {
    log: Log,
    passes: usize,
    broken: bool,
}

const GEOMETRY: Geometry =
    Geometry { family: Family::Deit, grid: 2, patch: 4, width: 8, depth: 4, heads: 2, hidden: 16, classes: 2, stem: 0 };

impl Engine for Puppet {
    fn geometry(&self) -> &Geometry {
        &GEOMETRY
    }

    fn coarse(&mut self, image: &[f32], output: &mut CoarseOutput) -> Result<()> {
        assert_eq!(image.len(), 3 * 8 * 8);
        self.log.lock().unwrap().push('c');
        self.passes += 1;
        let sure = self.passes.is_multiple_of(2);
        output.logits.clear();
        output.logits.extend(if self.broken { [f32::NAN; 2] } else { [0.0, if sure { 9.0 } else { 0.1 }] });
        output.class_attention.clear();
        output.class_attention.resize(4, 0.25);
        Ok(())
    }

    fn fine(&mut self, image: &[f32], choice: &Choice, logits: &mut Vec<f32>) -> Result<()> {
        assert_eq!((image.len(), choice.informative.len()), (3 * 16 * 16, 2));
        self.log.lock().unwrap().push('f');
        logits.clear();
        logits.extend([1.0, 0.0]);
        Ok(())
    }

    fn full(&mut self, image: &[f32], logits: &mut Vec<f32>) -> Result<()> {
        assert_eq!(image.len(), 3 * 16 * 16);
        self.log.lock().unwrap().push('s');
        logits.clear();
        logits.extend([1.0, 0.0]);
        Ok(())
    }

    fn describe(&self) -> String {
        "puppet".to_owned()
    }
}

fn runner(broken: bool) -> (Runner, Log) {
    let log = Log::default();
    let puppet = Puppet { log: Arc::clone(&log), passes: 0, broken };
    (Runner::new(Cascade::new(Box::new(puppet), 0.9), Preprocess::new(&GEOMETRY, 0.9).unwrap()), log)
}

fn plan(min_runs: usize) -> Plan {
    Plan { seconds: 0.0, min_runs, warmup_s: 0.0, paced_fps: None, seed: 3 }
}

#[test]
fn each_baseline_runs_its_passes_and_no_others() {
    let (mut runner, log) = runner(false);
    let picture = &synthetic::pictures(1, 1)[0];
    let mut passes = |baseline| {
        log.lock().unwrap().clear();
        let time = runner.frame(baseline, picture).unwrap();
        assert!(time.total_ms >= time.timing.total_ms() + time.full_ms - 1e-6, "{time:?}");
        assert_eq!(time.full_ms > 0.0, baseline == Baseline::Static);
        log.lock().unwrap().clone()
    };
    assert_eq!(passes(Baseline::Static), "s");
    assert_eq!(passes(Baseline::CoarseOnly), "c", "not sure, and final all the same");
    assert_eq!(passes(Baseline::FineAlways), "cf", "sure, and refined all the same");
    assert_eq!(passes(Baseline::Adaptive), "cf", "the third coarse pass is not sure");
    assert_eq!(passes(Baseline::Adaptive), "c", "the fourth is");
}

#[test]
fn a_series_has_every_baseline_in_every_round() {
    let (mut runner, log) = runner(false);
    let pictures = synthetic::pictures(3, 1);
    let (series, expected) = Series::warmed_up(&mut runner, &pictures, &plan(25)).unwrap();
    assert!(expected >= 25);
    log.lock().unwrap().clear();
    let samples = series.run(expected, &plan(25), &mut |_| ()).unwrap();
    assert_eq!(samples.rounds(), 25);
    assert!(samples.frames.iter().all(|times| times.len() == 25));
    assert_eq!((samples.steps.len(), samples.full.len()), (25, 25));
    let log = log.lock().unwrap();
    let count = |pass| log.chars().filter(|&c| c == pass).count();
    assert_eq!((count('s'), count('c')), (25, 75));
    assert_eq!(count('f'), 25 + samples.fine, "fine always, and the adaptive ones");
    assert!(samples.fine > 0 && samples.fine < 25);
    assert!((samples.fine_share() - samples.fine as f64 / 25.0).abs() < 1e-12);
}

#[test]
fn a_series_lasts_as_long_as_asked_and_paced_frames_wait() {
    let (mut runner, _) = runner(false);
    let pictures = synthetic::pictures(1, 1);
    let paced = Plan { seconds: 0.2, paced_fps: Some(100.0), ..plan(2) };
    let (series, expected) = Series::warmed_up(&mut runner, &pictures, &paced).unwrap();
    let start = Instant::now();
    let samples = series.run(expected, &paced, &mut |_| ()).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
    // Four frames a round, 10 ms apart: a schedule that did not wait would run thousands.
    assert!(samples.rounds() <= 1 + start.elapsed().as_millis() as usize / 40 + 1, "{}", samples.rounds());
}

#[test]
fn a_model_without_a_confidence_and_no_pictures_are_errors() {
    let (mut broken, _) = runner(true);
    let error = broken.frame(Baseline::CoarseOnly, &synthetic::pictures(1, 1)[0]).unwrap_err();
    assert!(error.to_string().contains("not a number"), "{error}");
    assert!(Series::warmed_up(&mut runner(false).0, &[], &plan(2)).is_err());
}

/// Draws 2 W, or fails.
struct Steady(bool);

impl Meter for Steady {
    fn read(&mut self) -> Result<Reading> {
        if self.0 { Ok(Reading::PowerMw(2000.0)) } else { Err(Error::new(Kind::Io, "no reading")) }
    }

    fn describe(&self) -> String {
        "steady".to_owned()
    }
}

#[test]
fn energy_is_measured_in_blocks_of_each_baseline_or_not_at_all() {
    let (mut runner, _) = runner(false);
    let pictures = synthetic::pictures(2, 1);
    let blocks = Blocks { count: 2, duration: Duration::from_millis(250), seed: 1 };
    let energy = energy::measure(&mut runner, &pictures, Box::new(Steady(true)), blocks).unwrap().unwrap();
    for draw in [energy.r#static, energy.coarse_only, energy.fine_always, energy.adaptive] {
        assert!((draw.mean_mw - 2000.0).abs() < 1e-6 && draw.mj_per_frame > 0.0, "{draw:?}");
    }
    assert_eq!((energy.blocks, energy.meter.as_str()), (2, "steady"));
    let saving = energy.saving.unwrap().per_frame;
    assert!((saving.mean - (energy.r#static.mj_per_frame - energy.adaptive.mj_per_frame)).abs() < 1e-9);
    let short = Blocks { count: 1, duration: Duration::from_millis(10), seed: 1 };
    assert_eq!(energy::measure(&mut runner, &pictures, Box::new(Steady(false)), short).unwrap(), None);
}
