//! Puts the counters, latencies and energy of a window together.

use std::sync::Arc;
use std::time::Instant;

use super::{Latencies, Line, Recorder, Tally};
use crate::error::Result;
use crate::power::Monitor;

/// Turns what is counted all the time into the numbers of windows and of the run.
#[derive(Debug)]
pub struct Reporter {
    recorder: Arc<Recorder>,
    latencies: Latencies,
    energy: Option<Monitor>,
    started: Instant,
    window_started: Instant,
    before: Tally,
}

impl Reporter {
    /// The run and the first window start at `started`; `energy` is `None` without a meter.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub fn new(started: Instant, energy: Option<Monitor>) -> Result<Self> {
        Ok(Self {
            recorder: Arc::new(Recorder::new()?),
            latencies: Latencies::new()?,
            energy,
            started,
            window_started: started,
            before: Tally::default(),
        })
    }

    /// Where the latencies go.
    pub fn recorder(&self) -> Arc<Recorder> {
        Arc::clone(&self.recorder)
    }

    /// Ends the window at `now`, when the counters of the run are `tally`, and starts the next.
    pub fn window(&mut self, now: Instant, tally: Tally) -> Line {
        let line = Line {
            tally: tally.since(&self.before),
            elapsed: now.saturating_duration_since(self.window_started),
            latency: self.latencies.close_window(&self.recorder),
            energy: self.energy.as_ref().and_then(|energy| energy.close_window(now)),
        };
        (self.window_started, self.before) = (now, tally);
        line
    }

    /// The numbers of the run, which ended at `end` with the counters `tally`.
    pub fn whole(&mut self, end: Instant, tally: Tally) -> Line {
        // The last window is part of the run, though no line tells of it.
        self.latencies.close_window(&self.recorder);
        Line {
            tally,
            elapsed: end.saturating_duration_since(self.started),
            latency: self.latencies.run(),
            energy: self.energy.as_ref().and_then(|energy| energy.run(end)),
        }
    }
}
