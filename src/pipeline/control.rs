//! Changes to a run that go on without a pause: cameras that come, go or are tuned anew, and how often is reported.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Camera, Tuning};
use crate::error::{Error, Kind, Result};

/// So long a running pipeline may take to obey.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to be in force from now on.
pub struct Change {
    /// All cameras; one that runs and is not among them is taken out of service.
    pub cameras: Vec<Member>,
    /// Time between two log lines.
    pub report_interval: Duration,
}

/// A camera of a [`Change`].
pub enum Member {
    /// The one of this name that runs already goes on, tuned like this.
    Keep {
        /// Its name.
        name: String,
        /// What holds for it from its next frame on.
        tuning: Tuning,
    },
    /// One that begins. Where one of its name runs, it takes its place, with new counters.
    Start(Camera),
}

/// A change and whom to answer.
pub(super) struct Request {
    pub(super) change: Change,
    pub(super) answer: Sender<Result<()>>,
}

/// Tells a running pipeline what is to change.
#[derive(Clone)]
pub struct Control {
    requests: Sender<Request>,
    ended: Ended,
}

/// The pipeline's end of a [`Control`].
pub struct Controlled {
    pub(super) requests: Receiver<Request>,
    pub(super) ended: Ended,
}

/// The names of cameras that are in service and give nothing more.
#[derive(Clone, Default)]
pub(super) struct Ended(Arc<Mutex<Vec<String>>>);

impl Ended {
    pub(super) fn set(&self, names: Vec<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = names;
    }

    fn get(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A control and the end that goes into [`super::Pipeline::control`].
pub fn control() -> (Control, Controlled) {
    let ((sender, requests), ended) = (bounded(1), Ended::default());
    (Control { requests: sender, ended: ended.clone() }, Controlled { requests, ended })
}

impl Control {
    /// The names of cameras that have ended, for whatever reason, while others run. Kept in a [`Change`] they stay so; started they begin
    /// anew.
    pub fn ended(&self) -> Vec<String> {
        self.ended.get()
    }

    /// Makes the pipeline obey `change`. When this comes back without an error it has.
    ///
    /// # Errors
    /// [`Kind::Io`] when a thread cannot be started, the run has ended, or it does not answer.
    pub fn apply(&self, change: Change) -> Result<()> {
        let gone = |what: &str| Error::new(Kind::Io, format!("the run {what}: nothing was changed"));
        let (answer, answered) = bounded(1);
        self.requests.send_timeout(Request { change, answer }, PATIENCE).map_err(|_| gone("has ended or is stuck"))?;
        answered.recv_timeout(PATIENCE).map_err(|_| gone("has ended or is stuck"))?
    }
}
