//! `cfvit run`: the pipeline over one or more sources of frames, as a command or as a service.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded};

use super::serve::{self, Common};
use super::{DecisionArgs, ModelArgs, number, outputs};
use crate::capture::Options;
use crate::cascade::{Cascade, MOST_AT_ONCE};
use crate::clock::Stop;
use crate::config::{CameraSettings, Cameras, Settings};
use crate::engine::Backend;
use crate::error::{Error, Kind, Result};
use crate::examples::Writer;
use crate::logging;
use crate::machine::Watcher;
use crate::pipeline::{Control, Outcome, Pipeline, control};
use crate::power::{self, Idle, Meter};
use crate::report::{Rotation, Target};
use crate::service::{Notifier, Signalled, Watch, reload_on};

/// Decide frame after frame, as a camera service does
///
/// Each frame goes capture → preprocess → coarse → gate, and where the coarse stage is not sure, → gather → fine. One line a
/// second on standard error tells what happened: frames captured, dropped, decided and failed, the share that the fine stage
/// answered, frames/s, latency from the decoded picture to the decision (its wait included), power and energy per frame where
/// the machine has a meter, and the label, steadied over the last frames. Several cameras have a line each. A summary of the run
/// ends it on standard output.
///
/// With --config the cameras and everything else come from a file (`cfvit config show` prints one); options stand above it. SIGHUP
/// has it read again: cameras, thresholds, smoothing, log and report change at once, the rest after a restart; a file with an error is
/// refused and what was in force stays. Under systemd (Type=notify) the service manager is told of readiness, a status line, and
/// signs of life for its watchdog, as long as frames, or the search for a lost camera, go on.
///
/// Without --fps every picture waits for its turn and is decided once. With --fps the folder plays like a camera: a picture that
/// is not taken before the next one comes is dropped and counted.
///
/// At every moment captured = decided + dropped + failed + in flight. A picture that cannot be read counts as failed, is named
/// once and skipped. SIGINT (Ctrl-C) and SIGTERM stop the run after the frame in progress; a second one ends it at once.
#[derive(clap::Args)]
#[command(
    after_long_help = "Exit codes: 0 the run ended as asked (also by a signal), 1 no frame could be decided, or the \
    source or the engine failed for good, 2 wrong usage or configuration.\n\n\
    Examples:\n  cfvit run --source photos\n  cfvit run --source photos --loop --fps 30 --jsonl decisions.jsonl\n  \
    cfvit run --source photos --jsonl - | jq .name\n  \
    cfvit run --source door=/pictures/door --source yard=/pictures/yard\n  cfvit run --config /etc/cfvit/cfvit.toml"
)]
pub struct Args {
    /// A folder of pictures (those of its subfolders too, sorted by path), file:///path for one, a camera, or pattern:// for a moving test
    /// card; again for each further camera
    ///
    /// Cameras: /dev/video0, a lasting name as /dev/v4l/by-id/…, or with what it is to do
    /// v4l2:///dev/video0?size=640x480&fps=30&format=YUYV. Without size and format the cheapest mode that the model's input needs is taken.
    /// The test card: pattern://?size=640x480&fps=30, without fps as fast as its frames are decided.
    ///
    /// NAME= before it names the camera; without it they are cam0, cam1, ... Takes the place of the cameras in --config.
    #[arg(long, value_name = "[NAME=]URI", required_unless_present = "config")]
    pub source: Vec<OsString>,
    /// Read everything from FILE (TOML); the other options stand above it
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub decision: DecisionArgs,
    /// Play at N frames a second, as a camera would; late frames are dropped
    #[arg(long, value_name = "N", value_parser = fps, allow_negative_numbers = true, requires = "source")]
    pub fps: Option<f64>,
    /// Start again after the last picture, until stopped
    #[arg(long = "loop", requires = "source")]
    pub repeat: bool,
    /// First build the model's TensorRT engines, where its package has none that run here (as `cfvit build` does; it takes minutes)
    #[arg(long)]
    pub build_missing: bool,
    /// Where frames of several cameras wait at the same moment, let up to N share a coarse pass, 1 to 8 [default: 1]
    ///
    /// On the CPU engine only. More frames a second where they all wait always (8 % with 8), but the first of them waits for the last.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_AT_ONCE as u64))]
    pub batch: Option<u64>,
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
    /// Keys: time (of the picture; RFC 3339), seq, camera, source, image, exit ("coarse", "fine" or "static"), label, name, confidence,
    /// smooth_label, smooth_name, smooth_confidence (steadied over the camera's last frames), coarse_confidence (null for "static"), threshold,
    /// degraded (true while every frame is refined because a certified promise no longer holds), latency_ms, timing_ms {preprocess, coarse,
    /// gate, gather, fine, static, total}. Written once a second. Records that cannot be written are dropped and counted; the frames go on.
    /// A reader that is merely slow is waited for without --fps; with --fps it costs records.
    #[arg(long, value_name = "FILE|-")]
    pub jsonl: Option<OsString>,
    /// Put the file of --jsonl aside as FILE.1, .2, ... before it grows beyond N MiB [default: it grows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000), requires = "jsonl")]
    pub jsonl_max_mib: Option<u64>,
    /// Serve the page, the metrics and the HTTP interface at ADDRESS:PORT, as 127.0.0.1:8632 [default: with --config what it says, else
    /// nowhere]
    ///
    /// Open http://127.0.0.1:8632/ then. Addresses that other machines reach need web.token_file in the configuration. Port 0 takes a
    /// free one, which the log tells.
    #[cfg(feature = "web")]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub web: Option<std::net::SocketAddr>,
    /// Seconds between two log lines, 0.1 to 3600 [default: 1]
    #[arg(long, value_name = "S", value_parser = report_interval, allow_negative_numbers = true)]
    pub report_interval: Option<f64>,
}

