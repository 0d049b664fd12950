//! The pipeline with a made-up source and engine: the counters, the policies and every way to end.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;
use crate::capture::Damage;
use crate::engine::Engine;
use crate::error::{Error, Kind};
use crate::frame::{Choice, CoarseOutput, Frame};
use crate::model::{Family, Geometry};
use crate::power::Reading;

/// What happens to one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fate {
    /// The coarse stage is sure.
    Coarse,
    /// The fine stage is asked.
    Fine,
    /// The picture is damaged.
    Damaged,
    /// The source has nothing to give.
    Idle,
    /// The picture cannot be preprocessed.
    Unfit,
    /// The engine fails.
    EngineError,
    /// The engine's device fails.
    DeviceError,
    /// The engine panics.
    EnginePanic,
    /// The source fails for good.
    SourceError,
    /// The source panics.
    SourcePanic,
    /// Somebody asks for a stop while the source is at work.
    Stop,
    /// The source never comes back.
    Stuck,
}

/// Plays fates; each frame's picture tells its fate.
pub(super) struct Script {
    fates: Vec<Fate>,
    next: usize,
    pace: Pace,
    stop: Stop,
    ended: Arc<AtomicBool>,
    buffers: Arc<Mutex<HashSet<usize>>>,
}

impl Source for Script {
    fn next(&mut self, frame: &mut Frame, _: &Wait<'_>) -> Result<Event> {
        let Some(&fate) = self.fates.get(self.next) else {
            self.ended.store(true, Ordering::SeqCst);
            return Ok(Event::End);
        };
        self.next += 1;
        frame.picture.rgb.clear();
        frame.picture.rgb.reserve_exact(3);
        self.buffers.lock().unwrap().insert(frame.picture.rgb.as_ptr() as usize);
        frame.picture.rgb.push(match fate {
            Fate::Damaged => return Ok(Event::Failed(Damage::Corrupt)),
            Fate::Idle => return Ok(Event::Idle),
            Fate::SourceError => return Err(Error::new(Kind::Source, "the lens fell off")),
            Fate::SourcePanic => panic!("source panic, as planned"),
            Fate::Stuck => loop {
                std::thread::park();
            },
            Fate::Stop => {
                self.stop.request();
                Fate::Coarse as u8
            }
            answered => answered as u8,
        });
        frame.name.clear();
        frame.captured = Instant::now();
        Ok(Event::Frame)
    }

    fn pace(&self) -> Pace {
        self.pace
    }

    fn describe(&self) -> String {
        "a script".to_owned()
    }

    fn name(&self) -> &str {
        "script"
    }
}

/// Answers as the input says. Waits before the first frame until the source has ended, if it is told to.
struct Puppet {
    geometry: Geometry,
    after_source: Option<Arc<AtomicBool>>,
}

impl Engine for Puppet {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn coarse(&mut self, image: &[f32], output: &mut CoarseOutput) -> Result<()> {
        if let Some(ended) = self.after_source.take() {
            while !ended.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        }
        let is = |fate: Fate| image[0] == f32::from(fate as u8);
        if is(Fate::EngineError) {
            return Err(Error::new(Kind::Engine, "out of magic"));
        }
        if is(Fate::DeviceError) {
            return Err(Error::new(Kind::Device, "off the bus"));
        }
        assert!(!is(Fate::EnginePanic), "engine panic, as planned");
        output.logits.clear();
        output.logits.extend_from_slice(if is(Fate::Fine) { &[0.0, 0.1] } else { &[0.0, 9.0] });
        output.class_attention.clear();
        output.class_attention.extend((0..4).map(|cell| cell as f32));
        Ok(())
    }

    fn fine(&mut self, _: &[f32], _: &Choice, logits: &mut Vec<f32>) -> Result<()> {
        logits.clear();
        logits.extend_from_slice(&[5.0, 0.0]);
        Ok(())
    }

    fn full(&mut self, _: &[f32], _: &mut Vec<f32>) -> Result<()> {
        unreachable!("the pipeline does not ask for it")
    }

    fn describe(&self) -> String {
        "puppet".to_owned()
    }
}

/// A run of `fates` and its strings.
struct Play {
    pipeline: Pipeline,
    stop: Stop,
    ended: Arc<AtomicBool>,
    buffers: Arc<Mutex<HashSet<usize>>>,
}

