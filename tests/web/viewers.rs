//! What watching costs, and that it costs nothing when nobody does.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::service::{Service, until};

/// The encoder waits so long for another viewer after the last one.
const LINGER: Duration = Duration::from_secs(5);

/// Four that read and one that has stopped: the picture is encoded once for all of them, and nobody waits for the one.
#[test]
fn five_viewers_cost_as_much_as_one_and_when_they_are_gone_so_is_the_encoder() {
    let service = Service::start("fps=10");
    let pictures = || service.camera()["pictures"].clone();
    until("a decision", || service.camera()["decision"]["seq"].is_u64());
    assert!(!service.has_thread("pictures"), "no encoder before somebody watches");
    let stopped = service.open("/api/events?camera=cam0");
    let mut viewers: Vec<_> = (0..4).map(|_| service.events("/api/events?camera=cam0")).collect();
    until("all five", || pictures()["viewers"] == 5);
    let (begun, before) = (Instant::now(), pictures());
    let mut each = [0u64; 4];
    while begun.elapsed() < Duration::from_secs(4) {
        for (viewer, count) in viewers.iter_mut().zip(&mut each) {
            *count += u64::from(viewer.next().0 == "decision");
        }
    }
    let (after, elapsed) = (pictures(), begun.elapsed());
    let encoded = after["encodes"].as_u64().unwrap() - before["encodes"].as_u64().unwrap();
    // Five a second, whoever watches; one may have been under way.
    assert!(encoded <= elapsed.as_millis() as u64 / 200 + 2, "{encoded} in {elapsed:?}");
    assert!(each.iter().all(|&seen| seen >= 2), "{each:?}");
    assert!(service.has_thread("pictures"));
    let gone = Instant::now();
    drop((viewers, stopped));
    until("nobody", || pictures()["viewers"] == 0);
    let copies = pictures()["copies"].clone();
    until("the encoder has ended", || !service.has_thread("pictures"));
    let lingered = gone.elapsed();
    assert!(lingered < LINGER + Duration::from_secs(2), "{lingered:?}");
    let decided = service.camera()["frames"]["decided"].as_u64().unwrap();
    until("ten more decisions", || service.camera()["frames"]["decided"].as_u64().unwrap() > decided + 10);
    assert_eq!(pictures()["copies"], copies, "copied for nobody");
}

/// One that sleeps is woken by the second only, however many frames there are.
#[test]
fn unwatched_the_thread_wakes_once_a_second() {
    let service = Service::start("fps=30");
    until("a decision", || service.camera()["decision"]["seq"].is_u64());
    let slept = || {
        let status = service.thread("operator").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
        line.trim().parse::<u64>().unwrap()
    };
    // What was asked above is over.
    std::thread::sleep(Duration::from_secs(1));
    let (begun, before) = (Instant::now(), slept());
    std::thread::sleep(Duration::from_secs(10));
    let (wakes, seconds) = (slept() - before, begun.elapsed().as_secs_f64());
    // Now and then it waits for a lock.
    assert!((wakes as f64) < 1.3 * seconds + 1.0 && wakes > 0, "{wakes} in {seconds} s");
}

/// Latencies of the frames whose records came since `from`, in milliseconds and ascending, and how many records there are.
fn latencies(records: &Path, from: usize) -> (Vec<f64>, usize) {
    let text = std::fs::read_to_string(records).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let latency = |line: &&str| serde_json::from_str::<Value>(line).ok()?["latency_ms"].as_f64();
    let mut latencies: Vec<f64> = lines[from..].iter().filter_map(latency).collect();
    latencies.sort_by(f64::total_cmp);
    (latencies, lines.len())
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// Frame rate and latency with four viewers and one that has stopped, against those with nobody, in alternating windows: 60 s of each. By hand,
/// on a machine that does nothing else: `cargo test --release --test web -- --ignored --nocapture watching_takes_nothing`.
#[test]
#[ignore = "two minutes on a quiet machine"]
fn watching_takes_nothing_from_the_frames() {
    const WINDOW: Duration = Duration::from_secs(15);
    let dir = tempfile::tempdir().unwrap();
    let (config, records) = (dir.path().join("cfvit.toml"), dir.path().join("records.jsonl"));
    let text = format!(
        "[[camera]]\nname = \"cam0\"\nsource = \"pattern://?size=640x360&fps=30\"\n[web]\nlisten = \"127.0.0.1:0\"\n\
         [records]\npath = {records:?}\n[audit]\nslot_s = \"off\"\n"
    );
    std::fs::write(&config, text).unwrap();
    let service = Service::configured(&config);
    std::thread::sleep(Duration::from_secs(3));
    // [nobody, five]
    let (mut frames, mut times) = ([0usize; 2], [Vec::new(), Vec::new()]);
    let mut resident = Vec::new();
    for round in 0..4 {
        for watched in [0, 1] {
            let stopped = (watched == 1).then(|| service.open("/api/events?camera=cam0"));
            let viewers: Vec<_> = (0..4 * watched).map(|_| service.events("/api/events?camera=cam0")).collect();
            let readers: Vec<_> = viewers
                .into_iter()
                .map(|mut viewer| {
                    std::thread::spawn(move || {
                        let begun = Instant::now();
                        while begun.elapsed() < WINDOW + Duration::from_secs(2) && viewer.try_next().is_some() {}
                    })
                })
                .collect();
            std::thread::sleep(Duration::from_secs(2));
            let decided = || service.camera()["frames"]["decided"].as_u64().unwrap() as usize;
            let (_, from) = latencies(&records, 0);
            let (before, begun) = (decided(), Instant::now());
            std::thread::sleep(WINDOW.saturating_sub(begun.elapsed()));
            frames[watched] += decided() - before;
            // Records are written once a second.
            times[watched].extend(latencies(&records, from).0);
            if watched == 1 {
                resident.push(resident_kib(service.pid()));
            }
            readers.into_iter().for_each(|reader| reader.join().unwrap());
            drop(stopped);
            if watched == 1 && round < 3 {
                until("nobody", || !service.has_thread("pictures"));
            }
        }
    }
    let p = |times: &mut Vec<f64>, q: f64| {
        times.sort_by(f64::total_cmp);
        times[((times.len() - 1) as f64 * q) as usize]
    };
    let [alone, watched] = times.each_mut().map(|times| [p(times, 0.5), p(times, 0.99)]);
    let mut out = std::io::stderr();
    writeln!(out, "frames in 60 s: {} alone, {} watched", frames[0], frames[1]).unwrap();
    writeln!(out, "median, p99 in ms: {alone:?} alone, {watched:?} watched; resident KiB while watched: {resident:?}")
        .unwrap();
    let within = |a: f64, b: f64| (b / a - 1.0).abs() <= 0.01;
    assert!(within(frames[0] as f64, frames[1] as f64), "{frames:?}");
    assert!(watched[1] <= alone[1] * 1.01, "p99 {alone:?} {watched:?}");
    let (least, most) = (resident.iter().min().unwrap(), resident.iter().max().unwrap());
    assert!(most - least < 1024, "{resident:?}");
}
