//! Changes to a run that go on without a pause: cameras that come, go or are tuned anew, and how often is reported.

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
pub struct Control(Sender<Request>);

/// The pipeline's end of a [`Control`].
pub struct Controlled(pub(super) Receiver<Request>);

/// A control and the end that goes into [`super::Pipeline::control`].
pub fn control() -> (Control, Controlled) {
    let (sender, receiver) = bounded(1);
    (Control(sender), Controlled(receiver))
}

impl Control {
    /// Makes the pipeline obey `change`. When this comes back without an error it has.
    ///
    /// # Errors
    /// [`Kind::Io`] when a thread cannot be started, the run has ended, or it does not answer.
    pub fn apply(&self, change: Change) -> Result<()> {
        let gone = |what: &str| Error::new(Kind::Io, format!("the run {what}: nothing was changed"));
        let (answer, answered) = bounded(1);
        self.0.send_timeout(Request { change, answer }, PATIENCE).map_err(|_| gone("has ended or is stuck"))?;
        answered.recv_timeout(PATIENCE).map_err(|_| gone("has ended or is stuck"))?
    }
}