/// What may take the cascade's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FallbackArg {
    /// One pass over all fine patches
    Static,
}

/// Runs until the sources end, --frames are decided, or a signal comes.
///
/// # Errors
/// When something cannot be opened, and when the run fails; see the exit codes in the help.
pub fn run(args: Args) -> Result<()> {
    let settings = settings(&args)?;
    logging::set_level(settings.log.level);
    let notifier = Notifier::new();
    let records = records(&args, &settings);
    let summary_to_stderr = matches!(records, Some((Target::Stdout, _)));

    if args.build_missing {
        notifier.extending("building the engines", || build_missing(&settings))?;
    }
    let (common, mut pipeline) = notifier.extending("opening the engine", || open(&args, &settings, records))?;
    let guard = common.guard(&settings)?.map(|(guard, keeper)| {
        let promises = guard.promises();
        pipeline.observers.push(Box::new(guard));
        (keeper, promises)
    });
    let (keeper, promises) = guard.unzip();
    let promises = promises.unwrap_or_default();
    let serve::Examples { shelf, picker, writer } = common.examples(&settings);
    if let Some(picker) = picker {
        pipeline.observers.push(Box::new(picker));
    }
    let told = (settings.clone(), common.facts(&pipeline), shelf);
    let (stop, (hangup, hangups)) = (Stop::new(), bounded(1));
    let _signals = Signalled::new(stop.clone(), args.config.is_some().then_some(hangup))?;
    let (control, controlled) = control();
    if args.config.is_some() {
        start_reloads(args, settings, common, control, (hangups, notifier.clone()))?;
    }
    let mut pipeline = Pipeline { control: Some(controlled), ..pipeline };
    let _outputs = outputs::start(&mut pipeline, &told.0, (told.1, told.2), promises)?;
    let Outcome { summary, result } = pipeline.run(&stop, &mut Watch::new(notifier))?;
    // The guard went with the pipeline.
    let mean_mw = summary.whole.energy.map(|energy| energy.mean_mw);
    keeper.into_iter().for_each(|keeper| keeper.finish(mean_mw));
    writer.into_iter().for_each(Writer::finish);
    let printed = match summary_to_stderr {
        // Nobody can be told that standard error is gone.
        true => writeln!(std::io::stderr(), "{summary}").or(Ok(())),
        false => super::print(summary),
    };
    result.and(printed)
}

