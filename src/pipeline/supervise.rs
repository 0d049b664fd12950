//! The supervisor: reports each second, notices when a thread ends, obeys changes, and winds everything down in bounded time.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, at, never, select};

use super::attend::{Attendant, Busy, Health};
use super::control::{Change, Controlled, Member, Request};
use super::decide::{Command, Seat};
use super::slot::{CameraId, Look, Slots};
use super::{Camera, Outcome, capture, view};
use crate::capture::Pace;
use crate::capture::status::Status;
use crate::clock::Stop;
use crate::episode::Episode;
use crate::error::{Error, Kind, Result};
use crate::machine::Watcher;
use crate::report::{
    CameraReport, CameraReporter, CameraState, Label, Line, Power, Records, Report, Reporter, Summary, Target,
};
use crate::smoothing::Smoother;

/// So long a thread may take to end after it was asked to; then it is left behind.
#[cfg(not(test))]
const GRACE: Duration = Duration::from_secs(5);
#[cfg(test)]
const GRACE: Duration = Duration::from_millis(300);

/// The threads of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thread {
    Capture(CameraId),
    Decide,
    Records,
    Power,
    Machine,
}

impl Thread {
    fn name(self) -> &'static str {
        match self {
            Thread::Capture(_) => "capture",
            Thread::Decide => "decide",
            Thread::Records => "records",
            Thread::Power => "power",
            Thread::Machine => "machine",
        }
    }
}

/// Which thread ended, and how.
pub(super) type Done = (Thread, Result<()>);

/// Starts a thread whose end, a panic included, is told to `done`.
pub(super) fn spawn(
    thread: Thread,
    done: &Sender<Done>,
    body: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<()> {
    let done = done.clone();
    let run = move || {
        let result = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| Err(panicked(thread, panic.as_ref())));
        // Nobody listens any more if the run could not begin or left this thread behind.
        let _ = done.send((thread, result));
    };
    let started = std::thread::Builder::new().name(thread.name().to_owned()).spawn(run);
    let fails = |cause| Error::caused(Kind::Io, format!("cannot start the {} thread", thread.name()), cause);
    started.map(|_| ()).map_err(fails)
}

fn panicked(thread: Thread, panic: &(dyn Any + Send)) -> Error {
    let says = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let message = format!("the {} thread panicked: {}", thread.name(), says.unwrap_or("without a message"));
    Error::new(Kind::Engine, message)
}

/// A camera as the supervisor knows it.
pub(super) struct Row {
    id: CameraId,
    name: String,
    /// What the source says of itself.
    source: String,
    /// How the source is doing, where it can be lost.
    status: Option<Arc<Status>>,
    reporter: CameraReporter,
}

impl Row {
    fn state(&self, look: &Look) -> CameraState {
        view::state(self.status.as_ref().map(|status| status.state()), look.ended, look.idle)
    }
}

/// What the supervising thread needs.
pub(super) struct Supervisor {
    pub(super) slots: Arc<Slots>,
    pub(super) stop: Stop,
    pub(super) done: Sender<Done>,
    /// To the decision thread.
    pub(super) commands: Sender<Command>,
    pub(super) control: Option<Controlled>,
    pub(super) cameras: Vec<Row>,
    /// Names by class.
    pub(super) labels: Arc<[String]>,
    pub(super) meter: Option<String>,
    pub(super) machine: Option<Watcher>,
    /// The queue, and where the records go.
    pub(super) records: Option<(Arc<Records>, Target)>,
    pub(super) interval: Duration,
    pub(super) running: Vec<Thread>,
    /// The last source ended by itself.
    pub(super) sources_ended: bool,
    pub(super) result: Result<()>,
    pub(super) reporter: Reporter,
}

impl Supervisor {
    /// Starts a thread of this run.
    pub(super) fn spawn(&mut self, thread: Thread, body: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
        spawn(thread, &self.done, body)?;
        self.running.push(thread);
        Ok(())
    }

    /// Takes a camera into service.
    pub(super) fn join(&mut self, camera: Camera) -> Result<()> {
        let Camera { name, mut source, prepare, tuning } = camera;
        let (reporter, stop) = (CameraReporter::new(Instant::now())?, Stop::new());
        if let (Pace::Live, Some((records, _))) = (source.pace(), &self.records) {
            records.hurry();
        }
        let id = self.slots.add(stop.clone());
        self.slots.introduce(id, &name, (source.describe(), source.status()));
        let seat = Seat {
            id,
            name: name.clone(),
            source: source.name().to_owned(),
            prepare,
            tuning,
            latencies: reporter.recorder(),
            smoother: Smoother::default(),
            pictures: Episode::default(),
        };
        // The decision thread has ended only where the run has.
        let _ = self.commands.send(Command::Join(Box::new(seat)));
        self.cameras.push(Row { id, name, source: source.describe(), status: source.status(), reporter });
        let slots = Arc::clone(&self.slots);
        self.spawn(Thread::Capture(id), move || capture(source.as_mut(), &slots, id, &stop))
    }

