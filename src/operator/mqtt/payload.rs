//! What is said of a camera: the answer that holds, and numbers. Rounded, because whoever records them keeps a row for every change.

use serde_json::{Value, json};

use crate::frame::Stage;
use crate::operator::Snapshot;
use crate::operator::history::{CAMERA_COLUMNS, Row};
use crate::power::Energy;

/// The longest label, in characters: Home Assistant takes no longer state.
const MAX_LABEL: usize = 255;
/// The confidence must move by so many points to be news.
const POINTS: u8 = 10;

/// `label` as it is published.
pub fn label(label: &str) -> String {
    label.chars().take(MAX_LABEL).collect()
}

/// The answer that holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The smoothed label's name.
    pub label: String,
    /// Its average probability, in percent.
    pub confidence: u8,
    /// Which stage answered last.
    pub stage: Stage,
    /// η, to three places.
    pub threshold: f64,
}

impl Answer {
    /// That of `snapshot`, whose smoothed class is called `name`.
    pub fn new(name: &str, snapshot: &Snapshot) -> Self {
        Self {
            label: label(name),
            confidence: (snapshot.smooth.confidence * 100.0).round().clamp(0.0, 100.0) as u8,
            stage: snapshot.stage,
            threshold: rounded(f64::from(snapshot.threshold), 3).unwrap_or(0.0),
        }
    }

    /// Whether it is worth telling whoever knows `old`: another label, another threshold, or a confidence that has moved far.
    pub fn is_news_after(&self, old: &Answer) -> bool {
        self.label != old.label || self.threshold != old.threshold || self.confidence.abs_diff(old.confidence) >= POINTS
    }

    /// As it is published.
    pub fn json(&self) -> Value {
        json!({
            "label": self.label,
            "confidence": self.confidence,
            "stage": self.stage.as_str(),
            "threshold": self.threshold,
        })
    }
}

/// The numbers of a camera over some time, and of the machine. `None` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Numbers {
    /// Frames decided a second.
    pub fps: Option<f64>,
    /// The share that the fine stage answered.
    pub fine_share: Option<f64>,
    /// Median of the time from the capture to the decision.
    pub latency_ms: Option<f64>,
    /// Mean power of the machine.
    pub power_w: Option<f64>,
    /// What the machine has drawn since the run began.
    pub energy_kwh: Option<f64>,
    /// The hottest part of the machine.
    pub temperature_c: Option<f64>,
}

impl Numbers {
    /// Those of `camera` in `row`.
    pub fn new(camera: &str, row: &Row, energy: Option<Energy>) -> Self {
        let values = row.cameras.iter().find(|(name, _)| name == camera).map(|(_, values)| values);
        let value = |column: &str, digits: u32| {
            let at = CAMERA_COLUMNS.iter().position(|name| *name == column)?;
            rounded(f64::from(values?[at]), digits)
        };
        let [power_w, _, temperature_c, ..] = row.machine;
        Self {
            fps: value("frames_per_s", 1),
            fine_share: value("fine_share", 2),
            latency_ms: value("age_p50_ms", 0),
            power_w: rounded(f64::from(power_w), 1),
            energy_kwh: energy.and_then(|energy| rounded(energy.energy_mj / 3.6e9, 4)),
            temperature_c: rounded(f64::from(temperature_c), 0),
        }
    }

    /// As they are published; what is not known is `null`, which Home Assistant shows as unknown.
    pub fn json(&self) -> Value {
        json!({
            "fps": self.fps,
            "fine_share": self.fine_share,
            "latency_ms": self.latency_ms,
            "power_w": self.power_w,
            "energy_kwh": self.energy_kwh,
            "temperature_c": self.temperature_c,
        })
    }
}

/// `value` to so many `digits` after the point; `None` where it is no number.
fn rounded(value: f64, digits: u32) -> Option<f64> {
    let scale = f64::from(10u32.pow(digits));
    value.is_finite().then(|| (value * scale).round() / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer { label: "church".to_owned(), confidence: 80, stage: Stage::Fine, threshold: 0.625 }
    }

    #[test]
    fn news_is_another_label_another_threshold_or_a_confidence_that_moved_far() {
        let old = answer();
        assert!(!answer().is_news_after(&old));
        assert!(!Answer { stage: Stage::Coarse, confidence: 89, ..answer() }.is_news_after(&old));
        assert!(Answer { confidence: 90, ..answer() }.is_news_after(&old));
        assert!(Answer { confidence: 70, ..answer() }.is_news_after(&old));
        assert!(Answer { label: "tench".to_owned(), ..answer() }.is_news_after(&old));
        assert!(Answer { threshold: 0.6, ..answer() }.is_news_after(&old));
    }

    #[test]
    fn payloads_are_rounded_and_what_is_not_known_is_null() {
        assert_eq!(
            answer().json().to_string(),
            r#"{"confidence":80,"label":"church","stage":"fine","threshold":0.625}"#
        );
        let values = [f32::NAN, 0.6, 0.333_33, 12.7, 20.0, 29.97, 0.0];
        let mut machine = [f32::NAN; 8];
        machine[0] = 4.56;
        let row = Row { unix_ms: 1, machine, cameras: vec![("door".to_owned(), values)] };
        assert_eq!(
            Numbers::new("door", &row, None).json().to_string(),
            r#"{"energy_kwh":null,"fine_share":0.33,"fps":30.0,"latency_ms":13.0,"power_w":4.6,"temperature_c":null}"#
        );
        assert_eq!(Numbers::new("other", &row, None).fps, None);
    }

    #[test]
    fn a_label_is_no_longer_than_a_state_may_be() {
        assert_eq!(label(&"é".repeat(300)).chars().count(), 255);
    }
}
