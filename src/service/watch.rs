//! Tells the service manager how a run is, and feeds its watchdog only as long as everything that should move does.

use std::time::Duration;

use super::Notifier;
use crate::episode::Episode;
use crate::guard::Promises;
use crate::pipeline::{Attendant, Health};
use crate::report::Report;

/// Without a watchdog readiness is looked for so often.
const PERIOD: Duration = Duration::from_secs(1);

/// Attends a run for the service manager.
pub struct Watch {
    notifier: Notifier,
    /// Whether anybody listens.
    supervised: bool,
    /// How long the service manager waits for a sign of life, if it does.
    watchdog: Option<Duration>,
    stalled: Episode,
    promises: Promises,
}

impl Watch {
    /// Attends for the service manager that the environment names, if it names one, and tells it which of the `promises` are broken.
    pub fn new(notifier: Notifier, promises: Promises) -> Self {
        let (supervised, watchdog) = (Notifier::is_supervised(), Notifier::watchdog());
        if let Some(watchdog) = watchdog {
            log::debug!("the service manager wants a sign of life every {watchdog:.1?}");
        }
        Self { notifier, supervised, watchdog, stalled: Episode::default(), promises }
    }
}

impl Attendant for Watch {
    fn period(&self) -> Option<Duration> {
        let often = self.watchdog.map_or(PERIOD, |watchdog| (watchdog / 4).min(PERIOD));
        self.supervised.then_some(often)
    }

    fn tick(&mut self, health: &Health) {
        if !self.notifier.is_ready() {
            if health.decided > 0 {
                self.notifier.ready("deciding");
            } else if health.waiting {
                self.notifier.ready("waiting for camera");
            }
        }
        let Some(watchdog) = self.watchdog else { return };
        // What hangs for half of that time is not merely slow, and the other half is left to come back in.
        match health.stalled(watchdog / 2) {
            None => {
                if let Some(signs) = self.stalled.recovers() {
                    log::info!("everything moves again after {signs} signs of life were held back");
                }
                self.notifier.alive();
            }
            Some(busy) if self.stalled.fails() => {
                let text = format!("{} has been going on for {:.1} s", busy.what, busy.time.as_secs_f64());
                log::error!("{text}: the watchdog is not fed until it ends");
                self.notifier.status(&text);
            }
            Some(_) => {}
        }
    }

    fn reported(&mut self, report: &Report) {
        if self.supervised && self.stalled.failures() == 0 {
            let complaint = self.promises.complaint().map(|complaint| format!("; {complaint}"));
            self.notifier.status(&(report.status() + &complaint.unwrap_or_default()));
        }
    }

    fn stopping(&mut self) {
        self.notifier.stopping();
    }
}
