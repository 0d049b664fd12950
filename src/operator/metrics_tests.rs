//! What a scrape says at most, and that what is shipped for Prometheus and Grafana asks for nothing else.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use super::*;
use crate::capture::status::Counts;
use crate::examples::{self, About, Limits};
use crate::frame::{Stage, Timing};
use crate::guard::Promises;
use crate::operator::board::{Facts, Snapshot};
use crate::operator::messages::Output;
use crate::report::Tally;
use crate::smoothing::Smooth;

const DASHBOARD: &str = include_str!("../../packaging/grafana-dashboard.json");
const ALERTS: &str = include_str!("../../packaging/prometheus-alerts.yml");

fn snapshot() -> Snapshot {
    Snapshot {
        seq: 1,
        captured: SystemTime::now(),
        decided: Instant::now(),
        stage: Stage::Fine,
        label: 0,
        confidence: 0.5,
        smooth: Smooth { label: 0, confidence: 0.5 },
        coarse_confidence: 0.5,
        threshold: 0.5,
        top: vec![],
        coarse_top: vec![],
        informative: vec![],
        attention: vec![],
        latency: Duration::from_millis(5),
        timing: Timing::default(),
    }
}

/// A machine that has everything, with hostile names.
fn around() -> Around {
    let many = |what: &str| (0..40).map(|i| format!("{what}\"\\\n{i}")).collect::<Vec<_>>();
    let machine = State {
        clock_mhz: Some(1500.0),
        gpu_clock_mhz: Some(900.0),
        zones_celsius: many("zone").into_iter().map(|zone| (zone, 50.0)).collect(),
        limited_by: many("limit"),
        over_current: Some(3),
        throttled: Some(2),
        power_mode: Some("15W".into()),
        ..State::default()
    };
    let rails_w = (0..20).map(|i| (format!("rail{i}"), 5.0)).collect();
    Around { machine, rails_w, clients: [("connection", 3), ("stream", 1)] }
}

/// Everything that there can be with so many cameras.
fn everything(cameras: usize) -> Scrape {
    let labels = (0..1000).map(|class| format!("class {class}")).collect();
    let names: Vec<String> = (0..cameras).map(|i| format!("cam{i}")).collect();
    let promises: Vec<(&str, bool)> = names.iter().map(|name| (name.as_str(), name == "cam0")).collect();
    let mut board = Board::new(Facts { labels, counted: (100..120).collect(), ..Facts::default() });
    board.promises = Promises::sample(&promises);
    let limits = Limits { max_bytes: 0, max_files: 0, min_free_bytes: 0 };
    let (shelf, _) = examples::start("/nowhere".into(), limits, About::default(), false).unwrap();
    board.examples = Some(shelf);
    [Output::Events, Output::Mqtt, Output::Webhook].into_iter().for_each(|output| board.messages.show(output));
    let board = Arc::new(board);
    let camera = |i: usize| {
        let channel = board.channel(&format!("cam{i}"));
        channel.decide_threshold(0.5);
        channel.show(&mut Some(snapshot()));
        (0..200).for_each(|label| channel.count_class(&board.facts.counted, label));
        let tally = Tally {
            captured: 250,
            decided: 200,
            fine: 70,
            dropped: 30,
            failed: 19,
            corrupt: 4,
            short: 5,
            in_flight: 1,
            ..Tally::default()
        };
        let about = "test card".to_owned();
        CameraView { name: channel.name.clone(), about, tally, state: CameraState::Up, counts: Some(Counts::default()) }
    };
    let cameras = (0..cameras).map(camera).collect();
    Scrape { cameras, board, around: around(), rails_mj: (0..20).map(|i| (format!("rail{i}"), 5e5)).collect() }
}

fn text_of(scrape: Scrape) -> String {
    encoded(scrape, Format::Prometheus).unwrap()
}

