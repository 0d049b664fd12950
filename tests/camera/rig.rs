//! The program with the fake camera (`camera.c`) preloaded.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The fake camera as a library, built once per test program; `None`, with a printed line, without a C compiler.
pub fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let build = || {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/camera/camera.c");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("camera-{}.so", std::process::id()));
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let mut command = Command::new(&compiler);
        command.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-shared", "-fPIC", "-pthread"]);
        let Ok(output) = command.arg(source).arg("-o").arg(&library).output() else {
            // Not `println!`: the harness would swallow the line of a test that passes.
            let _ = writeln!(std::io::stderr(), "skipped: no C compiler: {}", compiler.display());
            return None;
        };
        assert!(output.status.success(), "camera.c: {}", String::from_utf8_lossy(&output.stderr));
        Some(library)
    };
    LIBRARY.get_or_init(build).as_deref()
}

/// A fake camera that can be unplugged and made to fail, in a folder of its own.
pub struct Rig {
    library: &'static Path,
    pub dir: tempfile::TempDir,
    pub node: PathBuf,
    picture: Option<PathBuf>,
}

/// `cfvit run` on it.
pub struct Run {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    counts: PathBuf,
}

/// What a run left behind.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub log: String,
    /// What the camera counted; empty when the program did not end by itself.
    pub counts: String,
}

impl Rig {
    /// A camera that is plugged in and works; `None` where it cannot be built.
    pub fn new() -> Option<Self> {
        let library = library()?;
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("video0");
        let rig = Self { library, dir, node, picture: None };
        rig.plug();
        Some(rig)
    }

    /// Shows the frame in this file.
    pub fn show(&mut self, frame: PathBuf) {
        self.picture = Some(frame);
    }

    pub fn plug(&self) {
        std::fs::write(&self.node, "").unwrap();
    }

    pub fn unplug(&self) {
        std::fs::remove_file(&self.node).unwrap();
    }

    /// From now on the camera has this fault; see `camera.c`.
    pub fn set_fault(&self, fault: &str) {
        let (file, beside) = (self.dir.path().join("video0.fault"), self.dir.path().join("beside"));
        std::fs::write(&beside, fault).unwrap();
        std::fs::rename(beside, file).unwrap();
    }

    /// `cfvit run --source v4l2://NODE?query` with more arguments.
    pub fn start(&self, query: &str, args: &[&str]) -> Run {
        let counts = self.dir.path().join("counts");
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cfvit"));
        command.arg("run").arg("--source").arg(format!("v4l2://{}{query}", self.node.display()));
        command.args(["--report-interval", "0.1", "--threads", "1"]).args(args);
        command.env("LD_PRELOAD", self.library).env("FAKE_NODE", &self.node).env("FAKE_COUNTS", &counts);
        command.env_remove("RUST_LOG");
        if let Some(picture) = &self.picture {
            command.env("FAKE_PICTURE", picture);
        }
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (log, stderr) = (Arc::<Mutex<String>>::default(), child.stderr.take().unwrap());
        let reader = std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let mut log = log.lock().unwrap();
                    log.push_str(&line);
                    log.push('\n');
                }
            }
        });
        Run { child, log, reader: Some(reader), counts }
    }

    /// The same, to its end.
    pub fn run(&self, query: &str, args: &[&str]) -> Ran {
        self.start(query, args).finish()
    }
}

impl Run {
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits until the log is as `wanted`.
    pub fn wait_for(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while !wanted(&self.log()) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "{what}: {ended:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the log holds `text` for the `times`-th time.
    pub fn wait_for_lines(&mut self, text: &str, times: usize) {
        self.wait_for(text, |log| log.matches(text).count() >= times);
    }

    /// Waits until `more` frames are decided.
    pub fn wait_for_decisions(&mut self, more: u64) {
        let wanted = decided(&self.log()) + more;
        self.wait_for("decisions", |log| decided(log) >= wanted);
    }

    /// Open files of the process.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Asks it to stop, and waits for its end.
    pub fn stop(self) -> Ran {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").arg("-c").arg(kill).status().unwrap().success());
        self.finish()
    }

    /// Waits for its end. The camera's rules must have been kept.
    pub fn finish(mut self) -> Ran {
        let begun = Instant::now();
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if begun.elapsed() > PATIENCE => {
                    self.child.kill().unwrap();
                    panic!("the run does not end: {}", self.log());
                }
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.reader.take().unwrap().join().unwrap();
        let log = self.log.lock().unwrap().clone();
        assert!(status.code() != Some(77) && !log.contains("VIOLATION"), "{log}");
        assert!(status.code().is_some(), "killed by a signal (11: a queued buffer was read): {status}\n{log}");
        let counts = std::fs::read_to_string(&self.counts).unwrap_or_default();
        Ran { code: status.code(), stdout, log, counts }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // A failed test leaves no process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// The counters of the summary: captured, decided, dropped, failed, in flight. They must add up.
    pub fn counters(&self) -> [u64; 5] {
        let counters = ["captured", "decided", "dropped", "failed", "in flight"].map(|name| {
            let line = self.stdout.lines().find_map(|line| line.strip_prefix(name));
            let line = line.unwrap_or_else(|| panic!("{name}: {}{}", self.stdout, self.log));
            line.split_whitespace().next().unwrap().parse().unwrap()
        });
        let [captured, decided, dropped, failed, in_flight] = counters;
        assert_eq!(captured, decided + dropped + failed + in_flight, "{}", self.stdout);
        counters
    }

    /// What the camera counted as `name`.
    pub fn count(&self, name: &str) -> u64 {
        let line = self.counts.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name}: {}", self.counts)).trim().parse().unwrap()
    }

    /// How often the log holds `text`.
    pub fn lines(&self, text: &str) -> usize {
        self.log.matches(text).count()
    }
}

/// Decisions that the log has reported, a line for each interval.
fn decided(log: &str) -> u64 {
    let counts = log.split("decided ").skip(1).filter_map(|rest| rest.split(',').next()?.parse::<u64>().ok());
    counts.sum()
}
