//! The settings in force, as a configuration file that says every key.

use std::fmt;
use std::path::PathBuf;

use log::LevelFilter;
use toml::Value;

use super::{Auto, LEVELS, Settings, StateFolder};
use crate::engine::Backend;
use crate::model::onnx::Precision;

/// Text in quotes, with what TOML wants escaped.
fn quoted(text: impl fmt::Display) -> String {
    Value::String(text.to_string()).to_string()
}

/// A value, or the word that stands for none.
fn or<T: fmt::Display>(value: Option<T>, word: &str) -> String {
    value.map_or_else(|| quoted(word), |value| value.to_string())
}

/// A file that [`Settings::parse`] reads as these settings.
impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings {
            model,
            gate,
            cameras,
            report,
            records,
            power,
            audit,
            calibration,
            web,
            mqtt,
            webhook,
            events,
            collect,
            log,
        } = self;
        writeln!(f, "[model]")?;
        writeln!(f, "path = {}", or(model.path.as_ref().map(|path| quoted(path.display())), "bundled"))?;
        writeln!(f, "backend = {}", quoted(model.backend.unwrap_or(Backend::Auto).as_str()))?;
        writeln!(f, "precision = {}", quoted(model.precision.map_or("auto", Precision::as_str)))?;
        writeln!(f, "threads = {}", or(model.threads, "auto"))?;
        writeln!(f, "batch = {}", model.batch.unwrap_or(1))?;
        writeln!(f, "crop = {}", or(model.crop, "model"))?;
        writeln!(f, "\n[gate]")?;
        writeln!(f, "threshold = {}", or(gate.threshold, "model"))?;
        writeln!(f, "fallback = {}", quoted(if gate.static_fallback { "static" } else { "none" }))?;
        writeln!(f, "certificate = {}", or(gate.certificate.as_ref().map(|path| quoted(path.display())), "package"))?;
        writeln!(f, "allow_uncertified = {}", gate.allow_uncertified)?;
        let budget = gate.budget.map(|budget| quoted(format_args!("{} {}", budget.limit, budget.unit.as_str())));
        writeln!(f, "budget = {}", or(budget, "none"))?;
        writeln!(f, "on_conflict = {}", quoted(if gate.budget_first { "budget" } else { "accuracy" }))?;
        for camera in &cameras.0 {
            writeln!(f, "\n[[camera]]")?;
            writeln!(f, "name = {}", quoted(&camera.name))?;
            writeln!(f, "source = {}", quoted(camera.source.display()))?;
            writeln!(f, "threshold = {}", or(camera.threshold, "gate"))?;
            writeln!(f, "fps = {}", or(camera.fps, "source"))?;
            writeln!(f, "repeat = {}", camera.repeat)?;
        }
        writeln!(f, "\n[report]")?;
        writeln!(f, "interval_s = {}", report.interval_s)?;
        writeln!(f, "smoothing = {}", report.smoothing.factor)?;
        writeln!(f, "hysteresis = {}", report.smoothing.hysteresis)?;
        writeln!(f, "\n[records]")?;
        writeln!(f, "path = {}", or(records.path.as_ref().map(|path| quoted(path.display())), "none"))?;
        writeln!(f, "max_mib = {}", records.max_mib)?;
        writeln!(f, "keep_files = {}", records.keep_files)?;
        writeln!(f, "\n[power]")?;
        writeln!(f, "idle_s = {}", power.idle_s)?;
        writeln!(f, "\n[audit]")?;
        writeln!(f, "folder = {}", folder(&audit.folder))?;
        writeln!(f, "slot_s = {}", or(audit.slot_s, "off"))?;
        writeln!(f, "\n[calibration]")?;
        writeln!(f, "auto = {}", calibration.auto)?;
        writeln!(f, "\n[web]")?;
        writeln!(f, "enabled = {}", web.enabled)?;
        writeln!(f, "listen = {}", quoted(web.listen))?;
        writeln!(f, "token_file = {}", or(web.token_file.as_ref().map(|path| quoted(path.display())), "none"))?;
        let view_token_file = or(web.view_token_file.as_ref().map(|path| quoted(path.display())), "none");
        writeln!(f, "view_token_file = {view_token_file}")?;
        writeln!(f, "hosts = {}", Value::from(web.hosts.clone()))?;
        writeln!(f, "classes = {}", Value::from(web.classes.clone()))?;
        writeln!(f, "\n[mqtt]")?;
        let file = |path: &Option<PathBuf>| or(path.as_ref().map(|path| quoted(path.display())), "none");
        writeln!(f, "broker = {}", or(mqtt.broker.as_ref().map(quoted), "none"))?;
        writeln!(f, "user = {}", or(mqtt.user.as_ref().map(quoted), "none"))?;
        writeln!(f, "password_file = {}", file(&mqtt.password_file))?;
        writeln!(f, "discovery_prefix = {}", or(mqtt.discovery_prefix.as_ref().map(quoted), "none"))?;
        writeln!(f, "control = {}", mqtt.control)?;
        writeln!(f, "decisions = {}", mqtt.decisions)?;
        writeln!(f, "images = {}", mqtt.images)?;
        writeln!(f, "heartbeat_s = {}", mqtt.heartbeat_s)?;
        writeln!(f, "stats_s = {}", mqtt.stats_s)?;
        writeln!(f, "\n[webhook]")?;
        writeln!(f, "url = {}", or(webhook.url.as_ref().map(quoted), "none"))?;
        writeln!(f, "secret_file = {}", file(&webhook.secret_file))?;
        writeln!(f, "\n[events]")?;
        writeln!(f, "socket = {}", file(&events.socket))?;
        writeln!(f, "\n[collect]")?;
        let auto = Auto::WORDS.iter().find(|(_, auto)| *auto == collect.auto).map_or("off", |(word, _)| word);
        writeln!(f, "auto = {}", quoted(auto))?;
        writeln!(f, "band = [{}, {}]", collect.band.0, collect.band.1)?;
        writeln!(f, "probability = {}", collect.probability)?;
        writeln!(f, "interval_s = {}", collect.interval_s)?;
        writeln!(f, "folder = {}", folder(&collect.folder))?;
        writeln!(f, "max_mib = {}", collect.max_mib)?;
        writeln!(f, "max_files = {}", collect.max_files)?;
        writeln!(f, "min_free_mib = {}", collect.min_free_mib)?;
        writeln!(f, "\n[log]")?;
        write!(f, "level = {}", quoted(word(log.level)))
    }
}

fn folder(folder: &StateFolder) -> String {
    match folder {
        StateFolder::Service => quoted("service"),
        StateFolder::Nowhere => quoted("none"),
        StateFolder::At(path) => quoted(path.display()),
    }
}

fn word(level: LevelFilter) -> &'static str {
    LEVELS.iter().find(|(_, known)| *known == level).map_or("info", |(word, _)| word)
}
