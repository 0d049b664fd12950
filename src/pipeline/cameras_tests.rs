//! Several cameras in one run: what one of them does leaves the others alone; what changes while it runs; what observers see.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use super::tests::{Fate, camera, cascade};
use super::*;
use crate::capture::Damage;
use crate::frame::{Frame, Stage};
use crate::report::Reason;
use crate::report::{CameraState, Report};

/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Gives frames of one fate, a thousand a second, until it is told another one or stopped.
struct Endless {
    fate: Arc<AtomicU8>,
    pace: Pace,
}

impl Source for Endless {
    fn next(&mut self, frame: &mut Frame, wait: &Wait<'_>) -> Result<Event> {
        let is = |fate: Fate| self.fate.load(Ordering::SeqCst) == fate as u8;
        if is(Fate::Stuck) {
            loop {
                std::thread::park();
            }
        }
        assert!(!is(Fate::SourcePanic), "source panic, as planned");
        if is(Fate::SourceError) {
            return Err(Error::new(Kind::Source, "the lens fell off"));
        }
        if !wait.until(Instant::now() + Duration::from_millis(1)) || is(Fate::Idle) {
            return Ok(Event::Idle);
        }
        if is(Fate::Damaged) {
            return Ok(Event::Failed(Damage::Corrupt));
        }
        frame.picture.rgb.clear();
        frame.picture.rgb.push(self.fate.load(Ordering::SeqCst));
        frame.name.clear();
        frame.captured = Instant::now();
        Ok(Event::Frame)
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    fn describe(&self) -> String {
        "endless".to_owned()
    }

    fn name(&self) -> &str {
        "endless"
    }
}

pub(super) fn endless(name: &str, fate: Fate) -> (Camera, Arc<AtomicU8>) {
    let told = Arc::new(AtomicU8::new(fate as u8));
    (camera(name, Endless { fate: Arc::clone(&told), pace: Pace::Live }), told)
}

pub(super) fn pipeline(cameras: Vec<Camera>) -> Pipeline {
    Pipeline {
        cameras,
        cascade: cascade(None),
        at_once: 1,
        labels: vec!["cat".to_owned(), "dog".to_owned()],
        meter: None,
        idle: None,
        machine: None,
        records: None,
        frames: None,
        report_interval: Duration::from_millis(5),
        observers: Vec::new(),
        control: None,
    }
}

/// Keeps what it is told, and asks for the end when `enough` holds or time is up.
struct Visitor<F> {
    stop: Stop,
    begun: Instant,
    enough: F,
    reports: Vec<Report>,
    healths: Vec<Health>,
    stopped: bool,
}

impl<F: FnMut(&Report, &Health) -> bool> Visitor<F> {
    fn new(stop: &Stop, enough: F) -> Self {
        let (reports, healths) = Default::default();
        Self { stop: stop.clone(), begun: Instant::now(), enough, reports, healths, stopped: false }
    }
}

impl<F: FnMut(&Report, &Health) -> bool> Attendant for Visitor<F> {
    fn period(&self) -> Option<Duration> {
        Some(Duration::from_millis(5))
    }

    fn tick(&mut self, health: &Health) {
        self.healths.push(health.clone());
    }

    fn reported(&mut self, report: &Report) {
        self.reports.push(report.clone());
        let health = self.healths.last().cloned().unwrap_or_default();
        if (self.enough)(report, &health) || self.begun.elapsed() > PATIENCE {
            self.stop.request();
        }
    }

