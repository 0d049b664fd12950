//! Settings of what is told to other programs. None of them can be changed while it runs.

use std::fmt;
use std::path::PathBuf;

/// Where an MQTT broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// A name or an address; an IPv6 address in brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Broker {
    /// The port where the configuration says none.
    pub const PORT: u16 = 1883;

    /// `host` or `host:port`; `None` where `text` is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            // Within brackets, or a second colon: the colon is the address's.
            Some((host, _)) if host.contains(':') && !host.ends_with(']') => (text, Self::PORT),
            Some((host, port)) => (host, port.parse().ok().filter(|&port| port > 0)?),
            None => (text, Self::PORT),
        };
        is_host(host).then(|| Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Whether `host` is a name or an address, an IPv6 address in brackets.
pub(super) fn is_host(host: &str) -> bool {
    let (name, brackets) = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => (address, true),
        None => (host, false),
    };
    !name.is_empty()
        && name.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') || (brackets && byte == b':')
        })
}

/// MQTT and Home Assistant.
#[derive(Clone, Debug, PartialEq)]
pub struct MqttSettings {
    /// The broker; `None` is no MQTT.
    pub broker: Option<Broker>,
    /// The user's name there, if it wants one.
    pub user: Option<String>,
    /// The file with the password.
    pub password_file: Option<PathBuf>,
    /// Under which topic Home Assistant looks for devices; `None` announces none.
    pub discovery_prefix: Option<String>,
    /// Whether who may publish at the broker may also set thresholds.
    pub control: bool,
    /// Publish every decision.
    pub decisions: bool,
    /// Publish a picture when the label changes.
    pub images: bool,
    /// A state that does not change is told again after so many seconds.
    pub heartbeat_s: f64,
    /// Seconds between two messages of numbers, and what they are the mean of.
    pub stats_s: f64,
}

impl Default for MqttSettings {
    fn default() -> Self {
        Self {
            broker: None,
            user: None,
            password_file: None,
            discovery_prefix: Some("homeassistant".to_owned()),
            control: false,
            decisions: false,
            images: false,
            heartbeat_s: 60.0,
            stats_s: 60.0,
        }
    }
}

/// An HTTP request at each change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Where to; `None` is no webhook.
    pub url: Option<String>,
    /// The file with the secret that signs.
    pub secret_file: Option<PathBuf>,
}

/// Decisions as lines of JSON from a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventsSettings {
    /// The socket's file; `None` is no socket.
    pub socket: Option<PathBuf>,
}
