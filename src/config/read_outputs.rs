//! The sections of what is told to other programs, from TOML to settings.

use std::path::PathBuf;

use serde::Deserialize;
use toml::Value;

use super::outputs::{Broker, EventsSettings, MqttSettings, WebhookSettings};
use super::read::{Key, Source};
use super::value::{number, or_word, text};
use crate::error::Result;

/// The longest name of a user, prefix of topics, or URL, in bytes.
const MAX_TEXT: usize = 256;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the section [mqtt]")]
pub(super) struct Mqtt {
    broker: Key,
    user: Key,
    password_file: Key,
    discovery_prefix: Key,
    control: Key,
    decisions: Key,
    images: Key,
    heartbeat_s: Key,
    stats_s: Key,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the section [webhook]")]
pub(super) struct Webhook {
    url: Key,
    secret_file: Key,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, expecting = "the section [events]")]
pub(super) struct Events {
    socket: Key,
}

impl Source<'_> {
    pub(super) fn mqtt(&self, raw: &Mqtt) -> Result<MqttSettings> {
        let default = MqttSettings::default();
        let brokers = "a host and a port, as \"broker.local:1883\", or \"none\"";
        let broker = self.key("mqtt.broker", &raw.broker, brokers, |value| {
            or_word(value, "none", |value| Broker::parse(value.as_str()?))
        })?;
        let user = self.key("mqtt.user", &raw.user, "a name, or \"none\"", |value| {
            or_word(value, "none", |value| short(value).map(str::to_owned))
        })?;
        let prefixes = "a topic without + and #, as \"homeassistant\", or \"none\"";
        let prefix = self.key("mqtt.discovery_prefix", &raw.discovery_prefix, prefixes, |value| {
            or_word(value, "none", |value| short(value).filter(|topic| is_topic(topic)).map(str::to_owned))
        })?;
        let flag = |key: &str, raw: &Key| self.key(key, raw, "true or false", Value::as_bool);
        let seconds =
            |key: &str, raw: &Key| self.key(key, raw, "seconds from 1 to 3600", |value| number(value, 1.0..=3600.0));
        Ok(MqttSettings {
            broker: broker.flatten(),
            user: user.flatten(),
            password_file: self.file_or_none("mqtt.password_file", &raw.password_file)?,
            discovery_prefix: prefix.unwrap_or(default.discovery_prefix),
            control: flag("mqtt.control", &raw.control)?.unwrap_or(default.control),
            decisions: flag("mqtt.decisions", &raw.decisions)?.unwrap_or(default.decisions),
            images: flag("mqtt.images", &raw.images)?.unwrap_or(default.images),
            heartbeat_s: seconds("mqtt.heartbeat_s", &raw.heartbeat_s)?.unwrap_or(default.heartbeat_s),
            stats_s: seconds("mqtt.stats_s", &raw.stats_s)?.unwrap_or(default.stats_s),
        })
    }

    pub(super) fn webhook(&self, raw: &Webhook) -> Result<WebhookSettings> {
        let urls = "a URL that begins with http:// (for https:// put a proxy on this machine), or \"none\"";
        let url = self.key("webhook.url", &raw.url, urls, |value| {
            or_word(value, "none", |value| short(value).filter(|url| is_url(url)).map(str::to_owned))
        })?;
        let secret_file = self.file_or_none("webhook.secret_file", &raw.secret_file)?;
        Ok(WebhookSettings { url: url.flatten(), secret_file })
    }

    pub(super) fn events(&self, raw: &Events) -> Result<EventsSettings> {
        Ok(EventsSettings { socket: self.file_or_none("events.socket", &raw.socket)? })
    }

    fn file_or_none(&self, key: &str, raw: &Key) -> Result<Option<PathBuf>> {
        let path = self.key(key, raw, "a file, or \"none\"", |value| {
            or_word(value, "none", |value| text(value).map(PathBuf::from))
        })?;
        Ok(path.flatten())
    }
}

fn short(value: &Value) -> Option<&str> {
    text(value).filter(|text| text.len() <= MAX_TEXT && !text.contains(char::is_control))
}

/// A topic that can be published to, and that others can be put under.
fn is_topic(topic: &str) -> bool {
    !topic.contains(['+', '#']) && !topic.starts_with(['/', '$']) && !topic.ends_with('/')
}

fn is_url(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://").filter(|rest| rest.bytes().all(|byte| byte.is_ascii_graphic())) else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let end = host.find(']').map_or_else(|| host.find(':').unwrap_or(host.len()), |bracket| bracket + 1);
    let (name, port) = host.split_at(end);
    let is_port = |port: &str| port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '[') && (port.is_empty() || is_port(port))
}
