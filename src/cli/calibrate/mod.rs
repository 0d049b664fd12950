//! `cfvit calibrate`: a threshold with a guarantee.

mod frames;
mod output;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::session::Session;
use super::{DecisionArgs, ModelArgs, crop, number, print};
use crate::bench::measure::Runner;
use crate::bench::schedule::Baseline;
use crate::bench::synthetic;
use crate::calibrate::cost::{self, Account, Blocks, Unit};
use crate::calibrate::{Accuracy, Budget, Keys, Prefer, Request, Risk, certificate, solve};
use crate::clock::{Clock, Stop, System};
use crate::error::{Error, Kind, Result};
use crate::frame::Picture;
use crate::model::package::{self, Certificate};
use crate::power::{self, Monitor, SAMPLE_PERIOD};
use frames::Frames;

/// Find the threshold that keeps a promise: at most so many errors, or so much time or energy a frame
///
/// Both stages run once on every picture. From that follows the lowest threshold η at which stopping at the coarse stage costs at most what is
/// allowed, with the confidence asked for (an exact binomial bound), or the highest that keeps a budget, or both at once. The result is
/// written as a certificate into the engine package, or with --out into a file; `classify` and `run` use it as long as engine, crop and, for
/// budgets, power mode are those that it was made for.
///
/// The promise is about frames like those given, all together: not about single classes, other scenes, other light. Take pictures from
/// the camera itself, spread over days; frames of a video that follow each other count for little (--group-by dir takes one per folder).
#[derive(clap::Args)]
#[command(
    after_long_help = "Exit codes: 0 the promise can be kept and was written, 1 something failed, 2 wrong usage, 3 the limits cannot be kept \
    together or on this machine, 4 too few frames, 5 the audit or the labels belong to another engine.\n\n\
    Examples:\n  cfvit calibrate --max-loss 1 --images val --model engines/mine\n  \
    cfvit calibrate --max-disagreement 1 --from-audit /var/lib/cfvit/audit-door.log --model engines/mine\n  \
    cfvit calibrate --max-latency 20ms --max-loss 2 --images val --out eta.toml\n  \
    cfvit calibrate --max-loss 0.5 --plan\n  \
    cfvit calibrate --images val --export-disagreements look-at-these"
)]
pub struct Args {
    /// At most X percent of frames may lose a right answer that refining would have given; needs right answers (class folders or --labels),
    /// else --max-disagreement takes its place, which promises more
    #[arg(long, value_name = "X", value_parser = percent_points, conflicts_with = "max_disagreement")]
    max_loss: Option<f64>,
    /// At most X percent of frames may get another answer than refining would give; needs no right answers
    #[arg(long, value_name = "X", value_parser = percent_points)]
    max_disagreement: Option<f64>,
    /// At most so many milliseconds a frame on average, for preprocessing and deciding: 20ms
    #[arg(long, value_name = "T", value_parser = milliseconds, conflicts_with = "max_energy")]
    max_latency: Option<f64>,
    /// At most so many millijoules a frame on average, as the machine's meter sees it: 150mJ
    #[arg(long, value_name = "E", value_parser = millijoules)]
    max_energy: Option<f64>,
    /// How sure the promise must be, in percent
    #[arg(long, value_name = "P", default_value = "95", value_parser = confidence)]
    confidence: f64,
    /// Pictures: a folder, searched with its subfolders. Class folders named by the labels' ids say the right answers
    #[arg(long, value_name = "DIR", required_unless_present_any = ["from_audit", "plan"])]
    images: Option<PathBuf>,
    /// The right answers: lines `picture,label`, pictures as seen from DIR, labels by id, name or number; only pictures on which the
    /// stages differ need one
    #[arg(long, value_name = "FILE", requires = "images")]
    labels: Option<PathBuf>,
    /// Instead of pictures, what `cfvit run` noted of its own frames (its [audit]); a budget then also needs --images for its costs
    #[arg(long, value_name = "FILE", conflicts_with_all = ["labels", "group_by", "export_disagreements"])]
    from_audit: Option<PathBuf>,
    /// Of an audit, only what is newer: 2026-11-24T12:00:00Z. After an alarm for drift, the time of the alarm
    #[arg(long, value_name = "TIME", requires = "from_audit")]
    since: Option<jiff::Timestamp>,
    /// Take one picture of each folder, at random: for folders that each hold one clip
    #[arg(long, value_name = "WHAT", value_enum)]
    group_by: Option<GroupBy>,
    /// Only say how many frames the limit takes; nothing runs
    #[arg(long)]
    plan: bool,
    /// Copy the pictures on which the stages differ into a new folder, with a table to fill in for --labels: the only ones worth labelling
    #[arg(long, value_name = "DIR")]
    export_disagreements: Option<PathBuf>,
    /// Write what both stages said to FILE: confidence, coarse and fine class, right class, one line a frame
    #[arg(long, value_name = "FILE")]
    export_observations: Option<PathBuf>,
    /// Where both an error limit and a budget leave room: the cheapest threshold, or the most accurate one
    #[arg(long, value_name = "WHICH", value_enum, default_value = "cheap")]
    prefer: PreferArg,
    /// Write the certificate to FILE instead of into the engine package
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
    /// Also draw accuracy against cost, with the chosen point, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArgs,
    /// Evaluation crop ratio: the share of the picture's shorter side that the network sees [default: the model's]
    #[arg(long, value_name = "R", value_parser = crop, allow_negative_numbers = true)]
    crop: Option<f64>,
}

