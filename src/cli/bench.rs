//! `cfvit bench`: what frames cost here, and whether deciding adaptively pays.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::session::{Failures, Session};
use super::{DecisionArgs, ModelArgs, command_line, number, pictures, print};
use crate::bench::energy::{self, Blocks};
use crate::bench::machine::{Change, Memory, State, cpu_name, kernel};
use crate::bench::measure::{Plan, Runner, Series};
use crate::bench::report::{Conditions, Machine, Measured, Report};
use crate::bench::schedule::Random;
use crate::bench::windows::Watch;
use crate::bench::{SEED, peak, synthetic};
use crate::capture::Options;
use crate::cascade::Lap;
use crate::error::{Error, Kind, Result};
use crate::frame::Picture;
use crate::preprocess::decode;
use crate::report::text::printable;
use crate::{engine, files, html, power};

/// Measure what frames cost on this machine, and what deciding adaptively saves
///
/// Four ways to decide the same picture run in turn, in a new order each round: static (one pass over all 1 + 4g² tokens, as a
/// vision transformer without a cascade), coarse only, fine always, adaptive (the gate at η). Pictures are decoded before.
/// Printed are the times of each step and of whole frames, the multiply-accumulates counted and executed, the rate they ran at
/// and its share of what the processor's multiply-add units can do, memory, clocks and, where the machine has a meter, energy.
/// The last sentence says what the adaptive path saves per frame against static, and the break-even share of fine: above it
/// the cascade costs more than it saves.
///
/// Percentiles are nearest ranks. The 95 % interval is Student's over the differences within rounds. Warnings say why a
/// measurement is not clean; measure on an idle machine.
#[derive(clap::Args)]
#[command(
    after_long_help = "The JSON's keys: schema (1), conditions (cpu, engine, model, threshold, rerun, …), rounds, steps_ms and frames_ms \
    (runs, min, mean, median, p90, p95, p99, p99_9, cv_percent of each), percentiles_ms (101 of each baseline), windows (the machine meanwhile), compute (peak_gflops; paper_macs, executed_macs, \
    gflops, peak_percent of each pass), energy (null where not measured), fine_share, break_even_fine_share, saving \
    (latency_ms, energy_mj: per_frame {mean, low, high}, percent), verdict (pays, does_not_pay, undecided), sentence, machine, \
    warnings.\n\nbreak_even_fine_share = (static − coarse_only) / (gather + fine), of medians: the first two from frames_ms, the \
    others from steps_ms.\n\n\
    Exit codes: 0 measured (also where it does not pay), 1 a model or picture could not be read, 2 wrong usage.\n\n\
    Examples:\n  cfvit bench\n  cfvit bench --source photos --json bench.json --html bench.html\n  cfvit bench --source photos --paced 15 --seconds 20"
)]
pub struct Args {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub decision: DecisionArgs,
    /// Measure on the pictures of DIR, at most 256 of them, chosen at random [default: pictures made up in memory]
    #[arg(long, value_name = "DIR")]
    pub source: Option<PathBuf>,
    /// Measure at least S seconds
    #[arg(long, value_name = "S", default_value = "3", value_parser = seconds)]
    pub seconds: f64,
    /// and at least N rounds, which run each of the four once
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub min_runs: u32,
    /// Run S seconds before anything is counted
    #[arg(long, value_name = "S", default_value = "0.5", value_parser = seconds)]
    pub warmup: f64,
    /// Start frames on a fixed schedule, FPS a second, and sleep between them, as behind a camera [default: back to back]
    ///
    /// Clocks fall while a machine waits, so that frames take longer than back to back.
    #[arg(long, value_name = "FPS", value_parser = fps)]
    pub paced: Option<f64>,
    /// Also write everything to FILE as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Also write a report for people to FILE: one HTML page without scripts, to look at, print and send
    ///
    /// It says nothing that the JSON doesn't: `cfvit report` makes the same page from that, and comparisons of two.
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// The most pictures that are decoded,
const MOST_PICTURES: usize = 256;
/// and the bytes of pixels after which no more are.
const MOST_BYTES: usize = 512 << 20;
/// Synthetic pictures.
const SYNTHETIC: usize = 16;
/// Blocks of each baseline in the measurement of energy.
const ENERGY_BLOCKS: usize = 4;

/// Pictures in memory.
struct Loaded {
    name: String,
    pictures: Vec<Picture>,
    decode_ms: Vec<f64>,
}

/// Measures and prints.
///
/// # Errors
/// When the model cannot be opened, no picture of the source can be read, or the file cannot be written; bad pictures are named and left
/// out.
pub fn run(args: Args) -> Result<()> {
    let loaded = load(args.source.as_deref())?;
    let Session { name, crop, preprocess, cascade, .. } = Session::open(&args.model, &args.decision)?;
    let threshold = cascade.threshold();
    let mut runner = Runner::new(cascade, preprocess);
    let mut measured = measure(&args, &mut runner, loaded)?;
    measured.conditions.model = printable(&name);
    (measured.conditions.crop, measured.conditions.threshold) = (crop, threshold);
    let few = || Error::new(Kind::Engine, "the series ended before two rounds were complete");
    let report = Report::new(measured).ok_or_else(few)?;
    // Before anything is printed: a reader that closes standard output early must not cost the file.
    if let Some(path) = &args.json {
        let json = serde_json::to_vec_pretty(&report);
        let json = json.map_err(|e| Error::caused(Kind::Io, "cannot write the report as JSON", e))?;
        files::write_atomic(path, &json)?;
    }
    if let Some(path) = &args.html {
        files::write_atomic(path, html::bench(&report).as_bytes())?;
    }
    print(report)
}

/// The series between two looks at the machine, then energy.
fn measure(args: &Args, runner: &mut Runner, loaded: Loaded) -> Result<Measured> {
    let plan = Plan {
        seconds: args.seconds,
        min_runs: args.min_runs as usize,
        warmup_s: args.warmup,
        paced_fps: args.paced,
        seed: SEED,
    };
    let root = Path::new("/");
    let Loaded { name, pictures, decode_ms } = loaded;
    let peak_before = peak::gflops(runner.cascade().engine_mut());
    let (series, expected) = Series::warmed_up(runner, &pictures, &plan)?;
    let before = State::read(root);
    let mut watch = Watch::new(root, &before, plan.seconds);
    let samples = series.run(expected, &plan, &mut |samples| watch.between(samples))?;
    let after = State::read(root);
    let windows = watch.finish(&after, &samples);
    let engine = runner.cascade().engine_mut();
    // The better of two: one of them may have been disturbed.
    let peak_gflops = peak_before.zip(peak::gflops(engine)).map(|(before, after)| before.max(after));
    let (geometry, executed, engine) = (*engine.geometry(), engine.executed_macs(), engine.describe());
    let energy = measure_energy(args, runner, &pictures)?;
    let conditions = Conditions {
        program: concat!("cfvit ", env!("CARGO_PKG_VERSION")).to_owned(),
        revision: crate::revision().map(str::to_owned),
        kernel: kernel(root),
        time: jiff::Timestamp::now().to_string(),
        rerun: command_line(),
        cpu: cpu_name(root).map(|name| printable(&name)),
        engine,
        threads: args.model.threads.unwrap_or_else(engine::default_threads),
        model: String::new(),
        geometry: geometry.to_string(),
        threshold: 0.0,
        crop: 0.0,
        source: name,
        pictures: pictures.len(),
        paced_fps: args.paced,
        late_frames: samples.late,
        seed: SEED,
    };
    let change = Change::between(&before, &after);
    let machine = Machine { before, after, change, memory: Memory::read(root) };
    Ok(Measured { conditions, decode_ms, samples, geometry, executed, peak_gflops, energy, machine, windows })
}

/// Where there is a meter, blocks that are long enough for it.
fn measure_energy(args: &Args, runner: &mut Runner, pictures: &[Picture]) -> Result<Option<energy::Energy>> {
    let Some(meter) = power::open(Path::new("/sys")) else { return Ok(None) };
    let duration = Duration::from_secs_f64((args.seconds / 2.0).max(0.5));
    energy::measure(runner, pictures, meter, Blocks { count: ENERGY_BLOCKS, duration, seed: SEED })
}

/// The pictures of `source` in a shuffled order, so that a series that does not reach the last one has seen all kinds.
fn load(source: Option<&Path>) -> Result<Loaded> {
    let Some(source) = source else {
        let pictures = synthetic::pictures(SYNTHETIC, SEED);
        return Ok(Loaded { name: "synthetic".to_owned(), pictures, decode_ms: Vec::new() });
    };
    let mut paths = pictures::find(&[source.to_owned()])?;
    Random(SEED).shuffle(&mut paths);
    paths.truncate(MOST_PICTURES);
    let (mut pictures, mut decode_ms, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut failures = Failures::default();
    for path in &paths {
        let mut picture = Picture::default();
        let mut clock = Lap::start();
        if failures.note(decode::read(path, &mut picture))?.is_some() {
            decode_ms.push(clock.lap_ms());
            bytes += picture.rgb.len();
            pictures.push(picture);
        }
        if bytes > MOST_BYTES {
            break;
        }
    }
    if pictures.is_empty() {
        failures.finish(paths.len())?;
    }
    Ok(Loaded { name: printable(&source.display().to_string()), pictures, decode_ms })
}

fn seconds(text: &str) -> std::result::Result<f64, String> {
    number(text, |seconds: &f64| (0.0..=3600.0).contains(seconds), "seconds from 0 to 3600")
}

fn fps(text: &str) -> std::result::Result<f64, String> {
    number(text, |fps| Options::FPS.contains(fps), "a number from 0.001 to 1000")
}
