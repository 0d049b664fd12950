//! `cfvit eval`: accuracy and cost on labelled pictures.

use std::path::{Path, PathBuf};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};

use super::session::{Failures, Session};
use super::{DecisionArgs, ModelArgs, command_line, print};
use crate::bench::energy::{self, Blocks};
use crate::bench::measure::{Plan, Runner, Series};
use crate::bench::report::Frames;
use crate::bench::{SEED, synthetic};
use crate::engine::{Engine, FineFrame};
use crate::error::{Error, Kind, Result};
use crate::eval::report::{Conditions, Cost, Gmacs, Report};
use crate::eval::{Evaluation, Observation, Sample, SweepPoint, image_folder, rank};
use crate::frame::{Choice, CoarseOutput, Inputs, Picture};
use crate::machine::{self, Change, State};
use crate::plot::{Line, Mark, Plot, Shape};
use crate::preprocess::decode;
use crate::report::text::printable;
use crate::{files, gate, gather, html, power};

/// Pictures on which it is measured what frames cost.
const COST_PICTURES: usize = 16;

/// Measure accuracy and cost on labelled pictures: coarse only, fine always, and the cascade
///
/// DIR holds one folder of pictures for each class. Folders named by the labels' ids are that class; otherwise the rank among
/// the sorted folder names is the class. Both stages run once on every picture, which answers for every threshold.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cfvit eval pictures/val\n  cfvit eval --sweep --json curve.json --plot curve.svg pictures/val\n  cfvit eval --html report.html --json report.json pictures/val\n  \
                        cfvit eval --model my.pth --threshold 0.7 pictures/val"
)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    decision: DecisionArgs,
    /// Print the whole curve, η = 0.00 to 1.00 by 0.01
    #[arg(long, conflicts_with = "threshold")]
    sweep: bool,
    /// Also write the numbers to FILE as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also draw accuracy against cost over all thresholds, with the one in force, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Also write a report for people to FILE: one HTML page without scripts, to look at, print and send
    ///
    /// For it one static full-resolution pass is made on every picture too, and for about a second (with a power meter, some ten) it is measured
    /// what frames cost here. Also in it: confusions, classes, how far confidences can be believed, the mistakes that were made with the greatest
    /// confidence. `cfvit report` makes such a page, and comparisons, from the files of --json.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// A folder of class folders
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Runs the subcommand.
///
/// # Errors
/// Wrong usage, an unreadable model, or, after everything is printed, pictures that could not be read.
pub fn run(args: Args) -> Result<()> {
    let mut session = Session::open(&args.model, &args.decision)?;
    let samples = image_folder(&args.dir, &session.labels)?;
    let mut failures = Failures::default();
    let evaluation = observe(&mut session, &samples, args.html.is_some(), &mut failures)?;
    if evaluation.images() == 0 {
        return failures.finish(samples.len());
    }
    let (mut report, worst) = report(&session, &evaluation, &samples, &args);
    if args.html.is_some() {
        report.cost = match cost(session, &samples) {
            // A device that failed is not trusted with anything further.
            Err(error) if error.kind() == Kind::Device => return Err(error),
            Err(error) => {
                log::warn!("what frames cost is not measured: {error}");
                None
            }
            measured => measured.ok(),
        };
    }
    // Before anything is printed: a reader that closes standard output early must not cost the files.
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    if let Some(path) = &args.plot {
        plot(&report, &evaluation.sweep()).write(path)?;
    }
    if let Some(path) = &args.html {
        let thumbnails: Vec<_> = worst.iter().map(|&sample| html::thumbnail(&samples[sample].path)).collect();
        files::write_atomic(path, html::eval(&report, &thumbnails).as_bytes())?;
    }
    print_report(&report, args.sweep)?;
    failures.finish(samples.len())
}

/// What is known after both stages ran on everything, and the samples of the worst mistakes.
fn report(session: &Session, evaluation: &Evaluation, samples: &[Sample], args: &Args) -> (Report, Vec<usize>) {
    let (threshold, macs) = (session.threshold(), session.geometry().macs());
    let name = |sample: usize| printable(&samples[sample].path.display().to_string());
    let (sampled, worst) = evaluation.worst(threshold, name).into_iter().unzip();
    let report = Report {
        model: session.name.clone(),
        images: evaluation.images(),
        unreadable: samples.len() - evaluation.images(),
        crop: session.crop,
        threshold,
        gmacs: Gmacs { coarse: macs.coarse as f64 / 1e9, fine: macs.fine as f64 / 1e9 },
        coarse: evaluation.coarse(),
        fine: evaluation.fine(),
        dynamic: evaluation.dynamic(threshold),
        r#static: evaluation.full(),
        sweep: (args.sweep || args.html.is_some()).then(|| evaluation.sweep()),
        conditions: Some(conditions(session, &args.dir)),
        labels: session.labels.iter().map(|label| label.name.clone()).collect(),
        classes: evaluation.classes(threshold),
        confusion: evaluation.confusion(threshold),
        reliability: Some(evaluation.reliability(threshold)),
        worst,
        cost: None,
    };
    (report, sampled)
}

