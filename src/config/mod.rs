//! The configuration of a service: a TOML file becomes validated [`Settings`]. What the file leaves out is the built-in default, which
//! the shipped file shows. A key that is unknown, of the wrong type or out of range is an error with its line.

mod outputs;
mod read;
mod read_outputs;
mod show;
mod value;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use log::LevelFilter;
pub use outputs::{Broker, EventsSettings, MqttSettings, WebhookSettings};

use crate::calibrate::Budget;
use crate::engine::Backend;
use crate::error::{Error, Kind, Result};
use crate::model::onnx::Precision;
use crate::smoothing::Smoothing;

/// The file as it is shipped: every key, commented out, with its default.
pub const SHIPPED: &str = include_str!("../../systemd/cfvit.toml");
/// A configuration is a page of text; what is larger is something else.
const MAX_BYTES: u64 = 1 << 20;
/// The most cameras that one service takes.
pub const MAX_CAMERAS: usize = 16;
/// The most classes that are counted one by one.
pub const MAX_CLASSES: usize = 20;
/// The longest name of a camera, in characters.
pub const MAX_NAME: usize = 32;

/// Everything that can be configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// `[model]`.
    pub model: ModelSettings,
    /// `[gate]`.
    pub gate: GateSettings,
    /// `[[camera]]`, at least one.
    pub cameras: Cameras,
    /// `[report]`.
    pub report: ReportSettings,
    /// `[records]`.
    pub records: RecordsSettings,
    /// `[power]`.
    pub power: PowerSettings,
    /// `[audit]`.
    pub audit: AuditSettings,
    /// `[calibration]`.
    pub calibration: CalibrationSettings,
    /// `[web]`.
    pub web: WebSettings,
    /// `[mqtt]`.
    pub mqtt: MqttSettings,
    /// `[webhook]`.
    pub webhook: WebhookSettings,
    /// `[events]`.
    pub events: EventsSettings,
    /// `[collect]`.
    pub collect: CollectSettings,
    /// `[log]`.
    pub log: LogSettings,
}

/// What decides. Cannot be changed while it runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelSettings {
    /// A checkpoint or an engine package; `None` is the bundled model.
    pub path: Option<PathBuf>,
    /// What computes; `None` is TensorRT where it is built in and works, else the CPU.
    pub backend: Option<Backend>,
    /// What it multiplies in; `None` is fp32 on the CPU, with TensorRT what its plans were built in.
    pub precision: Option<Precision>,
    /// Compute threads; `None` is one per physical core.
    pub threads: Option<usize>,
    /// The most frames, of as many cameras, that share a coarse pass, at least 2; `None` decides each by itself.
    pub batch: Option<usize>,
    /// The share of the picture's shorter side that the network sees; `None` is the model's.
    pub crop: Option<f64>,
}

/// When the fine stage is asked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateSettings {
    /// η for every camera that has none of its own; `None` is the model's.
    pub threshold: Option<f32>,
    /// A static pass may take the cascade's place. Cannot be changed while it runs.
    pub static_fallback: bool,
    /// A certificate in a file of its own; `None` is the package's. Cannot be changed while it runs.
    pub certificate: Option<PathBuf>,
    /// Use the certificate's threshold also where it does not hold. Cannot be changed while it runs.
    pub allow_uncertified: bool,
    /// The mean cost of a frame to keep. Cannot be changed while it runs.
    pub budget: Option<Budget>,
    /// The budget may break the certificate's limit on errors. Cannot be changed while it runs.
    pub budget_first: bool,
}

/// The cameras in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Cameras(pub Vec<CameraSettings>);

impl Default for Cameras {
    fn default() -> Self {
        Self(vec![CameraSettings::new("video0", "/dev/video0")])
    }
}

