//! The supervisor: reports each second, notices when a thread ends, and winds everything down in bounded time.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, at, select};

use super::Outcome;
use super::slot::Slot;
use crate::clock::Stop;
use crate::error::{Error, Kind, Result};
use crate::report::{Records, Reporter, Summary};

/// So long a thread may take to end after it was asked to; then it is left behind.
#[cfg(not(test))]
const GRACE: Duration = Duration::from_secs(5);
#[cfg(test)]
const GRACE: Duration = Duration::from_millis(300);

/// The threads of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thread {
    Capture,
    Decide,
    Records,
    Power,
}

impl Thread {
    fn name(self) -> &'static str {
        match self {
            Thread::Capture => "capture",
            Thread::Decide => "decide",
            Thread::Records => "records",
            Thread::Power => "power",
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

/// What the supervising thread needs.
pub(super) struct Supervisor {
    pub(super) slot: Arc<Slot>,
    pub(super) stop: Stop,
    pub(super) source: String,
    pub(super) meter: Option<String>,
    /// The queue, and the name of where the records go.
    pub(super) records: Option<(Arc<Records>, String)>,
    pub(super) interval: Duration,
    pub(super) running: Vec<Thread>,
    pub(super) source_ended: bool,
    pub(super) result: Result<()>,
    pub(super) reporter: Reporter,
}

impl Supervisor {
    /// Supervises from the start to the end of the run.
    pub(super) fn run(mut self, ends: &Receiver<Done>) -> Outcome {
        self.running.extend([Thread::Capture, Thread::Decide]);
        self.running.extend(self.meter.as_ref().map(|_| Thread::Power));
        self.running.extend(self.records.as_ref().map(|_| Thread::Records));
        self.watch(ends);
        let end = Instant::now();
        self.wind_down(ends);

        let tally = self.slot.tally();
        let summary = Summary {
            whole: self.reporter.whole(end, tally),
            meter: self.meter,
            records: self.records.map(|(records, target)| (target, records.count())),
        };
        if self.result.is_ok() && self.source_ended && tally.decided == 0 {
            let message = format!("no frame of {} could be decided ({} failed)", self.source, tally.failed);
            self.result = Err(Error::new(Kind::Source, message));
        }
        Outcome { summary, result: self.result }
    }

    /// Reports until the run is over.
    fn watch(&mut self, ends: &Receiver<Done>) {
        let mut report = Instant::now() + self.interval;
        loop {
            select! {
                recv(ends) -> end => match end {
                    Ok((thread, result)) => if self.note(thread, result) { return },
                    Err(_) => return,
                },
                recv(self.stop.receiver()) -> _ => return,
                recv(at(report)) -> _ => {
                    let now = Instant::now();
                    let line = self.reporter.window(now, self.slot.tally());
                    log::info!("{line}");
                    report = (report + self.interval).max(now);
                }
            }
        }
    }

    /// Notes that `thread` has ended; true if that is the end of the run.
    fn note(&mut self, thread: Thread, result: Result<()>) -> bool {
        self.running.retain(|&other| other != thread);
        if thread == Thread::Capture {
            self.source_ended = result.is_ok() && !self.stop.is_requested();
            self.slot.end();
        }
        let over = match (thread, &result) {
            (Thread::Capture, _) => false,
            (Thread::Decide, _) => true,
            (Thread::Records, Err(error)) if error.kind() == Kind::Closed => true,
            // Neither records nor energy are worth a frame.
            (Thread::Records | Thread::Power, Err(error)) => {
                log::error!("{error}; the run goes on without it");
                if let (Thread::Records, Some((records, _))) = (thread, &self.records) {
                    records.close();
                }
                return false;
            }
            (Thread::Records | Thread::Power, Ok(())) => false,
        };
        if self.result.is_ok() {
            self.result = result;
        }
        over
    }

    /// Asks all threads to end and waits for them, but not for ever.
    fn wind_down(&mut self, ends: &Receiver<Done>) {
        self.stop.request();
        self.slot.stop();
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
