//! The runtime: the only place that makes threads for the stages of a frame.
//!
//! ```text
//! capture thread of camera A ──▶ slot (depth 1, newest frame wins) ─┐ fair turn
//! capture thread of camera B ──▶ slot (depth 1, newest frame wins) ─┴─▶ decision thread ──▶ records queue ──▶ records thread
//! power thread (20 Hz, only with a meter)                                   └─ counters, latencies ─▶ supervisor: a line a second
//! ```
//! The thread that calls [`Pipeline::run`] supervises: it reports, notices every end (also a panic), obeys changes, and winds the others
//! down in bounded time. No lock is held while anything is computed, decoded or written.

mod attend;
mod control;
mod decide;
mod observe;
mod slot;
mod supervise;
mod view;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};

pub use attend::{Attendant, Busy, Health};
pub use control::{Change, Control, Controlled, Member, control};
pub use decide::MAX_ENGINE_FAILURES;
use decide::{Core, Decider};
pub use observe::{Decision, Observer};
use slot::Slots;
pub use slot::{Answer, CameraId};
use supervise::{Done, Supervisor, Thread, spawn};
pub use view::{CameraView, View};

use crate::capture::{Event, Pace, Source, Wait};
use crate::cascade::Cascade;
use crate::clock::{Stop, System};
use crate::error::{Error, Kind, Result};
use crate::frame::{Inputs, Picture};
use crate::machine::Watcher;
use crate::power::{Account, Idle, Meter, Monitor};
use crate::preprocess::ForEach;
use crate::report::{Full, Records, Reporter, Rotation, Summary, Target, Writer};
use crate::smoothing::Smoothing;

/// Makes the network's inputs from a picture; parts of the work can be given to the threads of the engine.
pub type Prepare = Box<dyn FnMut(&Picture, &mut Inputs, ForEach<'_>) -> Result<()> + Send>;

/// A source is asked again at least this often, so that one which knows nothing of the stop still ends with it.
const SOURCE_PATIENCE: Duration = Duration::from_millis(100);

/// One camera of a run.
pub struct Camera {
    /// Its name in logs, records and metrics; unique in the run.
    pub name: String,
    /// Where its frames come from.
    pub source: Box<dyn Source>,
    /// From its pictures to inputs.
    pub prepare: Prepare,
    /// How its frames are decided.
    pub tuning: Tuning,
}

/// What can be changed for a camera between two of its frames.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuning {
    /// η: confidence from which the coarse answer is final.
    pub threshold: f32,
    /// How its labels are smoothed.
    pub smoothing: Smoothing,
}

/// What is to be run.
pub struct Pipeline {
    /// At least one.
    pub cameras: Vec<Camera>,
    /// From inputs to a verdict, for all cameras.
    pub cascade: Cascade,
    /// The most frames, of as many cameras, that share a coarse pass where they wait at the same moment; 1 decides each by itself. Where the
    /// engine takes fewer, so many.
    pub at_once: usize,
    /// The classes' names, in class order.
    pub labels: Vec<String>,
    /// Measures the energy, if anything can.
    pub meter: Option<Box<dyn Meter>>,
    /// What the machine drew before, where that was measured.
    pub idle: Option<Idle>,
    /// Follows clocks, heat and throttling, where that is wanted.
    pub machine: Option<Watcher>,
    /// Where a record per decision goes, if anywhere, and when a new file is begun there.
    pub records: Option<(Target, Option<Rotation>)>,
    /// Stop after so many decisions.
    pub frames: Option<u64>,
    /// Time between two log lines.
    pub report_interval: Duration,
    /// See every decision, in this order.
    pub observers: Vec<Box<dyn Observer>>,
    /// Changes that come while it runs.
    pub control: Option<Controlled>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Its numbers; they are right however it ended.
    pub summary: Summary,
    /// Why it ended, if something failed. A stop that was asked for is no failure.
    pub result: Result<()>,
}

impl Pipeline {
    /// Runs until all sources end, the frames asked for are decided, `stop` is requested, or something fails for good. Requests `stop`
    /// itself at the end. A camera that fails while others run does not end the run.
    ///
    /// # Errors
    /// When the run cannot begin: the records' target cannot be opened, or a thread cannot be made. What fails later is in
    /// [`Outcome::result`].
    pub fn run(self, stop: &Stop, attendant: &mut dyn Attendant) -> Result<Outcome> {
        let (done, ends) = unbounded();
        let slots = Arc::new(Slots::new());
        let outcome = self.start(&slots, stop, done).map(|supervisor| supervisor.run(&ends, attendant));
        // Whatever failed, no thread that has begun is left running.
        stop.request();
        slots.stop();
        outcome
    }

