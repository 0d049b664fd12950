//! `cfvit doctor`: what this machine has of what the program can use, and what to do about what is missing. Looking never fails.

mod board;
mod camera;
mod gpu;

use std::path::{Path, PathBuf};

pub use board::power_mode_name;

use crate::calibrate::report;
use crate::model::package;
use crate::power;

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There, and works.
    Good,
    /// Not there; the program does without.
    Absent,
    /// There, and does not work.
    Bad,
}

impl State {
    /// `"ok"`, `"-"` or `"!"`
    pub fn as_str(self) -> &'static str {
        match self {
            State::Good => "ok",
            State::Absent => "-",
            State::Bad => "!",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked for.
    pub what: String,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What to do, where something can be done.
    pub advice: Option<String>,
}

impl Finding {
    fn new(what: &str, state: State, found: impl Into<String>) -> Self {
        Self { what: what.into(), state, found: found.into(), advice: None }
    }

    fn advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// Looks at everything: the machine beneath `root` (`/`), the GPU and its libraries, and the engine packages in `packages`.
pub fn examine(root: &Path, packages: &[PathBuf]) -> Vec<Finding> {
    let (mut findings, device) = gpu::examine();
    findings.push(board::l4t(root));
    findings.push(board::power_mode(root));
    findings.push(power_meter(root));
    findings.extend(camera::all(root));
    for package in packages {
        findings.push(gpu::package(package, device.as_ref()));
        findings.extend(certificate(package, &board::power_mode_name(root)));
    }
    if packages.is_empty() {
        findings.push(
            Finding::new("engine package", State::Absent, "none in engines/; the bundled model is inside the program")
                .advice("`cfvit build --model CHECKPOINT` makes one, with engines for this GPU"),
        );
    }
    findings
}

/// The packages beneath the folder `engines`, in the order of their names.
pub fn packages_in(engines: &Path) -> Vec<PathBuf> {
    let Ok(entries) = engines.read_dir() else { return Vec::new() };
    let folders = entries.flatten().map(|entry| entry.path());
    let mut found: Vec<_> = folders.filter(|path| path.join(crate::model::package::MANIFEST).is_file()).collect();
    found.sort();
    found
}

/// The certificate of `package`, if it has one. Whether it is for the engine that will run is known only when that is opened.
fn certificate(package: &Path, power_mode: &str) -> Option<Finding> {
    let what = "certificate";
    // A manifest that cannot be read is told of by the package's own line.
    let certificate = package::certificate(package).ok()??;
    let needs_mode = certificate.target.is_budget() || certificate.budget.is_some();
    if needs_mode && certificate.power_mode != power_mode {
        let text =
            format!("{}: made in power mode {}, here is {power_mode}", package.display(), certificate.power_mode);
        return Some(
            Finding::new(what, State::Bad, text)
                .advice("frames are always refined here until `cfvit calibrate` has run in this mode"),
        );
    }
    let text = format!("{}: {} For {}", package.display(), report::sentence(&certificate), certificate.engine);
    Some(Finding::new(what, State::Good, text))
}

fn power_meter(root: &Path) -> Finding {
    match power::open(&root.join("sys")) {
        Some(mut meter) => match meter.read() {
            Ok(_) => Finding::new("power meter", State::Good, meter.describe()),
            Err(error) => Finding::new("power meter", State::Bad, format!("{}: {error}", meter.describe())),
        },
        None => Finding::new("power meter", State::Absent, "none that can be read; energy will not be reported")
            .advice("on a PC, RAPL's energy_uj must be readable by this user; a Jetson's INA3221 is readable by all"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_machine_is_described_without_an_error() {
        let root = tempfile::tempdir().unwrap();
        let findings = examine(root.path(), &[root.path().join("none")]);
        let of = |what: &str| findings.iter().find(|finding| finding.what == what).unwrap();
        for what in ["L4T", "power mode", "power meter", "camera"] {
            assert_eq!(of(what).state, State::Absent, "{what}");
        }
        let package = findings.last().unwrap();
        assert!(package.found.contains("manifest.toml"), "{package:?}");
        assert_eq!(package.state, State::Bad);
    }

    #[test]
    fn a_certificate_is_shown_and_one_for_another_power_mode_is_bad() {
        let root = tempfile::tempdir().unwrap();
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/engines/imagenette/manifest.toml");
        std::fs::copy(manifest, root.path().join(package::MANIFEST)).unwrap();
        let found = || certificate(root.path(), "none");
        assert_eq!(found(), None);
        let sample = package::certificate_sample();
        package::certify(root.path(), &sample).unwrap();
        let shown = found().unwrap();
        assert!(shown.state == State::Good && shown.found.contains("With 95 % confidence"), "{shown:?}");
        let budget =
            package::Certificate { target: package::Target::Energy, limit: 150.0, power_mode: "15W".into(), ..sample };
        package::certify(root.path(), &budget).unwrap();
        let shown = found().unwrap();
        assert!(shown.state == State::Bad && shown.found.contains("15W, here is none"), "{shown:?}");
    }

    #[test]
    fn packages_are_folders_with_a_manifest() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b", "a", "empty"] {
            std::fs::create_dir(root.path().join(name)).unwrap();
        }
        for name in ["b", "a"] {
            std::fs::write(root.path().join(name).join("manifest.toml"), "").unwrap();
        }
        assert_eq!(packages_in(root.path()), [root.path().join("a"), root.path().join("b")]);
        assert!(packages_in(&root.path().join("none")).is_empty());
    }
}