fn conditions(session: &Session, dir: &Path) -> Conditions {
    let root = Path::new("/");
    Conditions {
        program: concat!("cfvit ", env!("CARGO_PKG_VERSION")).to_owned(),
        revision: crate::revision().map(str::to_owned),
        kernel: machine::kernel(root),
        time: jiff::Timestamp::now().to_string(),
        rerun: command_line(),
        cpu: machine::cpu_name(root).map(|name| printable(&name)),
        engine: session.cascade.engine().describe(),
        geometry: session.geometry().to_string(),
        source: printable(&dir.display().to_string()),
        machine: State::read(root),
    }
}

/// What frames cost here: a short measurement as `cfvit bench` makes it, on the first of the pictures that can be read.
fn cost(session: Session, samples: &[Sample]) -> Result<Cost> {
    let step = (samples.len() / COST_PICTURES).max(1);
    let read = |sample: &Sample| {
        let mut picture = Picture::default();
        decode::read(&sample.path, &mut picture).ok().map(|()| picture)
    };
    let pictures: Vec<Picture> = samples.iter().step_by(step).filter_map(read).take(COST_PICTURES).collect();
    let pictures = if pictures.is_empty() { synthetic::pictures(COST_PICTURES, SEED) } else { pictures };
    let mut runner = Runner::new(session.cascade, session.preprocess);
    let plan = Plan { seconds: 1.0, min_runs: 20, warmup_s: 0.3, paced_fps: None, seed: SEED };
    let (series, expected) = Series::warmed_up(&mut runner, &pictures, &plan)?;
    let before = State::read(Path::new("/"));
    let times = series.run(expected, &plan, &mut |_| ())?;
    let warnings = Change::between(&before, &State::read(Path::new("/"))).warnings();
    let few = || Error::new(Kind::Engine, "the series ended before two rounds were complete");
    let frames_ms = Frames::of(&times).ok_or_else(few)?;
    let blocks = Blocks { count: 4, duration: Duration::from_millis(500), seed: SEED };
    let energy = match power::open(Path::new("/sys")) {
        Some(meter) => energy::measure(&mut runner, &pictures, meter, blocks)?,
        None => None,
    };
    Ok(Cost { rounds: times.rounds(), frames_ms, energy, warnings })
}

/// Runs both stages on every sample, as many at once as the engine takes; unreadable ones are named on standard error and counted.
/// `with_static` adds the static pass, where the engine has one.
fn observe(
    session: &mut Session,
    samples: &[Sample],
    with_static: bool,
    failures: &mut Failures,
) -> Result<Evaluation> {
    let mut evaluation = Evaluation::new(session.geometry());
    let progress = progress(samples.len());
    let mut batch = Batch::new(session.cascade.engine().max_batch(), with_static);
    for (sample, Sample { path, class }) in samples.iter().enumerate() {
        let prepared = session.prepare(path, false);
        if progress.suspend(|| failures.note(prepared))?.is_some() {
            batch.add(&session.inputs, (sample, *class));
            if batch.is_full() {
                batch.run(session.cascade.engine_mut(), &mut evaluation)?;
            }
        }
        progress.inc(1);
    }
    batch.run(session.cascade.engine_mut(), &mut evaluation)?;
    progress.finish_and_clear();
    Ok(evaluation)
}

/// Pictures that go through both stages together. Its memory is reused.
struct Batch {
    /// Which sample, and its class.
    samples: Vec<(usize, usize)>,
    with_static: bool,
    inputs: Vec<Inputs>,
    coarse: Vec<CoarseOutput>,
    choices: Vec<Choice>,
    logits: Vec<Vec<f32>>,
    probabilities: Vec<f32>,
}

