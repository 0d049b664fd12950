//! What systemd is told: that the service is ready, alive, reading its configuration again, stopping; and how it is, in one line. Outside
//! of a service manager nothing is told to nobody.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, bounded};
use sd_notify::NotifyState;

use crate::report::text::printable;

/// How much more time is asked for at once while the start takes long,
const EXTENSION: Duration = Duration::from_secs(30);
/// how often,
const EXTEND_EVERY: Duration = Duration::from_secs(10);
/// and for how long at most: what takes longer hangs.
const LONGEST_START: Duration = Duration::from_secs(30 * 60);

/// Talks to the service manager. Clones talk for the same service.
#[derive(Clone, Debug, Default)]
pub struct Notifier(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    ready: bool,
    /// Stands behind every status: what is wrong with the configuration on disk.
    refused: Option<String>,
    status: String,
}

impl Notifier {
    /// Nothing was told yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a service manager listens.
    pub fn is_supervised() -> bool {
        std::env::var_os("NOTIFY_SOCKET").is_some()
    }

    /// How often the service manager wants a sign of life, if it does.
    pub fn watchdog() -> Option<Duration> {
        Self::is_supervised().then(sd_notify::watchdog_enabled).flatten().filter(|period| !period.is_zero())
    }

    /// Whether [`Notifier::ready`] was called.
    pub fn is_ready(&self) -> bool {
        self.with(|state| state.ready)
    }

    /// The service is ready, and how it is.
    pub fn ready(&self, status: &str) {
        self.with(|state| {
            state.ready = true;
            status.clone_into(&mut state.status);
            state.tell(&[NotifyState::Ready, NotifyState::Status(&state.line())]);
        });
    }

    /// How the service is.
    pub fn status(&self, status: &str) {
        self.with(|state| {
            status.clone_into(&mut state.status);
            state.tell(&[NotifyState::Status(&state.line())]);
        });
    }

    /// A sign of life.
    pub fn alive(&self) {
        self.with(|state| state.tell(&[NotifyState::Watchdog]));
    }

    /// The configuration is being read again. Nothing is said before the service was ready: systemd would take the end of it for that.
    pub fn reloading(&self) {
        self.with(|state| {
            if let (true, Ok(now)) = (state.ready, NotifyState::monotonic_usec_now()) {
                state.tell(&[NotifyState::Reloading, now]);
            }
        });
    }

    /// The configuration was read again, and refused where there is an error.
    pub fn reloaded(&self, refused: Option<&str>) {
        self.with(|state| {
            state.refused =
                refused.map(|error| format!("the new configuration is refused, the old one is in force: {error}"));
            let line = state.line();
            match state.ready {
                true => state.tell(&[NotifyState::Ready, NotifyState::Status(&line)]),
                false => state.tell(&[NotifyState::Status(&line)]),
            }
        });
    }

    /// The service is stopping.
    pub fn stopping(&self) {
        self.with(|state| state.tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]));
    }

    /// Does `work`, which may take longer than a start usually may, and asks for more time as long as it goes on.
    pub fn extending<T>(&self, what: &str, work: impl FnOnce() -> T) -> T {
        if !Self::is_supervised() {
            return work();
        }
        self.status(what);
        let (done, ended) = bounded::<()>(0);
        std::thread::scope(|scope| {
            let extend = || {
                let begun = Instant::now();
                let micros = u32::try_from(EXTENSION.as_micros()).unwrap_or(u32::MAX);
                while begun.elapsed() < LONGEST_START {
                    self.with(|state| state.tell(&[NotifyState::ExtendTimeoutUsec(micros)]));
                    if ended.recv_timeout(EXTEND_EVERY) == Err(RecvTimeoutError::Disconnected) {
                        return;
                    }
                }
            };
            // Without this thread the start may be given up, no more.
            let _ = std::thread::Builder::new().name("extend".to_owned()).spawn_scoped(scope, extend);
            let result = work();
            drop(done);
            result
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn tell(&self, states: &[NotifyState<'_>]) {
        if let Err(error) = sd_notify::notify(states) {
            log::debug!("cannot tell the service manager: {error}");
        }
    }

    /// The status, without anything that would end its line.
    fn line(&self) -> String {
        match &self.refused {
            Some(refused) => printable(&format!("{}; {refused}", self.status)),
            None => printable(&self.status),
        }
    }
}
