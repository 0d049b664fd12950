//! Two measurements side by side.

use maud::{Markup, html};

use super::parts::{Facts, NOT_MEASURED, clip, clip_text, figure, fixed, interval, percent, rerun, table};
use super::{Measurement, bench, eval, page};
use crate::bench::energy::Draw;
use crate::bench::report::Report as Bench;
use crate::bench::schedule::Baseline;
use crate::error::{Error, Kind, Result};
use crate::eval::report::Report as Eval;
use crate::plot::{Line, Mark, Plot, Shape};
use crate::stats::{self, Interval, Summary};

/// The page that compares A with B, which were read from the files of these names.
///
/// # Errors
/// [`Kind::Usage`] where one is of `bench` and the other of `eval`.
pub fn compare([a, b]: [Measurement; 2], names: [String; 2]) -> Result<String> {
    match (&a, &b) {
        (Measurement::Bench(a), Measurement::Bench(b)) => Ok(benches(a, b, &names)),
        (Measurement::Eval(a), Measurement::Eval(b)) => Ok(evals(a, b, &names)),
        _ => {
            let message = "one file is of `bench`, the other of `eval`: there is nothing to compare";
            Err(Error::new(Kind::Usage, message))
        }
    }
}

/// What is said of a difference.
fn says(what: &str, difference: Option<&Interval>, digits: usize, unit: &str) -> String {
    let Some(d) = difference else { return format!("{what}: {NOT_MEASURED}.") };
    let more = if d.mean < 0.0 { "less" } else { "more" };
    let range = format!("B − A: {} {unit}", interval(d, digits));
    match d.low > 0.0 || d.high < 0.0 {
        true => format!("{what}: B has {} {unit} {more} than A ({range}).", fixed(d.mean.abs(), digits)),
        false => format!("{what}: no difference can be told from these runs ({range})."),
    }
}

/// A difference in a table, with a mark where its interval leaves out 0.
fn cell(difference: Option<&Interval>, digits: usize) -> String {
    difference.map_or(NOT_MEASURED.to_owned(), |d| {
        let sure = if d.low > 0.0 || d.high < 0.0 { " *" } else { "" };
        let sign = if d.mean > 0.0 { "+" } else { "" };
        format!("{sign}{} ({}){sure}", fixed(d.mean, digits), interval(d, digits))
    })
}

