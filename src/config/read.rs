//! From TOML to settings. Every value is taken as it comes and judged here, so that each error reads alike and has its line.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::PathBuf;

use serde::Deserialize;
use toml::{Spanned, Value};

use super::read_outputs::{Events, Mqtt, Webhook};
use super::value::{
    FOLDERS, band, budget, classes, folder, found, hosts, level, number, or_word, text, threshold, whole,
};
use super::{
    AuditSettings, Auto, CalibrationSettings, CameraSettings, Cameras, CollectSettings, GateSettings, LogSettings,
    MAX_CAMERAS, MAX_CLASSES, MAX_NAME, ModelSettings, PowerSettings, RecordsSettings, ReportSettings, Settings,
    WebSettings,
};
use crate::capture::Options;
use crate::cascade::MOST_AT_ONCE;
use crate::engine::Backend;
use crate::error::{Error, Kind, Result};
use crate::model::onnx::Precision;
use crate::preprocess::MIN_CROP;
use crate::smoothing::Smoothing;

/// A key of any type, and where it stands.
pub(super) type Key = Option<Spanned<Value>>;

/// The file as it is.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    model: Model,
    gate: Gate,
    camera: Option<Vec<Spanned<Camera>>>,
    report: Report,
    records: Records,
    power: Power,
    audit: Audit,
    calibration: Calibration,
    web: Web,
    mqtt: Mqtt,
    webhook: Webhook,
    events: Events,
    collect: Collect,
    log: Log,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the section [model]")]
struct Model {
    path: Key,
    backend: Key,
    precision: Key,
    threads: Key,
    batch: Key,
    crop: Key,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the section [gate]")]
struct Gate {
    threshold: Key,
    fallback: Key,
    certificate: Key,
    allow_uncertified: Key,
    budget: Key,
    on_conflict: Key,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a section [[camera]]")]
struct Camera {
    name: Key,
    source: Key,
    threshold: Key,
    fps: Key,
    repeat: Key,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the section [report]")]
struct Report {
    interval_s: Key,
    smoothing: Key,
    hysteresis: Key,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the section [records]")]
struct Records {
    path: Key,
    max_mib: Key,
    keep_files: Key,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the section [power]")]
struct Power {
    idle_s: Key,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the section [audit]")]
struct Audit {
    folder: Key,
    slot_s: Key,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the section [calibration]")]
struct Calibration {
    auto: Key,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the section [web]")]
struct Web {
    enabled: Key,
    listen: Key,
    token_file: Key,
    view_token_file: Key,
    hosts: Key,
    classes: Key,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the section [collect]")]
struct Collect {
    auto: Key,
    band: Key,
    probability: Key,
    interval_s: Key,
    folder: Key,
    max_mib: Key,
    max_files: Key,
    min_free_mib: Key,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the section [log]")]
struct Log {
    level: Key,
}

/// The settings that `text` says; `name` is what errors call it.
pub(super) fn settings(text: &str, name: &str) -> Result<Settings> {
    let source = Source { text, name };
    let file: File = toml::from_str(text).map_err(|error| source.damaged(&error))?;
    Ok(Settings {
        model: source.model(&file.model)?,
        gate: source.gate(&file.gate)?,
        cameras: source.cameras(file.camera.as_deref())?,
        report: source.report(&file.report)?,
        records: source.records(&file.records)?,
        power: source.power(&file.power)?,
        audit: source.audit(&file.audit)?,
        calibration: source.calibration(&file.calibration)?,
        web: source.web(&file.web)?,
        mqtt: source.mqtt(&file.mqtt)?,
        webhook: source.webhook(&file.webhook)?,
        events: source.events(&file.events)?,
        collect: source.collect(&file.collect)?,
        log: source.log(&file.log)?,
    })
}

/// What is being read.
pub(super) struct Source<'a> {
    text: &'a str,
    name: &'a str,
}

impl Source<'_> {
    fn model(&self, raw: &Model) -> Result<ModelSettings> {
        let path = self.key("model.path", &raw.path, "a file or folder, or \"bundled\"", |value| {
            text(value).map(|path| (path != "bundled").then(|| PathBuf::from(path)))
        })?;
        let backends = "\"auto\", \"cpu\" or \"tensorrt\"";
        let backend = self.key("model.backend", &raw.backend, backends, |value| {
            or_word(value, Backend::Auto.as_str(), |value| {
                Backend::ALL.into_iter().find(|backend| value.as_str() == Some(backend.as_str()))
            })
        })?;
        let precisions = "\"auto\", \"fp16\" or \"fp32\"";
        let precision = self.key("model.precision", &raw.precision, precisions, |value| {
            or_word(value, "auto", |value| {
                Precision::ALL.into_iter().find(|precision| value.as_str() == Some(precision.as_str()))
            })
        })?;
        let threads =
            self.key("model.threads", &raw.threads, "a whole number from 1 to 256, or \"auto\"", |value| {
                or_word(value, "auto", |value| whole(value, 1..=256).map(|threads| threads as usize))
            })?;
        let batch = self.key("model.batch", &raw.batch, "a whole number from 1 to 8", |value| {
            whole(value, 1..=MOST_AT_ONCE as u64).map(|batch| (batch > 1).then_some(batch as usize))
        })?;
        let crop = self.key("model.crop", &raw.crop, "a number from 0.01 to 1, or \"model\"", |value| {
            or_word(value, "model", |value| number(value, MIN_CROP..=1.0))
        })?;
        Ok(ModelSettings {
            path: path.flatten(),
            backend: backend.flatten(),
            precision: precision.flatten(),
            threads: threads.flatten(),
            batch: batch.flatten(),
            crop: crop.flatten(),
        })
    }

