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
    /// The most frames, of as many cameras, that share a coarse pass.
    pub(super) at_once: usize,
    /// Frames that were taken together, and those of them that can be decided.
    pub(super) taken: Vec<(CameraId, Frame)>,
    pub(super) ready: Vec<Ready>,
}

/// A frame whose inputs are made: the `i`-th one's are the `i`-th of [`Core::inputs`].
pub(super) struct Ready {
    camera: CameraId,
    /// Index of its camera's seat, until commands are obeyed again.
    seat: usize,
    frame: Frame,
    preprocess_ms: f64,
}

/// What all cameras share.
pub(super) struct Core {
    pub(super) cascade: Cascade,
    /// Names by class.
    pub(super) labels: Arc<[String]>,
    pub(super) records: Option<Arc<Records>>,
    /// Of the frames that are decided together.
    pub(super) inputs: Vec<Inputs>,
    pub(super) line: Vec<u8>,
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
            && let Some(first) = slots.take()
        {
            let left = limit.map_or(usize::MAX, |limit| usize::try_from(limit - decided).unwrap_or(usize::MAX));
            let most = self.at_once.min(self.core.cascade.most_at_once()).min(left);
            self.taken.push(first);
            self.taken.extend(std::iter::from_fn(|| slots.take_too()).take(most.saturating_sub(1)));
            self.obey();
            self.prepare(slots);
            decided += self.decide(slots, &mut engine)?;
        }
        Ok(())
    }

    /// Makes the inputs of the frames that were taken. Those that cannot be made, and frames whose camera left meanwhile, end here.
    fn prepare(&mut self, slots: &Slots) {
        for (camera, frame) in self.taken.drain(..) {
            let Some(place) = self.seats.iter().position(|seat| seat.id == camera) else {
                slots.finish(camera, frame, Outcome::Failed);
                continue;
            };
            let (seat, at) = (&mut self.seats[place], self.ready.len());
            if self.core.inputs.len() == at {
                self.core.inputs.push(Inputs::default());
            }
            let mut clock = Lap::start();
            let Core { cascade, inputs, .. } = &mut self.core;
            let for_each = &mut |jobs: usize, job: &(dyn Fn(usize) + Sync)| cascade.engine_mut().for_each(jobs, job);
            match (seat.prepare)(&frame.picture, &mut inputs[at], for_each) {
                Ok(()) => self.ready.push(Ready { camera, seat: place, frame, preprocess_ms: clock.lap_ms() }),
                Err(error) => {
                    if seat.pictures.fails() {
                        log::warn!("camera {}: skipping {}: {error}", seat.name, frame.name);
                    }
                    slots.finish(camera, frame, Outcome::Failed);
                }
            }
        }
    }

    /// Decides the frames whose inputs are made; gives how many got an answer.
    fn decide(&mut self, slots: &Slots, engine: &mut Episode) -> Result<u64> {
        let together = self.ready.len() > 1;
        if together && let Err(error) = self.core.cascade.coarse_ahead(&self.core.inputs[..self.ready.len()]) {
            // One failure of the engine, whatever the number of its frames.
            if engine.fails() {
                log::error!("the engine failed on {} frames at once: {error}", self.ready.len());
            }
            self.ready.drain(..).for_each(|ready| slots.finish(ready.camera, ready.frame, Outcome::Failed));
            return judge(error, engine.failures()).map(|()| 0);
        }
        let mut decided = 0;
        for (at, ready) in self.ready.drain(..).enumerate() {
            let seat = &mut self.seats[ready.seat];
            let result = self.core.decide(seat, &ready, (at, together.then_some(at)), &mut self.observers);
            let Ready { camera, frame, .. } = ready;
            match result {
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
                Err(error) => {
                    if engine.fails() {
                        log::error!("the engine failed on {}: {error}", frame.name);
                    }
                    slots.finish(camera, frame, Outcome::Failed);
                    judge(error, engine.failures())?;
                }
            }
        }
        Ok(decided)
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
    /// Decides one frame, measures and records it, and shows it to the observers. Its inputs are the `at`-th; where it shared a coarse pass
    /// with others, `slot` is its place there.
    fn decide(
        &mut self,
        seat: &mut Seat,
        ready: &Ready,
        (at, slot): (usize, Option<usize>),
        observers: &mut [Box<dyn Observer>],
    ) -> Result<Answer> {
        let Ready { frame, preprocess_ms, .. } = ready;
        let inputs = &self.inputs[at];
        let threshold = observers
            .iter_mut()
            .fold(seat.tuning.threshold, |threshold, observer| observer.threshold(&seat.name, threshold));
        let degraded = observers.iter().any(|observer| observer.degraded(&seat.name));
        self.cascade.set_threshold(threshold);
        let verdict = match slot {
            Some(slot) => self.cascade.decide_ahead(slot, inputs)?,
            None => self.cascade.decide(inputs)?,
        };
        let latency = frame.captured.elapsed();
        seat.latencies.record(latency);
        let smooth = seat.smoother.update(seat.tuning.smoothing, &verdict.probabilities);
        let (stage, label, confidence) = (verdict.stage, verdict.label, verdict.confidence);
        let answer = Answer { stage, label, confidence, smooth, degraded };
        let timing = Timing { preprocess_ms: *preprocess_ms, ..verdict.timing };
        let (camera, camera_name, source) = (seat.id, seat.name.as_str(), seat.source.as_str());
        let decision =
            Decision { camera, camera_name, source, frame, inputs, threshold, degraded, smooth, latency, timing };
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
