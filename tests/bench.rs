//! `cfvit bench` as a process, with the bundled model: what it says must agree with itself. No time is expected to be anything.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

fn bench(args: &[&str]) -> std::process::Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cfvit"));
    command.arg("bench").args(["--seconds", "0.2", "--warmup", "0", "--min-runs", "5"]).args(args);
    command.env_remove("RUST_LOG").timeout(std::time::Duration::from_secs(120)).output().unwrap()
}

/// Runs and gives the JSON and standard output.
fn measured(args: &[&str]) -> (Value, String) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bench.json");
    let output = bench(&[args, &["--json", file.to_str().unwrap()]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    (json, String::from_utf8(output.stdout).unwrap())
}

fn number(json: &Value, pointer: &str) -> f64 {
    json.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("no number at {pointer}: {json:#}"))
}

/// Every summary is there and ordered; counts of rounds agree.
fn check_times(json: &Value) {
    let rounds = number(json, "/rounds");
    assert!(rounds >= 5.0);
    let steps = ["preprocess", "coarse", "gate", "gather", "fine", "static"].map(|name| format!("/steps_ms/{name}"));
    let frames = ["static", "coarse_only", "fine_always", "adaptive"].map(|name| format!("/frames_ms/{name}"));
    for summary in steps.iter().chain(&frames) {
        let of = |key: &str| number(json, &format!("{summary}/{key}"));
        assert_eq!(of("runs"), rounds, "{summary}");
        assert!(["min", "median", "p90", "p95", "p99", "p99_9"].map(of).is_sorted(), "{summary}");
        assert!(of("mean") >= of("min") && of("cv_percent") >= 0.0, "{summary}");
    }
}

/// Break-even, saving, verdict and sentence follow from the times.
fn check_verdict(json: &Value) {
    let median = |pointer: &str| number(json, &format!("/{pointer}/median"));
    let fine = median("steps_ms/gather") + median("steps_ms/fine");
    let expected = (median("frames_ms/static") - median("frames_ms/coarse_only")) / fine;
    let limit = number(json, "/break_even_fine_share");
    assert!((limit - expected).abs() < 1e-9, "{limit} {expected}");

    let mean = |name: &str| number(json, &format!("/frames_ms/{name}/mean"));
    let saved = number(json, "/saving/latency_ms/per_frame/mean");
    assert!((saved - (mean("static") - mean("adaptive"))).abs() < 1e-9);
    assert!((number(json, "/saving/latency_ms/percent") - 100.0 * saved / mean("static")).abs() < 1e-9);
    let (low, high) =
        (number(json, "/saving/latency_ms/per_frame/low"), number(json, "/saving/latency_ms/per_frame/high"));
    let (verdict, start) = match (low > 0.0, high < 0.0) {
        (true, _) => ("pays", "The adaptive path pays"),
        (_, true) => ("does_not_pay", "The adaptive path does not pay"),
        _ => ("undecided", "Whether the adaptive path pays cannot be told"),
    };
    assert_eq!(json["verdict"], verdict);
    let sentence = json["sentence"].as_str().unwrap();
    assert!(sentence.starts_with(start), "{sentence}");
    assert!(sentence.contains(&format!("{:.2} ms", saved.abs())), "{sentence}");
    let share = number(json, "/fine_share");
    assert!(sentence.contains(&format!("{:.1} % of the frames were fine", 100.0 * share)), "{sentence}");
    if limit > 0.0 {
        assert!(sentence.contains(&format!("break-even is {:.1} %", 100.0 * limit)), "{sentence}");
    }
}

#[test]
fn a_short_run_on_synthetic_pictures_agrees_with_itself() {
    let (json, text) = measured(&["--threshold", "0.5"]);
    check_times(&json);
    check_verdict(&json);
    assert_eq!((&json["schema"], &json["conditions"]["source"]), (&1.into(), &"synthetic".into()));
    assert!(json["conditions"]["rerun"].as_str().unwrap().starts_with("cfvit bench --seconds 0.2"));
    for pass in ["coarse", "fine", "static"] {
        let of = |key: &str| number(&json, &format!("/compute/{pass}/{key}"));
        assert!(of("executed_macs") > 0.0 && of("executed_macs") <= of("paper_macs"), "{pass}");
        let ms = number(&json, &format!("/steps_ms/{pass}/median"));
        assert!((of("gflops") - 2.0 * of("executed_macs") / (ms * 1e6)).abs() < 1e-6 * of("gflops"), "{pass}");
    }
    assert!(number(&json, "/compute/peak_gflops") > 0.0);
    assert!(text.contains(json["sentence"].as_str().unwrap()), "{text}");
    assert!(text.contains("synthetic pictures means nothing"), "{text}");
    let tables = text.lines().filter(|line| !line.starts_with("The ") && !line.starts_with("Whether "));
    assert!(tables.clone().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn real_pictures_are_decoded_before_and_the_threshold_decides_the_share() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures");
    let source = source.to_str().unwrap();
    let (json, text) = measured(&["--source", source, "--threshold", "2"]);
    check_times(&json);
    check_verdict(&json);
    assert_eq!(number(&json, "/fine_share"), 1.0, "η above 1 always refines");
    assert_eq!(number(&json, "/steps_ms/decode/runs"), number(&json, "/conditions/pictures"));
    assert!(text.contains("decode (not in frames)") && !text.contains("means nothing"), "{text}");
    let (json, _) = measured(&["--source", source, "--threshold", "0", "--paced", "200", "--threads", "1"]);
    check_verdict(&json);
    assert_eq!(number(&json, "/fine_share"), 0.0);
    assert_eq!((number(&json, "/conditions/paced_fps"), number(&json, "/conditions/threads")), (200.0, 1.0));
}

#[test]
fn wrong_usage_is_named_and_no_file_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().to_str().unwrap();
    for args in [&["--paced", "0"][..], &["--seconds", "-1"], &["--min-runs", "1"], &["--source", source]] {
        let output = bench(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::write(dir.path().join("broken.jpg"), b"\xff\xd8\xff\xe0 no picture").unwrap();
    let json = dir.path().join("bench.json");
    let output = bench(&["--source", source, "--json", json.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("broken.jpg") && !json.exists());
}