fn play(fates: &[Fate], pace: Pace) -> Play {
    let (stop, ended, buffers) = (Stop::new(), Arc::<AtomicBool>::default(), Arc::<Mutex<HashSet<usize>>>::default());
    let source = Script {
        fates: fates.to_vec(),
        next: 0,
        pace,
        stop: stop.clone(),
        ended: Arc::clone(&ended),
        buffers: Arc::clone(&buffers),
    };
    let pipeline = Pipeline {
        cameras: vec![camera("cam", source)],
        cascade: cascade(None),
        at_once: 1,
        labels: vec!["cat".to_owned(), "dog".to_owned()],
        meter: None,
        idle: None,
        machine: None,
        records: None,
        frames: None,
        report_interval: Duration::from_millis(1),
        observers: Vec::new(),
        control: None,
    };
    Play { pipeline, stop, ended, buffers }
}

/// A camera without smoothing, at a threshold between sure and unsure.
pub(super) fn camera(name: &str, source: impl Source + 'static) -> Camera {
    Camera {
        name: name.to_owned(),
        source: Box::new(source),
        prepare: Box::new(|picture, inputs, _| {
            if picture.rgb[0] == Fate::Unfit as u8 {
                return Err(Error::new(Kind::Image, "too thin"));
            }
            inputs.coarse.clear();
            inputs.coarse.push(f32::from(picture.rgb[0]));
            Ok(())
        }),
        tuning: Tuning { threshold: 0.9, smoothing: Smoothing::OFF },
    }
}

pub(super) fn cascade(after_source: Option<Arc<AtomicBool>>) -> Cascade {
    let geometry = Geometry {
        family: Family::Deit,
        grid: 2,
        patch: 1,
        width: 1,
        depth: 1,
        heads: 1,
        hidden: 1,
        classes: 2,
        stem: 0,
    };
    Cascade::new(Box::new(Puppet { geometry, after_source }), 0.9)
}

impl Play {
    /// Runs while another thread takes snapshots of the counters: every one of them must add up.
    fn run(self) -> Outcome {
        let (done, ends) = unbounded();
        let (slots, over) = (Arc::new(Slots::new()), Arc::new(AtomicBool::new(false)));
        let (watched, watching) = (Arc::clone(&slots), Arc::clone(&over));
        let watcher = std::thread::spawn(move || {
            let mut snapshots = 0u64;
            while !watching.load(Ordering::SeqCst) {
                let tally = watched.tally();
                assert!(tally.adds_up(), "{tally:?}");
                snapshots += 1;
            }
            snapshots
        });
        let outcome = self.pipeline.start(&slots, &self.stop, done).unwrap().run(&ends, &mut ());
        assert!(slots.tally().adds_up());
        assert_eq!(slots.tally(), outcome.summary.whole.tally);
        over.store(true, Ordering::SeqCst);
        watcher.join().unwrap();
        outcome
    }
}

fn count(fates: &[Fate], wanted: &[Fate]) -> u64 {
    fates.iter().filter(|fate| wanted.contains(fate)).count() as u64
}

#[test]
fn a_pulled_source_is_decided_completely() {
    let mut fates = [Fate::Coarse, Fate::Fine, Fate::Damaged, Fate::Idle, Fate::Unfit, Fate::EngineError].repeat(50);
    fates.push(Fate::Coarse);
    let play = play(&fates, Pace::Pull);
    let buffers = Arc::clone(&play.buffers);
    let outcome = play.run();
    outcome.result.unwrap();
    let whole = outcome.summary.whole;
    assert_eq!((whole.tally.captured, whole.tally.decided, whole.tally.fine), (251, 101, 50));
    assert_eq!((whole.tally.failed, whole.tally.dropped, whole.tally.in_flight), (150, 0, 0));
    assert_eq!(whole.latency.unwrap().count, 101);
    // One is filled, one waits, one is being decided.
    assert!(buffers.lock().unwrap().len() <= 3, "picture buffers must go round");
}

#[test]
fn a_live_source_drops_what_the_engine_has_no_time_for() {
    let mut play = play(&[Fate::Coarse; 500], Pace::Live);
    play.pipeline.cascade = cascade(Some(Arc::clone(&play.ended)));
    let outcome = play.run();
    outcome.result.unwrap();
    let tally = outcome.summary.whole.tally;
    // The first frame that was taken, and the newest, unless they are the same.
    assert!((1..=2).contains(&tally.decided), "{tally:?}");
    assert_eq!((tally.captured, tally.dropped, tally.in_flight), (500, 500 - tally.decided, 0));
}

