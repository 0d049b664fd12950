//! The runtime: the only place that makes threads for the stages of a frame.
//!
//! ```text
//! capture thread ──▶ slot (depth 1, newest frame wins) ──▶ decision thread ──▶ records queue ──▶ records thread
//! power thread (20 Hz, only with a meter)                       └─ counters, latencies ─▶ supervisor: a line a second
//! ```
//! The thread that calls [`Pipeline::run`] supervises: it reports, notices every end (also a panic), and winds the others down in
//! bounded time. No lock is held while anything is computed, decoded or written.

mod decide;
mod slot;
mod supervise;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};

use decide::Decider;
pub use decide::MAX_ENGINE_FAILURES;
use slot::Slot;
use supervise::{Done, Supervisor, Thread, spawn};

use crate::capture::{Event, Pace, Source, Wait};
use crate::cascade::Cascade;
use crate::clock::{Stop, System};
use crate::error::Result;
use crate::frame::{Inputs, Picture};
use crate::power::{Meter, Monitor};
use crate::report::{Full, Records, Reporter, Summary, Target, Writer};

/// Makes the network's inputs from a picture.
pub type Prepare = Box<dyn FnMut(&Picture, &mut Inputs) -> Result<()> + Send>;

/// A source is asked again at least this often, so that one which knows nothing of the stop still ends with it.
const SOURCE_PATIENCE: Duration = Duration::from_millis(100);

/// What is to be run.
pub struct Pipeline {
    /// Where the frames come from.
    pub source: Box<dyn Source>,
    /// From picture to inputs.
    pub prepare: Prepare,
    /// From inputs to a verdict.
    pub cascade: Cascade,
    /// The classes' names, in class order.
    pub labels: Vec<String>,
    /// Measures the energy, if anything can.
    pub meter: Option<Box<dyn Meter>>,
    /// Where a record per decision goes, if anywhere.
    pub records: Option<Target>,
    /// Stop after so many decisions.
    pub frames: Option<u64>,
    /// Time between two log lines.
    pub report_interval: Duration,
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
    /// Runs until the source ends, the frames asked for are decided, `stop` is requested, or something fails for good. Requests
    /// `stop` itself at the end.
    ///
    /// # Errors
    /// When the run cannot begin: the records' target cannot be opened, or a thread cannot be made. What fails later is in
    /// [`Outcome::result`].
    pub fn run(self, stop: &Stop) -> Result<Outcome> {
        let (done, ends) = unbounded();
        let slot = Arc::new(Slot::new());
        let outcome = self.start(&slot, stop, &done).map(|supervisor| supervisor.run(&ends));
        // Whatever failed, no thread that has begun is left running.
        stop.request();
        slot.stop();
        outcome
    }

    /// Makes the threads.
    fn start(self, slot: &Arc<Slot>, stop: &Stop, done: &Sender<Done>) -> Result<Supervisor> {
        let writer = self.records.clone().map(Writer::open).transpose()?;
        let records = writer.as_ref().map(|_| Arc::new(Records::new(full_policy(self.source.pace()))));
        let started = Instant::now();
        let meter = self.meter.as_ref().map(|meter| meter.describe());
        let energy = self.meter.map(|meter| start_power(meter, started, stop, done)).transpose()?;
        let reporter = Reporter::new(started, energy)?;

        let supervisor = Supervisor {
            slot: Arc::clone(slot),
            stop: stop.clone(),
            source: self.source.describe(),
            meter,
            records: records.clone().zip(self.records.map(|target| target.to_string())),
            interval: self.report_interval,
            running: Vec::new(),
            source_ended: false,
            result: Ok(()),
            reporter,
        };
        let mut decider = Decider {
            prepare: self.prepare,
            cascade: self.cascade,
            labels: self.labels,
            source: self.source.name().to_owned(),
            latencies: supervisor.reporter.recorder(),
            records: records.clone(),
            inputs: Inputs::default(),
            line: Vec::new(),
        };
        let (frames, taken) = (self.frames, Arc::clone(slot));
        spawn(Thread::Decide, done, move || decider.run(&taken, frames))?;
        let (mut source, put, stopped) = (self.source, Arc::clone(slot), stop.clone());
        spawn(Thread::Capture, done, move || capture(source.as_mut(), &put, &stopped))?;
        if let Some((mut writer, records)) = writer.zip(records) {
            spawn(Thread::Records, done, move || writer.run(&records))?;
        }
        Ok(supervisor)
    }
}

/// Only frames that can wait may wait for a disk.
fn full_policy(pace: Pace) -> Full {
    match pace {
        Pace::Live => Full::Drop,
        Pace::Pull => Full::Wait,
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

/// The capture thread: fills spare frames and hands them over until the source ends or the stop.
fn capture(source: &mut dyn Source, slot: &Slot, stop: &Stop) -> Result<()> {
    let pulled = source.pace() == Pace::Pull;
    while !stop.is_requested() && (!pulled || slot.wait_empty()) {
        let mut frame = slot.spare();
        let wait = Wait { clock: &System, stop, deadline: Instant::now() + SOURCE_PATIENCE };
        match source.next(&mut frame, &wait)? {
            Event::Frame => slot.put(frame),
            Event::Failed(_) => {
                slot.put_damaged();
                slot.give_back(frame);
            }
            Event::Idle => slot.give_back(frame),
            Event::End => return Ok(()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
