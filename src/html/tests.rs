//! Pages from made-up measurements.

use serde_json::json;

use super::*;
use crate::bench::energy::{Draw, Energy};
use crate::bench::measure::Samples;
use crate::bench::report::{Conditions, Frames, Machine, Measured, Report as Bench};
use crate::bench::verdict::Saving;
use crate::bench::windows::Window;
use crate::eval::detail::{Mistake, WORST};
use crate::eval::report::{Cost, Gmacs, Report as Eval};
use crate::eval::{Evaluation, Observation};
use crate::frame::Timing;
use crate::machine::{Change, Memory, State};
use crate::model::{Family, Geometry};
use crate::stats::Interval;

const GEOMETRY: Geometry = Geometry {
    family: Family::Deit,
    grid: 7,
    patch: 16,
    width: 192,
    depth: 6,
    heads: 3,
    hidden: 768,
    classes: 10,
    stem: 0,
};
/// What a label, a file's name or a model may be called at worst.
const HOSTILE: &str = "</td><script src=https://x.example/a.js>alert('&')</script>\"\u{202e}\u{1b}[31m";

fn samples(scale: f64) -> Samples {
    let times = |ms: f64| (0..200).map(|i| scale * (ms + f64::from(i % 17) / 10.0)).collect::<Vec<_>>();
    Samples {
        frames: [times(12.0), times(4.0), times(14.0), times(8.0)],
        steps: (0..200)
            .map(|i| Timing { coarse_ms: 3.0 + f64::from(i % 5), fine_ms: 9.0, ..Timing::default() })
            .collect(),
        full: times(11.0),
        fine: 90,
        ..Samples::default()
    }
}

fn bench_report(scale: f64, name: &str) -> Bench {
    let conditions = Conditions {
        program: "cfvit 0.0.0".into(),
        revision: None,
        kernel: Some("6.1.0".into()),
        time: "2026-01-01T00:00:00Z".into(),
        rerun: format!("cfvit bench --model {name}"),
        cpu: None,
        engine: "test".into(),
        threads: 1,
        model: name.into(),
        geometry: "tiny".into(),
        threshold: 0.5,
        crop: 0.875,
        source: "synthetic".into(),
        pictures: 16,
        paced_fps: None,
        late_frames: 0,
        seed: 1,
    };
    let (before, after) = (State { power_mode: Some("15W".into()), ..State::default() }, State::default());
    let machine = Machine { before, after, change: Change::default(), memory: Memory::default() };
    Bench::new(Measured {
        conditions,
        decode_ms: vec![],
        samples: samples(scale),
        geometry: GEOMETRY,
        executed: GEOMETRY.macs(),
        peak_gflops: None,
        energy: None,
        machine,
        windows: vec![],
    })
    .unwrap()
}

fn energy() -> Energy {
    let draw = |mj| Draw { mean_mw: 5000.0, mj_per_frame: mj, mj_half: Some(1.5) };
    Energy {
        meter: "rail <VDD_IN>".into(),
        blocks: 4,
        r#static: draw(90.0),
        coarse_only: draw(30.0),
        fine_always: draw(110.0),
        adaptive: draw(66.0),
        saving: None,
    }
}

/// `classes` classes, each with three pictures, of which some are wrong.
fn eval_report(classes: usize, name: &str) -> Eval {
    let mut evaluation = Evaluation::new(&GEOMETRY);
    for i in 0..3 * classes {
        let (class, confidence) = (i % classes, (i * 37 % 100) as f32 / 100.0);
        let label = if i % 4 == 0 { (class + i / 4 + 1) % classes } else { class };
        let coarse_rank = usize::from(label != class);
        let (fine_label, fine_confidence) = (class, 0.9);
        evaluation.add(Observation {
            sample: i,
            class,
            confidence,
            coarse_label: label,
            coarse_rank,
            fine_label,
            fine_confidence,
            ..Observation::default()
        });
    }
    Eval {
        model: name.into(),
        images: evaluation.images(),
        unreadable: 1,
        crop: 0.875,
        threshold: 0.5,
        gmacs: Gmacs { coarse: 0.1, fine: 0.4 },
        coarse: evaluation.coarse(),
        fine: evaluation.fine(),
        dynamic: evaluation.dynamic(0.5),
        r#static: None,
        sweep: Some(evaluation.sweep()),
        conditions: None,
        labels: (0..classes).map(|class| format!("{name} {class}")).collect(),
        classes: evaluation.classes(0.5),
        confusion: evaluation.confusion(0.5),
        reliability: Some(evaluation.reliability(0.5)),
        worst: evaluation
            .worst(0.5, |sample| format!("pictures/{name}{sample}.jpg"))
            .into_iter()
            .map(|w| w.1)
            .collect(),
        cost: None,
    }
}

fn cost() -> Cost {
    let frames_ms = Frames::of(&samples(1.0)).unwrap();
    Cost { rounds: 200, frames_ms, energy: Some(energy()), warnings: vec!["hot".into()] }
}

