//! What `cfvit calibrate` prints and writes besides the certificate.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::super::print;
use super::frames::Frames;
use super::{Args, Risk};
use crate::calibrate::labels::{HEADING, quoted};
use crate::calibrate::{Observation, Request, Solution, binomial, plan as planning, report};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::model::package::Certificate;
use crate::model::{Geometry, Label};
use crate::plot::{Line, Mark, Plot, Shape};

/// Points of a drawn curve, about.
const CURVE_POINTS: usize = 200;

/// Prints how many frames the limits of `args` take.
///
/// # Errors
/// When nothing is asked for, or standard output cannot be written.
pub fn plan(args: &Args, delta: f64) -> Result<()> {
    let limits: Vec<f64> = match (args.max_loss.or(args.max_disagreement), args.max_latency.or(args.max_energy)) {
        (Some(percent), _) => vec![percent / 100.0],
        // What share a budget allows is known only after measuring.
        (None, Some(_)) => vec![0.1, 0.3, 0.5, 0.7],
        (None, None) => {
            let message = "nothing to plan: expected --max-loss, --max-disagreement, --max-latency or --max-energy";
            return Err(Error::new(Kind::Usage, message));
        }
    };
    let both = args.max_loss.or(args.max_disagreement).is_some() && args.max_latency.or(args.max_energy).is_some();
    let delta = if both { delta / 2.0 } else { delta };
    let rows = |&limit: &f64| {
        let (fewest, good) = (binomial::fewest(limit, delta), binomial::comfortable(limit, delta, planning::ROOM));
        (limit, fewest, good, planning::rows(limit, delta))
    };
    let plans: Vec<_> = limits.iter().map(rows).collect();
    if args.json {
        let plans = plans.iter().map(
            |(limit, fewest, good, rows)| json!({"limit": limit, "fewest": fewest, "comfortable": good, "rows": rows}),
        );
        return print(json!({"delta": delta, "plans": plans.collect::<Vec<_>>()}));
    }
    let budget_only = args.max_loss.or(args.max_disagreement).is_none();
    if budget_only {
        print("The share that a budget lets be refined is measured on the machine; for some shares:")?;
    }
    for (limit, fewest, good, rows) in plans {
        let what = if budget_only { "a share of fine of at most" } else { "at most" };
        print(format_args!(
            "{what} {} with {} confidence: {fewest} frames at least, {good} are comfortable",
            report::points(limit),
            report::points(1.0 - delta)
        ))?;
        let bad = if budget_only { "refined" } else { "bad" };
        for planning::Row { n, allowed } in rows {
            match allowed {
                Some(k) => {
                    print(format_args!("  {n:>7} frames: {k} may be {bad} ({:.2} %)", 100.0 * k as f64 / n as f64))?
                }
                None => print(format_args!("  {n:>7} frames: too few"))?,
            }
        }
    }
    print("Frames must be independent: pictures of different moments, or one audited frame per slot.")
}

/// Everything that is said about a certificate.
pub struct Said<'a> {
    /// It.
    pub certificate: &'a Certificate,
    /// How it was found.
    pub solution: &'a Solution,
    /// What was wished for.
    pub request: &'a Request,
    /// On which frames.
    pub frames: &'a Frames,
    /// Where it was written.
    pub place: &'a str,
}