    fn stopping(&mut self) {
        self.stopped = true;
    }
}

/// Runs until `enough`; fails if that never comes.
pub(super) fn run(pipeline: Pipeline, enough: impl FnMut(&Report, &Health) -> bool) -> Outcome {
    let stop = Stop::new();
    let mut visitor = Visitor::new(&stop, enough);
    let outcome = pipeline.run(&stop, &mut visitor).unwrap();
    assert!(visitor.stopped && visitor.begun.elapsed() < PATIENCE, "it never came");
    for report in &visitor.reports {
        assert!(report.cameras.iter().all(|camera| camera.line.tally.decided <= camera.line.tally.captured + 2));
    }
    assert!(outcome.summary.whole.tally.adds_up());
    assert!(outcome.summary.cameras.iter().all(|(_, line)| line.tally.adds_up()), "{:?}", outcome.summary);
    outcome
}

/// Decisions of the camera called `name` in one window.
fn decided(report: &Report, name: &str) -> u64 {
    report.cameras.iter().find(|camera| camera.name == name).map_or(0, |camera| camera.line.tally.decided)
}

#[test]
fn every_camera_has_its_own_counters_and_they_are_the_run_s_in_sum() {
    let cameras = vec![endless("a", Fate::Coarse).0, endless("b", Fate::Fine).0, endless("c", Fate::Damaged).0];
    let mut seen = [0, 0];
    let outcome = run(pipeline(cameras), |report, _| {
        seen[0] += decided(report, "a");
        seen[1] += decided(report, "b");
        seen.iter().all(|&seen| seen > 20)
    });
    outcome.result.unwrap();
    let lines: HashMap<&str, &crate::report::Line> =
        outcome.summary.cameras.iter().map(|(name, line)| (name.as_str(), line)).collect();
    assert_eq!(lines["a"].tally.fine, 0);
    assert_eq!(lines["b"].tally.fine, lines["b"].tally.decided);
    assert_eq!((lines["c"].tally.decided, lines["c"].tally.failed), (0, lines["c"].tally.captured));
    assert_eq!(lines["c"].tally.lost(Reason::Corrupt), lines["c"].tally.failed);
    let mut sum = crate::report::Tally::default();
    outcome.summary.cameras.iter().for_each(|(_, line)| sum += line.tally);
    assert_eq!(sum, outcome.summary.whole.tally);
    assert_eq!(outcome.summary.whole.latency.unwrap().count, sum.decided);
}

#[test]
fn a_camera_that_fails_panics_or_hangs_leaves_the_others_alone() {
    for fate in [Fate::SourceError, Fate::SourcePanic, Fate::Stuck] {
        let (bad, told) = endless("bad", Fate::Coarse);
        let (mut both, mut after) = (false, 0);
        let (control, controlled) = control();
        let pipeline = pipeline(vec![bad, endless("good", Fate::Coarse).0]);
        let outcome = run(Pipeline { control: Some(controlled), ..pipeline }, |report, health| {
            both |= decided(report, "bad") > 0 && decided(report, "good") > 0;
            if both {
                told.store(fate as u8, Ordering::SeqCst);
                let ended = report.cameras[0].state == CameraState::Ended;
                assert_eq!(control.ended().iter().any(|name| name == "bad"), ended);
                let hangs = health.stalled(Duration::from_millis(100)).is_some_and(|busy| busy.what.contains("bad"));
                after += if ended || hangs { decided(report, "good") } else { 0 };
            }
            after > 10
        });
        match fate {
            Fate::Stuck => outcome.result.unwrap(),
            _ => {
                let error = outcome.result.unwrap_err().to_string();
                assert!(error.starts_with("camera bad: ") && !error.contains("no frame"), "{error}");
            }
        }
    }
}

#[test]
fn a_run_of_which_all_cameras_end_is_over() {
    let (a, told_a) = endless("a", Fate::Coarse);
    let (b, told_b) = endless("b", Fate::Coarse);
    let stop = Stop::new();
    let outcome = pipeline(vec![a, b]).run(
        &stop,
        &mut Visitor::new(&stop, |report, _| {
            if decided(report, "a") > 0 && decided(report, "b") > 0 {
                told_a.store(Fate::SourceError as u8, Ordering::SeqCst);
                told_b.store(Fate::SourceError as u8, Ordering::SeqCst);
            }
            false
        }),
    );
    let error = outcome.unwrap().result.unwrap_err();
    assert!(error.kind() == Kind::Source && error.to_string().ends_with("the lens fell off"), "{error}");
}

#[test]
fn cameras_come_go_and_are_tuned_while_the_others_run() {
    let (control, controlled) = control();
    let pipeline = Pipeline {
        control: Some(controlled),
        ..pipeline(vec![endless("keeps", Fate::Fine).0, endless("goes", Fate::Coarse).0])
    };
    let tuning = Tuning { threshold: 0.0, smoothing: Smoothing::default() };
    let keep = move |name: &str| Member::Keep { name: name.to_owned(), tuning };
    let mut step = 0;
    let outcome = run(pipeline, move |report, _| {
        let names: Vec<&str> = report.cameras.iter().map(|camera| camera.name.as_str()).collect();
        let all_decide = names.iter().all(|name| decided(report, name) > 0);
        let fine = report.cameras[0].line.tally.fine_fraction();
        match step {
            0 if all_decide && fine == Some(1.0) => {
                let cameras = vec![keep("keeps"), Member::Start(endless("comes", Fate::Coarse).0)];
                let (control, interval) = (control.clone(), Duration::from_millis(7));
                // The supervisor is in this callback, so somebody else must ask.
                std::thread::spawn(move || control.apply(Change { cameras, report_interval: interval }).unwrap());
                step = 1;
            }
            1 if all_decide && names == ["keeps", "comes"] => {
                // A threshold of 0 never refines.
                assert!(fine.is_some());
                return fine == Some(0.0);
            }
            _ => {}
        }
        false
    });
    outcome.result.unwrap();
    let names: Vec<&str> = outcome.summary.cameras.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["keeps", "comes"]);
    let mut sum = crate::report::Tally::default();
    outcome.summary.cameras.iter().for_each(|(_, line)| sum += line.tally);
    let whole = outcome.summary.whole;
    assert!(whole.tally.decided > sum.decided, "the frames of the camera that went are part of the run");
    assert_eq!(whole.latency.unwrap().count, whole.tally.decided);
}

