//! From samples to energy over windows: trapezoids, and the honesty about what was not seen.

use std::time::{Duration, Instant};

use super::{PLAUSIBLE_MW, Reading};

/// Two samples further apart than this say nothing about the time between them.
pub const MAX_GAP: Duration = Duration::from_millis(250);
/// A window is measured when at least this share of it was seen,
const COVERAGE: f64 = 0.9;
/// and when at least so many samples were taken in it.
const MIN_SAMPLES: u64 = 2;

/// The energy of a window that was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Energy {
    /// Mean power over the window, in milliwatts.
    pub mean_mw: f64,
    /// Energy used in the window, in millijoules.
    pub energy_mj: f64,
}

/// What was seen since a start.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: Instant,
    seen_s: f64,
    energy_mj: f64,
    samples: u64,
}

impl Span {
    fn new(start: Instant) -> Self {
        Self { start, seen_s: 0.0, energy_mj: 0.0, samples: 0 }
    }

    /// `None` where too little was seen: unseen time is filled with the mean of the seen only up to `1 − COVERAGE`.
    fn energy(&self, end: Instant) -> Option<Energy> {
        let length_s = end.saturating_duration_since(self.start).as_secs_f64();
        if self.samples < MIN_SAMPLES || self.seen_s <= 0.0 || self.seen_s < COVERAGE * length_s {
            return None;
        }
        let mean_mw = self.energy_mj / self.seen_s;
        Some(Energy { mean_mw, energy_mj: mean_mw * length_s })
    }
}

/// Integrates readings over consecutive windows and over the whole run.
///
/// A window rarely ends at a sample. The time from the last sample to its end is booked at the power of that sample; the next
/// sample books only the time that is left. So windows join without gap or overlap, and no booking is ever taken back.
#[derive(Debug)]
pub struct Integrator {
    last: Option<(Instant, Reading)>,
    /// Power at the last sample (or the mean before it, for an energy counter).
    held_mw: Option<f64>,
    /// The time up to which energy is booked: the last sample, or the end of a window after it.
    booked: Instant,
    window: Span,
    run: Span,
}

impl Integrator {
    /// The first window, and the run, start at `start`.
    pub fn new(start: Instant) -> Self {
        let span = Span::new(start);
        Self { last: None, held_mw: None, booked: start, window: span, run: span }
    }

    /// Takes the reading of `at`. An energy counter that moves implausibly is not believed for that step; one that has not moved says
    /// nothing new, and soon nothing is known.
    pub fn push(&mut self, at: Instant, reading: Reading) {
        if matches!((self.last, reading), (Some((_, Reading::EnergyMj(before))), Reading::EnergyMj(now)) if before == now)
        {
            return;
        }
        let mean_mw = self.last.and_then(|(since, before)| mean_mw(since, before, at, reading));
        match mean_mw {
            Some(mw) => self.book(at, mw),
            // Nothing is known of the time since the last sample.
            None => self.booked = self.booked.max(at),
        }
        self.held_mw = match reading {
            Reading::PowerMw(mw) => Some(mw),
            Reading::EnergyMj(_) => mean_mw,
        };
        self.last = Some((at, reading));
        self.window.samples += 1;
        self.run.samples += 1;
    }

    /// Ends the window at `end`, starts the next one there, and gives the energy of the ended one; `None` where it was not
    /// measured.
    pub fn close_window(&mut self, end: Instant) -> Option<Energy> {
        self.hold(end);
        let energy = self.window.energy(end);
        self.window = Span::new(end);
        energy
    }

    /// Forgets what was seen before `start`: the first window, and the run, start there.
    pub fn restart(&mut self, start: Instant) {
        self.hold(start);
        self.booked = self.booked.max(start);
        (self.window, self.run) = (Span::new(start), Span::new(start));
    }

    /// The energy from the start to `end`, or to the end of the last window if that is later; `None` where it was not measured.
    pub fn run(&mut self, end: Instant) -> Option<Energy> {
        self.hold(end);
        self.run.energy(end)
    }

    /// Books the time from the last sample to `end` at the power of that sample, if it is recent.
    fn hold(&mut self, end: Instant) {
        if let (Some((at, _)), Some(mw)) = (self.last, self.held_mw)
            && end.saturating_duration_since(at) <= MAX_GAP
        {
            self.book(end, mw);
        }
    }

    /// Books the time that is not yet booked up to `end` at `mw`.
    fn book(&mut self, end: Instant, mw: f64) {
        let seen_s = end.saturating_duration_since(self.booked).as_secs_f64();
        for span in [&mut self.window, &mut self.run] {
            span.energy_mj += mw * seen_s;
            span.seen_s += seen_s;
        }
        self.booked = self.booked.max(end);
    }
}

/// The mean power between two samples: by the trapezoid under two powers, or from what a counter moved by. `None` where they are
/// too far apart, of different kinds, or cannot be true.
fn mean_mw(since: Instant, before: Reading, at: Instant, now: Reading) -> Option<f64> {
    let gap = at.saturating_duration_since(since);
    if gap.is_zero() || gap > MAX_GAP {
        return None;
    }
    let mean_mw = match (before, now) {
        (Reading::PowerMw(a), Reading::PowerMw(b)) => (a + b) / 2.0,
        (Reading::EnergyMj(a), Reading::EnergyMj(b)) => (b - a) / gap.as_secs_f64(),
        _ => return None,
    };
    (0.0..=PLAUSIBLE_MW).contains(&mean_mw).then_some(mean_mw)
}