impl Said<'_> {
    fn risk(&self) -> Risk {
        self.request.accuracy.map_or(Risk::Disagreement, |accuracy| accuracy.risk)
    }

    fn curve(&self) -> Vec<report::Row> {
        let asked = self.request.accuracy.map(|accuracy| accuracy.limit);
        report::curve(&self.frames.observations, self.risk(), self.request.delta_each(), asked)
    }

    /// For people; `note` stands first.
    pub fn to_text(&self, note: Option<&str>) -> String {
        let mut text = String::new();
        if let Some(note) = note {
            let _ = writeln!(text, "{note}\n");
        }
        let _ = writeln!(text, "{}", report::sentence(self.certificate));
        for note in &self.frames.notes {
            let _ = writeln!(text, "  frames   {note}");
        }
        let gap = report::gap(&self.frames.observations, self.solution.eta);
        let delta = self.request.delta_each();
        text += &report::details(self.certificate, self.solution, &self.curve(), gap, delta);
        let _ = write!(text, "  written  {}", self.place);
        text
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        let gap = report::gap(&self.frames.observations, self.solution.eta);
        json!({
            "sentence": report::sentence(self.certificate),
            "certificate": self.certificate,
            "frames": self.frames.observations.len(),
            "unreadable": self.frames.asked.saturating_sub(self.frames.paths.len()),
            "notes": self.frames.notes,
            "curve": self.curve(),
            "gap_points": gap,
            "tighter": self.request.accuracy.and_then(|a| planning::tighter(a.limit, self.request.delta_each()))
                .map(|(limit, fewest, good)| json!({"limit": limit, "fewest": fewest, "comfortable": good})),
            "written": self.place,
        })
    }
}

/// Writes a line per frame: confidence, coarse, fine and right class, the last one empty where it is not known.
///
/// # Errors
/// [`Kind::Io`] when it cannot be written.
pub fn observations(path: &Path, observations: &[Observation]) -> Result<()> {
    let mut text = String::from("confidence,coarse,fine,label\n");
    for Observation { confidence, coarse, fine, label } in observations {
        let label = label.map_or(String::new(), |label| label.to_string());
        let _ = writeln!(text, "{confidence},{coarse},{fine},{label}");
    }
    files::write_atomic(path, text.as_bytes())
}

/// Copies the pictures on which the stages differ into the new `folder`, with a table for `--labels`.
///
/// # Errors
/// [`Kind::Usage`] when the folder is there already, [`Kind::Io`] when it cannot be written.
pub fn disagreements(folder: &Path, frames: &Frames, images: Option<&Path>, classes: &[Label]) -> Result<()> {
    let failed = |path: &Path, e| Error::caused(Kind::Io, format!("cannot write {}", path.display()), e);
    fs::create_dir(folder).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => {
            Error::new(Kind::Usage, format!("{} is there already: choose another folder", folder.display()))
        }
        _ => failed(folder, e),
    })?;
    let mut table = format!("{HEADING},coarse,fine\n");
    let name = |class: usize| classes.get(class).map_or("", |label| &label.name);
    let differing = frames.paths.iter().zip(&frames.observations).filter(|(_, o)| o.differs());
    let mut count = 0;
    for (path, observation) in differing {
        let inside = images.and_then(|images| path.strip_prefix(images).ok()).unwrap_or(path);
        let inside = inside.to_string_lossy();
        let copy = folder.join(format!("{count:05}-{}", inside.replace(['/', '\\'], "_")));
        fs::copy(path, &copy).map_err(|e| failed(&copy, e))?;
        let known = observation.label.map_or("", name);
        let fields = [&*inside, known, name(observation.coarse), name(observation.fine)].map(quoted);
        let _ = writeln!(table, "{}", fields.join(","));
        count += 1;
    }
    files::write_atomic(&folder.join("labels.csv"), table.as_bytes())?;
    log::info!(
        "{count} of {} pictures are in {}; fill in labels.csv for --labels",
        frames.paths.len(),
        folder.display()
    );
    Ok(())
}