#[test]
fn a_change_of_a_run_that_is_over_is_refused() {
    let (control, controlled) = control();
    drop(controlled);
    let change = Change { cameras: Vec::new(), report_interval: Duration::from_secs(1) };
    assert!(control.apply(change).unwrap_err().to_string().contains("nothing was changed"));
}

/// Camera, stage, threshold, and how many logits another fine pass gave.
type Seen = (String, Stage, f32, usize);

/// Raises the threshold of one camera, notes every decision, and runs the fine stage where the coarse one answered.
struct Audit(Arc<Mutex<Vec<Seen>>>);

impl Observer for Audit {
    fn threshold(&mut self, camera: &str, configured: f32) -> f32 {
        if camera == "strict" { 1.5 } else { configured }
    }

    fn decided(&mut self, decision: &Decision<'_>, cascade: &mut Cascade) {
        let stage = cascade.verdict().stage;
        let mut logits = Vec::new();
        let choice = cascade.verdict().choice.clone();
        cascade.refine(decision.inputs, &choice, &mut logits).unwrap();
        let name = decision.camera_name.to_owned();
        self.0.lock().unwrap().push((name, stage, decision.threshold, logits.len()));
    }
}

#[test]
fn observers_see_every_decision_and_may_set_the_threshold_and_use_the_engine() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let mut pipeline = pipeline(vec![endless("strict", Fate::Coarse).0, endless("free", Fate::Coarse).0]);
    pipeline.observers.push(Box::new(Audit(Arc::clone(&seen))));
    let mut windows = [0, 0];
    let outcome = run(pipeline, |report, _| {
        windows[0] += decided(report, "strict");
        windows[1] += decided(report, "free");
        windows.iter().all(|&decided| decided > 5)
    });
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len() as u64, outcome.summary.whole.tally.decided);
    for (name, stage, threshold, logits) in seen.iter() {
        let expected = if name == "strict" { (Stage::Fine, 1.5) } else { (Stage::Coarse, 0.9) };
        assert_eq!(((*stage, *threshold), *logits), (expected, 2), "{name}");
    }
}

#[test]
fn a_camera_without_frames_is_waited_for_and_a_steady_label_outlives_an_odd_frame() {
    let (mut dog, told) = endless("dog", Fate::Coarse);
    dog.tuning.smoothing = Smoothing { factor: 0.999, hysteresis: 0.5 };
    let mut step = 0;
    run(pipeline(vec![dog]), |report, health| {
        let camera = &report.cameras[0];
        let label = camera.label.as_ref().map(|label| label.name.as_str());
        match step {
            0 if label == Some("dog") => {
                told.store(Fate::Fine as u8, Ordering::SeqCst);
                step = 1;
            }
            // The fine stage says cat.
            1 if camera.line.tally.fine > 0 => {
                assert_eq!(label, Some("dog"), "one odd frame after many");
                told.store(Fate::Idle as u8, Ordering::SeqCst);
                step = 2;
            }
            2 => return camera.state == CameraState::Waiting && health.waiting,
            _ => {}
        }
        false
    })
    .result
    .unwrap();
}
