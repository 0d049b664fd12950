//! The page of `cfvit bench`.

use maud::{Markup, html};

use super::bars::{Bar, bars};
use super::page;
use super::parts::{
    Facts, NOT_MEASURED, clip, clip_text, energy, facts, figure, fixed, interval, machine_facts, maybe, percent, rerun,
    table, warnings,
};
use crate::bench::energy::Draw;
use crate::bench::report::{Conditions, Report};
use crate::bench::schedule::Baseline;
use crate::bench::windows::Window;
use crate::plot::{Line, Mark, Plot, Shape};
use crate::stats::Summary;

/// Windows that are shown, at most.
const MOST_WINDOWS: usize = 100;

/// The median of fewer rounds scatters too much to be drawn; the last window of a series may be that short.
const FEW_ROUNDS: usize = 10;

/// The page of `report`.
pub fn page(report: &Report) -> String {
    let title = format!("cfvit bench: {}", report.conditions.model);
    let content = html! {
        p.verdict { (clip_text(&report.sentence)) }
        @if report.conditions.source == "synthetic" {
            p { "The pictures were made up: times are real, but the share of fine, and with it adaptive, means nothing. Real pictures need " code { "--source" } "." }
        }
        (warnings(&report.warnings))
        h2 { "Conditions" }
        (facts(&conditions(report)))
        (rerun(&report.conditions.rerun))
        h2 { "Four ways to decide a frame" }
        (baselines(report))
        h2 { "How long frames take" }
        (distribution(report))
        h2 { "Where the time goes" }
        (steps(report))
        h2 { "Arithmetic" }
        (arithmetic(report))
        h2 { "Energy" }
        (draws(report))
        h2 { "Throttling" }
        (windows(&report.windows))
        h2 { "Accuracy" }
        p { "Not measured by " code { "bench" } ": " code { "cfvit eval --html" } " does, on labelled pictures." }
    };
    page::page(
        &title,
        html! { "cfvit bench: " (clip(&report.conditions.model)) },
        content,
        &made_by(&report.conditions),
    )
}

/// Program, version, commit.
pub fn made_by(conditions: &Conditions) -> String {
    let revision = conditions.revision.as_deref().unwrap_or("unknown");
    format!("{} (revision {revision})", conditions.program)
}

/// Everything about how `report` was made.
pub fn conditions(report: &Report) -> Facts {
    let c = &report.conditions;
    let pace = c.paced_fps.map_or("back to back".to_owned(), |fps| format!("{} frames/s", fixed(fps, 1)));
    let machine = &report.machine;
    let memory = |kib: Option<u64>| maybe(kib.map(|kib| kib as f64 / 1024.0), 1, "MiB");
    let share = |value: Option<f64>| maybe(value, 1, "%");
    let mut facts = vec![
        ("Processor", c.cpu.as_deref().map_or("this machine does not tell".to_owned(), clip)),
        ("Engine", clip_text(&c.engine)),
        ("Model", clip(&c.model)),
        ("Geometry", clip_text(&c.geometry)),
        ("Threshold η, crop", format!("{}, {}", c.threshold, c.crop)),
        ("Pictures", format!("{} ({})", c.pictures, clip_text(&c.source))),
        ("Rounds", format!("{}, {pace}", report.rounds)),
        ("Date", clip(&c.time)),
        ("Program", clip(&made_by(c))),
        ("Linux kernel", c.kernel.as_deref().map_or("not known".to_owned(), clip)),
    ];
    facts.extend(machine_facts(&machine.before, Some(&machine.after)));
    facts.push(("Taken by a hypervisor", share(machine.change.steal_percent)));
    facts.push(("Other programs, of one processor", share(machine.change.others_percent)));
    facts.push((
        "Memory, and at most",
        format!("{}, {}", memory(machine.memory.resident_kib), memory(machine.memory.peak_kib)),
    ));
    facts
}