/// Both lists of conditions, those that differ marked.
fn conditions(a: &Facts, b: &Facts) -> Markup {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in a.iter().chain(b) {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let of = |facts: &Facts, name: &str| {
        facts.iter().find(|(known, _)| *known == name).map_or("–".to_owned(), |(_, value)| value.clone())
    };
    html! {
        table.facts {
            thead { tr { th { } th scope="col" { "A" } th scope="col" { "B" } } }
            tbody {
                @for name in names {
                    @let (a, b) = (of(a, name), of(b, name));
                    @let differs = a != b;
                    tr.differs[differs] { th scope="row" { @if differs { "≠ " } (name) } td { (a) } td { (b) } }
                }
            }
        }
    }
}

/// Head and conditions of a comparison around its own content.
fn frame(
    what: &str,
    names: &[String; 2],
    (verdict, conditions, content): (Vec<String>, Markup, Markup),
    reruns: [&str; 2],
    made_by: &str,
) -> String {
    let content = html! {
        p.verdict { @for sentence in &verdict { (sentence) " " } }
        p { "A is " code { (clip(&names[0])) } ", B is " code { (clip(&names[1])) } ". Differences are B − A; * marks those whose 95 % interval leaves out 0." }
        (content)
        h2 { "Conditions" }
        p { "What differs is marked with ≠: it may be the reason for a difference above." }
        (conditions)
        @for command in reruns { (rerun(command)) }
    };
    page::page(&format!("cfvit: two runs of {what}"), html! { "Two runs of " (what) }, content, made_by)
}

fn benches(a: &Bench, b: &Bench, names: &[String; 2]) -> String {
    let times = |name: &str, a: &Summary, b: &Summary| {
        let d = stats::difference(b, a);
        let relative =
            d.filter(|_| a.mean > 0.0).map_or("–".to_owned(), |d| format!("{} %", fixed(100.0 * d.mean / a.mean, 1)));
        vec![
            name.to_owned(),
            fixed(a.mean, 3),
            fixed(b.mean, 3),
            cell(d.as_ref(), 3),
            relative,
            fixed(a.median, 3),
            fixed(b.median, 3),
        ]
    };
    let frames = Baseline::ALL.into_iter().zip(a.frames_ms.all()).zip(b.frames_ms.all());
    let frames: Vec<Vec<String>> = frames.map(|((baseline, a), b)| times(baseline.name(), a, b)).collect();
    let (of_a, of_b) = (bench::steps_of(a), bench::steps_of(b));
    let steps =
        of_a.iter().filter_map(|(name, a)| Some(times(name, a, of_b.iter().find(|(other, _)| other == name)?.1)));
    let steps: Vec<Vec<String>> = steps.collect();
    let draws = Baseline::ALL.into_iter().zip(bench::draws_of(a)).zip(bench::draws_of(b));
    let draws: Vec<Vec<String>> = draws.map(|((baseline, a), b)| energy_row(baseline.name(), a, b)).collect();
    let d = stats::difference(&b.frames_ms.adaptive, &a.frames_ms.adaptive);
    let verdict = vec![
        says("Adaptive frames", d.as_ref(), 3, "ms"),
        format!("Of them {} were refined in A, {} in B.", percent(a.fine_share), percent(b.fine_share)),
    ];
    let header = ["mean, ms", "A", "B", "B − A (interval)", "of A", "median A", "median B"];
    let content = html! {
        h2 { "Frames" }
        (table("Times of frames", &header, &frames))
        (both_distributions(a, b))
        h2 { "Steps" }
        (table("Times of steps", &header, &steps))
        h2 { "Energy" }
        (table("Energy of a frame", &["mJ a frame", "A", "B", "B − A (interval)"], &draws))
        h2 { "What each run says of itself" }
        p { "A: " (clip_text(&a.sentence)) }
        p { "B: " (clip_text(&b.sentence)) }
        p.quiet { "Intervals are Welch's and take frames as independent: they do not hold what changes from one run to the next, as heat or other programs do. Repeat runs before believing a small difference." }
    };
    let conditions = conditions(&bench::conditions(a), &bench::conditions(b));
    let reruns = [a, b].map(|report| report.conditions.rerun.as_str());
    frame("cfvit bench", names, (verdict, conditions, content), reruns, &bench::made_by(&b.conditions))
}

/// The blocks of the two runs are independent, so the squares of the intervals' halves add up (for equal and not too few blocks).
fn energy_row(name: &str, a: Option<&Draw>, b: Option<&Draw>) -> Vec<String> {
    let difference = a.zip(b).and_then(|(a, b)| {
        let (mean, half) = (b.mj_per_frame - a.mj_per_frame, a.mj_half?.hypot(b.mj_half?));
        Some(Interval { mean, low: mean - half, high: mean + half })
    });
    vec![name.to_owned(), super::parts::energy(a), super::parts::energy(b), cell(difference.as_ref(), 1)]
}

fn both_distributions(a: &Bench, b: &Bench) -> Markup {
    let (Some(of_a), Some(of_b)) = (&a.percentiles_ms, &b.percentiles_ms) else {
        return html! { p { "The distributions were not kept in both." } };
    };
    let plot = Plot {
        title: "Share of frames that are done in a time".to_owned(),
        x_label: "ms from the decoded picture to the decision".to_owned(),
        y_label: "% of frames".to_owned(),
        lines: vec![
            bench::curve("A adaptive", &of_a.adaptive),
            bench::curve("B adaptive", &of_b.adaptive),
            bench::curve("A static", &of_a.r#static),
            bench::curve("B static", &of_b.r#static),
        ],
        ..Plot::default()
    };
    figure(&plot, "Drawn up to the 99th percentile.")
}

/// The difference `b − a` in points of two percentages of pictures, and how it reads in a table.
fn points(a: (f64, usize), b: (f64, usize)) -> Option<Interval> {
    let of = |(percent, images): (f64, usize)| stats::share(percent / 100.0 * images as f64, images);
    let d = stats::share_difference(&of(b)?, &of(a)?);
    Some(Interval { mean: 100.0 * d.mean, low: 100.0 * d.low, high: 100.0 * d.high })
}

fn evals(a: &Eval, b: &Eval, names: &[String; 2]) -> String {
    let row = |name: &str, of: &dyn Fn(&Eval) -> Option<f64>| {
        let (x, y) = (of(a), of(b));
        let d = x.zip(y).and_then(|(x, y)| points((x, a.images), (y, b.images)));
        let show = |value: Option<f64>| value.map_or(NOT_MEASURED.to_owned(), |value| fixed(value, 1));
        vec![name.to_owned(), show(x), show(y), cell(d.as_ref(), 1)]
    };
    let rows = [
        row("adaptive, top-1", &|r| Some(r.dynamic.top1)),
        row("adaptive, top-5", &|r| Some(r.dynamic.top5)),
        row("coarse only, top-1", &|r| Some(r.coarse.top1)),
        row("fine always, top-1", &|r| Some(r.fine.top1)),
        row("static, top-1", &|r| r.r#static.map(|s| s.top1)),
        row("refined", &|r| Some(100.0 * r.dynamic.fine_fraction)),
    ];
    let plain = |name: &str, digits: usize, of: &dyn Fn(&Eval) -> Option<f64>| {
        let (x, y) = (of(a), of(b));
        let show = |value: Option<f64>| value.map_or(NOT_MEASURED.to_owned(), |value| fixed(value, digits));
        vec![name.to_owned(), show(x), show(y), show(x.zip(y).map(|(x, y)| y - x))]
    };
    let costs = [
        plain("adaptive, 10⁹ MAC", 4, &|r| Some(r.dynamic.mean_gmacs)),
        plain("adaptive, ms a frame", 2, &|r| Some(r.cost.as_ref()?.ms(r.dynamic.fine_fraction))),
        plain("adaptive, mJ a frame", 1, &|r| r.cost.as_ref()?.mj(r.dynamic.fine_fraction)),
        plain("calibration error of adaptive, %", 1, &|r| Some(100.0 * r.reliability.as_ref()?.dynamic.ece)),
    ];
    let d = points((a.dynamic.top1, a.images), (b.dynamic.top1, b.images));
    let verdict = vec![
        says("Right answers of the adaptive path", d.as_ref(), 1, "points"),
        format!("{} are refined in A, {} in B.", percent(a.dynamic.fine_fraction), percent(b.dynamic.fine_fraction)),
    ];
    let content = html! {
        h2 { "Accuracy" }
        (table("Accuracy", &["%", "A", "B", "B − A, points (interval)"], &rows))
        p.quiet { "Newcombe's intervals for different pictures: where both runs saw the same ones, they are wider than need be." }
        h2 { "Cost" }
        (table("Cost", &["", "A", "B", "B − A"], &costs))
        (both_curves(a, b))
    };
    let conditions = conditions(&eval::conditions(a), &eval::conditions(b));
    let reruns = [a, b].map(|report| report.conditions.as_ref().map_or("(not in the file)", |c| c.rerun.as_str()));
    frame("cfvit eval", names, (verdict, conditions, content), reruns, &eval::made_by(b))
}

fn both_curves(a: &Eval, b: &Eval) -> Markup {
    let (Some(of_a), Some(of_b)) = (&a.sweep, &b.sweep) else {
        return html! { p { "The curves over all thresholds are not in both files: they need " code { "--sweep" } "." } };
    };
    let line = |name: &str, sweep: &[crate::eval::SweepPoint]| Line {
        name: name.to_owned(),
        points: sweep.iter().take(200).map(|p| (p.mean_gmacs, p.top1)).collect(),
    };
    let mark =
        |shape, text: String, report: &Eval| Mark { shape, text, at: (report.dynamic.mean_gmacs, report.dynamic.top1) };
    let plot = Plot {
        title: "Accuracy against 10⁹ multiply-accumulates".to_owned(),
        x_label: "10⁹ multiply-accumulates, mean of a picture".to_owned(),
        y_label: "top-1, %".to_owned(),
        lines: vec![line("A", of_a), line("B", of_b)],
        marks: vec![
            mark(Shape::Dot, format!("A, η = {}", a.threshold), a),
            mark(Shape::Square, format!("B, η = {}", b.threshold), b),
        ],
        level: None,
    };
    figure(&plot, "Each point of a line is a threshold.")
}