    fn gate(&self, raw: &Gate) -> Result<GateSettings> {
        let threshold =
            self.key("gate.threshold", &raw.threshold, "a number from 0 to 2 (0.6 is 60 %), or \"model\"", |value| {
                or_word(value, "model", threshold)
            })?;
        let fallback =
            self.key("gate.fallback", &raw.fallback, "\"static\" or \"none\"", |value| match value.as_str() {
                Some("static") => Some(true),
                Some("none") => Some(false),
                _ => None,
            })?;
        let certificate = self.key("gate.certificate", &raw.certificate, "a file, or \"package\"", |value| {
            text(value).map(|path| (path != "package").then(|| PathBuf::from(path)))
        })?;
        let allow = self.key("gate.allow_uncertified", &raw.allow_uncertified, "true or false", Value::as_bool)?;
        let budgets = "a time or an energy above 0, like \"20 ms\" or \"150 mJ\", or \"none\"";
        let budget = self.key("gate.budget", &raw.budget, budgets, |value| {
            or_word(value, "none", |value| budget(value.as_str()?))
        })?;
        let conflicts = "\"accuracy\" or \"budget\"";
        let first = self.key("gate.on_conflict", &raw.on_conflict, conflicts, |value| match value.as_str() {
            Some("accuracy") => Some(false),
            Some("budget") => Some(true),
            _ => None,
        })?;
        Ok(GateSettings {
            threshold: threshold.flatten(),
            static_fallback: fallback.unwrap_or_default(),
            certificate: certificate.flatten(),
            allow_uncertified: allow.unwrap_or_default(),
            budget: budget.flatten(),
            budget_first: first.unwrap_or_default(),
        })
    }

    fn audit(&self, raw: &Audit) -> Result<AuditSettings> {
        let default = AuditSettings::default();
        let folder = self.key("audit.folder", &raw.folder, FOLDERS, folder)?;
        let slot = self.key("audit.slot_s", &raw.slot_s, "seconds from 0.01 to 86400, or \"off\"", |value| {
            or_word(value, "off", |value| number(value, 0.01..=86_400.0))
        })?;
        Ok(AuditSettings { folder: folder.unwrap_or(default.folder), slot_s: slot.unwrap_or(default.slot_s) })
    }

    fn calibration(&self, raw: &Calibration) -> Result<CalibrationSettings> {
        let auto = self.key("calibration.auto", &raw.auto, "true or false", Value::as_bool)?;
        Ok(CalibrationSettings { auto: auto.unwrap_or_default() })
    }

    fn cameras(&self, raw: Option<&[Spanned<Camera>]>) -> Result<Cameras> {
        let Some(raw) = raw else { return Ok(Cameras::default()) };
        if !(1..=MAX_CAMERAS).contains(&raw.len()) {
            let at = raw.last().map_or(0, |camera| camera.span().start);
            let found = raw.len();
            return Err(self.error(at, format!("camera: expected 1 to {MAX_CAMERAS} of them, found {found}")));
        }
        let (mut names, mut devices) = (HashSet::new(), HashSet::new());
        let mut cameras = Vec::with_capacity(raw.len());
        for raw in raw {
            let camera = self.camera(raw)?;
            let at = |key: &Key| key.as_ref().map_or(raw.span().start, |key| key.span().start);
            if !names.insert(camera.name.clone()) {
                let message = format!("camera.name: two cameras are called \"{}\", expected another name", camera.name);
                return Err(self.error(at(&raw.get_ref().name), message));
            }
            let source = camera.source.as_encoded_bytes();
            let is_device = source.starts_with(b"/dev/") || source.starts_with(b"v4l2:");
            if is_device && !devices.insert(camera.source.clone()) {
                let message =
                    format!("camera.source: two cameras read {}, expected another device", camera.source.display());
                return Err(self.error(at(&raw.get_ref().source), message));
            }
            cameras.push(camera);
        }
        Ok(Cameras(cameras))
    }

