//! `cfvit run`: the pipeline over a source of frames.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::session::Session;
use super::{DecisionArgs, ModelArgs, number};
use crate::capture::{self, Options};
use crate::cascade::Cascade;
use crate::clock::Stop;
use crate::error::Result;
use crate::fallback::{Costs, Fallback, HYSTERESIS};
use crate::pipeline::{Outcome, Pipeline};
use crate::power;
use crate::preprocess::decode;
use crate::report::Target;
use crate::service::StopOnSignals;

/// Decide frame after frame, as a camera service does, on the pictures of a folder
///
/// Each frame goes capture → preprocess → coarse → gate, and where the coarse stage is not sure, → gather → fine. One line a
/// second on standard error tells what happened: frames captured, dropped, decided and failed, the share that the fine stage
/// answered, frames/s, latency from the decoded picture to the decision (its wait included), power and energy per frame where
/// the machine has a meter. A summary of the run ends it on standard output.
///
/// Without --fps every picture waits for its turn and is decided once. With --fps the folder plays like a camera: a picture that
/// is not taken before the next one comes is dropped and counted.
///
/// At every moment captured = decided + dropped + failed + in flight. A picture that cannot be read counts as failed, is named
/// once and skipped. SIGINT (Ctrl-C) and SIGTERM stop the run after the frame in progress; a second one ends it at once.
#[derive(clap::Args)]
#[command(
    after_long_help = "Exit codes: 0 the run ended as asked (also by a signal), 1 no frame could be decided, or the \
    source or the engine failed for good, 2 wrong usage.\n\n\
    Examples:\n  cfvit run --source photos\n  cfvit run --source photos --loop --fps 30 --jsonl decisions.jsonl\n  \
    cfvit run --source photos --jsonl - | jq .name"
)]
pub struct Args {
    /// A folder of pictures (those of its subfolders too, sorted by path), file:///path for one, a camera, or pattern:// for a moving test card
    ///
    /// Cameras: /dev/video0, a lasting name as /dev/v4l/by-id/…, or with what it is to do
    /// v4l2:///dev/video0?size=640x480&fps=30&format=YUYV. Without size and format the cheapest mode that the model's input needs is taken.
    /// The test card: pattern://?size=640x480&fps=30, without fps as fast as its frames are decided.
    #[arg(long, value_name = "URI")]
    pub source: OsString,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub decision: DecisionArgs,
    /// Play at N frames a second, as a camera would; late frames are dropped
    #[arg(long, value_name = "N", value_parser = fps, allow_negative_numbers = true)]
    pub fps: Option<f64>,
    /// Start again after the last picture, until stopped
    #[arg(long = "loop")]
    pub repeat: bool,
    /// Stop after N decisions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub frames: Option<u64>,
    /// Where so many frames need the fine stage that one pass over all fine patches would be cheaper, take that pass
    ///
    /// What each pass costs is measured at the start, which takes a few dozen passes; the share of fine at which both cost the same is the
    /// break-even that `cfvit bench` prints too. The change comes when the share of the last 128 decisions lies 5 points above it, and
    /// back when it lies 5 points below over 32 probes (every 8th frame takes the cascade meanwhile). Answers of the static pass are
    /// those of the plain network: another accuracy than the cascade's.
    #[arg(long, value_name = "static", value_enum)]
    pub fallback: Option<FallbackArg>,
    /// Write a JSON object per decision: added to the end of FILE, or - for standard output (the summary then goes to standard
    /// error)
    ///
    /// Keys: time (of the picture; RFC 3339), seq, source, image, exit ("coarse", "fine" or "static"), label, name, confidence,
    /// coarse_confidence (null for "static"), threshold, latency_ms, timing_ms {preprocess, coarse, gate, gather, fine, static, total}. Written once a
    /// second. Records that cannot be written are dropped and counted; the frames go on. A reader that is merely slow is waited
    /// for without --fps; with --fps it costs records.
    #[arg(long, value_name = "FILE|-")]
    pub jsonl: Option<OsString>,
    /// Seconds between two log lines
    #[arg(long, value_name = "S", default_value = "1", value_parser = report_interval, allow_negative_numbers = true)]
    pub report_interval: f64,
}

/// What may take the cascade's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FallbackArg {
    /// One pass over all fine patches
    Static,
}

/// Runs until the source ends, --frames are decided, or a signal comes.
///
/// # Errors
/// When something cannot be opened, and when the run fails; see the exit codes in the help.
pub fn run(args: Args) -> Result<()> {
    let records = args.jsonl.as_deref().map(Target::from);
    let summary_to_stderr = records == Some(Target::Stdout);
    let pipeline = open(args, records)?;
    let stop = Stop::new();
    let _signals = StopOnSignals::new(stop.clone())?;
    let Outcome { summary, result } = pipeline.run(&stop)?;
    let printed = match summary_to_stderr {
        // Nobody can be told that standard error is gone.
        true => writeln!(std::io::stderr(), "{summary}").or(Ok(())),
        false => super::print(summary),
    };
    result.and(printed)
}

/// Opens the source, the model, its engine and the meter.
fn open(args: Args, records: Option<Target>) -> Result<Pipeline> {
    let options = Options { fps: args.fps, repeat: args.repeat, ..Options::default() };
    let source = capture::open(OsStr::new(&args.source), options, Box::new(decode::read))?;
    log::info!("source: {}", source.describe());

    let Session { name, labels, mut preprocess, mut cascade, .. } = Session::open(&args.model, &args.decision)?;
    log::info!("model: {name}, threshold {}; engine: {}", cascade.threshold(), cascade.engine().describe());

    if args.fallback == Some(FallbackArg::Static) {
        set_fallback(&mut cascade)?;
    }

    let meter = power::open(Path::new("/sys"));
    log::info!("energy: {}", meter.as_ref().map_or("not measured, no meter".to_owned(), |meter| meter.describe()));
    Ok(Pipeline {
        source,
        prepare: Box::new(move |picture, inputs| preprocess.run(picture, inputs)),
        cascade,
        labels: labels.into_iter().map(|label| label.name).collect(),
        meter,
        records,
        frames: args.frames,
        report_interval: Duration::from_secs_f64(args.report_interval),
    })
}

/// Measures what the passes cost here and lets the cascade fall back to the static one.
fn set_fallback(cascade: &mut Cascade) -> Result<()> {
    let costs = Costs::measure(cascade.engine_mut()).map_err(|e| e.within("--fallback static needs a static pass"))?;
    let Costs { static_ms, coarse_ms, fine_ms } = costs;
    let limit = costs.break_even();
    let then = match limit + HYSTERESIS {
        limit if limit >= 1.0 => "no share of fine is dear enough to leave the cascade".to_owned(),
        limit if limit < 0.0 => "the coarse stage alone costs more than the static pass".to_owned(),
        limit => format!("above {:.0} % the frames go static", 100.0 * limit),
    };
    log::info!(
        "fallback: static {static_ms:.1} ms, coarse {coarse_ms:.1} ms, fine {fine_ms:.1} ms, break-even {:.0} %: {then}",
        100.0 * limit
    );
    cascade.set_fallback(Fallback::new(limit));
    Ok(())
}

fn fps(text: &str) -> std::result::Result<f64, String> {
    number(text, |fps| Options::FPS.contains(fps), "a number from 0.001 to 1000")
}

fn report_interval(text: &str) -> std::result::Result<f64, String> {
    number(text, |seconds: &f64| (0.1..=3600.0).contains(seconds), "seconds from 0.1 to 3600")
}