    /// Supervises from the start to the end of the run.
    pub(super) fn run(mut self, ends: &Receiver<Done>, attendant: &mut dyn Attendant) -> Outcome {
        self.watch(ends, attendant);
        let end = Instant::now();
        attendant.stopping();
        self.wind_down(ends);

        let tally = self.slots.tally();
        let cameras: Vec<(String, Line)> = self
            .cameras
            .iter_mut()
            .filter_map(|row| {
                self.slots.look(row.id).map(|look| (row.name.clone(), row.reporter.whole(end, look.tally)))
            })
            .collect();
        let whole = self.reporter.whole(end, tally, self.cameras.iter().map(|row| &row.reporter));
        let machine = self.machine.as_ref().and_then(Watcher::latest);
        let summary = Summary {
            whole,
            cameras,
            meter: self.meter,
            power: Power { machine, ..self.reporter.power() },
            records: self.records.map(|(records, target)| (target.to_string(), records.count())),
        };
        if self.result.is_ok() && self.sources_ended && tally.decided == 0 {
            let sources: Vec<&str> = self.cameras.iter().map(|row| row.source.as_str()).collect();
            let message = format!("no frame of {} could be decided ({} failed)", sources.join(", "), tally.failed);
            self.result = Err(Error::new(Kind::Source, message));
        }
        Outcome { summary, result: self.result }
    }

    /// Reports until the run is over.
    fn watch(&mut self, ends: &Receiver<Done>, attendant: &mut dyn Attendant) {
        let control = self.control.as_ref().map_or_else(never, |control| control.requests.clone());
        let mut report = Instant::now() + self.interval;
        let mut tick = attendant.period().map(|period| Instant::now() + period);
        loop {
            let ticks = tick.map_or_else(never, at);
            select! {
                recv(ends) -> end => match end {
                    Ok((thread, result)) => if self.note(thread, result) { return },
                    Err(_) => return,
                },
                recv(self.stop.receiver()) -> _ => return,
                recv(control) -> request => if let Ok(Request { change, answer }) = request {
                    let interval = change.report_interval;
                    // Whoever asked may have lost patience.
                    let _ = answer.send(self.obey(change));
                    if std::mem::replace(&mut self.interval, interval) != interval {
                        report = Instant::now() + interval;
                    }
                },
                recv(ticks) -> _ => {
                    attendant.tick(&self.health());
                    tick = attendant.period().map(|period| Instant::now() + period);
                },
                recv(at(report)) -> _ => {
                    let now = Instant::now();
                    let numbers = self.report(now);
                    numbers.lines().for_each(|line| log::info!("{line}"));
                    attendant.reported(&numbers);
                    report = (report + self.interval).max(now);
                }
            }
        }
    }

    /// Ends the window at `now`.
    fn report(&mut self, now: Instant) -> Report {
        let mut cameras = Vec::with_capacity(self.cameras.len());
        for row in &mut self.cameras {
            let Some(look) = self.slots.look(row.id) else { continue };
            let label = look.answer.map(|answer| Label {
                name: self.labels.get(answer.smooth.label).cloned().unwrap_or_default(),
                confidence: answer.smooth.confidence,
            });
            let line = row.reporter.window(now, look.tally);
            let counts = row.status.as_ref().map(|status| status.counts());
            let degraded = look.answer.is_some_and(|answer| answer.degraded);
            let state = row.state(&look);
            cameras.push(CameraReport { name: row.name.clone(), line, label, degraded, state, counts });
        }
        let whole = self.reporter.window(now, self.slots.tally(), self.cameras.iter().map(|row| &row.reporter));
        let machine = self.machine.as_ref().and_then(Watcher::latest);
        Report { cameras, whole, power: Power { machine, ..self.reporter.power() } }
    }

    /// How the run is now.
    fn health(&self) -> Health {
        let name = |id| self.cameras.iter().find(|row| row.id == id).map_or("a camera", |row| row.name.as_str());
        let mut health = Health { decided: self.slots.tally().decided, waiting: true, busy: Vec::new() };
        if let Some((id, time)) = self.slots.deciding() {
            health.busy.push(Busy { what: format!("the decision of a frame of {}", name(id)), time });
        }
        for row in &self.cameras {
            let Some(look) = self.slots.look(row.id).filter(|look| !look.ended) else { continue };
            health.waiting &= matches!(row.state(&look), CameraState::Waiting | CameraState::Lost);
            health.busy.push(Busy { what: format!("the capture from {}", row.name), time: look.asked });
        }
        if let Some((records, target @ Target::File(_))) = &self.records
            && let Some(time) = records.writing()
        {
            health.busy.push(Busy { what: format!("a write of records to {target}"), time });
        }
        health
    }

