//! What is told, as JSON:
//!
//! ```json
//! {"v": 1, "id": "32 digits", "device": "12 digits", "time": "2026-01-31T12:00:00.000Z", "camera": "door",
//!  "event": "label", "label": "church", "previous": "tench", "confidence": 0.87}
//! ```
//! `previous` is `null` for the first label of a run. The other kind is `"event": "camera"` with `"state"`: `"offline"` or `"online"`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::files::sha256;
use crate::operator::board::unix_ms;

/// What has changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// The steadied label.
    Label {
        /// What it is now.
        name: String,
        /// What it was; `None` for the first.
        previous: Option<String>,
        /// Its average probability.
        confidence: f32,
    },
    /// Whether the camera is there.
    Camera {
        /// What it is now.
        online: bool,
    },
}

/// A change of one camera.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its number in this process.
    number: u64,
    /// When it happened, by the wall clock.
    time: SystemTime,
    /// When it happened.
    pub since: Instant,
    /// Whose change it is.
    pub camera: String,
    /// What has changed.
    pub change: Change,
}

impl Event {
    /// A change that happens now.
    pub fn now(camera: &str, change: Change) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Self {
            number: NUMBER.fetch_add(1, Relaxed),
            time: SystemTime::now(),
            since: Instant::now(),
            camera: camera.to_owned(),
            change,
        }
    }

    /// Its id: no other event has it, also none of another run or machine.
    pub fn id(&self, device: &str) -> String {
        let run = std::process::id();
        let mut id = sha256(format!("{device} {run} {} {}", self.number, unix_ms(self.time)).as_bytes());
        id.truncate(32);
        id
    }

    /// The body of the request.
    pub fn json(&self, device: &str) -> Value {
        let time = Timestamp::try_from(self.time).unwrap_or(Timestamp::UNIX_EPOCH);
        let mut body = json!({
            "v": 1,
            "id": self.id(device),
            "device": device,
            "time": format!("{time:.3}"),
            "camera": self.camera,
        });
        match &self.change {
            Change::Label { name, previous, confidence } => {
                let confidence = (f64::from(*confidence) * 1e4).round() / 1e4;
                (body["event"], body["label"], body["previous"]) = (json!("label"), json!(name), json!(previous));
                body["confidence"] = json!(confidence);
            }
            Change::Camera { online } => {
                (body["event"], body["state"]) = (json!("camera"), json!(if *online { "online" } else { "offline" }));
            }
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_the_documented_keys_and_its_id_is_its_own() {
        let change = Change::Label { name: "a\"b".to_owned(), previous: None, confidence: 0.123_45 };
        let event = Event::now("door", change);
        let body = event.json("0123456789ab");
        let keys: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, ["camera", "confidence", "device", "event", "id", "label", "previous", "time", "v"]);
        assert_eq!(
            (&body["label"], &body["previous"], &body["confidence"]),
            (&json!("a\"b"), &Value::Null, &json!(0.1235))
        );
        assert!(body["time"].as_str().unwrap().parse::<Timestamp>().is_ok());
        let other = Event::now("door", Change::Camera { online: false });
        assert_eq!((&other.json("x")["event"], &other.json("x")["state"]), (&json!("camera"), &json!("offline")));
        assert_eq!((event.id("x"), event.id("x").len()), (event.clone().id("x"), 32));
        assert!(event.id("x") != other.id("x") && event.id("x") != event.id("y"));
    }
}