/// One camera.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraSettings {
    /// Its name in logs, records and metrics; unique.
    pub name: String,
    /// Where its frames come from: see `cfvit run --help`.
    pub source: OsString,
    /// Its own η; `None` is that of the gate.
    pub threshold: Option<f32>,
    /// Frames per second at which a folder is played; `None` leaves it to the source.
    pub fps: Option<f64>,
    /// A folder begins again after its last picture.
    pub repeat: bool,
}

impl CameraSettings {
    /// A camera with nothing of its own.
    pub fn new(name: impl Into<String>, source: impl Into<OsString>) -> Self {
        Self { name: name.into(), source: source.into(), threshold: None, fps: None, repeat: false }
    }

    /// Whether a camera can be called `name`: 1 to [`MAX_NAME`] of the characters `A-Za-z0-9_-`.
    pub fn is_name(name: &str) -> bool {
        (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    }

    /// Whether `other` is the same camera, though it may be decided in another way.
    pub fn is_same(&self, other: &CameraSettings) -> bool {
        let key = |camera: &CameraSettings| (camera.name.clone(), camera.source.clone(), camera.fps, camera.repeat);
        key(self) == key(other)
    }
}

/// What is told, and how often.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReportSettings {
    /// Seconds between two log lines and status lines.
    pub interval_s: f64,
    /// How labels are smoothed.
    pub smoothing: Smoothing,
}

impl Default for ReportSettings {
    fn default() -> Self {
        Self { interval_s: 1.0, smoothing: Smoothing::default() }
    }
}

/// A JSON object per decision. Cannot be changed while it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct RecordsSettings {
    /// The file; `None` is none.
    pub path: Option<PathBuf>,
    /// No file grows beyond so many MiB.
    pub max_mib: u64,
    /// So many full files stay beside the one that is written.
    pub keep_files: u32,
}

impl Default for RecordsSettings {
    fn default() -> Self {
        Self { path: None, max_mib: 64, keep_files: 4 }
    }
}

/// How energy is measured. Cannot be changed while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PowerSettings {
    /// For so many seconds at the start nothing is decided, and what the machine draws then is its idle power; 0 leaves it out.
    pub idle_s: f64,
}

/// How decisions are audited. Cannot be changed while it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditSettings {
    /// Where audits are kept; nowhere, an alarm is still raised, but forgotten at a restart.
    pub folder: StateFolder,
    /// Seconds of a slot, of which one frame is audited; `None` audits nothing.
    pub slot_s: Option<f64>,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self { folder: StateFolder::Service, slot_s: Some(10.0) }
    }
}

/// Where something is kept from run to run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StateFolder {
    /// The folder that the service manager gives for state (`$STATE_DIRECTORY`); nowhere where there is none.
    #[default]
    Service,
    /// Nowhere.
    Nowhere,
    /// This folder.
    At(PathBuf),
}

/// What follows an alarm for drift. Cannot be changed while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CalibrationSettings {
    /// Certify anew from audited frames.
    pub auto: bool,
}

/// The page, the metrics and the interface over HTTP. Cannot be changed while it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct WebSettings {
    /// Whether there are any.
    pub enabled: bool,
    /// Where to listen, unless the service manager hands sockets over.
    pub listen: SocketAddr,
    /// The file with the token of those who may change something, and of all who come from other machines.
    pub token_file: Option<PathBuf>,
    /// The file with the token of those from other machines who may only look.
    pub view_token_file: Option<PathBuf>,
    /// Names and addresses, besides those of this machine itself, that browsers may call it by.
    pub hosts: Vec<String>,
    /// The names of the classes whose decisions are counted one by one in the metrics, at most [`MAX_CLASSES`].
    pub classes: Vec<String>,
}

impl Default for WebSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8632)),
            token_file: None,
            view_token_file: None,
            hosts: Vec::new(),
            classes: Vec::new(),
        }
    }
}