/// What makes pictures belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum GroupBy {
    /// The folder that they lie in
    Dir,
}

/// Which of several good thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum PreferArg {
    /// The lowest threshold that keeps the limit on errors
    Cheap,
    /// The highest threshold that keeps the budget
    Accuracy,
}

/// Blocks of each kind for the costs: enough for the bounds on their means.
const BLOCKS: usize = 30;
/// How long a block lasts; energy needs 20 readings of its meter.
const TIME_BLOCK: Duration = Duration::from_millis(80);
const ENERGY_BLOCK: Duration = SAMPLE_PERIOD.saturating_mul(20);
const SEED: u64 = 1;

/// Calibrates.
///
/// # Errors
/// What the exit codes in the help say.
pub fn run(args: Args) -> Result<()> {
    let delta = 1.0 - args.confidence / 100.0;
    if args.plan {
        return output::plan(&args, delta);
    }
    let place = place(&args)?;
    // Every frame is refined, so that both stages' answers are known, whatever a certificate says.
    let decision = DecisionArgs { threshold: Some(2.0), crop: args.crop, certificate: None, allow_uncertified: true };
    let mut session = Session::open_keyed(&args.model, &decision, true)?;
    let keys = session.keys.clone().ok_or_else(|| Error::new(Kind::Engine, "the engine has no keys"))?;
    let frames = match &args.from_audit {
        Some(path) => frames::from_audit(path, args.since, &keys)?,
        None => frames::from_pictures(&mut session, &args)?,
    };
    if let Some(path) = &args.export_observations {
        output::observations(path, &frames.observations)?;
    }
    if let Some(folder) = &args.export_disagreements {
        output::disagreements(folder, &frames, args.images.as_deref(), &session.labels)?;
    }
    let result = match place {
        Some(place) => certify(args, delta, session, &frames, (&keys, &place)),
        None => Ok(()),
    };
    result.and_then(|()| frames.failures.finish(frames.asked))
}

/// Solves, writes and reports.
fn certify(args: Args, delta: f64, session: Session, frames: &Frames, (keys, place): (&Keys, &Place)) -> Result<()> {
    let request = request(&args, delta, frames);
    let geometry = *session.geometry();
    let blocks = request.budget.map(|budget| measure(budget.unit, session, args.images.as_deref())).transpose()?;
    let solution = solve(&frames.observations, &request, blocks.as_ref())?;
    let previous = place.previous()?;
    let evidence = frames.evidence.clone();
    let made = certificate::certificate(
        &solution,
        (&frames.observations, delta),
        keys,
        evidence,
        previous.as_ref(),
        jiff::Timestamp::now(),
    );
    // Files before text: a reader that closes standard output early must not cost them.
    if let Some(path) = &args.plot {
        output::plot(path, &frames.observations, &made, &solution, &geometry)?;
    }
    place.write(&made)?;
    let said =
        output::Said { certificate: &made, solution: &solution, request: &request, frames, place: &place.shown() };
    if args.json { print(said.to_json()) } else { print(said.to_text(session_note(&args, &request))) }
}