    fn camera(&self, raw: &Spanned<Camera>) -> Result<CameraSettings> {
        let (at, raw) = (raw.span().start, raw.get_ref());
        let names = format!("1 to {MAX_NAME} of the characters A-Z a-z 0-9 _ -");
        let name = self.key("camera.name", &raw.name, &names, |value| {
            text(value).filter(|name| CameraSettings::is_name(name)).map(str::to_owned)
        })?;
        let source =
            self.key("camera.source", &raw.source, "a device, URI or folder", |value| text(value).map(OsString::from))?;
        let threshold = self.key("camera.threshold", &raw.threshold, "a number from 0 to 2, or \"gate\"", |value| {
            or_word(value, "gate", threshold)
        })?;
        let fps = self.key("camera.fps", &raw.fps, "frames per second from 0.001 to 1000, or \"source\"", |value| {
            or_word(value, "source", |value| number(value, Options::FPS))
        })?;
        let repeat = self.key("camera.repeat", &raw.repeat, "true or false", Value::as_bool)?;
        let missing = |key: &str| self.error(at, format!("[[camera]] has no {key}: expected one for each camera"));
        Ok(CameraSettings {
            name: name.ok_or_else(|| missing("name"))?,
            source: source.ok_or_else(|| missing("source"))?,
            threshold: threshold.flatten(),
            fps: fps.flatten(),
            repeat: repeat.unwrap_or_default(),
        })
    }

    fn report(&self, raw: &Report) -> Result<ReportSettings> {
        let default = ReportSettings::default();
        let interval = self.key("report.interval_s", &raw.interval_s, "seconds from 0.1 to 3600", |value| {
            number(value, 0.1..=3600.0)
        })?;
        let factors = format!("a number from 0 (off) to {}", Smoothing::MAX_FACTOR);
        let factor = self.key("report.smoothing", &raw.smoothing, &factors, |value| {
            number(value, 0.0..=f64::from(Smoothing::MAX_FACTOR)).map(|factor| factor as f32)
        })?;
        let hysteresis = self.key("report.hysteresis", &raw.hysteresis, "a number from 0 to 1", |value| {
            number(value, 0.0..=1.0).map(|hysteresis| hysteresis as f32)
        })?;
        Ok(ReportSettings {
            interval_s: interval.unwrap_or(default.interval_s),
            smoothing: Smoothing {
                factor: factor.unwrap_or(default.smoothing.factor),
                hysteresis: hysteresis.unwrap_or(default.smoothing.hysteresis),
            },
        })
    }

    fn records(&self, raw: &Records) -> Result<RecordsSettings> {
        let default = RecordsSettings::default();
        let path = self.key("records.path", &raw.path, "a file, or \"none\"", |value| {
            text(value).map(|path| (path != "none").then(|| PathBuf::from(path)))
        })?;
        let max_mib = self.key("records.max_mib", &raw.max_mib, "a whole number from 1 to 1000000", |value| {
            whole(value, 1..=1_000_000)
        })?;
        let keep = self.key("records.keep_files", &raw.keep_files, "a whole number from 1 to 1000", |value| {
            whole(value, 1..=1000).map(|keep| keep as u32)
        })?;
        Ok(RecordsSettings {
            path: path.flatten(),
            max_mib: max_mib.unwrap_or(default.max_mib),
            keep_files: keep.unwrap_or(default.keep_files),
        })
    }

    fn power(&self, raw: &Power) -> Result<PowerSettings> {
        let idle =
            self.key("power.idle_s", &raw.idle_s, "seconds from 0 to 600", |value| number(value, 0.0..=600.0))?;
        Ok(PowerSettings { idle_s: idle.unwrap_or_default() })
    }

