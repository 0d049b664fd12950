//! Reads a meter at a steady rate, so that whoever reports never waits for the hardware.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Energy, Integrator, Meter};
use crate::clock::{Clock, Stop};
use crate::episode::Episode;

/// 20 samples a second: enough for windows of seconds, and cheap enough not to be seen in what is measured.
pub const SAMPLE_PERIOD: Duration = Duration::from_millis(50);

/// The energy seen so far; filled by [`Monitor::sample`], which needs a thread of its own. Clones see the same energy.
#[derive(Clone, Debug)]
pub struct Monitor {
    integrator: Arc<Mutex<Integrator>>,
}

impl Monitor {
    /// Windows and run start at `start`.
    pub fn new(start: Instant) -> Self {
        Self { integrator: Arc::new(Mutex::new(Integrator::new(start))) }
    }

    /// Reads `meter` every [`SAMPLE_PERIOD`] until the stop. A meter that fails is asked again at the next period and logged
    /// once per episode.
    pub fn sample(&self, meter: &mut dyn Meter, clock: &dyn Clock, stop: &Stop) {
        let mut episode = Episode::default();
        let mut due = clock.now();
        while !clock.sleep_until(due, stop) {
            let at = clock.now();
            match meter.read() {
                Ok(reading) => {
                    self.lock().push(at, reading);
                    if let Some(failures) = episode.recovers() {
                        log::info!("the power meter answers again after {failures} failed readings");
                    }
                }
                Err(error) if episode.fails() => log::warn!("energy is not measured for now: {error}"),
                Err(_) => {}
            }
            // A slow meter is read less often, never in a burst.
            due = (due + SAMPLE_PERIOD).max(clock.now());
        }
    }

    /// Ends the window at `end` and gives its energy; `None` where it was not measured. Never waits for the meter.
    pub fn close_window(&self, end: Instant) -> Option<Energy> {
        self.lock().close_window(end)
    }

    /// The energy of the whole run up to `end`; `None` where it was not measured.
    pub fn run(&self, end: Instant) -> Option<Energy> {
        self.lock().run(end)
    }

    fn lock(&self) -> MutexGuard<'_, Integrator> {
        self.integrator.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
