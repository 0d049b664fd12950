//! `cfvit run` as a service: what a service manager is told, configurations that are read again, the journal, and files of records. The
//! service manager is a socket of the test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Longer than anything here takes on a slow machine; what hangs fails instead of hanging the tests.
const PATIENCE: Duration = Duration::from_secs(240);

/// A moving test card, and the threshold at which the fine stage is never asked: the quickest service there is.
const FRONT: &str = "[gate]\nthreshold = 0\n[report]\ninterval_s = 0.2\n[[camera]]\nname = \"front\"\nsource = \"pattern://?size=64x64&fps=20\"\n";

/// A service in a folder of its own, and its manager.
struct Service {
    child: Child,
    manager: UnixDatagram,
    told: Vec<String>,
    dir: tempfile::TempDir,
}

impl Service {
    /// Starts `cfvit run` with the configuration `config` and `args`; a sign of life is wanted every `watchdog`.
    fn start(config: &str, args: &[&str], watchdog: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, config, args, watchdog)
    }

    fn start_in(dir: tempfile::TempDir, config: &str, args: &[&str], watchdog: Duration) -> Self {
        let socket = dir.path().join("notify");
        let manager = UnixDatagram::bind(&socket).unwrap();
        manager.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        fs::write(dir.path().join("cfvit.toml"), config).unwrap();
        let mut command = cfvit();
        command.arg("run").arg("--config").arg(dir.path().join("cfvit.toml")).args(args);
        command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        command.stdout(File::create(dir.path().join("out")).unwrap());
        command.stderr(File::create(dir.path().join("log")).unwrap());
        Self { child: command.spawn().unwrap(), manager, told: Vec::new(), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Takes what the manager was told meanwhile.
    fn listen(&mut self) {
        let mut datagram = [0; 4096];
        if let Ok(length) = self.manager.recv(&mut datagram) {
            self.told.push(String::from_utf8(datagram[..length].to_vec()).unwrap());
        }
    }

    /// Waits until `done` holds for what the manager is told from now on.
    fn wait(&mut self, what: &str, done: impl Fn(&[String]) -> bool) {
        self.told.clear();
        self.wait_since(what, done);
    }

    /// The same for what it has been told since the last wait began.
    fn wait_since(&mut self, what: &str, done: impl Fn(&[String]) -> bool) {
        let begun = Instant::now();
        while !done(&self.told) {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("{what}: the service ended with {status}: {}", self.log());
            }
            assert!(begun.elapsed() < PATIENCE, "{what} never came: {:?}\n{}", self.told, self.log());
            self.listen();
        }
    }

    /// Waits until the log holds `text`, listening meanwhile.
    fn wait_for_log(&mut self, text: &str) {
        let path = self.path("log");
        self.wait_since(text, |_| fs::read_to_string(&path).unwrap().contains(text));
    }

    fn configure(&self, config: &str) {
        fs::write(self.path("cfvit.toml"), config).unwrap();
        self.signal("HUP");
    }

    fn signal(&self, name: &str) {
        // The shell's own `kill`: a minimal system has no other.
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").arg("-c").arg(kill).status().unwrap().success());
    }

    /// Stops the service; what it printed. The counters of its summary must add up.
    fn stop(mut self) -> (ExitStatus, String) {
        self.signal("TERM");
        let status = wait(&mut self.child);
        while self.told.last().is_none_or(|told| !told.contains("STOPPING=1")) {
            let count = self.told.len();
            self.listen();
            assert!(self.told.len() > count, "no STOPPING=1: {:?}", self.told);
        }
        let summary = fs::read_to_string(self.path("out")).unwrap();
        let counter = |name: &str| -> u64 {
            let line = summary.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{summary}"));
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let counted = ["decided", "dropped", "failed", "in flight"].map(counter).iter().sum::<u64>();
        assert_eq!(counter("captured"), counted, "{summary}");
        (status, summary)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn cfvit() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cfvit"));
    for variable in ["RUST_LOG", "JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

fn wait(child: &mut Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs to the end: exit code, standard output, standard error.
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = cfvit().args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn picture(path: &Path) {
    image::RgbImage::from_fn(80, 60, |x, y| image::Rgb([(x * 3) as u8, (y * 4) as u8, (x ^ y) as u8]))
        .save(path)
        .unwrap();
}

fn any(told: &[String], text: &str) -> bool {
    told.iter().any(|told| told.contains(text))
}

/// Whether a status is among them that has `text`.
fn status(told: &[String], text: &str) -> bool {
    told.iter().flat_map(|told| told.lines()).any(|line| line.starts_with("STATUS=") && line.contains(text))
}

#[test]
fn a_service_tells_that_it_is_ready_alive_reloading_and_stopping() {
    let mut service = Service::start(FRONT, &[], Duration::from_secs(120));
    service.wait("readiness", |told| any(told, "READY=1"));
    assert!(any(&service.told, "EXTEND_TIMEOUT_USEC="), "the engine is opened before: {:?}", service.told);
    service.wait("numbers and signs of life", |told| {
        status(told, "cam front: ")
            && status(told, " frames/s, p99 ")
            && told.iter().filter(|t| *t == "WATCHDOG=1\n").count() >= 2
    });
    assert!(!any(&service.told, "READY=1"), "once is enough");

    // Another camera comes, at a threshold of its own; what needs a restart is named.
    let rear = "[[camera]]\nname = \"rear\"\nsource = \"pattern://?size=32x64&fps=20\"\nthreshold = 0\n";
    service.configure(&format!("{FRONT}{rear}[model]\nthreads = 1\n"));
    service.wait("a reload", |told| {
        let begun = told.iter().position(|told| told.starts_with("RELOADING=1\nMONOTONIC_USEC="));
        begun.is_some_and(|begun| any(&told[begun..], "READY=1"))
    });
    service.wait_for_log("the configuration was read again: [model] needs a restart, everything else is in force");
    service.wait("both cameras", |told| {
        told.iter().any(|told| {
            told.contains("cam front: ") && told.contains("; cam rear: ") && told.matches(" %)").count() == 2
        })
    });

    // An error changes nothing.
    service.configure(&format!("{FRONT}threshold = 60\n"));
    service.wait("a refusal", |told| any(told, "READY=1") && status(told, "cfvit.toml:8: camera.threshold: expected"));
    service.wait_for_log("the new configuration is refused, the old one is in force");
    service.wait("both cameras still", |told| {
        told.iter().any(|told| told.contains("refused") && told.contains("; cam rear: ") && told.contains(" %)"))
    });
    // Nor does a camera that cannot be opened.
    service.configure(&format!("{FRONT}[[camera]]\nname = \"yard\"\nsource = \"/nowhere/at/all\"\n"));
    service.wait("a refusal", |told| {
        any(told, "READY=1") && status(told, "camera yard") && status(told, "/nowhere/at/all")
    });

    // The first camera goes.
    service.configure(&format!("[gate]\nthreshold = 0\n[report]\ninterval_s = 0.2\n{rear}"));
    service.wait("one camera", |told| {
        told.iter().any(|told| told.contains("STATUS=cam rear: ") && told.contains(" %)") && !told.contains("refused"))
    });
    service.wait_for_log("camera front is out of service");
    let (status, summary) = service.stop();
    assert_eq!(status.code(), Some(0), "{summary}");
}

#[test]
fn a_service_without_a_camera_is_ready_and_waits() {
    let config = "[[camera]]\nname = \"front\"\nsource = \"v4l2:///dev/cfvit-no-such-camera\"\n";
    let mut service = Service::start(config, &[], Duration::from_secs(60));
    service.wait("readiness", |told| told.iter().any(|told| told == "READY=1\nSTATUS=waiting for camera\n"));
    service.wait("signs of life while it is looked for", |told| {
        any(told, "WATCHDOG=1") && status(told, "cam front: waiting for camera")
    });
    let (status, summary) = service.stop();
    assert!(status.success() && summary.starts_with("captured   0"), "{summary}");
}

#[test]
fn a_source_that_hangs_is_no_sign_of_life() {
    let dir = tempfile::tempdir().unwrap();
    let pictures = dir.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    picture(&pictures.join("a.png"));
    picture(&pictures.join("b.png"));
    let config = format!(
        "[gate]\nthreshold = 0\n[report]\ninterval_s = 0.2\n[[camera]]\nname = \"front\"\nsource = \"{}\"\nrepeat = true\nfps = 5\n",
        pictures.display()
    );
    let mut service = Service::start_in(dir, &config, &[], Duration::from_secs(8));
    service.wait("signs of life", |told| any(told, "WATCHDOG=1"));
    // Reading a pipe into which nobody writes hangs, as reading from a dead disk does.
    let (picture, pipe) = (pictures.join("a.png"), pictures.join("pipe"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    fs::rename(&pipe, &picture).unwrap();
    service.wait_for_log("the capture from front has been going on for");
    let watchdogs = |told: &[String]| told.iter().filter(|told| *told == "WATCHDOG=1\n").count();
    service.wait("reports without signs of life", |_| service_reports(&service_log(&pictures), 10));
    assert_eq!(watchdogs(&service.told), 0, "{:?}", service.told);
    // An end of the file is a damaged picture. Both ends of the pipe exist while the program reads it.
    fs::OpenOptions::new().write(true).open(&picture).unwrap();
    fs::remove_file(&picture).unwrap();
    fs::write(&picture, "no picture").unwrap();
    service.wait_for_log("everything moves again after");
    service.signal("KILL");
    wait(&mut service.child);
}

/// The log of the service whose pictures lie in `pictures`.
fn service_log(pictures: &Path) -> String {
    fs::read_to_string(pictures.with_file_name("log")).unwrap()
}

/// Whether the log goes on for `lines` reports after the stall.
fn service_reports(log: &str, lines: usize) -> bool {
    let stalled = log.lines().skip_while(|line| !line.contains("has been going on for"));
    stalled.filter(|line| line.contains("captured ")).count() >= lines
}

#[test]
fn lines_for_the_journal_have_priorities_and_the_level_can_change() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("cfvit.toml");
    fs::write(&config, format!("{FRONT}[[camera]]\nname = \"yard\"\nsource = \"/nowhere\"\n")).unwrap();
    let log = |journal: bool, level: &str| {
        let path = dir.path().join(format!("log-{journal}-{level}"));
        let file = File::create(&path).unwrap();
        let metadata = file.metadata().unwrap();
        let inode = if journal { metadata.ino() } else { metadata.ino() + 1 };
        let mut command = cfvit();
        fs::write(
            &config,
            format!(
                "{}\n[log]\nlevel = \"{level}\"\n",
                fs::read_to_string(&config).unwrap().split("\n[log]").next().unwrap()
            ),
        )
        .unwrap();
        command.arg("run").arg("--config").arg(&config).env("JOURNAL_STREAM", format!("{}:{inode}", metadata.dev()));
        let status = command.stdout(Stdio::null()).stderr(file).status().unwrap();
        assert_eq!(status.code(), Some(1));
        fs::read_to_string(path).unwrap()
    };
    let journal = log(true, "info");
    assert!(journal.starts_with("<6>model: "), "{journal}");
    assert!(
        journal.lines().all(|line| line.starts_with("<6>") || line.starts_with("<3>error: camera yard")),
        "{journal}"
    );
    assert!(journal.lines().last().unwrap().contains("/nowhere"), "{journal}");
    let human = log(false, "info");
    assert!(
        human.contains(" info model: ") && human.lines().last().unwrap().starts_with("error: camera yard"),
        "{human}"
    );
    assert!(log(true, "error").lines().eq([journal.lines().last().unwrap()]));
}

#[test]
fn configurations_are_checked_shown_and_refused_with_their_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cfvit.toml");
    let name = path.to_str().unwrap();
    let (code, shown, _) = run(&["config", "show"]);
    assert_eq!(code, Some(0));
    fs::write(&path, &shown).unwrap();
    let (code, in_force, _) = run(&["config", "check", name]);
    assert!(code == Some(0) && in_force.contains("source = \"/dev/video0\""), "{in_force}");
    fs::write(&path, &in_force).unwrap();
    assert_eq!(run(&["config", "check", name]).1, in_force, "what is in force is a configuration too");

    fs::write(&path, "[gate]\n\ntreshold = 0.5\n").unwrap();
    for args in [&["config", "check", name][..], &["run", "--config", name]] {
        let (code, out, error) = run(args);
        assert!(code == Some(2) && out.is_empty(), "{error}");
        let says = format!("error: {name}:3: unknown field `treshold`, expected one of `threshold`, `fallback`, ");
        assert!(error.starts_with(&says) && error.lines().count() == 1, "{error}");
    }
    for (args, says) in [
        (&["run", "--config", "/nowhere/cfvit.toml"][..], "cannot read the configuration /nowhere/cfvit.toml"),
        (&["run"], "--source"),
        (&["run", "--config", name, "--fps", "3"], "--source"),
        (&["run", "--source", "a=/x", "--source", "a=/y"], "two cameras are called a"),
    ] {
        let (code, _, error) = run(args);
        assert!(code == Some(2) && error.contains(says), "{args:?}: {error}");
    }
}

#[test]
fn options_stand_above_the_file_and_several_sources_have_names() {
    let dir = tempfile::tempdir().unwrap();
    picture(&dir.path().join("a.png"));
    let source = dir.path().to_str().unwrap();
    let config = dir.path().join("cfvit.toml");
    fs::write(&config, "[gate]\nthreshold = 2\n[[camera]]\nname = \"x\"\nsource = \"/nowhere\"\n").unwrap();
    let (door, config) = (format!("door={source}"), config.to_str().unwrap());
    let args = ["run", "--config", config, "--source", &door, "--source", source, "--threshold", "0", "--jsonl", "-"];
    let (code, out, log) = run(&args);
    assert_eq!(code, Some(0), "{log}");
    let mut records: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    records.sort_by_key(|record| record["camera"].as_str().unwrap().to_owned());
    let cameras: Vec<&Value> = records.iter().map(|record| &record["camera"]).collect();
    assert_eq!(cameras, ["cam1", "door"]);
    for record in &records {
        assert_eq!((&record["exit"], &record["threshold"]), (&"coarse".into(), &0.0.into()));
        assert_eq!(
            (&record["smooth_label"], &record["smooth_name"]),
            (&record["label"], &record["name"]),
            "the first frame"
        );
        assert_eq!(record["smooth_confidence"], record["confidence"]);
    }
    assert!(log.contains("door: captured 1, dropped 0, decided 1") && log.contains("cam1: captured 1"), "{log}");
}

#[test]
fn a_file_of_records_that_is_full_is_put_aside() {
    let dir = tempfile::tempdir().unwrap();
    picture(&dir.path().join("a.png"));
    let records = dir.path().join("records.jsonl");
    let old = "x".repeat((1 << 20) - 11) + "\n";
    fs::write(&records, &old).unwrap();
    let args = ["run", "--source", dir.path().to_str().unwrap(), "--loop", "--frames", "3", "--threshold", "0"];
    let (code, out, log) = run(&[&args[..], &["--jsonl", records.to_str().unwrap(), "--jsonl-max-mib", "1"]].concat());
    assert_eq!(code, Some(0), "{log}");
    assert!(out.contains("3 written to ") && out.contains(", 0 dropped"), "{out}");
    assert_eq!(fs::read_to_string(dir.path().join("records.jsonl.1")).unwrap(), old);
    let mut text = String::new();
    File::open(&records).unwrap().read_to_string(&mut text).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 3);
}
