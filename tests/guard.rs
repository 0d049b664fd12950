//! `cfvit run` with a promise: audit, alarm for drift, budget, as a process on the photographs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::explicit_write, reason = "tests")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use assert_cmd::Command;
use cfvit::calibrate::audit;
use cfvit::gate;
use serde_json::Value;

/// These tests measure what frames cost, so one must not take the other's cores away: each holds this while it runs.
static CORES: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    CORES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn cfvit(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("cfvit").unwrap();
    command
        .args(args)
        .timeout(std::time::Duration::from_secs(400))
        .env_remove("RUST_LOG")
        .env_remove("STATE_DIRECTORY");
    command
}

/// Standard output and error, and the exit code.
fn outcome(command: &mut Command) -> (String, String, i32) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

/// The thousand photographs beside the checkout; `None`, said aloud, where they are not.
fn photographs() -> Option<PathBuf> {
    let folder = root().join("../shared/imagenette/val");
    if folder.is_dir() {
        return Some(folder);
    }
    // Not `println!`: the harness would swallow the line of a test that passes.
    writeln!(std::io::stderr(), "skipped: {} has no photographs", folder.display()).unwrap();
    None
}

/// Pictures of `from`, blurred and at 60 % of their light, as files in `to`.
fn spoil(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for (i, entry) in walk(from).into_iter().step_by(2).enumerate() {
        let picture = image::open(&entry).unwrap().to_rgb8();
        let (width, height) = picture.dimensions();
        let triangle = image::imageops::FilterType::Triangle;
        let small = image::imageops::resize(&picture, width / 10, height / 10, triangle);
        let mut blurred = image::imageops::resize(&small, width / 2, height / 2, triangle);
        blurred.pixels_mut().for_each(|pixel| pixel.0.iter_mut().for_each(|v| *v = (u32::from(*v) * 6 / 10) as u8));
        blurred.save(to.join(format!("{i:04}.jpg"))).unwrap();
    }
}

/// The pictures of `folder` on which the coarse stage is sure at `eta` and says something else than the fine one, and the others.
fn parted(folder: &Path, eta: f32) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (out, err, code) = outcome(&mut cfvit(&["classify", "--threshold", "2", "--json", "--trace", text(folder)]));
    assert_eq!(code, 0, "{err}");
    let logits = |said: &Value, stage: &str| -> Vec<f32> {
        said["trace"][stage].as_array().unwrap().iter().map(|v| v.as_f64().unwrap() as f32).collect()
    };
    let is_bad = |said: &Value| {
        let [coarse, fine] = ["coarse_logits", "fine_logits"].map(|stage| logits(said, stage));
        let mut probabilities = Vec::new();
        gate::softmax(&coarse, &mut probabilities);
        let (label, confidence) = gate::argmax(&probabilities);
        confidence >= eta && label != gate::argmax(&fine).0
    };
    let said = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (bad, good): (Vec<Value>, Vec<Value>) = said.partition(is_bad);
    let paths = |said: Vec<Value>| said.iter().map(|said| PathBuf::from(said["image"].as_str().unwrap())).collect();
    (paths(bad), paths(good))
}

fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    found.sort();
    found.into_iter().flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

/// Links to `pictures` in an order that `seed` shuffles, as files in `to`.
fn shuffled(pictures: &[PathBuf], to: &Path, seed: u64) {
    fs::create_dir_all(to).unwrap();
    let mut order: Vec<&PathBuf> = pictures.iter().collect();
    let mut random = cfvit::bench::schedule::Random(seed);
    random.shuffle(&mut order);
    for (i, picture) in order.into_iter().enumerate() {
        let end = picture.extension().unwrap().to_string_lossy().into_owned();
        std::os::unix::fs::symlink(fs::canonicalize(picture).unwrap(), to.join(format!("{i:05}.{end}"))).unwrap();
    }
}