/// Which frames are collected for training. Cannot be changed while it runs.
#[derive(Clone, Debug, PartialEq)]
pub struct CollectSettings {
    /// Those that are collected by themselves.
    pub auto: Auto,
    /// With [`Auto::Unsure`]: from which to which confidence of the answer.
    pub band: (f64, f64),
    /// With [`Auto::Random`]: of each frame.
    pub probability: f64,
    /// No camera's frames are collected by themselves in less time.
    pub interval_s: f64,
    /// Where they are kept: in this folder, or in `examples` in the service's.
    pub folder: StateFolder,
    /// At most so many MiB of them,
    pub max_mib: u64,
    /// and so many.
    pub max_files: u64,
    /// So many MiB of the disk stay free.
    pub min_free_mib: u64,
}

impl Default for CollectSettings {
    fn default() -> Self {
        Self {
            auto: Auto::Off,
            band: (0.3, 0.6),
            probability: 0.001,
            interval_s: 10.0,
            folder: StateFolder::Service,
            max_mib: 500,
            max_files: 5000,
            min_free_mib: 1024,
        }
    }
}

/// Which frames are collected by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auto {
    /// None.
    #[default]
    Off,
    /// Refined ones on which the stages disagree.
    Disagree,
    /// Those whose confidence lies in a band.
    Unsure,
    /// Some, by chance.
    Random,
}

impl Auto {
    /// All of them, with their words.
    pub const WORDS: [(&str, Auto); 4] =
        [("off", Auto::Off), ("disagree", Auto::Disagree), ("unsure", Auto::Unsure), ("random", Auto::Random)];
}

/// What is logged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogSettings {
    /// The least important level that is logged. `RUST_LOG` in the environment stands above it.
    pub level: LevelFilter,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: LevelFilter::Info }
    }
}

impl Settings {
    /// Reads and validates the file at `path`.
    ///
    /// # Errors
    /// [`Kind::Config`] when it cannot be read; else as [`Settings::parse`].
    pub fn read(path: &Path) -> Result<Self> {
        let unreadable = |cause: std::io::Error| {
            Error::caused(Kind::Config, format!("cannot read the configuration {}", path.display()), cause)
        };
        let size = std::fs::metadata(path).map_err(unreadable)?.len();
        if size > MAX_BYTES {
            let message = format!(
                "the configuration {} has {size} bytes, expected at most {MAX_BYTES}: is it another file?",
                path.display()
            );
            return Err(Error::new(Kind::Config, message));
        }
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Validates `text`, which stands in the file called `name`.
    ///
    /// # Errors
    /// [`Kind::Config`]: `name:line: key: expected …, found …`, for the first key that is wrong.
    pub fn parse(text: &str, name: &str) -> Result<Self> {
        read::settings(text, name)
    }

    /// What differs in `new` and cannot be changed while it runs, by the names of sections and keys.
    pub fn fixed_changes(&self, new: &Settings) -> Vec<&'static str> {
        let changed = [
            ("[model]", self.model != new.model),
            ("gate.fallback", self.gate.static_fallback != new.gate.static_fallback),
            ("[records]", self.records != new.records),
            ("[power]", self.power != new.power),
            ("[audit]", self.audit != new.audit),
            ("[calibration]", self.calibration != new.calibration),
            (
                "gate.certificate",
                (&self.gate.certificate, self.gate.allow_uncertified)
                    != (&new.gate.certificate, new.gate.allow_uncertified),
            ),
            ("gate.budget", (self.gate.budget, self.gate.budget_first) != (new.gate.budget, new.gate.budget_first)),
            ("[web]", self.web != new.web),
            ("[mqtt]", self.mqtt != new.mqtt),
            ("[webhook]", self.webhook != new.webhook),
            ("[events]", self.events != new.events),
            ("[collect]", self.collect != new.collect),
        ];
        changed.into_iter().filter_map(|(name, changed)| changed.then_some(name)).collect()
    }
}

/// The words for a level.
pub const LEVELS: [(&str, LevelFilter); 5] = [
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
];

#[cfg(test)]
mod tests;