#[test]
fn the_run_stops_after_the_frames_asked_for() {
    let mut play = play(&[Fate::Fine; 100], Pace::Pull);
    play.pipeline.frames = Some(7);
    let outcome = play.run();
    outcome.result.unwrap();
    let tally = outcome.summary.whole.tally;
    assert_eq!((tally.decided, tally.fine, tally.dropped), (7, 7, 0));
    assert!(tally.captured <= 9, "no more than can be in flight: {tally:?}");
}

#[test]
fn an_engine_may_fail_now_and_then_but_not_for_ever() {
    let failures = MAX_ENGINE_FAILURES as usize;
    let mut fates = [vec![Fate::EngineError; failures - 1], vec![Fate::Coarse]].concat().repeat(3);
    play(&fates, Pace::Pull).run().result.unwrap();
    fates.extend(vec![Fate::EngineError; failures]);
    fates.extend([Fate::Coarse; 20]);
    let outcome = play(&fates, Pace::Pull).run();
    let error = outcome.result.unwrap_err();
    assert_eq!(error.kind(), Kind::Engine);
    assert!(error.to_string().contains("10 frames in a row: out of magic"), "{error}");
    assert_eq!(outcome.summary.whole.tally.decided, 3);
}

#[test]
fn a_device_that_fails_ends_the_run_at_once() {
    let outcome = play(&[Fate::Coarse, Fate::DeviceError, Fate::Coarse], Pace::Pull).run();
    let error = outcome.result.unwrap_err();
    assert!(error.kind() == Kind::Device && error.to_string().ends_with("off the bus"), "{error}");
    assert_eq!(outcome.summary.whole.tally.decided, 1);
}

#[test]
fn panics_and_source_errors_end_the_run_with_their_message() {
    for (fate, kind, says) in [
        (Fate::EnginePanic, Kind::Engine, "the decide thread panicked: engine panic, as planned"),
        (Fate::SourcePanic, Kind::Engine, "the capture thread panicked: source panic, as planned"),
        (Fate::SourceError, Kind::Source, "the lens fell off"),
    ] {
        let outcome = play(&[Fate::Coarse, Fate::Coarse, fate, Fate::Coarse], Pace::Pull).run();
        let error = outcome.result.unwrap_err();
        assert!(error.kind() == kind && error.to_string() == says, "{error}");
        assert_eq!(outcome.summary.whole.tally.decided, 2);
    }
}

#[test]
fn a_stop_is_no_failure_even_before_the_first_decision() {
    let outcome = play(&[Fate::Stop, Fate::Coarse], Pace::Live).run();
    outcome.result.unwrap();
    let play = play(&[Fate::Coarse; 100], Pace::Live);
    play.stop.request();
    let outcome = play.run();
    outcome.result.unwrap();
    assert_eq!(outcome.summary.whole.tally.decided, 0);
}

#[test]
fn a_run_without_any_decision_is_a_failure() {
    let error = play(&[Fate::Damaged, Fate::Unfit], Pace::Pull).run().result.unwrap_err();
    assert!(error.kind() == Kind::Source && error.to_string().contains("a script"), "{error}");
}

#[test]
fn a_stuck_source_and_a_stuck_meter_are_left_behind() {
    struct Stuck;
    impl Meter for Stuck {
        fn read(&mut self) -> Result<Reading> {
            loop {
                std::thread::park();
            }
        }
        fn describe(&self) -> String {
            "stuck".to_owned()
        }
    }
    let mut play = play(&[Fate::Coarse, Fate::Coarse, Fate::Stuck], Pace::Pull);
    play.pipeline.meter = Some(Box::new(Stuck));
    play.pipeline.frames = Some(2);
    let outcome = play.run();
    outcome.result.unwrap();
    assert_eq!(outcome.summary.whole.tally.decided, 2);
    assert_eq!(outcome.summary.whole.energy, None);
}

