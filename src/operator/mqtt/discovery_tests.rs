//! The announcement against a schema that says what must and what may stand in it, and one of them word for word. The message's own keys are
//! those of `DEVICE_DISCOVERY_SCHEMA` and of what it is made of in Home Assistant's `components/mqtt/schemas.py`; those of the components, of
//! which that schema asks only for `platform`, are what we use of the platforms' documentation.

use super::*;

const FULL: Abilities = Abilities { control: true, images: true, energy: true, expire_s: 180 };

fn topics() -> Topics {
    Topics::new("0123456789ab", Some("homeassistant"))
}

fn announced(labels: &[String], abilities: Abilities, before: &Platforms) -> Value {
    let components = components(&topics(), "door", labels, abilities);
    serde_json::from_slice(&message(&topics(), "door", &components, before)).unwrap()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("class {number}")).collect()
}

/// What a component of a platform must have and may have, besides `platform` and `unique_id`, which all must.
const PLATFORMS: [(&str, &[&str], &[&str]); 4] = [
    (
        "sensor",
        &["value_template"],
        &[
            "name",
            "device_class",
            "unit_of_measurement",
            "state_class",
            "state_topic",
            "options",
            "expire_after",
            "entity_category",
            "enabled_by_default",
            "suggested_display_precision",
        ],
    ),
    (
        "binary_sensor",
        &["state_topic", "payload_on", "payload_off"],
        &["name", "device_class", "entity_category", "availability"],
    ),
    ("image", &["image_topic"], &["name", "content_type"]),
    ("number", &["command_topic"], &["name", "min", "max", "step", "mode", "entity_category", "value_template", "qos"]),
];

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

fn check(message: &Value) {
    let root = ["availability", "availability_mode", "components", "device", "origin", "state_topic"];
    assert_eq!(keys(message), root);
    // Of a device all is optional but something to know it by.
    assert!(
        message["device"]["identifiers"]
            .as_array()
            .is_some_and(|ids| !ids.is_empty() && ids.iter().all(Value::is_string))
    );
    assert_eq!(keys(&message["device"]), ["identifiers", "model", "name", "sw_version"]);
    assert!(message["device"].as_object().unwrap().values().all(|value| value.is_string() || value.is_array()));
    assert_eq!(keys(&message["origin"]), ["name", "sw_version"]);
    assert!(message["origin"].as_object().unwrap().values().all(Value::is_string));
    assert!(matches!(message["availability_mode"].as_str(), Some("all" | "any" | "latest")));
    let is_topic =
        |topic: &Value| topic.as_str().is_some_and(|topic| !topic.is_empty() && !topic.contains(['+', '#', '\0']));
    for availability in message["availability"].as_array().unwrap() {
        assert!(keys(availability) == ["topic"] && is_topic(&availability["topic"]), "{availability}");
    }
    assert!(is_topic(&message["state_topic"]));
    let mut ids = std::collections::HashSet::new();
    for (key, component) in message["components"].as_object().unwrap() {
        let platform = component["platform"].as_str().unwrap();
        let (_, required, allowed) = PLATFORMS.iter().find(|(name, ..)| *name == platform).unwrap();
        if keys(component) == ["platform"] {
            continue;
        }
        let id = component["unique_id"].as_str().unwrap();
        assert!(ids.insert(id) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b)), "{id}");
        assert!(required.iter().all(|required| component.get(*required).is_some()), "{key}: {component}");
        let known =
            |key: &&str| ["platform", "unique_id"].contains(key) || required.contains(key) || allowed.contains(key);
        assert!(keys(component).iter().all(known), "{key}: {component}");
        for topic in ["state_topic", "command_topic", "image_topic"] {
            assert!(component.get(topic).is_none_or(is_topic), "{key}: {component}");
        }
        // An enumeration has options and neither a unit nor a class of states.
        let is_enum = component["device_class"] == "enum";
        assert_eq!(is_enum, component.get("options").is_some());
        assert!(!is_enum || component.get("state_class").or(component.get("unit_of_measurement")).is_none());
    }
    assert!(!message.to_string().contains('~'), "no abbreviated topics");
}

#[test]
fn every_announcement_keeps_to_the_schema() {
    for labels in [0, 1, 10, 100, 101, 1000] {
        for bits in 0..8u8 {
            let abilities =
                Abilities { control: bits & 1 > 0, images: bits & 2 > 0, energy: bits & 4 > 0, expire_s: 180 };
            let message = announced(&names(labels), abilities, &Platforms::new());
            check(&message);
            let components = &message["components"];
            assert_eq!(components.get("threshold").is_some(), abilities.control);
            assert_eq!(components.get("image").is_some(), abilities.images);
            assert_eq!(components.get("power").is_some(), abilities.energy);
            assert_eq!(components["label"]["device_class"] == "enum", (1..=100).contains(&labels));
        }
    }
}

#[test]
fn names_that_are_no_options_make_a_plain_sensor_and_equal_ones_one_option() {
    let label = |labels: &[&str]| {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        announced(&labels, FULL, &Platforms::new())["components"]["label"].clone()
    };
    assert_eq!(label(&["b", "a", "b"])["options"], json!(["a", "b"]));
    assert!(label(&["a", ""]).get("options").is_none());
    assert_eq!(label(&["\"{{ 1 }}\""])["options"], json!(["\"{{ 1 }}\""]));
}

#[test]
fn what_is_no_more_is_taken_back_by_its_platform_alone() {
    let before = platforms(&components(&topics(), "door", &names(2), FULL));
    let less = Abilities { control: false, ..FULL };
    let message = announced(&names(2), less, &before);
    check(&message);
    assert_eq!(message["components"]["threshold"], json!({"platform": "number"}));
    let after = platforms(&components(&topics(), "door", &names(2), less));
    assert!(announced(&names(2), less, &after)["components"].get("threshold").is_none());
}

#[test]
fn an_announcement_word_for_word() {
    let labels = ["church".to_owned(), "tench".to_owned()];
    let message = announced(&labels, FULL, &Platforms::new());
    let text = serde_json::to_string_pretty(&message).unwrap().replace(env!("CARGO_PKG_VERSION"), "VERSION") + "\n";
    let expected = include_str!("discovery_golden.json");
    assert_eq!(text, expected, "if this is meant, write the new text to src/operator/mqtt/discovery_golden.json");
}
