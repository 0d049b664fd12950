//! The energy of frames, window by window: gross, net of idling, by rail, and by kind of decision.

use std::time::Instant;

use super::{Attribution, Decisions, Energy, Health, Idle, Monitor, PerDecision, RailMean, Window};
use crate::episode::Episode;

/// What a window or a run used.
#[derive(Clone, Debug, PartialEq)]
pub struct Used {
    /// All that was drawn; `None` where it was not measured.
    pub energy: Option<Energy>,
    /// Of it what is beyond idling, in millijoules; `None` also without a baseline.
    pub net_mj: Option<f64>,
    /// Every rail by itself.
    pub rails: Vec<RailMean>,
    /// How the meter stood at the end.
    pub health: Health,
}

/// Keeps the books of a monitor.
#[derive(Debug)]
pub struct Account {
    monitor: Monitor,
    idle: Option<Idle>,
    attribution: Attribution,
    window_start: Instant,
    silent: Episode,
}

impl Account {
    /// The first window starts at `start`. `idle` is what [`Monitor::measure_idle`] gave.
    pub fn new(monitor: Monitor, idle: Option<Idle>, start: Instant) -> Self {
        Self { monitor, idle, attribution: Attribution::new(idle), window_start: start, silent: Episode::default() }
    }

    /// The baseline.
    pub fn idle(&self) -> Option<Idle> {
        self.idle
    }

    /// Ends the window at `end`, in which `decisions` were made. A meter that has stopped answering is logged once per episode.
    pub fn window(&mut self, end: Instant, decisions: Decisions) -> Used {
        let elapsed = end.saturating_duration_since(self.window_start);
        self.window_start = end;
        let window = self.monitor.close(end);
        self.attribution.push(elapsed, window.energy, decisions);
        self.note_silence(window.health);
        self.used(window)
    }

    /// What was used since the start, up to `end`.
    pub fn whole(&self, end: Instant) -> Used {
        self.used(self.monitor.whole(end))
    }

    /// What a decision of each kind costs, as far as the windows tell; `None` while there are too few.
    pub fn per_decision(&self) -> Option<PerDecision> {
        self.attribution.estimate()
    }

    fn used(&self, window: Window) -> Used {
        let net_mj = self.idle.zip(window.energy).map(|(idle, energy)| idle.net_mj(energy));
        Used { energy: window.energy, net_mj, rails: window.rails, health: window.health }
    }

    fn note_silence(&mut self, health: Health) {
        match health {
            Health::Silent(_) => {
                if self.silent.fails() {
                    log::warn!("the power meter gives {health}; energy is not measured until it does");
                }
            }
            Health::Good | Health::Failing | Health::Constant(_) => {
                if self.silent.recovers().is_some() {
                    log::info!("the power meter answers again");
                }
            }
        }
    }
}
