use std::time::{Instant, SystemTime};

use super::*;
use crate::calibrate::cost::Unit;
use crate::calibrate::{ALWAYS_REFINE, audit};
use crate::cascade::Cascade;
use crate::engine::Engine;
use crate::frame::{Choice, CoarseOutput, Frame, Inputs, Picture, Timing};
use crate::model::package::certificate_sample;
use crate::model::{Family, Geometry};
use crate::pipeline::{CameraId, Decision, Observer};
use crate::smoothing::Smooth;

#[path = "replay_tests.rs"]
mod replay;

/// Answers as the image says: its first value is the coarse class, its second the fine one, its third the lead of the coarse logits.
struct Puppet {
    geometry: Geometry,
    fine_passes: u32,
}

impl Engine for Puppet {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn coarse(&mut self, image: &[f32], output: &mut CoarseOutput) -> Result<()> {
        output.logits.clear();
        output.logits.resize(self.geometry.classes, 0.0);
        output.logits[image[0] as usize] = image[2];
        output.class_attention.clear();
        output.class_attention.resize(self.geometry.cells(), 0.0);
        Ok(())
    }

    fn fine(&mut self, image: &[f32], _: &Choice, logits: &mut Vec<f32>) -> Result<()> {
        self.fine_passes += 1;
        logits.clear();
        logits.resize(self.geometry.classes, 0.0);
        logits[image[1] as usize] = 9.0;
        Ok(())
    }

    fn full(&mut self, _: &[f32], _: &mut Vec<f32>) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        "puppet".into()
    }
}

/// A run on a simulated time: every frame comes a tenth of a slot after the one before.
struct Run {
    guard: Guard,
    cascade: Cascade,
    inputs: Inputs,
    frame: Frame,
    now: Instant,
    step: Duration,
    fine: u64,
    /// η as the configuration says it.
    configured: f32,
}

impl Run {
    fn new(guard: Guard, slot: Duration, classes: usize) -> Self {
        let family = Family::Deit;
        let geometry =
            Geometry { family, grid: 2, patch: 2, width: 4, depth: 2, heads: 1, hidden: 4, classes, stem: 0 };
        let cascade = Cascade::new(Box::new(Puppet { geometry, fine_passes: 0 }), 0.5);
        let frame = Frame { seq: 0, name: String::new(), captured: Instant::now(), picture: Picture::default() };
        let (inputs, step) = (Inputs::default(), slot / 10);
        Self { guard, cascade, inputs, frame, now: Instant::now(), step, fine: 0, configured: 0.6 }
    }

    /// Decides a frame of the camera `door`, on which the stages answer `coarse` and `fine`, with this lead of the coarse logits.
    fn decide(&mut self, coarse: usize, fine: usize, lead: f32) {
        let image = vec![coarse as f32, fine as f32, lead];
        (self.inputs.coarse, self.inputs.fine) = (image.clone(), image);
        let threshold = self.guard.threshold("door", self.configured);
        self.cascade.set_threshold(threshold);
        let degraded = self.guard.degraded("door");
        assert_eq!(degraded, threshold == ALWAYS_REFINE, "the state is told as long as every frame is refined for it");
        let stage = self.cascade.decide(&self.inputs).unwrap().stage;
        self.fine += u64::from(stage == crate::frame::Stage::Fine);
        self.now += self.step;
        self.frame.captured = self.now;
        let fine_ms = if stage == crate::frame::Stage::Fine { 20.0 } else { 0.0 };
        let decision = Decision {
            camera: CameraId::default(),
            camera_name: "door",
            source: "door",
            frame: &self.frame,
            inputs: &self.inputs,
            threshold,
            degraded,
            smooth: Smooth { label: 0, confidence: 0.0 },
            latency: Duration::ZERO,
            timing: Timing { coarse_ms: 4.0, fine_ms, ..Timing::default() },
        };
        self.guard.decided(&decision, &mut self.cascade);
    }
}

fn keys() -> Keys {
    let certificate = certificate_sample();
    Keys {
        engine: certificate.engine,
        engine_sha256: certificate.engine_sha256,
        preprocess_sha256: certificate.preprocess_sha256,
        power_mode: certificate.power_mode,
    }
}