fn series(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

#[test]
fn the_number_of_series_is_limited_whatever_the_machine_the_model_and_the_configuration() {
    for (cameras, limit) in [(1, 250), (8, 700)] {
        let text = text_of(everything(cameras));
        let count = series(&text).count();
        assert!(count <= limit, "{count} series with {cameras} cameras");
        println!("{count} series with {cameras} cameras");
    }
}

#[test]
fn every_decision_counts_for_one_class_however_few_are_listed() {
    for (cameras, listed) in [(1, 20), (8, 15), (16, 7)] {
        let text = text_of(everything(cameras));
        let of = |prefix: &str| -> Vec<u64> {
            series(&text)
                .filter(|line| line.starts_with(prefix))
                .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
                .collect()
        };
        let counts = of("cfvit_decisions_by_class_total{camera=\"cam0\"");
        assert_eq!((counts.len(), counts.iter().sum::<u64>()), (listed + 1, 200), "{text}");
        assert_eq!(of("cfvit_decisions_by_class_total{camera=\"cam0\",class=\"other\"}"), [200 - listed as u64]);
        let sum = |name: &str| of(&format!("{name}{{camera=\"cam0\"")).iter().sum::<u64>();
        let answered =
            sum("cfvit_decisions_total") + sum("cfvit_frames_dropped_total") + sum("cfvit_frames_failed_total");
        assert_eq!(sum("cfvit_frames_captured_total"), answered + sum("cfvit_frames_in_flight"));
    }
    let text = text_of(everything(2));
    for line in [
        "cfvit_frames_dropped_total{camera=\"cam0\",reason=\"newer\"} 30",
        "cfvit_frames_dropped_total{camera=\"cam0\",reason=\"corrupt\"} 4",
        "cfvit_frames_dropped_total{camera=\"cam0\",reason=\"short\"} 5",
        "cfvit_frames_failed_total{camera=\"cam0\"} 10",
        "cfvit_calibration_degraded{camera=\"cam0\"} 1",
        "cfvit_calibration_degraded{camera=\"cam1\"} 0",
        "cfvit_power_watts{rail=\"rail3\"} 5.0",
        "cfvit_energy_joules_total{rail=\"rail3\"} 500.0",
    ] {
        assert!(series(&text).any(|known| known == line), "{line}: {text}");
    }
    let mut scrape = everything(1);
    scrape.board = Arc::new(Board::new(Facts::default()));
    scrape.board.channel("cam0").count_class(&[], 3);
    assert!(!text_of(scrape).contains("by_class"), "off unless it is asked for");
}

#[test]
fn what_is_not_known_has_no_series_and_no_throttling_is_a_zero() {
    let mut scrape = everything(1);
    scrape.around = Around::default();
    scrape.rails_mj.clear();
    let text = text_of(scrape);
    for name in
        ["cfvit_throttled", "cfvit_throttle_events", "cfvit_temperature", "cfvit_clock", "cfvit_power", "cfvit_energy"]
    {
        assert!(!text.contains(name), "{name}: {text}");
    }
    assert!(
        text.contains("cfvit_config_last_reload_successful 1")
            && text.contains("revision=\"")
            && text.contains("precision=\"")
    );
    let mut scrape = everything(1);
    scrape.around.machine.limited_by.clear();
    assert!(text_of(scrape).contains("cfvit_throttled{reason=\"any\"} 0"));
    let mut scrape = everything(1);
    scrape.around.machine.limited_by = ["any", "cpu", "cpu"].map(str::to_owned).to_vec();
    assert_eq!(series(&text_of(scrape)).filter(|line| line.starts_with("cfvit_throttled{")).count(), 2, "each once");
    assert!(text_of(everything(1)).contains("cfvit_throttled{reason=\"any\"} 1"));
}

/// The metrics that `text` names.
fn named(text: &str) -> BTreeSet<&str> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    // A recording rule's name has a colon, so it stands for itself.
    let words = text.split(|c: char| !is_word(c) && c != ':');
    words.filter(|word| word.starts_with("cfvit_") || word.starts_with("process_")).collect()
}

#[test]
fn the_dashboard_and_the_alerts_ask_only_for_what_there_is() {
    let text = text_of(everything(2));
    let known: BTreeSet<&str> = series(&text).filter_map(|line| line.split(['{', ' ']).next()).collect();
    let dashboard: serde_json::Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries: Vec<&str> = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten())
        .map(|target| target["expr"].as_str().unwrap())
        .chain(
            dashboard["templating"]["list"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|variable| variable["query"].as_str()),
        )
        .collect();
    assert!(queries.len() > 15);
    for metric in queries.iter().flat_map(|query| named(query)).chain(named(ALERTS)) {
        assert!(known.contains(metric), "{metric} is no metric");
    }
    assert!(named(ALERTS).len() >= 6);
    for panel in panels {
        assert!(panel["title"].is_string() && panel["description"].is_string(), "{panel}");
    }
}

#[test]
fn promtool_is_content_with_every_series() {
    let child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = child else {
        // Not `println!`: the harness would swallow the line of a test that passes.
        let _ = writeln!(std::io::stderr(), "skipped: promtool is not installed (Debian package prometheus)");
        return;
    };
    promtool.stdin.take().unwrap().write_all(text_of(everything(2)).as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let says = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && says.is_empty(), "{}", String::from_utf8_lossy(&says));
}
