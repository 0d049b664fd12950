//! The decision thread: preprocess → coarse → gate → gather → fine for the newest frame, and what is told about it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::Prepare;
use super::slot::{Outcome, Slot};
use crate::cascade::{Cascade, Lap};
use crate::episode::Episode;
use crate::error::{Error, Kind, Result};
use crate::frame::{Frame, Inputs, Stage, Timing};
use crate::report::{Record, Recorder, Records};

/// So many frames in a row that the engine fails on end the run: it will not come back by itself.
pub const MAX_ENGINE_FAILURES: u64 = 10;

/// All that the decision thread owns. Its buffers are reused from frame to frame.
pub(super) struct Decider {
    pub(super) prepare: Prepare,
    pub(super) cascade: Cascade,
    /// Names by class.
    pub(super) labels: Vec<String>,
    pub(super) source: String,
    pub(super) latencies: Arc<Recorder>,
    pub(super) records: Option<Arc<Records>>,
    pub(super) inputs: Inputs,
    pub(super) line: Vec<u8>,
}

/// Why a frame got no answer.
enum Failure {
    /// The picture is at fault; the next may be good.
    Picture(Error),
    /// The engine is at fault.
    Engine(Error),
}

impl Decider {
    /// Decides frames until none come or `limit` of them are decided.
    ///
    /// # Errors
    /// The engine's, when it failed [`MAX_ENGINE_FAILURES`] times in a row, or once for good ([`Kind::Device`]).
    pub(super) fn run(&mut self, slot: &Slot, limit: Option<u64>) -> Result<()> {
        let (mut pictures, mut engine) = (Episode::default(), Episode::default());
        let mut decided = 0;
        while limit.is_none_or(|limit| decided < limit)
            && let Some(frame) = slot.take()
        {
            match self.decide(&frame) {
                Ok(stage) => {
                    slot.finish(frame, Outcome::Decided(stage));
                    decided += 1;
                    if let Some(failures) = engine.recovers() {
                        log::info!("the engine answers again after {failures} failed frames");
                    }
                    pictures.recovers();
                    if let Some(change) = self.cascade.take_change() {
                        log::info!("{change}");
                    }
                }
                Err(Failure::Picture(error)) => {
                    if pictures.fails() {
                        log::warn!("skipping {}: {error}", frame.name);
                    }
                    slot.finish(frame, Outcome::Failed);
                }
                Err(Failure::Engine(error)) => {
                    if engine.fails() {
                        log::error!("the engine failed on {}: {error}", frame.name);
                    }
                    slot.finish(frame, Outcome::Failed);
                    if error.kind() == Kind::Device {
                        return Err(error.within("the engine's device failed"));
                    }
                    if engine.failures() >= MAX_ENGINE_FAILURES {
                        return Err(error.within(format!("the engine failed on {MAX_ENGINE_FAILURES} frames in a row")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Decides one frame, measures and records it.
    fn decide(&mut self, frame: &Frame) -> std::result::Result<Stage, Failure> {
        let mut clock = Lap::start();
        (self.prepare)(&frame.picture, &mut self.inputs).map_err(Failure::Picture)?;
        let preprocess_ms = clock.lap_ms();
        let threshold = self.cascade.threshold();
        let verdict = self.cascade.decide(&self.inputs).map_err(Failure::Engine)?;
        let latency = frame.captured.elapsed();
        self.latencies.record(latency);
        let stage = verdict.stage;
        if let Some(records) = &self.records {
            let record = Record {
                time: wall_clock(latency),
                seq: frame.seq,
                source: &self.source,
                image: &frame.name,
                exit: stage.as_str(),
                label: verdict.label,
                name: self.labels.get(verdict.label).map_or("", String::as_str),
                confidence: verdict.confidence,
                coarse_confidence: verdict.coarse_confidence,
                threshold,
                latency_ms: latency.as_secs_f64() * 1e3,
                timing_ms: Timing { preprocess_ms, ..verdict.timing }.into(),
            };
            match record.write_to(&mut self.line) {
                Ok(()) => records.push(&self.line),
                Err(error) => log::error!("cannot make a record of frame {}: {error}", frame.seq),
            }
        }
        Ok(stage)
    }
}

/// What the wall clock said `ago`.
fn wall_clock(ago: Duration) -> Timestamp {
    let then = SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH);
    Timestamp::try_from(then).unwrap_or(Timestamp::UNIX_EPOCH)
}
