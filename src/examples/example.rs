//! What is told beside a collected picture.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::name::Name;
use crate::frame::Stage;
use crate::model::Label;

/// Why a picture was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The coarse and the fine stage gave different answers.
    Disagree,
    /// The confidence lay in the band.
    Unsure,
    /// By chance.
    Random,
    /// An operator asked for it.
    Asked,
}

impl Reason {
    /// All of them.
    pub const ALL: [Reason; 4] = [Reason::Disagree, Reason::Unsure, Reason::Random, Reason::Asked];

    /// The word in side-cars and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Disagree => "disagree",
            Reason::Unsure => "unsure",
            Reason::Random => "random",
            Reason::Asked => "asked",
        }
    }
}

/// What is the same for all examples of a run.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The model's name.
    pub model: String,
    /// Sum over its weights and what computes with them, where it is known.
    pub engine_sha256: Option<String>,
    /// One per class, in class order.
    pub labels: Vec<Label>,
    /// The share of the picture's shorter side that the network sees.
    pub crop: f64,
    /// Coarse cells along a side.
    pub grid: usize,
}

/// A decided frame, without its picture.
#[derive(Clone, Debug)]
pub struct Example {
    /// The camera's name.
    pub camera: String,
    /// The frame's number.
    pub seq: u64,
    /// When the picture was taken.
    pub captured: SystemTime,
    /// Which stage answered.
    pub stage: Stage,
    /// The most probable classes of the answer, best first.
    pub top: Vec<(usize, f32)>,
    /// Those of the coarse stage; empty where it did not run.
    pub coarse_top: Vec<(usize, f32)>,
    /// What the gate compared; NaN where the static pass answered.
    pub coarse_confidence: f32,
    /// η, with which it was compared.
    pub threshold: f32,
    /// The cells that the fine stage saw finer.
    pub informative: Vec<u32>,
    /// Why it is kept.
    pub reason: Reason,
}

impl Example {
    /// How it is called.
    pub fn name(&self) -> Name {
        let since = self.captured.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        Name { unix_ms, camera: self.camera.clone(), seq: self.seq }
    }

    /// The side-car. Numbers that are not known are `null`.
    pub fn side_car(&self, about: &About, size: (usize, usize)) -> Value {
        let class = |&(class, probability): &(usize, f32)| {
            let label = about.labels.get(class);
            let (id, name) = (label.map(|label| &label.id), label.map(|label| &label.name));
            json!({ "label": class, "id": id, "name": name, "probability": probability })
        };
        json!({
            "v": 1,
            "time_ms": self.name().unix_ms,
            "camera": self.camera,
            "seq": self.seq,
            "width": size.0,
            "height": size.1,
            "reason": self.reason.as_str(),
            "stage": self.stage.as_str(),
            "top": self.top.iter().map(class).collect::<Vec<_>>(),
            "coarse_top": self.coarse_top.iter().map(class).collect::<Vec<_>>(),
            "coarse_confidence": self.coarse_confidence,
            "threshold": self.threshold,
            "informative": self.informative,
            "grid": about.grid,
            "crop": about.crop,
            "model": about.model,
            "engine_sha256": about.engine_sha256,
            "class": Value::Null,
            "labeller": Value::Null,
        })
    }
}