/// What each baseline draws, where it was measured.
pub fn draws_of(report: &Report) -> [Option<&Draw>; 4] {
    let Some(energy) = &report.energy else { return [None; 4] };
    [&energy.r#static, &energy.coarse_only, &energy.fine_always, &energy.adaptive].map(Some)
}

fn baselines(report: &Report) -> Markup {
    let fine = [None, Some(0.0), Some(1.0), Some(report.fine_share)];
    let rows = Baseline::ALL.into_iter().zip(report.frames_ms.all()).zip(draws_of(report)).zip(fine);
    let rows: Vec<Vec<String>> = rows
        .map(|(((baseline, times), draw), fine)| {
            let mean = times
                .interval()
                .map_or(NOT_MEASURED.to_owned(), |i| format!("{} ({})", fixed(i.mean, 3), interval(&i, 3)));
            let fine = fine.map_or("–".to_owned(), percent);
            vec![
                baseline.name().to_owned(),
                fixed(times.median, 3),
                mean,
                fixed(times.p90, 3),
                fixed(times.p99, 3),
                fine,
                energy(draw),
            ]
        })
        .collect();
    let header = ["", "median, ms", "mean, ms (interval)", "p90, ms", "p99, ms", "fine", "mJ a frame"];
    let saved = &report.saving.latency_ms;
    let limit = report.break_even_fine_share.map_or("not known".to_owned(), percent);
    html! {
        (table("Times and energy by baseline", &header, &rows))
        p {
            "Adaptive saves " (fixed(saved.per_frame.mean, 3)) " ms a frame against static (" (interval(&saved.per_frame, 3)) " ms; "
            (fixed(saved.percent, 1)) " %), by differences within the same rounds"
            @match &report.saving.energy_mj {
                Some(saved) => { ", and " (fixed(saved.per_frame.mean, 1)) " mJ (" (interval(&saved.per_frame, 1)) " mJ)." }
                None => { "; what it saves in energy was not measured." }
            }
            " Break-even share of fine: " (limit) "."
        }
        p.quiet { "From the decoded picture to the decision. Static: one pass over all fine patches. Intervals of means take the frames as independent." }
    }
}

/// The curves of all baselines.
fn distribution(report: &Report) -> Markup {
    let Some(percentiles) = &report.percentiles_ms else {
        return html! { p { "The distribution was not kept: " (NOT_MEASURED) "." } };
    };
    let lines = Baseline::ALL.into_iter().zip(percentiles.all());
    let plot = Plot {
        title: "Share of frames that are done in a time".to_owned(),
        x_label: "ms from the decoded picture to the decision".to_owned(),
        y_label: "% of frames".to_owned(),
        lines: lines.map(|(baseline, values)| curve(baseline.name(), values)).collect(),
        ..Plot::default()
    };
    figure(&plot, "Drawn up to the 99th percentile; the table above says where each ends.")
}

/// The cumulative distribution through percentiles 0 to 99: the last one is an outlier that would squeeze all others.
pub fn curve(name: &str, percentiles: &[f64]) -> Line {
    let points = percentiles.iter().take(100).enumerate().map(|(percent, &ms)| (ms, percent as f64)).collect();
    Line { name: name.to_owned(), points }
}

/// The steps with their names, in the order of the flow.
pub fn steps_of(report: &Report) -> Vec<(&'static str, &Summary)> {
    let s = &report.steps_ms;
    let mut steps: Vec<(&str, &Summary)> = s.decode.iter().map(|decode| ("decode (not in frames)", decode)).collect();
    steps.extend([
        ("preprocess", &s.preprocess),
        ("coarse", &s.coarse),
        ("gate", &s.gate),
        ("gather", &s.gather),
        ("fine", &s.fine),
        ("static pass", &s.r#static),
    ]);
    if let Some(device) = &s.device {
        steps.extend([
            ("coarse, device", &device.coarse),
            ("fine, device", &device.fine),
            ("static, device", &device.r#static),
        ]);
    }
    steps
}

fn steps(report: &Report) -> Markup {
    let steps = steps_of(report);
    let bar = |(name, times): &(&str, &Summary)| Bar {
        name: (*name).to_owned(),
        value: times.median,
        whisker: times.p95,
        text: format!("{} ms", fixed(times.median, 3)),
    };
    let row = |(name, s): &(&str, &Summary)| {
        let times = [s.min, s.mean, s.median, s.p90, s.p95, s.p99].map(|ms| fixed(ms, 3));
        [(*name).to_owned()].into_iter().chain(times).chain([fixed(s.cv_percent, 1)]).collect()
    };
    html! {
        (bars("Median time of each step", &steps.iter().map(bar).collect::<Vec<_>>(), "Medians; the line goes to the 95th percentile."))
        (table("Times of the steps in milliseconds", &["ms", "min", "mean", "median", "p90", "p95", "p99", "CV %"], &steps.iter().map(row).collect::<Vec<Vec<String>>>()))
    }
}

fn arithmetic(report: &Report) -> Markup {
    let c = &report.compute;
    let rows = [("coarse", &c.coarse), ("fine", &c.fine), ("static", &c.r#static)].map(|(name, pass)| {
        vec![
            name.to_owned(),
            fixed(pass.paper_macs as f64 / 1e9, 4),
            fixed(pass.executed_macs as f64 / 1e9, 4),
            fixed(pass.gflops, 1),
            maybe(pass.peak_percent, 1, ""),
        ]
    });
    html! {
        (table("Multiply-accumulates", &["pass", "10⁹ MAC, as in the paper", "10⁹ MAC executed", "GFLOP/s", "% of peak"], &rows))
        p.quiet { "Peak of multiply-adds alone, in the same minute: " (maybe(c.peak_gflops, 0, "GFLOP/s")) "." }
    }
}

fn draws(report: &Report) -> Markup {
    let Some(energy) = &report.energy else {
        return html! { p { "Energy was " (NOT_MEASURED) ": there is no meter that can be read, or it did not measure every block." } };
    };
    let rows = Baseline::ALL.into_iter().zip(draws_of(report)).filter_map(|(baseline, draw)| Some((baseline, draw?)));
    let bar = |(baseline, draw): (Baseline, &Draw)| Bar {
        name: baseline.name().to_owned(),
        value: draw.mj_per_frame,
        whisker: draw.mj_per_frame + draw.mj_half.unwrap_or(0.0),
        text: format!("{} mJ, {} W", super::parts::energy(Some(draw)), fixed(draw.mean_mw / 1e3, 2)),
    };
    html! {
        p { "By " (clip_text(&energy.meter)) "; " (energy.blocks) " blocks of each, the machine's idle power included." }
        (bars("Energy of a frame", &rows.map(bar).collect::<Vec<_>>(), "Means; the line goes to the upper end of the interval."))
    }
}

/// Which parts of the series were throttled.
fn windows(windows: &[Window]) -> Markup {
    let windows = &windows[..windows.len().min(MOST_WINDOWS)];
    let known = windows.iter().filter(|window| window.throttled.is_some()).count();
    let held: Vec<&Window> = windows.iter().filter(|window| window.throttled == Some(true)).collect();
    let rows: Vec<Vec<String>> = held
        .iter()
        .map(|w| {
            let why = if w.limited_by.is_empty() {
                "counted by the kernel".to_owned()
            } else {
                clip(&w.limited_by.join(", "))
            };
            vec![
                format!("to {} s", fixed(w.end_s, 1)),
                w.rounds.to_string(),
                fixed(w.static_ms, 3),
                maybe(w.clock_mhz, 0, "MHz"),
                maybe(w.gpu_clock_mhz, 0, "MHz"),
                maybe(w.hottest_celsius, 0, "°C"),
                why,
            ]
        })
        .collect();
    html! {
        @if known == 0 {
            p { "Whether the clocks were held back was " (NOT_MEASURED) ": this machine tells nothing about it." }
        } @else {
            p { (held.len()) " of " (known) " windows of the series were throttled." }
        }
        @if !rows.is_empty() {
            (table("Throttled windows", &["window", "rounds", "static, median ms", "processor", "GPU", "hottest", "held back by"], &rows))
        }
        (over_time(windows))
    }
}

/// Whether the machine stayed the same: the baseline whose work is always the same, by window.
fn over_time(windows: &[Window]) -> Markup {
    let windows: Vec<&Window> = windows.iter().filter(|window| window.rounds >= FEW_ROUNDS).collect();
    if windows.len() < 3 {
        return html! {};
    }
    let held = windows.iter().filter(|window| window.throttled == Some(true));
    let plot = Plot {
        title: "Static frames over the series".to_owned(),
        x_label: "s from the begin".to_owned(),
        y_label: "median ms".to_owned(),
        lines: vec![Line {
            name: "static".to_owned(),
            points: windows.iter().map(|w| (w.end_s, w.static_ms)).collect(),
        }],
        marks: held.map(|w| Mark { shape: Shape::Square, text: String::new(), at: (w.end_s, w.static_ms) }).collect(),
        level: None,
    };
    figure(
        &plot,
        "Their work is always the same: a line that rises is a machine that slows down. Squares are throttled windows.",
    )
}