impl Batch {
    /// Room for `size` pictures.
    fn new(size: usize, with_static: bool) -> Self {
        Self {
            samples: Vec::with_capacity(size),
            with_static,
            inputs: vec![Inputs::default(); size],
            coarse: vec![CoarseOutput::default(); size],
            choices: vec![Choice::default(); size],
            logits: vec![Vec::new(); size],
            probabilities: Vec::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.samples.len() == self.inputs.len()
    }

    /// Takes a picture of this sample and class; there is room.
    fn add(&mut self, inputs: &Inputs, sample: (usize, usize)) {
        self.inputs[self.samples.len()].clone_from(inputs);
        self.samples.push(sample);
    }

    /// Runs both stages on what is there, notes what they say, and is empty again.
    fn run(&mut self, engine: &mut dyn Engine, evaluation: &mut Evaluation) -> Result<()> {
        let n = self.samples.len();
        if n == 0 {
            return Ok(());
        }
        let images: Vec<&[f32]> = self.inputs[..n].iter().map(|inputs| inputs.coarse.as_slice()).collect();
        engine.coarse_batch(&images, &mut self.coarse[..n])?;
        let cells = engine.geometry().informative();
        for (coarse, choice) in self.coarse.iter().zip(&mut self.choices).take(n) {
            gather::choose(&coarse.class_attention, cells, choice);
        }
        let pairs = self.inputs.iter().zip(&self.choices).take(n).enumerate();
        let frames: Vec<FineFrame<'_>> =
            pairs.map(|(slot, (inputs, choice))| FineFrame { slot, image: &inputs.fine, choice }).collect();
        engine.fine_batch(&frames, &mut self.logits[..n])?;
        let statics = self.static_ranks(engine)?;
        for (i, &(sample, class)) in self.samples.iter().enumerate() {
            let (coarse, fine) = (&self.coarse[i].logits, &self.logits[i]);
            gate::softmax(coarse, &mut self.probabilities);
            let (coarse_label, confidence) = gate::argmax(&self.probabilities);
            gate::softmax(fine, &mut self.probabilities);
            let (fine_label, fine_confidence) = gate::argmax(&self.probabilities);
            evaluation.add(Observation {
                sample,
                class,
                confidence,
                coarse_rank: rank(coarse, class),
                fine_rank: rank(fine, class),
                coarse_label,
                fine_label,
                fine_confidence,
                static_rank: statics.get(i).copied(),
            });
        }
        self.samples.clear();
        Ok(())
    }

    /// Where the right class came after the static pass, of each picture; empty where that was not asked for, and from the first picture on
    /// for which the engine has no such pass.
    fn static_ranks(&mut self, engine: &mut dyn Engine) -> Result<Vec<usize>> {
        let (mut ranks, mut logits) = (Vec::new(), Vec::new());
        for (inputs, &(_, class)) in self.inputs.iter().zip(&self.samples) {
            if !self.with_static {
                break;
            }
            match engine.full(&inputs.fine, &mut logits) {
                Ok(()) => ranks.push(rank(&logits, class)),
                // A device that failed is not trusted with anything further.
                Err(error) if error.kind() == Kind::Device => return Err(error),
                Err(error) => {
                    log::warn!("the static pass is not measured: {error}");
                    self.with_static = false;
                }
            }
        }
        Ok(ranks)
    }
}

/// A bar on a terminal, nothing elsewhere.
pub(super) fn progress(len: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} pictures, {eta} left");
    ProgressBar::new(len as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Accuracy against cost.
fn plot(report: &Report, sweep: &[SweepPoint]) -> Plot {
    let Report { coarse, fine, dynamic, gmacs, .. } = report;
    let mark = |shape, text: &str, at| Mark { shape, text: text.to_owned(), at };
    let name = format!("η = {}, {:.0} % fine", report.threshold, 100.0 * dynamic.fine_fraction);
    Plot {
        title: format!("{}, {} pictures", report.model, report.images),
        x_label: "mean multiply-accumulates of a picture, 1e9".to_owned(),
        y_label: "top-1, %".to_owned(),
        lines: vec![Line {
            name: "η from 0 to 1".to_owned(),
            points: sweep.iter().map(|point| (point.mean_gmacs, point.top1)).collect(),
        }],
        marks: vec![
            mark(Shape::Square, "coarse only", (gmacs.coarse, coarse.top1)),
            mark(Shape::Triangle, "fine always", (gmacs.coarse + gmacs.fine, fine.top1)),
            mark(Shape::Dot, &name, (dynamic.mean_gmacs, dynamic.top1)),
        ],
        level: None,
    }
}

fn print_report(report: &Report, with_sweep: bool) -> Result<()> {
    let Report { coarse, fine, dynamic, gmacs, .. } = report;
    let plural = if report.images == 1 { "picture" } else { "pictures" };
    print(format_args!("{} {plural}, model {}, crop {}", report.images, report.model, report.crop))?;
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["", "top-1 %", "top-5 %", "fine %", "mean GMAC"]);
    let mut row = |name: &str, top1: f64, top5: f64, fine: f64, gmacs: f64| {
        let numbers = [format!("{top1:.1}"), format!("{top5:.1}"), format!("{fine:.1}"), format!("{gmacs:.4}")];
        table.add_row(std::iter::once(name.to_owned()).chain(numbers));
    };
    row("coarse only", coarse.top1, coarse.top5, 0.0, gmacs.coarse);
    row("fine always", fine.top1, fine.top5, 100.0, gmacs.coarse + gmacs.fine);
    let name = format!("dynamic, η = {}", report.threshold);
    row(&name, dynamic.top1, dynamic.top5, 100.0 * dynamic.fine_fraction, dynamic.mean_gmacs);
    align_right(&mut table);
    print(&table)?;
    let Some(sweep) = report.sweep.as_ref().filter(|_| with_sweep) else { return Ok(()) };
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["η", "top-1 %", "fine %", "mean GMAC"]);
    for SweepPoint { threshold, top1, fine_fraction, mean_gmacs } in sweep {
        table.add_row([
            format!("{threshold:.2}"),
            format!("{top1:.1}"),
            format!("{:.1}", 100.0 * fine_fraction),
            format!("{mean_gmacs:.4}"),
        ]);
    }
    align_right(&mut table);
    print(format_args!("\n{table}"))
}

fn align_right(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

fn write_json(path: &Path, report: &Report) -> Result<()> {
    let json = serde_json::to_vec_pretty(report);
    let json = json.map_err(|e| Error::caused(Kind::Io, "cannot write the report as JSON", e))?;
    files::write_atomic(path, &json)
}