    /// Makes the threads.
    fn start(self, slots: &Arc<Slots>, stop: &Stop, done: Sender<Done>) -> Result<Supervisor> {
        if self.cameras.is_empty() {
            return Err(Error::new(Kind::Usage, "no camera to run: expected at least one"));
        }
        let writer = self.records.clone().map(|(target, rotation)| Writer::open(target, rotation)).transpose()?;
        let records = writer.as_ref().map(|_| Arc::new(Records::new(full_policy(&self.cameras))));
        let started = Instant::now();
        let meter = self.meter.as_ref().map(|meter| meter.describe());
        let energy = self.meter.map(|meter| start_power(meter, started, stop, &done)).transpose()?;
        let energy_seen = energy.clone();
        let idle = self.idle;
        let energy = energy.map(|monitor| Account::new(monitor, idle, started));
        let (commands, taken) = unbounded();
        let labels: Arc<[String]> = self.labels.into();

        let mut supervisor = Supervisor {
            slots: Arc::clone(slots),
            stop: stop.clone(),
            done,
            commands,
            control: self.control,
            cameras: Vec::new(),
            labels: Arc::clone(&labels),
            meter,
            machine: self.machine.clone(),
            records: records.clone().zip(self.records.map(|(target, _)| target)),
            interval: self.report_interval,
            running: Vec::new(),
            sources_ended: false,
            result: Ok(()),
            reporter: Reporter::new(started, energy)?,
        };
        supervisor.running.extend(supervisor.meter.as_ref().map(|_| Thread::Power));
        if let Some(machine) = self.machine {
            let stop = stop.clone();
            supervisor.spawn(Thread::Machine, move || {
                machine.run(&System, &stop);
                Ok(())
            })?;
        }
        let core =
            Core { cascade: self.cascade, labels, records: records.clone(), inputs: Vec::new(), line: Vec::new() };
        let mut observers = self.observers;
        let view = View::new(Arc::clone(slots), energy_seen);
        observers.iter_mut().for_each(|observer| observer.started(&view));
        let mut decider = Decider {
            seats: Vec::new(),
            commands: taken,
            observers,
            core,
            at_once: self.at_once.max(1),
            taken: Vec::new(),
            ready: Vec::new(),
        };
        for camera in self.cameras {
            supervisor.join(camera)?;
        }
        let (frames, frames_of) = (self.frames, Arc::clone(slots));
        supervisor.spawn(Thread::Decide, move || decider.run(&frames_of, frames))?;
        if let Some((mut writer, records)) = writer.zip(records) {
            supervisor.spawn(Thread::Records, move || writer.run(&records))?;
        }
        Ok(supervisor)
    }
}

/// Only where every frame can wait may frames wait for a disk.
fn full_policy(cameras: &[Camera]) -> Full {
    match cameras.iter().any(|camera| camera.source.pace() == Pace::Live) {
        true => Full::Drop,
        false => Full::Wait,
    }
}

/// Samples the meter in a thread of its own, because a reading may take as long as it likes.
fn start_power(mut meter: Box<dyn Meter>, started: Instant, stop: &Stop, done: &Sender<Done>) -> Result<Monitor> {
    let monitor = Monitor::new(started);
    let (samples, stop) = (monitor.clone(), stop.clone());
    spawn(Thread::Power, done, move || {
        samples.sample(meter.as_mut(), &System, &stop);
        Ok(())
    })?;
    Ok(monitor)
}

/// A capture thread: fills spare frames and hands them over until the source ends or the stop.
fn capture(source: &mut dyn Source, slots: &Slots, camera: CameraId, stop: &Stop) -> Result<()> {
    let pulled = source.pace() == Pace::Pull;
    while !stop.is_requested() && (!pulled || slots.wait_empty(camera)) {
        let mut frame = slots.spare(camera);
        let wait = Wait { clock: &System, stop, deadline: Instant::now() + SOURCE_PATIENCE };
        match source.next(&mut frame, &wait)? {
            Event::Frame => slots.put(camera, frame),
            Event::Failed(damage) => slots.put_damaged(camera, frame, damage.into()),
            Event::Idle => slots.give_back(camera, frame),
            Event::End => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod batch_tests;
#[cfg(test)]
mod cameras_tests;
#[cfg(test)]
mod tests;
