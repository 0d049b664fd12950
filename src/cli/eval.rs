//! `cfvit eval`: accuracy and cost on labelled pictures.

use std::path::{Path, PathBuf};

use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::session::{Failures, Session};
use super::{DecisionArgs, ModelArgs, print};
use crate::engine::{Engine, FineFrame};
use crate::error::{Error, Kind, Result};
use crate::eval::{Accuracy, Dynamic, Evaluation, Observation, Sample, SweepPoint, image_folder, rank};
use crate::files;
use crate::frame::{Choice, CoarseOutput, Inputs};
use crate::plot::{Line, Mark, Plot, Shape};
use crate::{gate, gather};

/// Measure accuracy and cost on labelled pictures: coarse only, fine always, and the cascade
///
/// DIR holds one folder of pictures for each class. Folders named by the labels' ids are that class; otherwise the rank among
/// the sorted folder names is the class. Both stages run once on every picture, which answers for every threshold.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  cfvit eval pictures/val\n  cfvit eval --sweep --json curve.json --plot curve.svg pictures/val\n  \
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
    /// A folder of class folders
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// The JSON file; percentages in percent, fractions 0 to 1, cost in 1e9 multiply-accumulates.
#[derive(Serialize)]
struct Report<'a> {
    model: &'a str,
    images: usize,
    unreadable: usize,
    crop: f64,
    threshold: f32,
    gmacs: Cost,
    coarse: Accuracy,
    fine: Accuracy,
    dynamic: Dynamic,
    #[serde(skip_serializing_if = "Option::is_none")]
    sweep: Option<Vec<SweepPoint>>,
}

#[derive(Serialize)]
struct Cost {
    coarse: f64,
    fine: f64,
}

/// Runs the subcommand.
///
/// # Errors
/// Wrong usage, an unreadable model, or, after everything is printed, pictures that could not be read.
pub fn run(args: Args) -> Result<()> {
    let mut session = Session::open(&args.model, &args.decision)?;
    let samples = image_folder(&args.dir, &session.labels)?;
    let mut failures = Failures::default();
    let evaluation = observe(&mut session, &samples, &mut failures)?;
    if evaluation.images() == 0 {
        return failures.finish(samples.len());
    }
    let threshold = session.threshold();
    let macs = session.geometry().macs();
    let report = Report {
        model: &session.name,
        images: evaluation.images(),
        unreadable: samples.len() - evaluation.images(),
        crop: session.crop,
        threshold,
        gmacs: Cost { coarse: macs.coarse as f64 / 1e9, fine: macs.fine as f64 / 1e9 },
        coarse: evaluation.coarse(),
        fine: evaluation.fine(),
        dynamic: evaluation.dynamic(threshold),
        sweep: args.sweep.then(|| evaluation.sweep()),
    };
    // Before anything is printed: a reader that closes standard output early must not cost the file.
    if let Some(path) = &args.json {
        write_json(path, &report)?;
    }
    if let Some(path) = &args.plot {
        plot(&report, &evaluation.sweep()).write(path)?;
    }
    print_report(&report)?;
    failures.finish(samples.len())
}

/// Runs both stages on every sample, as many at once as the engine takes; unreadable ones are named on standard error and counted.
fn observe(session: &mut Session, samples: &[Sample], failures: &mut Failures) -> Result<Evaluation> {
    let mut evaluation = Evaluation::new(session.geometry());
    let progress = progress(samples.len());
    let mut batch = Batch::new(session.cascade.engine().max_batch());
    for Sample { path, class } in samples {
        let prepared = session.prepare(path, false);
        if progress.suspend(|| failures.note(prepared))?.is_some() {
            batch.add(&session.inputs, *class);
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
    classes: Vec<usize>,
    inputs: Vec<Inputs>,
    coarse: Vec<CoarseOutput>,
    choices: Vec<Choice>,
    logits: Vec<Vec<f32>>,
    probabilities: Vec<f32>,
}

impl Batch {
    /// Room for `size` pictures.
    fn new(size: usize) -> Self {
        Self {
            classes: Vec::with_capacity(size),
            inputs: vec![Inputs::default(); size],
            coarse: vec![CoarseOutput::default(); size],
            choices: vec![Choice::default(); size],
            logits: vec![Vec::new(); size],
            probabilities: Vec::new(),
        }
    }

    fn is_full(&self) -> bool {
        self.classes.len() == self.inputs.len()
    }

    /// Takes a picture of `class`; there is room.
    fn add(&mut self, inputs: &Inputs, class: usize) {
        self.inputs[self.classes.len()].clone_from(inputs);
        self.classes.push(class);
    }

    /// Runs both stages on what is there, notes what they say, and is empty again.
    fn run(&mut self, engine: &mut dyn Engine, evaluation: &mut Evaluation) -> Result<()> {
        let n = self.classes.len();
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
        for ((coarse, fine), class) in self.coarse.iter().zip(&self.logits).zip(self.classes.drain(..)) {
            gate::softmax(&coarse.logits, &mut self.probabilities);
            evaluation.add(Observation {
                confidence: gate::argmax(&self.probabilities).1,
                coarse_rank: rank(&coarse.logits, class),
                fine_rank: rank(fine, class),
            });
        }
        Ok(())
    }
}

/// A bar on a terminal, nothing elsewhere.
pub(super) fn progress(len: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} pictures, {eta} left");
    ProgressBar::new(len as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Accuracy against cost.
fn plot(report: &Report<'_>, sweep: &[SweepPoint]) -> Plot {
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

fn print_report(report: &Report<'_>) -> Result<()> {
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
    let Some(sweep) = &report.sweep else { return Ok(()) };
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

fn write_json(path: &Path, report: &Report<'_>) -> Result<()> {
    let json = serde_json::to_vec_pretty(report);
    let json = json.map_err(|e| Error::caused(Kind::Io, "cannot write the report as JSON", e))?;
    files::write_atomic(path, &json)
}