    fn web(&self, raw: &Web) -> Result<WebSettings> {
        let default = WebSettings::default();
        let enabled = self.key("web.enabled", &raw.enabled, "true or false", Value::as_bool)?;
        let addresses = "an address and a port, as 127.0.0.1:8632";
        let listen = self.key("web.listen", &raw.listen, addresses, |value| value.as_str()?.parse().ok())?;
        let token_file = self.key("web.token_file", &raw.token_file, "a file, or \"none\"", |value| {
            text(value).map(|path| (path != "none").then(|| PathBuf::from(path)))
        })?;
        let view_token_file =
            self.key("web.view_token_file", &raw.view_token_file, "a file, or \"none\"", |value| {
                text(value).map(|path| (path != "none").then(|| PathBuf::from(path)))
            })?;
        let hosts = self.key("web.hosts", &raw.hosts, "a list of names without ports, as [\"door.local\"]", hosts)?;
        let expected =
            format!("a list of at most {MAX_CLASSES} different names of classes (not \"other\"), as [\"church\"]");
        let classes = self.key("web.classes", &raw.classes, &expected, classes)?;
        Ok(WebSettings {
            enabled: enabled.unwrap_or(default.enabled),
            listen: listen.unwrap_or(default.listen),
            token_file: token_file.flatten(),
            view_token_file: view_token_file.flatten(),
            hosts: hosts.unwrap_or_default(),
            classes: classes.unwrap_or_default(),
        })
    }

    fn collect(&self, raw: &Collect) -> Result<CollectSettings> {
        let default = CollectSettings::default();
        let words = "\"off\", \"disagree\", \"unsure\" or \"random\"";
        let auto = self.key("collect.auto", &raw.auto, words, |value| {
            Auto::WORDS.iter().find(|(word, _)| value.as_str() == Some(word)).map(|&(_, auto)| auto)
        })?;
        let bands = "two numbers from 0 to 1, the lower one first, as [0.3, 0.6]";
        let band = self.key("collect.band", &raw.band, bands, band)?;
        let probabilities = "a number from 0 to 1";
        let probability =
            self.key("collect.probability", &raw.probability, probabilities, |value| number(value, 0.0..=1.0))?;
        let interval = self.key("collect.interval_s", &raw.interval_s, "seconds from 0.1 to 86400", |value| {
            number(value, 0.1..=86_400.0)
        })?;
        let folder = self.key("collect.folder", &raw.folder, FOLDERS, folder)?;
        let millions = "a whole number from 1 to 1000000";
        let max_mib = self.key("collect.max_mib", &raw.max_mib, millions, |value| whole(value, 1..=1_000_000))?;
        let max_files = self.key("collect.max_files", &raw.max_files, millions, |value| whole(value, 1..=1_000_000))?;
        let free = "a whole number from 0 to 1000000";
        let min_free =
            self.key("collect.min_free_mib", &raw.min_free_mib, free, |value| whole(value, 0..=1_000_000))?;
        Ok(CollectSettings {
            auto: auto.unwrap_or(default.auto),
            band: band.unwrap_or(default.band),
            probability: probability.unwrap_or(default.probability),
            interval_s: interval.unwrap_or(default.interval_s),
            folder: folder.unwrap_or(default.folder),
            max_mib: max_mib.unwrap_or(default.max_mib),
            max_files: max_files.unwrap_or(default.max_files),
            min_free_mib: min_free.unwrap_or(default.min_free_mib),
        })
    }

    fn log(&self, raw: &Log) -> Result<LogSettings> {
        let levels = "\"error\", \"warn\", \"info\", \"debug\" or \"trace\"";
        let level = self.key("log.level", &raw.level, levels, |value| level(value.as_str()?))?;
        Ok(level.map_or_else(LogSettings::default, |level| LogSettings { level }))
    }

    /// The value of one key; `None` where the file does not say it.
    pub(super) fn key<T>(
        &self,
        key: &str,
        raw: &Key,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(raw) = raw else { return Ok(None) };
        let wrong = || {
            let message = format!("{key}: expected {expected}, found {}", found(raw.get_ref()));
            self.error(raw.span().start, message)
        };
        read(raw.get_ref()).map(Some).ok_or_else(wrong)
    }

    /// What the TOML reader does not like.
    fn damaged(&self, error: &toml::de::Error) -> Error {
        let at = error.span().map_or(self.text.len(), |span| span.start);
        self.error(at, error.message().split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// An error at the byte `at`.
    fn error(&self, at: usize, message: String) -> Error {
        let before = self.text.as_bytes().get(..at).unwrap_or(self.text.as_bytes());
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        Error::new(Kind::Config, format!("{}:{line}: {message}", self.name))
    }
}
