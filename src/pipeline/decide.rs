//! The decision thread: preprocess → coarse → gate → gather → fine for one frame after the other, and what is told about it.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::observe::{Decision, Observer};
use super::slot::{Answer, CameraId, Outcome, Slots};
use super::{Prepare, Tuning};
use crate::cascade::{Cascade, Lap};
use crate::episode::Episode;
use crate::error::{Error, Kind, Result};
use crate::frame::{Frame, Inputs, Timing};
use crate::report::{Recorder, Records};
use crate::smoothing::Smoother;

/// So many frames in a row that the engine fails on end the run: it will not come back by itself.
pub const MAX_ENGINE_FAILURES: u64 = 10;

/// What the decision thread keeps of one camera.
pub(super) struct Seat {
    pub(super) id: CameraId,
    pub(super) name: String,
    /// The source's name.
    pub(super) source: String,
    pub(super) prepare: Prepare,
    pub(super) tuning: Tuning,
    pub(super) latencies: Arc<Recorder>,
    pub(super) smoother: Smoother,
    pub(super) pictures: Episode,
}

/// What changes while frames are decided; looked for once a frame.
pub(super) enum Command {
    Join(Box<Seat>),
    Leave(CameraId),
    Tune(CameraId, Tuning),
}

/// All that the decision thread owns. Its buffers are reused from frame to frame.
pub(super) struct Decider {
    pub(super) seats: Vec<Seat>,
    pub(super) commands: Receiver<Command>,
    pub(super) observers: Vec<Box<dyn Observer>>,
    pub(super) core: Core,
}

/// What all cameras share.
pub(super) struct Core {
    pub(super) cascade: Cascade,
    /// Names by class.
    pub(super) labels: Arc<[String]>,
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
    pub(super) fn run(&mut self, slots: &Slots, limit: Option<u64>) -> Result<()> {
        let mut engine = Episode::default();
        let mut decided = 0;
        while limit.is_none_or(|limit| decided < limit)
            && let Some((camera, frame)) = slots.take()
        {
            self.obey();
            let Some(seat) = self.seats.iter_mut().find(|seat| seat.id == camera) else {
                // Its camera left after the frame was taken.
                slots.finish(camera, frame, Outcome::Failed);
                continue;
            };
            match self.core.decide(seat, &frame, &mut self.observers) {
                Ok(answer) => {
                    slots.finish(camera, frame, Outcome::Decided(answer));
                    decided += 1;
                    if let Some(failures) = engine.recovers() {
                        log::info!("the engine answers again after {failures} failed frames");
                    }
                    seat.pictures.recovers();
                    if let Some(change) = self.core.cascade.take_change() {
                        log::info!("{change}");
                    }
                }
                Err(Failure::Picture(error)) => {
                    if seat.pictures.fails() {
                        log::warn!("camera {}: skipping {}: {error}", seat.name, frame.name);
                    }
                    slots.finish(camera, frame, Outcome::Failed);
                }
                Err(Failure::Engine(error)) => {
                    if engine.fails() {
                        log::error!("the engine failed on {}: {error}", frame.name);
                    }
                    slots.finish(camera, frame, Outcome::Failed);
                    judge(error, engine.failures())?;
                }
            }
        }
        Ok(())
    }

    /// Takes the changes that have come. A camera joins before its first frame is put, so it is known when that is taken.
    fn obey(&mut self) {
        for command in self.commands.try_iter() {
            match command {
                Command::Join(seat) => self.seats.push(*seat),
                Command::Leave(id) => self.seats.retain(|seat| seat.id != id),
                Command::Tune(id, tuning) => {
                    self.seats.iter_mut().filter(|seat| seat.id == id).for_each(|seat| seat.tuning = tuning);
                }
            }
        }
    }
}

/// Whether the run can go on after the engine failed for the `failures`th time in a row.
fn judge(error: Error, failures: u64) -> Result<()> {
    if error.kind() == Kind::Device {
        return Err(error.within("the engine's device failed"));
    }
    if failures >= MAX_ENGINE_FAILURES {
        return Err(error.within(format!("the engine failed on {MAX_ENGINE_FAILURES} frames in a row")));
    }
    Ok(())
}

impl Core {
    /// Decides one frame, measures and records it, and shows it to the observers.
    fn decide(
        &mut self,
        seat: &mut Seat,
        frame: &Frame,
        observers: &mut [Box<dyn Observer>],
    ) -> std::result::Result<Answer, Failure> {
        let mut clock = Lap::start();
        let engine = self.cascade.engine_mut();
        let for_each = &mut |jobs: usize, job: &(dyn Fn(usize) + Sync)| engine.for_each(jobs, job);
        (seat.prepare)(&frame.picture, &mut self.inputs, for_each).map_err(Failure::Picture)?;
        let preprocess_ms = clock.lap_ms();
        let threshold = observers
            .iter_mut()
            .fold(seat.tuning.threshold, |threshold, observer| observer.threshold(&seat.name, threshold));
        self.cascade.set_threshold(threshold);
        let verdict = self.cascade.decide(&self.inputs).map_err(Failure::Engine)?;
        let latency = frame.captured.elapsed();
        seat.latencies.record(latency);
        let smooth = seat.smoother.update(seat.tuning.smoothing, &verdict.probabilities);
        let answer = Answer { stage: verdict.stage, label: verdict.label, confidence: verdict.confidence, smooth };
        let timing = Timing { preprocess_ms, ..verdict.timing };
        let (camera, camera_name, source) = (seat.id, seat.name.as_str(), seat.source.as_str());
        let inputs = &self.inputs;
        let decision = Decision { camera, camera_name, source, frame, inputs, threshold, smooth, latency, timing };
        if let Some(records) = &self.records {
            match decision.record(verdict, &self.labels).write_to(&mut self.line) {
                Ok(()) => records.push(&self.line),
                Err(error) => log::error!("cannot make a record of frame {}: {error}", frame.seq),
            }
        }
        observers.iter_mut().for_each(|observer| observer.decided(&decision, &mut self.cascade));
        Ok(answer)
    }
}
