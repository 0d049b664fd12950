//! A running `cfvit run --config` whose log can be read.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Longer than anything here takes on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// A camera that is cheap to decide: a small moving test card of which the coarse stage is always sure enough.
pub const CAMERA: &str =
    "[gate]\nthreshold = 0\n[[camera]]\nname = \"door\"\nsource = \"pattern://?size=64x64&fps=10\"\n";

/// Photographs of several classes, one after the other; every change of the answer is a change of the label.
#[cfg(any(feature = "mqtt", feature = "webhook"))]
pub fn photographs(fps: f64) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pictures");
    format!(
        "[gate]\nthreshold = 0\n[report]\nsmoothing = 0\nhysteresis = 0\n\
         [[camera]]\nname = \"door\"\nsource = {folder:?}\nfps = {fps}\nrepeat = true\n"
    )
}

/// Waits until `done` gives something.
pub fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(begun.elapsed() < PATIENCE, "this never comes: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A run, until it is dropped.
pub struct Service {
    pub child: Child,
    pub dir: tempfile::TempDir,
}

/// The program without anything of this environment that it looks at.
pub fn cfvit() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cfvit"));
    for variable in ["RUST_LOG", "JOURNAL_STREAM", "NOTIFY_SOCKET", "WATCHDOG_USEC", "STATE_DIRECTORY", "INVOCATION_ID"]
    {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl Service {
    /// Runs with the configuration `config`, without a page.
    pub fn start(config: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), config)
    }

    /// The same in a folder that was used before.
    pub fn start_in(dir: tempfile::TempDir, config: &str) -> Self {
        let mut command = cfvit();
        let path = dir.path().join("cfvit.toml");
        fs::write(&path, whole(config)).unwrap();
        let log = fs::OpenOptions::new().create(true).append(true).open(dir.path().join("log")).unwrap();
        command.args(["run", "--report-interval", "3600", "--config"]).arg(path);
        let child = command.env("STATE_DIRECTORY", dir.path()).stderr(log).spawn().unwrap();
        Self { child, dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    pub fn wait_for_log(&self, text: &str) {
        until(text, || self.log().contains(text).then_some(()));
    }

    /// Puts another configuration in force.
    #[cfg(feature = "mqtt")]
    pub fn configure(&self, config: &str) {
        fs::write(self.path("cfvit.toml"), whole(config)).unwrap();
        self.signal(rustix::process::Signal::HUP);
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it as a service manager does; its folder.
    pub fn stop(mut self) -> tempfile::TempDir {
        self.signal(rustix::process::Signal::TERM);
        let status: ExitStatus = until("the end", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.log());
        std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap())
    }
}

fn whole(config: &str) -> String {
    format!("{config}\n[web]\nenabled = false\n[audit]\nslot_s = \"off\"\n")
}

impl Drop for Service {
    fn drop(&mut self) {
        // A test that failed leaves nothing behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