/// The limits asked for, with what takes the place of a loss where no right answer is known.
fn request(args: &Args, delta: f64, frames: &Frames) -> Request {
    let labelled = frames.observations.iter().any(|o| o.label.is_some());
    let risk = if args.max_loss.is_some() && labelled { Risk::Loss } else { Risk::Disagreement };
    let limit = args.max_loss.or(args.max_disagreement);
    let budget = args.max_latency.map(|limit| Budget { unit: Unit::Ms, limit });
    let budget = budget.or(args.max_energy.map(|limit| Budget { unit: Unit::Mj, limit }));
    let prefer = if args.prefer == PreferArg::Cheap { Prefer::Cheap } else { Prefer::Accuracy };
    Request { accuracy: limit.map(|percent| Accuracy { risk, limit: percent / 100.0 }), budget, delta, prefer }
}

/// What must be said about how the wish was understood.
fn session_note(args: &Args, request: &Request) -> Option<&'static str> {
    let replaced = args.max_loss.is_some() && request.accuracy.is_some_and(|a| a.risk == Risk::Disagreement);
    replaced.then_some(match args.from_audit {
        Some(_) => {
            "An audit knows no right answers, so disagreement is limited instead of loss: every lost answer is also a different one, so the \
             loss is at most that."
        }
        None => {
            "No right answers are known, so disagreement is limited instead of loss: every lost answer is also a different one, so the loss is \
             at most that. Labels of the pictures on which the stages differ (--export-disagreements) allow a lower threshold."
        }
    })
}

/// Where a certificate is written.
enum Place {
    Package(PathBuf),
    File(PathBuf),
}

/// Where the certificate goes; `None` where none is asked for.
fn place(args: &Args) -> Result<Option<Place>> {
    let limits = [args.max_loss, args.max_disagreement, args.max_latency, args.max_energy];
    if limits.iter().all(Option::is_none) {
        if args.export_disagreements.is_some() || args.export_observations.is_some() {
            return Ok(None);
        }
        let message = "nothing to promise: expected --max-loss, --max-disagreement, --max-latency or --max-energy";
        return Err(Error::new(Kind::Usage, message));
    }
    if let Some(path) = &args.out {
        return Ok(Some(Place::File(path.clone())));
    }
    match &args.model.model {
        Some(path) if path.is_dir() => Ok(Some(Place::Package(path.clone()))),
        model => {
            let what = if model.is_some() { "a bare checkpoint" } else { "inside the program" };
            let message = format!(
                "the model is {what}, so there is no manifest to write the certificate into: --out FILE.toml writes it to a file, which \
                 `classify` and `run` take with --certificate FILE.toml"
            );
            Err(Error::new(Kind::Usage, message))
        }
    }
}

impl Place {
    /// The certificate that is there now. One that cannot be read is replaced.
    fn previous(&self) -> Result<Option<Certificate>> {
        match self {
            Place::Package(folder) => package::certificate(folder),
            Place::File(path) => Ok(path.is_file().then(|| Certificate::read(path).ok()).flatten()),
        }
    }

    fn write(&self, certificate: &Certificate) -> Result<()> {
        match self {
            Place::Package(folder) => package::certify(folder, certificate)
                .map_err(|e| e.within("the certificate was not written; --out FILE.toml puts it elsewhere")),
            Place::File(path) => certificate.write(path),
        }
    }

    /// For people.
    fn shown(&self) -> String {
        match self {
            Place::Package(folder) => folder.join(package::MANIFEST).display().to_string(),
            Place::File(path) => format!("{0}; use it with --certificate {0}", path.display()),
        }
    }
}