fn configuration(folder: &Path, source: &Path, gate: &str, slot_s: f64) -> PathBuf {
    let path = folder.join("cfvit.toml");
    let repeat = "repeat = true";
    let text = format!(
        "[gate]\n{gate}\n[[camera]]\nname = \"door\"\nsource = \"{}\"\n{repeat}\n[audit]\nfolder = \"{}\"\nslot_s = {slot_s}\n",
        source.display(),
        folder.display()
    );
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn an_alarm_comes_when_the_pictures_change_and_only_then() {
    let Some(photographs) = photographs() else { return };
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("eta.toml");
    let calibrate =
        ["calibrate", "--max-disagreement", "5", "--images", text(&photographs), "--out", text(&certificate)];
    let (_, err, code) = outcome(&mut cfvit(&calibrate));
    assert_eq!(code, 0, "{err}");
    let gate = format!("certificate = \"{}\"", certificate.display());

    let good = folder.path().join("good");
    shuffled(&walk(&photographs), &good, 1);
    let run = |source: &Path, place: &str, frames: &str| {
        let place = folder.path().join(place);
        fs::create_dir(&place).unwrap();
        let config = configuration(&place, source, &gate, 0.01);
        let records = place.join("records.jsonl");
        let arguments = ["run", "--config", text(&config), "--frames", frames, "--jsonl", text(&records)];
        let (_, err, code) = outcome(&mut cfvit(&arguments));
        assert_eq!(code, 0, "{err}");
        (err, place)
    };
    let (err, place) = run(&good, "quiet", "3000");
    assert!(!err.contains("drift"), "{err}");
    assert!(
        err.contains("certificate: With 95 % confidence at most 5 %") && err.contains("audit of camera door:"),
        "{err}"
    );
    let audit = place.join("audit-door.log");
    let audited = (fs::metadata(&audit).unwrap().len() - 1) / 16;
    assert!(audited > 50, "{audited}");

    // The device certifies itself on its own frames.
    let again = folder.path().join("again.toml");
    let arguments =
        ["calibrate", "--json", "--max-disagreement", "20", "--from-audit", text(&audit), "--out", text(&again)];
    let (out, err, code) = outcome(&mut cfvit(&arguments));
    assert_eq!(code, 0, "{err}");
    let said: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(said["certificate"]["assumption"], "slots independent");
    assert!(said["certificate"]["span_h"].as_f64().unwrap() < 1.0);
    let (_, err, code) = outcome(cfvit(&arguments).args(["--crop", "0.7"]));
    assert!(code == 5 && err.contains("another crop"), "{code}: {err}");

    // After a thousand pictures a scene that is dark and blurred, on a quarter of which the coarse stage is wrongly sure: five times what
    // was promised.
    let mixed = folder.path().join("mixed");
    shuffled(&walk(&photographs), &mixed, 2);
    let dark = folder.path().join("dark");
    spoil(&photographs, &dark);
    let eta = fs::read_to_string(&certificate).unwrap();
    let eta = eta.lines().find_map(|line| line.strip_prefix("eta = ")).unwrap().parse().unwrap();
    let (mut scene, others) = parted(&dark, eta);
    assert!(scene.len() >= 10, "{}", scene.len());
    scene.extend_from_within(..);
    let share = scene.len() * 4;
    scene.extend(others.into_iter().cycle().take(share - scene.len()));
    (0..30).for_each(|i| shuffled(&scene, &mixed.join(format!("later-{i:02}")), i));
    let (err, place) = run(&mixed, "drift", "3500");
    let alarm = err.lines().find(|line| line.contains("drift:")).unwrap_or_else(|| panic!("no alarm: {err}"));
    assert!(err.contains("state degraded"), "{err}");
    let audits = audits_until_the_alarm(&place);
    writeln!(std::io::stderr(), "{alarm}\nafter {audits} audits of the scene").unwrap();
    // In theory 90 (ln of 2.6e8 audits between false alarms, by 0.22 an audit).
    assert!((1..=270).contains(&audits), "{audits}");
    // The state is told: in the log of each second and in the records.
    assert!(err.contains(", degraded, label "), "{err}");
    let records = fs::read_to_string(place.join("records.jsonl")).unwrap();
    let records: Vec<Value> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let since = records.iter().position(|record| record["degraded"] == true).unwrap();
    assert!(since >= 1000 && records[since..].iter().all(|r| r["degraded"] == true && r["exit"] == "fine"), "{since}");
    // And after a restart it is still so.
    let (_, err, code) = outcome(&mut cfvit(&["run", "--config", text(&place.join("cfvit.toml")), "--frames", "20"]));
    assert!(code == 0 && err.contains("degraded since an alarm"), "{err}");
    #[cfg(feature = "web")]
    whoever_looks_sees_it(&place.join("cfvit.toml"));
}

/// In the interface, in the metrics, and at the readiness, which it does not end.
#[cfg(feature = "web")]
fn whoever_looks_sees_it(config: &Path) {
    use std::io::{BufRead, BufReader, Read};
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin!("cfvit"));
    command.args(["run", "--web", "127.0.0.1:0", "--config"]).arg(config).env_remove("RUST_LOG");
    let mut run = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(run.stderr.take().unwrap()).lines().map_while(Result::ok);
    let line = log.find(|line| line.contains("page and metrics: http://")).unwrap();
    let address = line.rsplit("http://").next().unwrap().trim_end_matches('/').to_owned();
    // Nobody may ever wait for this pipe.
    std::thread::spawn(move || log.for_each(drop));
    let ask = |path: &str| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let begun = std::time::Instant::now();
    while !ask("/readyz").starts_with("ready\n") {
        assert!(begun.elapsed() < std::time::Duration::from_secs(60));
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let [ready, state, metrics] = ["/readyz", "/api/state", "/metrics"].map(ask);
    let _ = run.kill();
    let _ = run.wait();
    assert_eq!(ready, "ready\ndegraded: door\n");
    let state: Value = serde_json::from_str(&state).unwrap();
    let threshold = &state["cameras"][0]["threshold"];
    assert_eq!((&state["cameras"][0]["degraded"], &threshold["guarded"]), (&true.into(), &true.into()), "{state}");
    assert!(threshold["in_force"].as_f64() > Some(1.0), "{threshold}");
    assert!(metrics.contains("cfvit_calibration_degraded{camera=\"door\"} 1"), "{metrics}");
}

/// Audited frames of the later scene before the alarm, in the run whose files lie in `place`.
fn audits_until_the_alarm(place: &Path) -> usize {
    let state = fs::read_to_string(place.join("audit-door.state")).unwrap();
    let state: toml::Table = toml::from_str(&state).unwrap();
    let alarm_ms = state["degraded_since_ms"].as_integer().unwrap() as u64;
    let records = fs::read_to_string(place.join("records.jsonl")).unwrap();
    let mut records = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let first = records.find(|record| record["image"].as_str().unwrap().contains("later-")).unwrap();
    let change: jiff::Timestamp = first["time"].as_str().unwrap().parse().unwrap();
    let change_ms = change.as_millisecond() as u64;
    let audit = audit::read(&place.join("audit-door.log")).unwrap();
    audit.records.iter().filter(|record| (change_ms..=alarm_ms).contains(&record.time_ms)).count()
}

/// What a run with `gate` in its configuration said of its frames after the first `skip`: the mean cost in milliseconds, the lowest threshold of
/// all, and the log.
fn spent(folder: &Path, source: &Path, gate: &str, (frames, skip): (usize, usize)) -> (f64, f32, String) {
    let config = configuration(folder, source, gate, 10.0);
    let records = folder.join("records.jsonl");
    let _ = fs::remove_file(&records);
    let frames = frames.to_string();
    let run = ["run", "--config", text(&config), "--frames", &frames, "--jsonl", text(&records)];
    let (_, err, code) = outcome(&mut cfvit(&run));
    assert_eq!(code, 0, "{err}");
    let lines = fs::read_to_string(&records).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let total = |line: &Value| line["timing_ms"]["total"].as_f64().unwrap();
    let mean = lines[skip..].iter().map(total).sum::<f64>() / (lines.len() - skip) as f64;
    let lowest = lines.iter().map(|line| line["threshold"].as_f64().unwrap() as f32).fold(f32::INFINITY, f32::min);
    (mean, lowest, err)
}

/// What a frame costs here and now, refined never and always, in milliseconds.
fn costs(folder: &Path, source: &Path) -> [f64; 2] {
    [0, 2].map(|threshold| spent(folder, source, &format!("threshold = {threshold}"), (500, 50)).0)
}

/// Milliseconds that the audits took, as the log of a run tells.
fn audit_ms(log: &str) -> f64 {
    let line = log.lines().find(|line| line.contains("audit of camera door:")).unwrap_or_else(|| panic!("{log}"));
    let passes = line.split("fine passes, ").nth(1).unwrap();
    passes.split(" ms").next().unwrap().parse().unwrap()
}

#[test]
fn a_budget_between_the_stages_is_kept_on_pictures() {
    let Some(photographs) = photographs() else { return };
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("shuffled");
    shuffled(&walk(&photographs), &source, 3);
    let is_kept = || {
        let [none, all] = costs(folder.path(), &source);
        // Far from what the default threshold refines, a third.
        let budget = none + 0.7 * (all - none);
        // Seven windows of 5 s; the first three, and some of the fourth, are not looked at.
        let frames = (35e3 / budget) as usize;
        let gate = format!("budget = \"{budget} ms\"");
        let (kept, _, log) = spent(folder.path(), &source, &gate, (frames, frames / 2));
        // Slots of 10 s, the default.
        assert!(audit_ms(&log) < 0.005 * 35e3, "{log}");
        writeln!(
            std::io::stderr(),
            "coarse {none:.3} ms, both {all:.3} ms, budget {budget:.3} ms, mean {kept:.3} ms ({:+.1} %)",
            100.0 * (kept / budget - 1.0)
        )
        .unwrap();
        (kept / budget - 1.0).abs() < 0.05
    };
    // A machine shared with others may change its pace by a quarter within seconds (seen), faster than the share may follow: such a run says
    // nothing, so there may be others. A controller that does nothing misses by a quarter each time.
    assert!((0..8).any(|_| is_kept()), "never within 5 %");
}

#[test]
fn a_budget_below_the_certified_floor_never_breaks_it() {
    let Some(photographs) = photographs() else { return };
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let (source, certificate) = (folder.path().join("shuffled"), folder.path().join("eta.toml"));
    shuffled(&walk(&photographs), &source, 4);
    let calibrate =
        ["calibrate", "--json", "--max-disagreement", "2", "--images", text(&photographs), "--out", text(&certificate)];
    let (out, err, code) = outcome(&mut cfvit(&calibrate));
    assert_eq!(code, 0, "{err}");
    let certified: Value = serde_json::from_str(&out).unwrap();
    let eta = certified["certificate"]["eta"].as_f64().unwrap() as f32;
    let [none, all] = costs(folder.path(), &source);
    let budget = none + 0.05 * (all - none);
    // Five windows of 5 s, in case every frame was refined.
    let frames = (25e3 / all) as usize;
    let gate = |conflict: &str| {
        format!("certificate = \"{}\"\nbudget = \"{budget} ms\"\non_conflict = \"{conflict}\"", certificate.display())
    };
    let (_, lowest, err) = spent(folder.path(), &source, &gate("accuracy"), (2 * frames, 0));
    assert_eq!(lowest, eta, "the floor is reached and never broken");
    assert!(err.contains("budget_infeasible"), "{err}");
    // Only where the configuration says so, and then that is said.
    let (_, lowest, err) = spent(folder.path(), &source, &gate("budget"), (frames, 0));
    assert!(lowest < eta && err.contains("uncertified: the budget may break"), "{lowest}, {eta}: {err}");
}
