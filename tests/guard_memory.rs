//! What sees every decision, in the decision thread, allocates nothing: the guard, audits included, and what feeds the outputs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cfvit::calibrate::cost::Unit;
use cfvit::calibrate::{Budget, Keys};
use cfvit::cascade::Cascade;
use cfvit::engine::Engine;
use cfvit::error::Result;
use cfvit::frame::{Choice, CoarseOutput, Frame, Inputs, Picture, Timing};
use cfvit::guard::{self, Camera, Settings};
use cfvit::model::{Family, Geometry};
use cfvit::operator::{Board, Facts, Feed, Lines};
use cfvit::pipeline::{CameraId, Decision, Observer};
use cfvit::power::{Meter, Reading};
use cfvit::smoothing::Smooth;

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: both calls go on to the system's allocator unchanged; the counter is a plain cell of the thread, made without allocating.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Two classes, always the same answers.
struct Puppet(Geometry);

impl Engine for Puppet {
    fn geometry(&self) -> &Geometry {
        &self.0
    }

    fn coarse(&mut self, image: &[f32], output: &mut CoarseOutput) -> Result<()> {
        output.logits.clear();
        output.logits.extend([image[0], 0.0]);
        output.class_attention.clear();
        output.class_attention.resize(self.0.cells(), 0.5);
        Ok(())
    }

    fn fine(&mut self, _: &[f32], _: &Choice, logits: &mut Vec<f32>) -> Result<()> {
        logits.clear();
        logits.extend([1.0, 0.0]);
        Ok(())
    }

    fn full(&mut self, _: &[f32], _: &mut Vec<f32>) -> Result<()> {
        Ok(())
    }

    fn describe(&self) -> String {
        "puppet".into()
    }
}

/// Always draws 5 W.
struct Steady;

impl Meter for Steady {
    fn read(&mut self) -> Result<Reading> {
        Ok(Reading::PowerMw(5000.0))
    }

    fn describe(&self) -> String {
        "steady".into()
    }
}

#[test]
fn the_decision_thread_allocates_nothing_for_audits_budget_and_outputs() {
    observe(Budget { unit: Unit::Ms, limit: 6.0 }, None);
    observe(Budget { unit: Unit::Mj, limit: 30.0 }, Some(Box::new(Steady)));
}

fn observe(budget: Budget, meter: Option<Box<dyn Meter>>) {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings {
        slot: Duration::from_millis(20),
        folder: Some(folder.path().to_owned()),
        auto: false,
        budget: Some(budget),
        budget_first: false,
        seed: 1,
    };
    let keys = Keys {
        engine: "puppet".into(),
        engine_sha256: "e".into(),
        preprocess_sha256: "p".into(),
        power_mode: "none".into(),
    };
    let camera = Camera { name: "door".into(), promise: None, threshold: 0.6 };
    let (mut guard, keeper) = guard::start(&settings, vec![camera], &keys, 2, meter).unwrap();
    let board = Arc::new(Board::new(Facts { labels: vec!["a".into(), "b".into()], ..Facts::default() }));
    let (lines, _subscribe) = Lines::new(Arc::clone(&board));
    let mut outputs: Vec<Box<dyn Observer>> = vec![Box::new(lines), Box::new(Feed::new(Arc::clone(&board)))];
    #[cfg(feature = "webhook")]
    let _webhook = {
        // Nobody is there: the first label waits, and no other comes.
        let url = Some("http://127.0.0.1:1/".to_owned());
        let settings = cfvit::config::WebhookSettings { url, secret_file: None };
        let (stopper, stopping) = cfvit::operator::host::stop();
        let (task, labels) = cfvit::operator::webhook::start(&board, &settings, stopping).unwrap().unwrap();
        outputs.push(labels);
        cfvit::operator::host::Host::start(Arc::clone(&board), stopper, vec![task])
    };
    let family = Family::Deit;
    let geometry = Geometry { family, grid: 2, patch: 2, width: 4, depth: 2, heads: 1, hidden: 4, classes: 2, stem: 0 };
    let mut cascade = Cascade::new(Box::new(Puppet(geometry)), 0.6);
    let mut inputs = Inputs { coarse: vec![0.0], fine: vec![0.0] };
    let start = Instant::now();
    let mut frame = Frame { seq: 0, name: String::new(), captured: start, picture: Picture::default() };
    let mut decide = |i: u64| {
        inputs.coarse[0] = (i % 40) as f32 / 10.0;
        let threshold = guard.threshold("door", 0.6);
        cascade.set_threshold(threshold);
        cascade.decide(&inputs).unwrap();
        frame.captured = start + Duration::from_millis(10 * i);
        let decision = Decision {
            camera: CameraId::default(),
            camera_name: "door",
            source: "door",
            frame: &frame,
            inputs: &inputs,
            threshold,
            degraded: false,
            smooth: Smooth { label: 0, confidence: 0.5 },
            latency: Duration::ZERO,
            timing: Timing { coarse_ms: 4.0, fine_ms: 4.0, ..Timing::default() },
        };
        let before = ALLOCATIONS.with(Cell::get);
        guard.decided(&decision, &mut cascade);
        outputs.iter_mut().for_each(|output| output.decided(&decision, &mut cascade));
        ALLOCATIONS.with(Cell::get) - before
    };
    // Buffers get their size at their first use.
    let warm: u64 = (0..200).map(&mut decide).sum();
    if budget.unit == Unit::Mj {
        // Until a first mean power is known.
        std::thread::sleep(Duration::from_millis(2500));
    }
    let steady: u64 = (200..4000).map(&mut decide).sum();
    assert_eq!(steady, 0, "in 3800 frames, 1900 slots; {warm} in the first 200");
    assert_ne!(guard.threshold("door", 0.6), 0.6, "the budget was steered");
    drop(guard);
    keeper.finish(None);
    let audit = cfvit::calibrate::audit::read(&folder.path().join("audit-door.log")).unwrap();
    // The frames come faster than any camera's: the queue's 256 are kept, what the thread does not take in time is dropped and counted.
    assert!(audit.records.len() >= 256, "{}", audit.records.len());
}
