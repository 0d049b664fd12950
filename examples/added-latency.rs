//! What the pipeline adds to the engine's own time, step by step, at 30 frames a second of 640×480 YUYV: the whole pipeline runs on full-size
//! `cf_deit_small` with random weights, and on a source that does what a camera's does once its driver has filled a buffer.
//!
//! `cargo run --release --example added-latency [SECONDS]`
#![allow(clippy::unwrap_used, reason = "a measurement ends when something is wrong")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cfvit::capture::formats::{Colours, Converter, Layout, PixelFormat};
use cfvit::capture::{Event, Pace, Source, Wait};
use cfvit::cascade::Cascade;
use cfvit::clock::Stop;
use cfvit::error::Result;
use cfvit::frame::{Frame, Stage};
use cfvit::model::{self, Family, Geometry};
use cfvit::pipeline::{Camera, Decision, Observer, Pipeline, Tuning};
use cfvit::preprocess::Preprocess;
use cfvit::report::Target;
use cfvit::smoothing::Smoothing;

const SIZE: (usize, usize) = (640, 480);
const FPS: f64 = 30.0;
/// Frames before the first that counts.
const WARM_UP: u64 = 30;
/// The bar.
const MOST_PERCENT: f64 = 10.0;

fn main() {
    let seconds: f64 = std::env::args().nth(1).map_or(20.0, |text| text.parse().unwrap());
    let frames = (seconds * FPS) as u64 + WARM_UP;
    let dir = tempfile::tempdir().unwrap();
    let weights = dir.path().join("deit.safetensors");
    let geometry = Geometry::published(Family::Deit, 7, 1000);
    model::write_random(&weights, &geometry, 1).unwrap();
    let engine = cfvit::engine::open(model::open(Some(&weights), None).unwrap(), None).unwrap();
    println!("{}; {frames} frames at {FPS}/s, threshold 0", engine.describe());

    let (converted, rows) = (Arc::<Mutex<Vec<f64>>>::default(), Arc::<Mutex<Vec<Row>>>::default());
    let mut preprocess = Preprocess::new(&geometry, 0.875).unwrap();
    let camera = Camera {
        name: "lens".to_owned(),
        source: Box::new(Lens::new(Arc::clone(&converted))),
        prepare: Box::new(move |picture, inputs, for_each| preprocess.run_on(picture, inputs, for_each)),
        tuning: Tuning { threshold: 0.0, smoothing: Smoothing { factor: 0.8, hysteresis: 0.15 } },
    };
    let pipeline = Pipeline {
        cameras: vec![camera],
        cascade: Cascade::new(engine, 0.0),
        at_once: 1,
        labels: (0..1000).map(|class| format!("class {class}")).collect(),
        meter: None,
        idle: None,
        machine: None,
        records: Some((Target::File(dir.path().join("records.jsonl")), None)),
        frames: Some(frames),
        report_interval: Duration::from_secs(1),
        observers: vec![Box::new(Ledger(Arc::clone(&rows)))],
        control: None,
    };
    pipeline.run(&Stop::new(), &mut ()).unwrap().result.unwrap();
    tell(&rows.lock().unwrap(), &converted.lock().unwrap());
}

/// A camera: a frame is there at each 30th of a second, and is turned into a picture.
struct Lens {
    data: Vec<u8>,
    converter: Converter,
    start: Instant,
    number: u64,
    /// Milliseconds of each conversion.
    converted: Arc<Mutex<Vec<f64>>>,
}

impl Lens {
    fn new(converted: Arc<Mutex<Vec<f64>>>) -> Self {
        let layout = Layout::new(PixelFormat::Yuyv, SIZE, 0, Colours::of_v4l2(false, 0, 0, 0)).unwrap();
        let data = vec![0; layout.needed_bytes()];
        Self { data, converter: Converter::new(layout, 256), start: Instant::now(), number: 0, converted }
    }
}

impl Source for Lens {
    fn next(&mut self, frame: &mut Frame, wait: &Wait<'_>) -> Result<Event> {
        if !wait.until(self.start + Duration::from_secs_f64(self.number as f64 / FPS)) {
            return Ok(Event::Idle);
        }
        self.number += 1;
        // A driver writes the frame anew each time.
        self.data.fill(self.number as u8);
        frame.captured = Instant::now();
        self.converter.convert(&self.data, &mut frame.picture)?;
        self.converted.lock().unwrap().push(frame.captured.elapsed().as_secs_f64() * 1e3);
        Ok(Event::Frame)
    }

    fn pace(&self) -> Pace {
        Pace::Live
    }

    fn describe(&self) -> String {
        "a lens".to_owned()
    }

    fn name(&self) -> &str {
        "lens"
    }
}

/// Milliseconds of one decision.
struct Row {
    seq: u64,
    latency: f64,
    coarse: f64,
    preprocess: f64,
    gate: f64,
    /// From the decision to the observers: smoothing, the record.
    report: f64,
}

/// A figure of a decision.
type Value<'a> = &'a dyn Fn(&Row) -> f64;

struct Ledger(Arc<Mutex<Vec<Row>>>);

impl Observer for Ledger {
    fn decided(&mut self, decision: &Decision<'_>, cascade: &mut Cascade) {
        let after = decision.frame.captured.elapsed() - decision.latency;
        assert_eq!(cascade.verdict().stage, Stage::Coarse);
        let timing = decision.timing;
        self.0.lock().unwrap().push(Row {
            seq: decision.frame.seq,
            latency: decision.latency.as_secs_f64() * 1e3,
            coarse: timing.coarse_ms,
            preprocess: timing.preprocess_ms,
            gate: timing.gate_ms,
            report: after.as_secs_f64() * 1e3,
        });
    }
}

fn tell(rows: &[Row], converted: &[f64]) {
    let column = |of: Value<'_>| {
        let mut column: Vec<f64> = rows.iter().filter(|row| row.seq >= WARM_UP).map(of).collect();
        column.sort_by(f64::total_cmp);
        column
    };
    let convert = |row: &Row| converted[row.seq as usize];
    let hand_over = |row: &Row| row.latency - convert(row) - row.preprocess - row.coarse - row.gate;
    let added = |row: &Row| hand_over(row) + row.preprocess + row.gate + row.report;
    let columns: [(&str, Value<'_>); 8] = [
        ("conversion", &convert),
        ("hand-over", &hand_over),
        ("preprocess", &|row| row.preprocess),
        ("coarse", &|row| row.coarse),
        ("gate", &|row| row.gate),
        ("report", &|row| row.report),
        ("added: hand-over, preprocess, gate, report", &added),
        ("added, and the conversion", &|row| added(row) + convert(row)),
    ];
    println!("{:<44} median    p90, ms", "");
    for (name, of) in columns {
        let column = column(of);
        println!("{name:<44} {:>6.3} {:>6.3}", column[column.len() / 2], column[column.len() * 9 / 10]);
    }
    let share = |of: Value<'_>| {
        let column = column(&|row| 100.0 * of(row) / row.coarse);
        column[column.len() / 2]
    };
    let (alone, with) = (share(&added), share(&|row| added(row) + convert(row)));
    println!(
        "of the coarse pass, median: {alone:.1} %, with the conversion {with:.1} % (at most {MOST_PERCENT} % is the aim)"
    );
}