/// Whether every element is closed in its turn, every attribute quoted, every ampersand an entity, and nothing names anything outside.
fn check(page: &str) {
    assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">") && page.ends_with("</html>"));
    assert!(page.len() < MAX_BYTES, "{} bytes", page.len());
    let mut open: Vec<&str> = Vec::new();
    let mut rest = &page["<!DOCTYPE html>".len()..];
    let style = page.split("<style>").nth(1).and_then(|style| style.split("</style>").next()).unwrap();
    assert!(!style.contains("url(") && !style.contains("@import"));
    while let Some(at) = rest.find('<') {
        entities(&rest[..at]);
        let end = at + rest[at..].find('>').expect("a tag ends");
        let tag = &rest[at + 1..end];
        assert!(!tag.contains('<'), "{tag}");
        let name = tag.trim_start_matches('/').split([' ', '\n', '/']).next().unwrap();
        match tag.starts_with('/') {
            true => assert_eq!(open.pop(), Some(name), "</{name}> closes nothing"),
            false if tag.ends_with('/') || ["meta", "br", "img"].contains(&name) => attributes(tag),
            false => {
                attributes(tag);
                open.push(name);
            }
        }
        rest = &rest[end + 1..];
    }
    assert!(open.is_empty() && rest.is_empty(), "{open:?} stay open");
}

/// Attributes are quoted, say nothing that a browser would run, and name nothing but pictures inside the page.
fn attributes(tag: &str) {
    assert!(tag.matches('"').count().is_multiple_of(2), "{tag}");
    let name = tag.split([' ', '\n', '/']).next().unwrap();
    assert!(!["script", "link", "iframe", "object", "embed", "base", "form", "a"].contains(&name), "{tag}");
    let mut parts = tag.split('"');
    while let (Some(outside), Some(value)) = (parts.next(), parts.next()) {
        let attribute = outside.trim().trim_end_matches('=').rsplit(' ').next().unwrap();
        assert!(!attribute.starts_with("on") && !["href", "style", "srcset"].contains(&attribute), "{tag}");
        assert!(attribute != "src" || value.starts_with("data:image/jpeg;base64,"), "{tag}");
        entities(value);
    }
}

fn entities(text: &str) {
    for after in text.split('&').skip(1) {
        assert!(["amp;", "lt;", "gt;", "quot;"].iter().any(|entity| after.starts_with(entity)), "&{after:.20}");
    }
}

#[test]
fn a_page_of_bench_is_whole_says_what_was_not_measured_and_follows_from_its_json() {
    let mut report = bench_report(1.0, HOSTILE);
    let page = bench(&report);
    check(&page);
    assert!(page.contains("Energy was not measured") && page.contains("clocks were held back was not measured"));
    assert!(
        page.contains("15W")
            && page.contains("4.000 ms a frame against static")
            && page.contains("this machine does not tell")
    );
    assert!(page.contains("times are real") && page.contains("revision unknown"));
    let json = serde_json::to_vec(&report).unwrap();
    assert_eq!(Measurement::parse(&json).unwrap().page(), page, "from its JSON");
    assert_eq!(bench(&report), page, "twice");

    report.energy = Some(energy());
    report.saving.energy_mj = Some(Saving::new(Interval { mean: 24.0, low: 22.0, high: 26.0 }, 90.0));
    let window = |end_s, throttled| Window { end_s, rounds: 60, static_ms: 12.0, throttled, ..Window::default() };
    report.windows = vec![window(1.0, Some(false)), window(2.0, Some(true)), window(3.0, Some(false))];
    let page = bench(&report);
    check(&page);
    assert!(page.contains("1 of 3 windows of the series were throttled") && page.contains("to 2.0 s"), "{page}");
    assert!(
        page.contains("66.0 ± 1.5") && page.contains("24.0 mJ (22.0 to 26.0 mJ)") && page.contains("&lt;VDD_IN&gt;")
    );
}

#[test]
fn a_page_of_eval_shows_matrix_classes_mistakes_and_says_what_was_not_measured() {
    let mut report = eval_report(6, HOSTILE);
    let page = eval(&report, &[]);
    check(&page);
    assert!(
        page.contains("class=\"matrix\"")
            && page.contains("no picture here")
            && page.contains("Against milliseconds: not measured")
    );
    assert!(page.contains("Expected calibration error") && page.contains("Static, coarse, fine, adaptive"));
    let json = serde_json::to_vec(&report).unwrap();
    assert_eq!(Measurement::parse(&json).unwrap().page(), page, "from its JSON");

    report.cost = Some(cost());
    report.r#static = Some(report.fine);
    let page = eval(&report, &[Some("data:image/jpeg;base64,AAAA".into())]);
    check(&page);
    assert!(
        page.contains("Accuracy against ms") && page.contains("Accuracy against mJ") && page.contains("Warning: hot")
    );
    assert!(page.contains("<img src=\"data:image/jpeg;base64,AAAA\""));
    // A file of a version that wrote less.
    let old = json!({
        "model": "m", "images": 2, "unreadable": 0, "crop": 1.0, "threshold": 0.5, "gmacs": { "coarse": 0.1, "fine": 0.2 },
        "coarse": { "top1": 50.0, "top5": 100.0 }, "fine": { "top1": 50.0, "top5": 100.0 },
        "dynamic": { "top1": 50.0, "top5": 100.0, "fine_fraction": 0.5, "mean_gmacs": 0.2 },
    });
    let page = Measurement::parse(old.to_string().as_bytes()).unwrap().page();
    check(&page);
    assert!(page.matches("not measured").count() >= 6, "{page}");
}