/// Builds the engines of the settings' model, where that is what they ask for. Where they leave the choice, a build that fails is no reason
/// not to run: the CPU engine is there.
fn build_missing(settings: &Settings) -> Result<()> {
    let backend = settings.model.backend.unwrap_or_default();
    if backend == Backend::Cpu {
        return Ok(());
    }
    let package = settings.model.path.as_deref().filter(|path| path.is_dir()).ok_or_else(|| {
        let message =
            "--build-missing needs an engine package (`cfvit import` makes one): engines are kept in its folder";
        Error::new(Kind::Usage, message)
    })?;
    match super::build::build_missing(package) {
        Err(error) if backend == Backend::Auto => {
            log::warn!("the engines are not built: {error}");
            Ok(())
        }
        built => built,
    }
}

/// Opens the model, its engine, the sources and the meter.
fn open(args: &Args, settings: &Settings, records: Option<(Target, Option<Rotation>)>) -> Result<(Common, Pipeline)> {
    let (common, mut cascade, labels) = Common::open(settings, args.model.heads)?;
    let cameras = settings.cameras.0.iter().map(|camera| common.camera(camera, settings)).collect::<Result<_>>()?;
    if settings.gate.static_fallback {
        serve::set_fallback(&mut cascade)?;
    }
    let meter = power::open(Path::new("/sys"));
    log::info!("energy: {}", meter.as_ref().map_or("not measured, no meter".to_owned(), |meter| meter.describe()));
    let (meter, idle) = measure_idle(meter, settings.power.idle_s);
    let pipeline = Pipeline {
        cameras,
        at_once: at_once(settings, &cascade),
        cascade,
        labels,
        meter,
        idle,
        machine: Some(Watcher::new("/")),
        records,
        frames: args.frames,
        report_interval: Duration::from_secs_f64(settings.report.interval_s),
        observers: Vec::new(),
        control: None,
    };
    Ok((common, pipeline))
}

/// How many frames may share a coarse pass.
fn at_once(settings: &Settings, cascade: &Cascade) -> usize {
    let (asked, most) = (settings.model.batch.unwrap_or(1), cascade.most_at_once());
    if asked > most {
        let why = if settings.gate.static_fallback {
            "the static fallback chooses frame by frame"
        } else {
            "the engine takes no more"
        };
        log::warn!("{asked} frames at once were asked for, expected at most {most}: {why}");
    }
    asked.min(most)
}

/// Measures what the machine draws before the first frame, where the settings ask for it and there is a meter.
fn measure_idle(meter: Option<Box<dyn Meter>>, idle_s: f64) -> (Option<Box<dyn Meter>>, Option<Idle>) {
    let meter = match meter {
        Some(meter) if idle_s > 0.0 => meter,
        meter => return (meter, None),
    };
    // No frame flows yet, and a signal ends the program at once.
    let (meter, idle) = power::measure_idle(meter, Duration::from_secs_f64(idle_s), &Stop::new());
    match idle {
        Some(idle) => log::info!("idle: {:.0} mW (standard error {:.1} mW)", idle.mean_mw, idle.standard_error_mw),
        None => log::warn!("the idle power could not be measured: energy is told without taking it off"),
    }
    (meter, idle)
}

/// From now on every request reads the configuration again and puts it in force, or leaves everything as it is.
fn start_reloads(
    args: Args,
    first: Settings,
    common: Common,
    control: Control,
    (hangups, notifier): (Receiver<()>, Notifier),
) -> Result<()> {
    let mut in_force = first.clone();
    // What needs a restart is compared with what the process began with.
    reload_on(hangups, notifier, move || {
        let new = settings(&args)?;
        control.apply(common.change((&in_force, &control.ended()), &new)?)?;
        logging::set_level(new.log.level);
        in_force = new;
        Ok(first.fixed_changes(&in_force))
    })
}

