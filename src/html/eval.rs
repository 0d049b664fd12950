//! The page of `cfvit eval`.

use maud::{Markup, html};

use super::page;
use super::parts::{
    Facts, NOT_MEASURED, clip, clip_text, energy, facts, figure, fixed, interval, machine_facts, percent, rerun, table,
    warnings, wide,
};
use crate::bench::energy::Draw;
use crate::eval::detail::{ClassCounts, Mistake, Reliability, WORST};
use crate::eval::report::{Cost, Report};
use crate::plot::{Line, Mark, Plot, Shape};
use crate::stats;

/// With more classes the matrix is a list of the most frequent confusions.
const MATRIX: usize = 20;
/// So many confusions and classes are listed.
const LISTED: usize = 40;
/// Points of a curve that are drawn, at most.
const POINTS: usize = 200;

/// The page of `report`; `thumbnails` are the pictures of its `worst`, as URLs of images inside the page, where they could be made.
pub fn page(report: &Report, thumbnails: &[Option<String>]) -> String {
    let content = html! {
        p.verdict { (report.sentence()) }
        @if report.unreadable > 0 { ul.warnings { li { "Warning: " (report.unreadable) " pictures could not be read and are not counted." } } }
        @if let Some(cost) = &report.cost { (warnings(&cost.warnings)) }
        h2 { "Conditions" }
        (facts(&conditions(report)))
        @if let Some(conditions) = &report.conditions { (rerun(&conditions.rerun)) }
        h2 { "Static, coarse, fine, adaptive" }
        (answers(report))
        h2 { "Accuracy against cost" }
        (curves(report))
        h2 { "Can the confidence be believed?" }
        (reliability(report))
        h2 { "What is taken for what" }
        (confusion(report))
        h2 { "Class by class" }
        (classes(report))
        h2 { "The surest mistakes" }
        (mistakes(report, thumbnails))
    };
    let title = format!("cfvit eval: {}", report.model);
    page::page(&title, html! { "cfvit eval: " (clip(&report.model)) }, content, &made_by(report))
}

/// Program, version, commit.
pub fn made_by(report: &Report) -> String {
    let unknown = || "a cfvit that does not tell its version".to_owned();
    report
        .conditions
        .as_ref()
        .map_or_else(unknown, |c| format!("{} (revision {})", c.program, c.revision.as_deref().unwrap_or("unknown")))
}

/// Everything about how `report` was made.
pub fn conditions(report: &Report) -> Facts {
    let mut facts: Facts = Vec::new();
    if let Some(c) = &report.conditions {
        facts.extend([
            ("Processor", c.cpu.as_deref().map_or("this machine does not tell".to_owned(), clip)),
            ("Engine", clip_text(&c.engine)),
            ("Geometry", clip_text(&c.geometry)),
            ("Source", clip_text(&c.source)),
            ("Date", clip(&c.time)),
            ("Program", clip(&made_by(report))),
            ("Linux kernel", c.kernel.as_deref().map_or("not known".to_owned(), clip)),
        ]);
        facts.extend(machine_facts(&c.machine, None));
    } else {
        facts.push(("Machine, engine, date", "not in this file".to_owned()));
    }
    facts.extend([
        ("Model", clip(&report.model)),
        ("Pictures", format!("{} (and {} unreadable)", report.images, report.unreadable)),
        ("Threshold η, crop", format!("{}, {}", report.threshold, report.crop)),
    ]);
    facts
}

/// One row of the table: name, top-1, top-5, share of fine, 1e9 multiply-accumulates, and where to find its cost.
type Way = (String, f64, f64, Option<f64>, Option<f64>);