#[test]
fn a_thousand_classes_with_hostile_names_and_every_picture_stay_below_the_limit() {
    let long = format!("{HOSTILE}{}", "&".repeat(5000));
    let mut report = eval_report(1000, &long);
    report.cost = Some(Cost { warnings: vec![long.clone(); 100], ..cost() });
    let mistake = Mistake { image: long.clone(), class: 7, label: 9, confidence: 0.9, fine: true };
    report.worst = vec![mistake; 3 * WORST];
    // The largest that `thumbnail` gives.
    let url = Some(format!("data:image/jpeg;base64,{}", "A".repeat(18_000 * 4 / 3)));
    let page = eval(&report, &vec![url; 3 * WORST]);
    check(&page);
    assert!(page.contains("1000 classes") && page.contains("960 better classes"));
    assert_eq!(page.matches("<img ").count(), WORST);

    let mut report = bench_report(1.0, &long);
    report.warnings = vec![long.clone(); 1000];
    report.sentence = long.clone();
    let window = Window { throttled: Some(true), limited_by: vec![long.clone(); 9], ..Window::default() };
    report.windows = vec![window; 10_000];
    check(&bench(&report));
    let both = [bench_report(1.0, &long), report].map(|report| Measurement::Bench(Box::new(report)));
    check(&compare(both, [long.clone(), long]).unwrap());
}

#[test]
fn the_policy_allows_this_style_alone() {
    use base64::Engine;
    use sha2::Digest;
    let page = bench(&bench_report(1.0, "m"));
    let (_, style) = page.split_once("<style>").unwrap();
    let (style, _) = style.split_once("</style>").unwrap();
    let sum = base64::prelude::BASE64_STANDARD.encode(sha2::Sha256::digest(style));
    assert!(page.contains(&format!("default-src 'none'; style-src 'sha256-{sum}'; img-src data:;")), "{page:.900}");
}

#[test]
fn a_comparison_tells_b_from_a_and_what_may_be_why() {
    let names = || ["a.json".to_owned(), "b.json".to_owned()];
    let of = |scale, name: &str| Measurement::Bench(Box::new(bench_report(scale, name)));
    let page = compare([of(1.0, "m"), of(0.5, "n")], names()).unwrap();
    check(&page);
    assert!(page.contains("Adaptive frames: B has 4.393 ms less than A"), "{page}");
    assert!(page.contains("≠ Model") && !page.contains("≠ Engine") && page.contains("-50.0 %"), "{page}");
    let page = compare([of(1.0, "m"), of(1.0, "m")], names()).unwrap();
    assert!(page.contains("no difference can be told from these runs") && !page.contains("≠ Model"));

    let eval = |classes| Measurement::Eval(Box::new(eval_report(classes, "m")));
    let page = compare([eval(6), eval(8)], names()).unwrap();
    check(&page);
    assert!(page.contains("Newcombe") && page.contains("adaptive, ms a frame") && page.contains("not measured"));
    let error = compare([eval(6), of(1.0, "m")], names()).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("nothing to compare"), "{error}");
}

#[test]
fn what_is_no_report_is_refused() {
    for text in ["", "[]", "{}", "{\"frames_ms\": 3}", "{\"dynamic\": {\"top1\": \"x\"}}", "\u{0}"] {
        let error = Measurement::parse(text.as_bytes()).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("bench --json"), "{text}: {error}");
    }
}

#[test]
fn a_thumbnail_is_small_and_lies_inside_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("wide.png");
    image::RgbImage::from_fn(900, 30, |x, y| image::Rgb([x as u8, y as u8, 7])).save(&path).unwrap();
    let url = thumbnail(&path).unwrap();
    let jpeg =
        base64::Engine::decode(&base64::prelude::BASE64_STANDARD, url.strip_prefix("data:image/jpeg;base64,").unwrap());
    let small = image::load_from_memory(&jpeg.unwrap()).unwrap();
    assert_eq!((small.width(), small.height()), (160, 5));
    assert_eq!(thumbnail(&dir.path().join("none.jpg")), None);
}
