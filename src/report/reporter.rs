//! Puts the counters, latencies and energy of a window together: per camera, and of all of them.

use std::sync::Arc;
use std::time::Instant;

use super::{Latencies, Line, Power, Recorder, Tally};
use crate::error::Result;
use crate::power::{Account, Decisions, RailMean, Used};

/// Turns what is counted all the time for one camera into the numbers of windows and of the run. Their energy is `None`: a meter
/// measures the machine, not a camera.
#[derive(Debug)]
pub struct CameraReporter {
    recorder: Arc<Recorder>,
    latencies: Latencies,
    started: Instant,
    window_started: Instant,
    before: Tally,
}

impl CameraReporter {
    /// The camera begins, and its first window starts, at `started`.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub fn new(started: Instant) -> Result<Self> {
        Ok(Self {
            recorder: Arc::new(Recorder::new()?),
            latencies: Latencies::new()?,
            started,
            window_started: started,
            before: Tally::default(),
        })
    }

    /// Where the latencies go.
    pub fn recorder(&self) -> Arc<Recorder> {
        Arc::clone(&self.recorder)
    }

    /// Ends the window at `now`, when the counters of the camera are `tally`, and starts the next.
    pub fn window(&mut self, now: Instant, tally: Tally) -> Line {
        let line = Line {
            tally: tally.since(&self.before),
            elapsed: now.saturating_duration_since(self.window_started),
            latency: self.latencies.close_window(&self.recorder),
            energy: None,
            net_mj: None,
        };
        (self.window_started, self.before) = (now, tally);
        line
    }

    /// The numbers of the camera's run, which ended at `end` with the counters `tally`.
    pub fn whole(&mut self, end: Instant, tally: Tally) -> Line {
        // The last window is part of the run, though no line tells of it.
        self.latencies.close_window(&self.recorder);
        let elapsed = end.saturating_duration_since(self.started);
        Line { tally, elapsed, latency: self.latencies.run(), energy: None, net_mj: None }
    }
}

/// The same for all cameras together, and the energy.
#[derive(Debug)]
pub struct Reporter {
    energy: Option<Account>,
    /// What the last window told beside its energy.
    power: Power,
    started: Instant,
    window_started: Instant,
    before: Tally,
    /// Of cameras that are gone.
    past: Latencies,
    /// Where the cameras' latencies are put together; memory only.
    together: Latencies,
}

impl Reporter {
    /// The run and the first window start at `started`; `energy` is `None` without a meter.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub fn new(started: Instant, energy: Option<Account>) -> Result<Self> {
        let (past, together) = (Latencies::new()?, Latencies::new()?);
        let power = Power { idle: energy.as_ref().and_then(Account::idle), ..Power::default() };
        Ok(Self { energy, power, started, window_started: started, before: Tally::default(), past, together })
    }

    /// Ends the window at `now`, after those of `cameras`, when the counters of the run are `tally`, and starts the next.
    pub fn window<'a>(
        &mut self,
        now: Instant,
        tally: Tally,
        cameras: impl Iterator<Item = &'a CameraReporter>,
    ) -> Line {
        let made = tally.since(&self.before);
        let used = self.energy.as_mut().map(|account| account.window(now, decisions(&made)));
        let (energy, net_mj) = measured(used.as_ref());
        let line = Line {
            tally: made,
            elapsed: now.saturating_duration_since(self.window_started),
            latency: self.together.window_of(cameras.map(|camera| &camera.latencies)),
            energy,
            net_mj,
        };
        self.note(used);
        (self.window_started, self.before) = (now, tally);
        line
    }

    /// Keeps the latencies of a camera that is gone.
    pub fn retire(&mut self, mut camera: CameraReporter) {
        camera.latencies.close_window(&camera.recorder);
        self.past.add_run(&camera.latencies);
    }

    /// The numbers of the run, which ended at `end` with the counters `tally`, after those of `cameras`.
    pub fn whole<'a>(&mut self, end: Instant, tally: Tally, cameras: impl Iterator<Item = &'a CameraReporter>) -> Line {
        cameras.for_each(|camera| self.past.add_run(&camera.latencies));
        let used = self.energy.as_ref().map(|account| account.whole(end));
        let (energy, net_mj) = measured(used.as_ref());
        self.note(used);
        let elapsed = end.saturating_duration_since(self.started);
        Line { tally, elapsed, latency: self.past.run(), energy, net_mj }
    }

    /// What the last window, or the run, told beside its energy.
    pub fn power(&self) -> Power {
        self.power.clone()
    }

    fn note(&mut self, used: Option<Used>) {
        self.power.health = used.as_ref().map(|used| used.health);
        self.power.rails = used.map_or_else(Vec::<RailMean>::new, |used| used.rails);
        self.power.per_decision = self.energy.as_ref().and_then(Account::per_decision);
    }
}

/// The energy of what was used, and what of it is beyond idling.
fn measured(used: Option<&Used>) -> (Option<crate::power::Energy>, Option<f64>) {
    used.map_or((None, None), |used| (used.energy, used.net_mj))
}

/// The decisions of a window by kind.
fn decisions(made: &Tally) -> Decisions {
    let coarse = made.decided.saturating_sub(made.fine).saturating_sub(made.full);
    Decisions { coarse, fine: made.fine, full: made.full }
}