/// Measures what the stages cost on this machine, on pictures of `images`, else on synthetic ones.
fn measure(unit: Unit, session: Session, images: Option<&Path>) -> Result<Blocks> {
    let pictures = match images {
        Some(images) => frames::load(images)?,
        None => {
            let message = "with --from-audit a budget also needs --images DIR: pictures of the camera's size, to measure what they cost";
            return Err(Error::new(Kind::Usage, message));
        }
    };
    let pictures = if pictures.is_empty() { synthetic::pictures(4, SEED) } else { pictures };
    let mut runner = Runner::new(session.cascade, session.preprocess);
    let block = if unit == Unit::Ms { TIME_BLOCK } else { ENERGY_BLOCK };
    let plan = cost::Plan { pairs: BLOCKS, block, seed: SEED };
    match unit {
        Unit::Ms => alternate(&plan, &mut cost::Time::default(), &mut runner, &pictures),
        Unit::Mj => measure_energy(&plan, &mut runner, &pictures),
    }
}

fn measure_energy(plan: &cost::Plan, runner: &mut Runner, pictures: &[Picture]) -> Result<Blocks> {
    let mut meter = power::open(Path::new("/sys")).ok_or_else(|| {
        Error::new(Kind::Infeasible, "this machine has no power meter that can be read, so no energy can be promised")
    })?;
    let (monitor, stop) = (Monitor::new(Instant::now()), Stop::new());
    std::thread::scope(|scope| {
        scope.spawn(|| monitor.sample(meter.as_mut(), &System, &stop));
        let measured = alternate(plan, &mut cost::Energy(monitor.clone()), runner, pictures);
        stop.request();
        measured
    })
}

fn alternate(
    plan: &cost::Plan,
    account: &mut dyn Account,
    runner: &mut Runner,
    pictures: &[Picture],
) -> Result<Blocks> {
    let mut frame = |i: usize, refine: bool| {
        let baseline = if refine { Baseline::FineAlways } else { Baseline::CoarseOnly };
        runner.frame(baseline, &pictures[i % pictures.len()]).map(|_| ())
    };
    let clock: &dyn Clock = &System;
    cost::measure(plan, clock, account, &mut frame)?
        .ok_or_else(|| Error::new(Kind::Io, "the power meter did not measure every block: no sample, no joule"))
}

fn percent_points(text: &str) -> std::result::Result<f64, String> {
    number(
        text,
        |x: &f64| *x >= 0.001 && *x < 100.0,
        "percent of the frames, 0.001 to below 100: 1 is one in a hundred",
    )
}

fn confidence(text: &str) -> std::result::Result<f64, String> {
    number(text, |p: &f64| (50.0..=99.9999).contains(p), "percent from 50 to 99.9999")
}

/// A number with one of the units, each with its factor; the first needs not be said.
fn quantity(text: &str, units: &[(&str, f64)], expected: &str) -> std::result::Result<f64, String> {
    let text = text.trim();
    let digits = text.trim_end_matches(|c: char| c.is_alphabetic());
    let unit = text[digits.len()..].trim();
    let factor = units.iter().find(|(name, _)| *name == unit || unit.is_empty()).map(|(_, factor)| factor);
    let value: Option<f64> = digits.trim().parse().ok().filter(|value: &f64| value.is_finite() && *value > 0.0);
    factor.zip(value).map(|(factor, value)| factor * value).ok_or_else(|| format!("expected {expected}"))
}

fn milliseconds(text: &str) -> std::result::Result<f64, String> {
    quantity(text, &[("ms", 1.0), ("s", 1e3), ("us", 1e-3)], "a time above 0: 20ms")
}

fn millijoules(text: &str) -> std::result::Result<f64, String> {
    quantity(text, &[("mJ", 1.0), ("J", 1e3)], "an energy above 0: 150mJ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_have_units() {
        for text in ["20ms", "0.02 s", "20", " 20000us"] {
            assert_eq!(milliseconds(text), Ok(20.0), "{text}");
        }
        assert_eq!((millijoules("150mJ"), millijoules("0.15J")), (Ok(150.0), Ok(150.0)));
        for text in ["", "ms", "20mJ", "-1ms", "nan", "inf", "1e999", "20 m s"] {
            assert!(milliseconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_limits_of_errors_are_percent() {
        assert_eq!(percent_points("0.5"), Ok(0.5));
        assert!(["0", "100", "x", "-1", "nan"].iter().all(|text| percent_points(text).is_err()));
        assert!(confidence("95").is_ok() && confidence("0.95").is_err());
    }
}