fn settings(folder: Option<&std::path::Path>) -> Settings {
    Settings {
        slot: Duration::from_secs(10),
        folder: folder.map(Into::into),
        auto: false,
        budget: None,
        budget_first: false,
        seed: 4,
    }
}

fn camera(promise: Option<Certificate>) -> Camera {
    Camera { name: "door".into(), promise, threshold: 0.6 }
}

fn certificate(drift_limit: f64) -> Certificate {
    Certificate { drift_limit, ..certificate_sample() }
}

fn run(settings: &Settings, promise: Option<Certificate>) -> (Run, Keeper) {
    let (guard, keeper) = start(settings, vec![camera(promise)], &keys(), 2, None).unwrap();
    (Run::new(guard, settings.slot, 2), keeper)
}

#[test]
fn one_frame_per_slot_is_audited_and_kept_whichever_stage_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, keeper) = run(&settings(Some(folder.path())), None);
    let before = SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64;
    for i in 0..1000 {
        // The coarse stage is sure of two of three frames; the stages differ on every fifth.
        run.decide(0, usize::from(i % 5 == 0), if i % 3 == 0 { 0.1 } else { 5.0 });
    }
    assert_eq!(run.guard.promises().is_degraded("door"), None, "nothing was promised");
    let missed = 100 - 1000 / 10;
    drop(run);
    keeper.finish(None);
    let audit = audit::read(&folder.path().join("audit-door.log")).unwrap();
    assert!((90..=101 - missed).contains(&audit.records.len()), "{}", audit.records.len());
    assert_eq!((audit.header.camera.as_str(), audit.header.slot_s, audit.damaged), ("door", 10.0, 0));
    assert!(audit.records.iter().all(|record| record.time_ms >= before && record.coarse == 0));
    let differ = audit.records.iter().filter(|record| record.fine == 1).count();
    let unsure = audit.records.iter().filter(|record| record.confidence < 0.6).count();
    assert!((8..35).contains(&differ) && (18..50).contains(&unsure), "{differ} {unsure}");
}