/// Draws accuracy against cost: as observed, and with the bound that each threshold would have by itself.
///
/// # Errors
/// [`Kind::Io`] when it cannot be written.
pub fn plot(
    path: &Path,
    observations: &[Observation],
    certificate: &Certificate,
    solution: &Solution,
    geometry: &Geometry,
) -> Result<()> {
    let (costs, x_label) = match &solution.ceiling {
        Some(ceiling) => (ceiling.means, format!("mean cost of a frame, {}", ceiling.budget.unit.as_str())),
        None => {
            let macs = geometry.macs();
            ([macs.coarse as f64 / 1e9, macs.fine as f64 / 1e9], "mean multiply-accumulates of a frame, 1e9".into())
        }
    };
    let curve = Curve::new(observations, costs, 1.0 - certificate.confidence);
    let points: Vec<Point> = curve.thresholds().into_iter().map(|eta| curve.at(eta)).collect();
    let (coarse, fine, chosen) = (curve.at(0.0), curve.at(2.0), curve.at(solution.eta));
    let mark = |shape, text: &str, at: Point| Mark { shape, text: text.into(), at: (at.cost, at.observed) };
    let name =
        format!("at least, with {} % confidence (each η by itself)", (1e6 * certificate.confidence).round() / 1e4);
    let chosen_name = format!("η = {:.4}, {:.0} % fine", solution.eta, 100.0 * solution.fine_share[1]);
    // The bound lies far below where next to nothing is refined: that part would only flatten the rest.
    let bound = points.iter().filter(|point| point.bound >= coarse.observed - 5.0);
    Plot {
        title: format!("{} frames, {}", observations.len(), certificate.engine),
        x_label,
        y_label: if curve.labelled { "right answers, %".into() } else { "same answer as fine always, %".into() },
        lines: vec![
            Line { name: "observed".into(), points: points.iter().map(|point| (point.cost, point.observed)).collect() },
            Line { name, points: bound.map(|point| (point.cost, point.bound)).collect() },
        ],
        marks: vec![
            mark(Shape::Square, "coarse only", coarse),
            mark(Shape::Triangle, "fine always", fine),
            mark(Shape::Dot, &chosen_name, chosen),
        ],
        level: None,
    }
    .write(path)
}

/// The cascade at one threshold: mean cost, good answers in percent as observed, and at least.
#[derive(Clone, Copy)]
struct Point {
    cost: f64,
    observed: f64,
    bound: f64,
}

/// Good answers over all thresholds: right ones where every label is known, else those of fine always.
struct Curve<'a> {
    observations: &'a [Observation],
    /// Of a frame that is not refined, and of refining.
    costs: [f64; 2],
    delta: f64,
    labelled: bool,
    /// Good answers of fine always, in percent.
    best: f64,
}

impl<'a> Curve<'a> {
    fn new(observations: &'a [Observation], costs: [f64; 2], delta: f64) -> Self {
        let labelled = observations.iter().all(|o| o.label.is_some());
        let mut curve = Self { observations, costs, delta, labelled, best: 100.0 };
        if labelled {
            curve.best = curve.percent(curve.count(|o| o.label == Some(o.fine)));
        }
        curve
    }

    fn count(&self, which: impl Fn(&Observation) -> bool) -> u64 {
        self.observations.iter().filter(|o| which(o)).count() as u64
    }

    fn percent(&self, count: u64) -> f64 {
        100.0 * count as f64 / self.observations.len().max(1) as f64
    }

    fn at(&self, eta: f32) -> Point {
        let share = self.percent(self.count(|o| !o.stops(eta))) / 100.0;
        let answer = |o: &Observation| if o.stops(eta) { o.coarse } else { o.fine };
        let wanted = |o: &Observation| o.label.filter(|_| self.labelled).unwrap_or(o.fine);
        let risk = if self.labelled { Risk::Loss } else { Risk::Disagreement };
        let bad = self.count(|o| o.is_bad(risk) && o.stops(eta));
        Point {
            cost: self.costs[0] + share * self.costs[1],
            observed: self.percent(self.count(|o| answer(o) == wanted(o))),
            bound: self.best - 100.0 * binomial::upper(bad, self.observations.len() as u64, self.delta),
        }
    }

    /// Some of the confidences, and both ends.
    fn thresholds(&self) -> Vec<f32> {
        let mut seen: Vec<f32> = self.observations.iter().map(|o| o.confidence).filter(|c| !c.is_nan()).collect();
        seen.sort_unstable_by(f32::total_cmp);
        let step = seen.len().div_ceil(CURVE_POINTS).max(1);
        std::iter::once(0.0).chain(seen.into_iter().step_by(step)).chain([2.0]).collect()
    }
}
