//! How a camera is announced to Home Assistant: one message for a device with all of its components
//! (<https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload>).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::payload;
use super::topics::{COMMAND, Topics};

/// An enumeration with more options helps nobody.
const MAX_OPTIONS: usize = 100;

/// What there is besides the answer itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// Commands are obeyed.
    pub control: bool,
    /// Pictures are published.
    pub images: bool,
    /// Energy is measured.
    pub energy: bool,
    /// After so many seconds without a message a value is not known any more.
    pub expire_s: u64,
}

/// The components of a device by their keys, each with its platform.
pub type Platforms = BTreeMap<String, String>;

/// The components of `camera`, by key.
pub fn components(
    topics: &Topics,
    camera: &str,
    labels: &[String],
    abilities: Abilities,
) -> BTreeMap<&'static str, Value> {
    let state = |key: &str| format!("{{{{ value_json.{key} }}}}");
    let stats = topics.camera(camera, "stats");
    let expire_s = abilities.expire_s;
    let mut all = BTreeMap::from([
        ("label", label(labels, expire_s)),
        (
            "confidence",
            json!({"platform": "sensor", "name": "Confidence", "unit_of_measurement": "%", "state_class": "measurement",
                "suggested_display_precision": 0, "expire_after": expire_s, "value_template": state("confidence")}),
        ),
        (
            "latency",
            json!({"platform": "sensor", "name": "Latency", "device_class": "duration", "unit_of_measurement": "ms",
                "state_class": "measurement", "entity_category": "diagnostic", "enabled_by_default": false,
                "state_topic": stats, "value_template": state("latency_ms")}),
        ),
        (
            "camera",
            json!({"platform": "binary_sensor", "name": "Camera", "device_class": "connectivity",
                "entity_category": "diagnostic", "payload_on": "online", "payload_off": "offline",
                "state_topic": topics.camera(camera, "status"), "availability": [{"topic": topics.status()}]}),
        ),
    ]);
    if abilities.energy {
        let energy = json!({"platform": "sensor", "name": "Energy", "device_class": "energy", "unit_of_measurement": "kWh",
            "state_class": "total_increasing", "state_topic": stats, "value_template": state("energy_kwh")});
        let power = json!({"platform": "sensor", "name": "Power", "device_class": "power", "unit_of_measurement": "W",
            "state_class": "measurement", "state_topic": stats, "value_template": state("power_w")});
        all.extend([("energy", energy), ("power", power)]);
    }
    if abilities.images {
        let image = json!({"platform": "image", "name": "Picture", "image_topic": topics.camera(camera, "image"),
            "content_type": "image/jpeg"});
        all.insert("image", image);
    }
    if abilities.control {
        // A threshold above 1 always refines; the slider ends there.
        let number = json!({"platform": "number", "name": "Threshold", "min": 0, "max": 1, "step": 0.01, "mode": "slider",
            "entity_category": "config", "command_topic": topics.camera(camera, COMMAND), "qos": 1,
            "value_template": "{{ [value_json.threshold, 1] | min }}"});
        all.insert("threshold", number);
    }
    for (key, component) in &mut all {
        component["unique_id"] = json!(format!("{}_{key}", topics.device(camera)));
    }
    all
}

/// An enumeration where the names allow it.
fn label(labels: &[String], expire_s: u64) -> Value {
    let mut label = json!({"platform": "sensor", "name": "Label", "expire_after": expire_s,
        "value_template": "{{ value_json.label }}"});
    let mut options: Vec<String> = labels.iter().map(|label| payload::label(label)).collect();
    options.sort();
    options.dedup();
    if (1..=MAX_OPTIONS).contains(&options.len()) && options.iter().all(|option| !option.is_empty()) {
        label["device_class"] = json!("enum");
        label["options"] = json!(options);
    }
    label
}

/// The platforms of `components`.
pub fn platforms(components: &BTreeMap<&'static str, Value>) -> Platforms {
    let platform = |component: &Value| component["platform"].as_str().unwrap_or_default().to_owned();
    components.iter().map(|(key, component)| ((*key).to_owned(), platform(component))).collect()
}

/// The message that announces `camera` with `components`. What was announced `before` and is no more is taken back by a component with
/// nothing but its platform.
pub fn message(
    topics: &Topics,
    camera: &str,
    components: &BTreeMap<&'static str, Value>,
    before: &Platforms,
) -> Vec<u8> {
    let gone = before.iter().filter(|(key, _)| !components.contains_key(key.as_str()));
    let gone = gone.map(|(key, platform)| (key.clone(), json!({ "platform": platform })));
    let here = components.iter().map(|(key, component)| ((*key).to_owned(), component.clone()));
    let mut all = Map::new();
    all.extend(here.chain(gone));
    let version = env!("CARGO_PKG_VERSION");
    json!({
        "device": {"identifiers": [topics.device(camera)], "name": camera, "model": "CF-ViT", "sw_version": version},
        "origin": {"name": "cfvit", "sw_version": version},
        "availability": [{"topic": topics.status()}, {"topic": topics.camera(camera, "status")}],
        "availability_mode": "all",
        "state_topic": topics.camera(camera, "state"),
        "components": all,
    })
    .to_string()
    .into_bytes()
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