#[test]
fn there_is_a_record_per_decision() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.jsonl");
    let fates = [Fate::Fine, Fate::Coarse, Fate::Damaged, Fate::EngineError, Fate::Coarse].repeat(200);
    let mut play = play(&fates, Pace::Pull);
    play.pipeline.records = Some((Target::File(path.clone()), None));
    let outcome = play.run();
    outcome.result.unwrap();
    let records: Vec<serde_json::Value> =
        std::fs::read_to_string(&path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 600);
    assert_eq!(outcome.summary.records.unwrap().1, crate::report::RecordsCount { written: 600, dropped: 0 });
    let seqs: Vec<u64> = records.iter().take(4).map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [0, 1, 4, 5]);
    let (fine, coarse) = (&records[0], &records[1]);
    assert_eq!((&fine["exit"], &fine["label"], &fine["name"]), (&"fine".into(), &0.into(), &"cat".into()));
    assert_eq!((&coarse["exit"], &coarse["label"], &coarse["name"]), (&"coarse".into(), &1.into(), &"dog".into()));
    assert_eq!(coarse["confidence"], coarse["coarse_confidence"]);
    assert!(fine["coarse_confidence"].as_f64().unwrap() < 0.9 && fine["confidence"].as_f64().unwrap() > 0.9);
    assert!(fine["latency_ms"].as_f64().unwrap() >= fine["timing_ms"]["total"].as_f64().unwrap() - 0.01);
}

#[test]
fn a_disk_that_is_full_costs_records_not_frames() {
    let mut play = play(&[Fate::Coarse; 300], Pace::Pull);
    play.pipeline.records = Some((Target::File("/dev/full".into()), None));
    let outcome = play.run();
    outcome.result.unwrap();
    assert_eq!(outcome.summary.whole.tally.decided, 300);
    assert_eq!(outcome.summary.records.unwrap().1, crate::report::RecordsCount { written: 0, dropped: 300 });
}

#[test]
fn a_reader_that_stands_still_holds_pulled_frames_back_but_not_the_stop() {
    use std::os::fd::AsRawFd;
    let (reader, writer) = std::io::pipe().unwrap();
    // Their records are several times what the pipe and the queue hold together.
    let mut play = play(&[Fate::Coarse; 20_000], Pace::Pull);
    let target = Target::File(format!("/proc/self/fd/{}", writer.as_raw_fd()).into());
    play.pipeline.records = Some((target, None));
    let stop = play.stop.clone();
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        stop.request();
    });
    let outcome = play.run();
    outcome.result.unwrap();
    let (decided, records) = (outcome.summary.whole.tally.decided, outcome.summary.records.unwrap().1);
    assert!(decided < 20_000, "the frames waited");
    assert_eq!(records.written + records.dropped, decided);
    later.join().unwrap();
    drop(reader);
}

#[test]
fn records_that_cannot_begin_stop_the_run_before_its_first_frame() {
    let mut play = play(&[Fate::Coarse], Pace::Pull);
    play.pipeline.records = Some((Target::File("/nowhere/out.jsonl".into()), None));
    assert_eq!(play.pipeline.run(&play.stop, &mut ()).unwrap_err().kind(), Kind::Io);
    assert!(!play.ended.load(Ordering::SeqCst));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_happens_every_frame_is_accounted_for(
        fates in prop::collection::vec(prop_oneof![
            20 => Just(Fate::Coarse), 10 => Just(Fate::Fine), 3 => Just(Fate::Damaged), 2 => Just(Fate::Idle),
            3 => Just(Fate::Unfit), 5 => Just(Fate::EngineError), 1 => Just(Fate::SourceError), 1 => Just(Fate::Stop),
        ], 1..120),
        live in any::<bool>(),
        frames in prop::option::of(1u64..50),
    ) {
        let mut play = play(&fates, if live { Pace::Live } else { Pace::Pull });
        play.pipeline.frames = frames;
        let outcome = play.run();
        let whole = outcome.summary.whole;
        prop_assert!(whole.tally.adds_up(), "{:?}", whole);
        prop_assert!(whole.tally.decided <= frames.unwrap_or(u64::MAX));
        prop_assert_eq!(whole.latency.map_or(0, |latency| latency.count), whole.tally.decided);
        if !live {
            prop_assert_eq!(whole.tally.dropped, 0);
        }
        let undisturbed = count(&fates, &[Fate::SourceError, Fate::Stop]) == 0 && frames.is_none() && outcome.result.is_ok();
        if undisturbed {
            prop_assert_eq!(whole.tally.captured, fates.len() as u64 - count(&fates, &[Fate::Idle]));
            prop_assert_eq!(whole.tally.in_flight, 0);
        }
        if undisturbed && !live {
            prop_assert_eq!(whole.tally.decided, count(&fates, &[Fate::Coarse, Fate::Fine]));
            prop_assert_eq!(whole.tally.fine, count(&fates, &[Fate::Fine]));
        }
    }
}