#[test]
fn drift_refines_every_frame_and_a_restart_does_not_forget_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(Some(folder.path()));
    let (mut first, keeper) = run(&settings, Some(certificate(0.02)));
    for i in 0..20_000 {
        first.decide(0, usize::from(i % 200 == 0), 5.0);
        if i % 500 == 0 {
            // Fifty slots: time passes for the keeper too.
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    assert_eq!(first.fine, 0, "half a percent of other answers is no alarm");
    assert_eq!(first.guard.threshold("door", 0.6), 0.6);
    let promises = first.guard.promises();
    assert_eq!((promises.is_degraded("door"), promises.is_degraded("other")), (Some(false), None));
    assert_eq!(promises.complaint(), None);
    // A third of the answers is another one now.
    let mut frames = 0;
    while first.guard.threshold("door", 0.6) != ALWAYS_REFINE && frames < 5000 {
        first.decide(0, usize::from(frames % 3 == 0), 5.0);
        frames += 1;
    }
    assert!(frames < 1000, "{frames} frames, ten a slot");
    assert_eq!((promises.is_degraded("door"), promises.complaint().as_deref()), (Some(true), Some("degraded: door")));
    // Slots go on, so that an alarm which found the queue full is told again: a busy machine's disk takes its time.
    let state = folder.path().join("audit-door.state");
    let is_told = || std::fs::read_to_string(&state).is_ok_and(|state| state.contains("alarms = 1"));
    let mut more = 0;
    while !is_told() && more < 20_000 {
        first.decide(0, 1, 5.0);
        more += 1;
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(first.fine, more);
    drop(first);
    keeper.finish(None);
    let state = std::fs::read_to_string(state).unwrap();
    assert!(state.contains("alarms = 1") && state.contains("degraded_since_ms"), "{state}");

    let (second, keeper) = run(&settings, Some(certificate(0.02)));
    let mut second = second;
    assert_eq!(second.guard.threshold("door", 0.6), ALWAYS_REFINE, "still degraded");
    assert_eq!(second.guard.promises().is_degraded("door"), Some(true));
    drop(second);
    keeper.finish(None);
    // A new certificate is a new promise.
    let renewed = Certificate { created: "2027-01-01T00:00:00Z".into(), ..certificate(0.02) };
    let (mut third, _keeper) = run(&settings, Some(renewed));
    assert_eq!(third.guard.threshold("door", 0.6), 0.6);
    assert_eq!(third.guard.threshold("other", 0.3), 0.3, "a camera that is not guarded");
}

#[test]
fn where_it_is_allowed_a_new_threshold_is_certified_after_an_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { auto: true, ..settings(Some(folder.path())) };
    let (mut run, keeper) = run(&settings, Some(certificate(0.1)));
    let mut random = crate::bench::schedule::Random(5);
    // From the start the coarse stage is wrong wherever it is only fairly sure, and right where it is very sure.
    let mut frame = |run: &mut Run| match random.below(4) {
        0 => run.decide(0, 1, 1.0),
        _ => run.decide(0, 0, 6.0),
    };
    let mut frames = 0;
    while run.guard.threshold("door", 0.6) != ALWAYS_REFINE && frames < 20_000 {
        frame(&mut run);
        frames += 1;
    }
    assert!(run.guard.threshold("door", 0.6) == ALWAYS_REFINE, "the alarm");
    // The keeper works in its own time: frames go on until it has spoken.
    let deadline = Instant::now() + Duration::from_secs(60);
    while run.guard.threshold("door", 0.6) == ALWAYS_REFINE && Instant::now() < deadline {
        (0..100).for_each(|_| frame(&mut run));
        std::thread::sleep(Duration::from_millis(5));
    }
    let eta = run.guard.threshold("door", 0.6);
    // σ(1) = 0.731, σ(6) = 0.998: above the first, at most at the second.
    assert!(eta > 0.731 && eta < 0.998, "{eta}");
    drop(run);
    keeper.finish(None);
    let (mut again, _keeper) = self::run(&settings, Some(certificate(0.1)));
    assert_eq!(again.guard.threshold("door", 0.6), eta, "kept over a restart");
}

#[test]
fn a_budget_steers_the_threshold_but_never_below_the_certified_one() {
    let budget = Some(Budget { unit: Unit::Ms, limit: 9.0 });
    let share = |settings: Settings, promise| {
        let (mut run, _keeper) = run(&settings, promise);
        run.step = Duration::from_millis(33);
        let mut random = crate::bench::schedule::Random(6);
        let mut frames = |run: &mut Run, count: u32| {
            let before = run.fine;
            // Leads from 0 to 6: confidences from 0.5 to 0.998.
            (0..count).for_each(|_| run.decide(0, 0, 6.0 * (random.next_u64() as f64 / u64::MAX as f64) as f32));
            (run.fine - before) as f64 / f64::from(count)
        };
        frames(&mut run, 800);
        frames(&mut run, 3000)
    };
    // (9 − 4) / 20.
    let free = share(Settings { budget, ..settings(None) }, None);
    assert!((free - 0.25).abs() < 0.03, "{free}");
    // The certificate's η of 0.873 is a lead of 1.93, so 32 % at least.
    let floored = share(Settings { budget, ..settings(None) }, Some(certificate(0.5)));
    assert!((floored - 0.32).abs() < 0.03, "{floored}");
    let first = share(Settings { budget, budget_first: true, ..settings(None) }, Some(certificate(0.5)));
    assert!((first - 0.25).abs() < 0.03, "{first}");
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(Some(&folder.path().join("none")));
    let error = start(&settings, vec![camera(None)], &keys(), 2, None).err().unwrap();
    assert!(error.to_string().contains("audit-door.log"), "{error}");
}

#[test]
fn what_audits_took_is_told_with_their_energy_where_power_was_measured() {
    let counters = Counters::default();
    for (counter, value) in [(&counters.audits, 12), (&counters.passes, 3), (&counters.pass_us, 7000)] {
        Counters::add(counter, value);
    }
    let rest = "), 0 slots without a frame, 0 failed, 0 records lost";
    assert_eq!(counters.text(None), format!("12 audited (3 fine passes, 7 ms{rest}"));
    assert_eq!(counters.text(Some(5000.0)), format!("12 audited (3 fine passes, 7 ms, 35 mJ{rest}"));
}