/// What a frame costs where it was measured: milliseconds with their interval, and energy.
fn costs(report: &Report) -> [(String, String); 4] {
    let Some(cost) = &report.cost else { return [(); 4].map(|()| (NOT_MEASURED.to_owned(), NOT_MEASURED.to_owned())) };
    let frames = &cost.frames_ms;
    let ms = |times: &stats::Summary| {
        times.interval().map_or(fixed(times.mean, 2), |i| format!("{} ({})", fixed(i.mean, 2), interval(&i, 2)))
    };
    let draws: [Option<&Draw>; 3] = cost
        .energy
        .as_ref()
        .map_or([None; 3], |energy| [&energy.r#static, &energy.coarse_only, &energy.fine_always].map(Some));
    let fine = report.dynamic.fine_fraction;
    let adaptive = (fixed(cost.ms(fine), 2), cost.mj(fine).map_or(NOT_MEASURED.to_owned(), |mj| fixed(mj, 1)));
    [
        (ms(&frames.r#static), energy(draws[0])),
        (ms(&frames.coarse_only), energy(draws[1])),
        (ms(&frames.fine_always), energy(draws[2])),
        adaptive,
    ]
}

fn answers(report: &Report) -> Markup {
    let both = report.gmacs.coarse + report.gmacs.fine;
    let d = &report.dynamic;
    let ways: [Option<Way>; 4] = [
        report.r#static.map(|s| ("static".to_owned(), s.top1, s.top5, None, None)),
        Some(("coarse only".to_owned(), report.coarse.top1, report.coarse.top5, Some(0.0), Some(report.gmacs.coarse))),
        Some(("fine always".to_owned(), report.fine.top1, report.fine.top5, Some(1.0), Some(both))),
        Some((
            format!("adaptive, η = {}", report.threshold),
            d.top1,
            d.top5,
            Some(d.fine_fraction),
            Some(d.mean_gmacs),
        )),
    ];
    let rows = ways.into_iter().zip(costs(report)).map(|(way, (ms, mj))| {
        let Some((name, top1, top5, fine, gmacs)) = way else {
            let mut row = vec!["static".to_owned()];
            row.extend([NOT_MEASURED, NOT_MEASURED, "–", "–"].map(str::to_owned));
            row.extend([ms, mj]);
            return row;
        };
        let of = |percent: f64| stats::share(percent / 100.0 * report.images as f64, report.images);
        let with = |top: f64| {
            of(top).map_or(fixed(top, 1), |i| {
                format!("{} ({} to {})", fixed(top, 1), fixed(100.0 * i.low, 1), fixed(100.0 * i.high, 1))
            })
        };
        vec![
            name,
            with(top1),
            fixed(top5, 1),
            fine.map_or("–".to_owned(), percent),
            gmacs.map_or("–".to_owned(), |gmacs| fixed(gmacs, 4)),
            ms,
            mj,
        ]
    });
    let header = ["", "top-1 % (interval)", "top-5 %", "fine", "10⁹ MAC", "ms a frame (interval)", "mJ a frame"];
    html! {
        (table("Accuracy and cost", &header, &rows.collect::<Vec<_>>()))
        p.quiet {
            "Intervals of accuracies are Wilson's. "
            @match &report.cost {
                Some(cost) => { "Frames were timed over " (cost.rounds) " rounds on some of the pictures; adaptive is what its share of fine makes of the stages." }
                None => { "What frames cost was not measured: " code { "cfvit eval --html" } " and " code { "cfvit bench" } " do." }
            }
        }
    }
}

/// Accuracy against multiply-accumulates, milliseconds and millijoules, over all thresholds.
fn curves(report: &Report) -> Markup {
    let Some(sweep) = report.sweep.as_ref().filter(|sweep| !sweep.is_empty()) else {
        return html! { p { "The curve over all thresholds was " (NOT_MEASURED) ": it needs " code { "--sweep" } "." } };
    };
    let plot = |x_label: &str, full: Option<f64>, at: &dyn Fn(f64) -> f64| {
        let mark = |shape, text: String, x, y| Mark { shape, text, at: (x, y) };
        let d = &report.dynamic;
        let name = format!("η = {}, {} fine", report.threshold, percent(d.fine_fraction));
        let mut marks = vec![
            mark(Shape::Square, "coarse only".to_owned(), at(0.0), report.coarse.top1),
            mark(Shape::Triangle, "fine always".to_owned(), at(1.0), report.fine.top1),
            mark(Shape::Dot, name, at(d.fine_fraction), d.top1),
        ];
        if let (Some(x), Some(accuracy)) = (full, report.r#static) {
            marks.push(mark(Shape::Circle, "static".to_owned(), x, accuracy.top1));
        }
        Plot {
            title: format!("Accuracy against {x_label}"),
            x_label: format!("{x_label}, mean of a picture"),
            y_label: "top-1, %".to_owned(),
            lines: vec![Line {
                name: "η from 0 to 1".to_owned(),
                points: sweep.iter().take(POINTS).map(|p| (at(p.fine_fraction), p.top1)).collect(),
            }],
            marks,
            level: None,
        }
    };
    let caption = "Each point of the line is a threshold.";
    let gmacs = |fine: f64| report.gmacs.coarse + fine * report.gmacs.fine;
    let measured = report.cost.as_ref();
    html! {
        @match measured {
            Some(cost) => { (figure(&plot("ms", Some(cost.frames_ms.r#static.mean), &|fine| cost.ms(fine)), caption)) }
            None => { p { "Against milliseconds: " (NOT_MEASURED) "." } }
        }
        @match measured.and_then(|cost: &Cost| Some((cost, cost.energy.as_ref()?))) {
            Some((cost, energy)) => {
                (figure(&plot("mJ", Some(energy.r#static.mj_per_frame), &|fine| cost.mj(fine).unwrap_or(f64::NAN)), caption))
            }
            None => { p { "Against millijoules: " (NOT_MEASURED) "." } }
        }
        (figure(&plot("10⁹ multiply-accumulates", None, &gmacs), caption))
    }
}

fn reliability(report: &Report) -> Markup {
    let Some(all) = &report.reliability else { return html! { p { "This was " (NOT_MEASURED) "." } } };
    let kinds = [("coarse", &all.coarse), ("fine", &all.fine), ("adaptive", &all.dynamic)];
    let line = |(name, reliability): (&str, &Reliability)| Line {
        name: name.to_owned(),
        points: reliability
            .bins
            .iter()
            .take(100)
            .filter(|bin| bin.images > 0)
            .map(|bin| (bin.confidence, bin.accuracy))
            .collect(),
    };
    let mut lines = vec![Line { name: "as it should be".to_owned(), points: vec![(0.0, 0.0), (1.0, 1.0)] }];
    lines.extend(kinds.map(line));
    let plot = Plot {
        title: "Share of right answers by confidence".to_owned(),
        x_label: "mean confidence of the bin".to_owned(),
        y_label: "share of right answers".to_owned(),
        lines,
        ..Plot::default()
    };
    let bins: Vec<Vec<String>> = all
        .dynamic
        .bins
        .iter()
        .take(100)
        .enumerate()
        .filter(|(_, bin)| bin.images > 0)
        .map(|(i, bin)| {
            let n = all.dynamic.bins.len() as f64;
            let range = format!("{} to {}", fixed(i as f64 / n, 2), fixed((i + 1) as f64 / n, 2));
            vec![range, bin.images.to_string(), fixed(bin.confidence, 3), fixed(bin.accuracy, 3)]
        })
        .collect();
    html! {
        p {
            "Expected calibration error (Guo et al., 2017; " (all.dynamic.bins.len()) " bins): "
            "coarse " (fixed(100.0 * all.coarse.ece, 1)) " %, fine " (fixed(100.0 * all.fine.ece, 1)) " %, adaptive " (fixed(100.0 * all.dynamic.ece, 1)) " %. "
            "0 means that of the answers with 80 % confidence 80 % are right. The gate compares the coarse confidence with η."
        }
        (figure(&plot, "Below the straight line the model is too sure of itself, above it too modest. Bins with few pictures scatter."))
        (table("Bins of the adaptive answers", &["adaptive, confidence", "pictures", "mean confidence", "right"], &bins))
    }
}

/// What class `class` is called.
fn name(report: &Report, class: usize) -> String {
    report.labels.get(class).filter(|name| !name.is_empty()).map_or(format!("class {class}"), |name| clip(name))
}

fn confusion(report: &Report) -> Markup {
    if report.confusion.is_empty() {
        return html! { p { "This was " (NOT_MEASURED) "." } };
    }
    let mut present: Vec<usize> = report.confusion.iter().flat_map(|&[class, label, _]| [class, label]).collect();
    present.sort_unstable();
    present.dedup();
    if present.len() <= MATRIX { matrix(report, &present) } else { most_frequent(report, present.len()) }
}

fn matrix(report: &Report, present: &[usize]) -> Markup {
    let count = |class: usize, label: usize| {
        report.confusion.iter().filter(|c| c[0] == class && c[1] == label).map(|c| c[2]).sum::<usize>()
    };
    // Which share of the row's pictures a cell holds, in five shades.
    let shade = |count: usize, row: usize| match 100 * count / row.max(1) {
        _ if count == 0 => "",
        0..10 => "s1",
        10..40 => "s2",
        40..75 => "s3",
        _ => "s4",
    };
    let content = html! {
        table.matrix {
            thead { tr { td { "right ↓ answered →" } @for &label in present { th scope="col" { (name(report, label)) } } } }
            tbody {
                @for &class in present {
                    @let row: usize = present.iter().map(|&label| count(class, label)).sum();
                    tr {
                        th scope="row" { (name(report, class)) }
                        @for &label in present {
                            @let n = count(class, label);
                            @let is_right = if class == label { " right" } else { "" };
                            td class={ (shade(n, row)) (is_right) } { @if n > 0 { (n) } }
                        }
                    }
                }
            }
        }
    };
    html! { (wide("Right and answered classes of the adaptive path", content)) p.quiet { "Pictures, by the adaptive path. Framed: right. Darker: a larger share of the row." } }
}

fn most_frequent(report: &Report, classes: usize) -> Markup {
    let mut wrong: Vec<&[usize; 3]> = report.confusion.iter().filter(|c| c[0] != c[1]).collect();
    wrong.sort_by(|a, b| b[2].cmp(&a[2]).then(a.cmp(b)));
    let rows: Vec<Vec<String>> =
        wrong.iter().take(LISTED).map(|c| vec![name(report, c[0]), name(report, c[1]), c[2].to_string()]).collect();
    html! {
        p { (classes) " classes: the " (rows.len()) " most frequent of " (wrong.len()) " confusions. The JSON has all." }
        (table("The most frequent confusions", &["right", "answered", "pictures"], &rows))
    }
}

fn classes(report: &Report) -> Markup {
    if report.classes.is_empty() {
        return html! { p { "This was " (NOT_MEASURED) "." } };
    }
    let share = |part: usize, c: &ClassCounts| part as f64 / c.images.max(1) as f64;
    let mut sorted: Vec<&ClassCounts> = report.classes.iter().collect();
    sorted.sort_by(|a, b| share(a.right, a).total_cmp(&share(b.right, b)).then(a.class.cmp(&b.class)));
    let rows: Vec<Vec<String>> = sorted
        .iter()
        .take(LISTED)
        .map(|c| {
            let of = |part: usize| percent(share(part, c));
            let range = stats::share(c.right as f64, c.images)
                .map_or(String::new(), |i| format!(" ({} to {})", fixed(100.0 * i.low, 0), fixed(100.0 * i.high, 0)));
            vec![
                name(report, c.class),
                c.images.to_string(),
                of(c.coarse_right),
                of(c.fine_right),
                format!("{}{range}", of(c.right)),
                of(c.fine),
            ]
        })
        .collect();
    html! {
        (table("Accuracy by class", &["class, worst first", "pictures", "coarse right", "fine right", "adaptive right (interval)", "refined"], &rows))
        @if sorted.len() > LISTED { p.quiet { (sorted.len() - LISTED) " better classes are in the JSON." } }
    }
}

fn mistakes(report: &Report, thumbnails: &[Option<String>]) -> Markup {
    let worst = &report.worst[..report.worst.len().min(WORST)];
    let caption = |m: &Mistake| {
        let stage = if m.fine { "fine" } else { "coarse" };
        html! {
            b { (name(report, m.label)) } " " (percent(m.confidence)) " (" (stage) ")" br;
            "right: " (name(report, m.class)) br;
            span.quiet { (clip(m.image.rsplit('/').next().unwrap_or_default())) }
        }
    };
    html! {
        @if worst.is_empty() {
            p { @if report.classes.is_empty() { "These were " (NOT_MEASURED) "." } @else { "There are none: every answer is right." } }
        } @else {
            p { "Wrong answers of the adaptive path, the surest first. Labels can be wrong too: look." }
            ol.pictures {
                @for (i, mistake) in worst.iter().enumerate() {
                    li {
                        @match thumbnails.get(i).and_then(Option::as_ref) {
                            Some(url) => img src=(url) alt={ "taken for " (name(report, mistake.label)) };
                            None => div.none { "no picture here" }
                        }
                        (caption(mistake))
                    }
                }
            }
        }
    }
}
