//! The seam in the decision thread for whatever comes after a decision: an audit, a budget, outputs for operators.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::slot::CameraId;
use super::view::View;
use crate::cascade::{Cascade, Verdict};
use crate::frame::{Frame, Inputs, Timing};
use crate::report::Record;
use crate::smoothing::Smooth;

/// One decision, lent to the observers. The verdict itself is [`Cascade::verdict`].
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// Whose frame it is.
    pub camera: CameraId,
    /// The camera's name.
    pub camera_name: &'a str,
    /// The source's name.
    pub source: &'a str,
    /// The frame that was decided.
    pub frame: &'a Frame,
    /// Its two tensors.
    pub inputs: &'a Inputs,
    /// η, with which the gate compared.
    pub threshold: f32,
    /// An observer says that what was promised of this camera no longer holds ([`Observer::degraded`]).
    pub degraded: bool,
    /// The smoothed answer of the camera.
    pub smooth: Smooth,
    /// The age of the frame at the decision.
    pub latency: Duration,
    /// All steps, the preprocessing included.
    pub timing: Timing,
}

impl<'a> Decision<'a> {
    /// The record of it, `verdict` being that of [`Cascade::verdict`] and `labels` the classes' names.
    pub fn record(&self, verdict: &Verdict, labels: &'a [String]) -> Record<'a> {
        let name = |label: usize| labels.get(label).map_or("", String::as_str);
        Record {
            time: wall_clock(self.latency),
            seq: self.frame.seq,
            camera: self.camera_name,
            source: self.source,
            image: &self.frame.name,
            exit: verdict.stage.as_str(),
            label: verdict.label,
            name: name(verdict.label),
            confidence: verdict.confidence,
            smooth_label: self.smooth.label,
            smooth_name: name(self.smooth.label),
            smooth_confidence: self.smooth.confidence,
            coarse_confidence: verdict.coarse_confidence,
            threshold: self.threshold,
            degraded: self.degraded,
            latency_ms: self.latency.as_secs_f64() * 1e3,
            timing_ms: self.timing.into(),
        }
    }
}

/// What the wall clock said `ago`.
fn wall_clock(ago: Duration) -> Timestamp {
    let then = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    Timestamp::try_from(then).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Sees every decision, in the decision thread, after it was counted and recorded. Whatever it takes, the next frame waits for: it
/// must not wait for anything else, nor allocate per frame.
pub trait Observer: Send {
    /// The run begins; `view` shows it from outside for as long as anybody keeps it. In the thread that calls [`super::Pipeline::run`].
    fn started(&mut self, view: &View) {
        let _ = view;
    }

    /// The threshold η for the next frame of `camera`, where `configured` is what the configuration and the observers before this one say.
    fn threshold(&mut self, camera: &str, configured: f32) -> f32 {
        let _ = camera;
        configured
    }

    /// Whether what was promised of `camera` no longer holds: asked before each of its frames, told in records, logs and the status.
    fn degraded(&self, camera: &str) -> bool {
        let _ = camera;
        false
    }

    /// A frame was decided. The engine may be used for more passes over `decision.inputs`; the verdict is overwritten only by
    /// [`Cascade::decide`].
    fn decided(&mut self, decision: &Decision<'_>, cascade: &mut Cascade);
}