    /// Puts `change` in force. What is new begins before what is old ends, so that the run never stands without a camera.
    fn obey(&mut self, change: Change) -> Result<()> {
        let (mut result, old) = (Ok(()), std::mem::take(&mut self.cameras));
        let mut leaving: Vec<Option<Row>> = old.into_iter().map(Some).collect();
        for member in change.cameras {
            match member {
                Member::Start(camera) => result = self.join(camera).and(result),
                Member::Keep { name, tuning } => {
                    let kept = leaving.iter_mut().find(|row| row.as_ref().is_some_and(|row| row.name == name));
                    if let Some(row) = kept.and_then(Option::take) {
                        let _ = self.commands.send(Command::Tune(row.id, tuning));
                        self.cameras.push(row);
                    }
                }
            }
        }
        for row in leaving.into_iter().flatten() {
            self.slots.remove(row.id);
            let _ = self.commands.send(Command::Leave(row.id));
            self.reporter.retire(row.reporter);
            log::info!("camera {} is out of service", row.name);
        }
        self.tell_ended();
        result
    }

    /// Tells whoever makes the next change which cameras have ended.
    fn tell_ended(&self) {
        if let Some(control) = &self.control {
            let ended = |row: &&Row| self.slots.look(row.id).is_some_and(|look| look.ended);
            control.ended.set(self.cameras.iter().filter(ended).map(|row| row.name.clone()).collect());
        }
    }

    /// Notes that `thread` has ended; true if that is the end of the run.
    fn note(&mut self, thread: Thread, result: Result<()>) -> bool {
        self.running.retain(|&other| other != thread);
        let (over, result) = match (thread, result) {
            (Thread::Capture(id), result) => (false, self.capture_ended(id, result)),
            (Thread::Decide, result) => (true, result),
            (Thread::Records, Err(error)) if error.kind() == Kind::Closed => (true, Err(error)),
            // Neither records nor energy are worth a frame.
            (Thread::Records | Thread::Power | Thread::Machine, Err(error)) => {
                log::error!("{error}; the run goes on without it");
                if let (Thread::Records, Some((records, _))) = (thread, &self.records) {
                    records.close();
                }
                (false, Ok(()))
            }
            (Thread::Records | Thread::Power | Thread::Machine, Ok(())) => (false, Ok(())),
        };
        if self.result.is_ok() {
            self.result = result;
        }
        over
    }

    /// Notes the end of a capture. The error is the run's, unless the camera had been taken out of service.
    fn capture_ended(&mut self, id: CameraId, result: Result<()>) -> Result<()> {
        self.slots.end(id);
        self.tell_ended();
        let Some(row) = self.cameras.iter().find(|row| row.id == id) else {
            return result.or_else(|error| {
                log::warn!("a camera that is out of service ended with an error: {error}");
                Ok(())
            });
        };
        let others = self.running.iter().any(|thread| matches!(thread, Thread::Capture(_)));
        self.sources_ended = result.is_ok() && !others && !self.stop.is_requested();
        if let Err(error) = &result
            && others
        {
            log::error!("camera {} is lost for good: {error}; the other cameras go on", row.name);
        }
        result
            .map_err(|error| if self.cameras.len() > 1 { error.within(format!("camera {}", row.name)) } else { error })
    }

    /// Asks all threads to end and waits for them, but not for ever.
    fn wind_down(&mut self, ends: &Receiver<Done>) {
        self.stop.request();
        self.slots.stop();
        if let Some((records, _)) = &self.records {
            records.hurry();
        }
        self.await_all_but(Thread::Records, ends);
        if let Some((records, _)) = &self.records {
            records.close();
        }
        self.await_all_but(Thread::Power, ends);
        for thread in &self.running {
            log::error!("the {} thread does not end: it is left behind", thread.name());
        }
    }

    /// Waits until no thread but `excepted` runs, or the grace is over.
    fn await_all_but(&mut self, excepted: Thread, ends: &Receiver<Done>) {
        let deadline = Instant::now() + GRACE;
        while self.running.iter().any(|&thread| thread != excepted) {
            let Ok((thread, result)) = ends.recv_deadline(deadline) else { return };
            self.note(thread, result);
        }
    }
}
