//! The values that flow through the program, one plain type per step, with their shapes and units. No behaviour.

use std::time::Instant;

/// A decoded picture: 8-bit RGB, rows from top to bottom, no padding.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]` bytes.
    pub rgb: Vec<u8>,
}

/// A captured frame: a picture, where it comes from, and when.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Counts the frames of one source from 0, dropped ones included.
    pub seq: u64,
    /// What the source calls it: a file's path, or the camera's name.
    pub name: String,
    /// When the picture was taken (monotonic clock).
    pub captured: Instant,
    /// The pixels.
    pub picture: Picture,
}

/// What the network reads: the two normalised tensors of one frame. `S` is the fine side, `2 · grid · patch`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Inputs {
    /// `[3, S, S]`, normalised RGB planes.
    pub fine: Vec<f32>,
    /// `[3, S/2, S/2]`: the fine tensor resampled bilinearly with aligned corners.
    pub coarse: Vec<f32>,
}

/// What the coarse stage gives to the host. Its features and embeddings stay inside the engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CoarseOutput {
    /// `[classes]`, as used by the gate (LV-ViT: already divided by 1.25).
    pub logits: Vec<f32>,
    /// `[grid²]`: global class attention, row-major over the coarse grid.
    pub class_attention: Vec<f32>,
}

/// Which coarse cells are cut again: the result of the gather step. Both lists are sorted ascending and together hold every
/// cell of the coarse grid once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// `[k]`, `k = ceil(grid² / 2)`: cells that the fine stage sees as four fine tokens each.
    pub informative: Vec<u32>,
    /// `[grid² − k]`: cells that stay one coarse token.
    pub kept: Vec<u32>,
}

/// The stage that gave an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The coarse stage was confident enough.
    Coarse,
    /// The fine stage was run.
    Fine,
    /// Neither: one pass over all fine tokens took their place.
    Static,
}

impl Stage {
    /// `"coarse"`, `"fine"` or `"static"`: the word in JSON, logs and captions.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Coarse => "coarse",
            Stage::Fine => "fine",
            Stage::Static => "static",
        }
    }
}

/// Milliseconds spent in each step of one frame; a step that did not run took 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timing {
    /// Resize, crop, normalise, both tensors (not reading or decoding the file).
    pub preprocess_ms: f64,
    /// The coarse stage.
    pub coarse_ms: f64,
    /// Softmax of the coarse logits and the comparison with the threshold.
    pub gate_ms: f64,
    /// Choice of the informative cells.
    pub gather_ms: f64,
    /// The fine stage.
    pub fine_ms: f64,
    /// The static pass.
    pub static_ms: f64,
    /// The coarse stage by the device's own clock: part of `coarse_ms`; `None` where the device has none.
    pub device_coarse_ms: Option<f32>,
    /// The fine stage by the device's own clock, where it ran.
    pub device_fine_ms: Option<f32>,
}

impl Timing {
    /// The sum of the steps, in milliseconds.
    pub fn total_ms(&self) -> f64 {
        self.preprocess_ms + self.coarse_ms + self.gate_ms + self.gather_ms + self.fine_ms + self.static_ms
    }
}