/// The settings of --config, or the built-in ones, with the other options above them.
fn settings(args: &Args) -> Result<Settings> {
    let mut settings = args.config.as_deref().map(Settings::read).transpose()?.unwrap_or_default();
    let model = &mut settings.model;
    model.path = args.model.model.clone().or(model.path.take());
    model.threads = args.model.threads.or(model.threads);
    model.backend = args.model.backend.or(model.backend);
    model.precision = args.model.precision.or(model.precision);
    model.batch = args.batch.map_or(model.batch, |batch| (batch > 1).then_some(batch as usize));
    model.crop = args.decision.crop.or(model.crop);
    settings.gate.certificate = args.decision.certificate.clone().or(settings.gate.certificate.take());
    settings.gate.allow_uncertified |= args.decision.allow_uncertified;
    if args.decision.threshold.is_some() {
        settings.gate.threshold = args.decision.threshold;
        settings.cameras.0.iter_mut().for_each(|camera| camera.threshold = None);
    }
    settings.gate.static_fallback |= args.fallback == Some(FallbackArg::Static);
    settings.report.interval_s = args.report_interval.unwrap_or(settings.report.interval_s);
    if !args.source.is_empty() {
        settings.cameras = cameras(args)?;
    }
    #[cfg(feature = "web")]
    {
        settings.web.listen = args.web.unwrap_or(settings.web.listen);
        settings.web.enabled = args.web.is_some() || (settings.web.enabled && args.config.is_some());
    }
    Ok(settings)
}

/// The cameras of --source.
fn cameras(args: &Args) -> Result<Cameras> {
    let mut cameras: Vec<CameraSettings> = Vec::with_capacity(args.source.len());
    for (number, source) in args.source.iter().enumerate() {
        let (name, source) = named(source).unwrap_or_else(|| (format!("cam{number}"), source.clone()));
        if cameras.iter().any(|camera| camera.name == name) {
            let message = format!("--source: two cameras are called {name}, expected another name");
            return Err(Error::new(Kind::Usage, message));
        }
        cameras.push(CameraSettings { fps: args.fps, repeat: args.repeat, ..CameraSettings::new(name, source) });
    }
    Ok(Cameras(cameras))
}

/// The name and the source in `NAME=SOURCE`; `None` where no name stands before the source. A path with `=` in it is a source where what
/// stands before is no name, as in `./a=b`, or where there is such a file.
fn named(source: &OsStr) -> Option<(String, OsString)> {
    let at = source.as_bytes().iter().position(|&byte| byte == b'=')?;
    let name = std::str::from_utf8(&source.as_bytes()[..at]).ok().filter(|name| CameraSettings::is_name(name))?;
    if Path::new(source).exists() {
        return None;
    }
    Some((name.to_owned(), OsStr::from_bytes(&source.as_bytes()[at + 1..]).to_owned()))
}

/// Where records go, and when a new file is begun: --jsonl, else what the settings say.
fn records(args: &Args, settings: &Settings) -> Option<(Target, Option<Rotation>)> {
    let keep = settings.records.keep_files;
    let rotation = |max_mib: u64| Rotation { max_bytes: max_mib << 20, keep };
    match (&args.jsonl, &settings.records.path) {
        (Some(target), _) => Some((Target::from(target.as_os_str()), args.jsonl_max_mib.map(rotation))),
        (None, Some(path)) => Some((Target::File(path.clone()), Some(rotation(settings.records.max_mib)))),
        (None, None) => None,
    }
}

fn fps(text: &str) -> std::result::Result<f64, String> {
    number(text, |fps| Options::FPS.contains(fps), "a number from 0.001 to 1000")
}

fn report_interval(text: &str) -> std::result::Result<f64, String> {
    number(text, |seconds: &f64| (0.1..=3600.0).contains(seconds), "seconds from 0.1 to 3600")
}
