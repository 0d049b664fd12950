//! Keeping a mean cost: steers the share of frames that are refined, never below the certified threshold.
//!
//! The share `u` is steered and not η, because the cost is linear in it: `μ_coarse + u · μ_fine`. Once a window: what the measured costs say,
//! `(budget − μ_coarse)/μ_fine`, plus an integral of what was missed, whose error shrinks by `1 − K·g` a window (`g` is the true slope over
//! the assumed one: stable below 2/K). η is then the `u`-quantile of the confidences seen lately.

use std::time::{Duration, Instant};

use super::ALWAYS_REFINE;

/// Gain of the integral.
const GAIN: f64 = 0.3;
/// The share changes by at most so much a window, once it was set.
const MOST_CHANGE: f64 = 0.05;
/// The integral stays within this.
const MOST_INTEGRAL: f64 = 0.5;
/// Weight of a new window in the mean costs.
const WEIGHT: f64 = 0.8;
/// A window over budget by more than this part counts as missed.
const TOLERANCE: f64 = 0.05;
/// So many missed windows in a row, at the lowest allowed threshold, are an event.
const MISSED: u32 = 3;
/// A window with fewer frames says nothing.
const FEWEST: u32 = 10;
/// The shortest window.
pub const WINDOW: Duration = Duration::from_secs(5);
/// Confidences lose half of their weight in this time.
const HALF_LIFE_S: f64 = 600.0;

/// Bins of the histogram.
const BINS: usize = 1024;
/// `−ln(1 − c)` of the last bin's end: nearer to 1 there are no 32-bit floats.
const TOP: f64 = 17.0;

/// Recent confidences. The bins are even in `−ln(1 − c)`, because most confidences lie next to 1.
#[derive(Clone, Debug)]
struct Histogram {
    counts: Box<[f32; BINS]>,
    total: f64,
}

impl Histogram {
    fn new() -> Self {
        Self { counts: Box::new([0.0; BINS]), total: 0.0 }
    }

    /// The place of a confidence, in bins. What is no number comes first: it is always refined.
    fn place(confidence: f32) -> f64 {
        let x = -(1.0 - f64::from(confidence)).max(0.0).ln();
        (x / TOP * BINS as f64).clamp(0.0, BINS as f64 - 1e-6)
    }

    fn add(&mut self, confidence: f32) {
        self.counts[Self::place(confidence) as usize] += 1.0;
        self.total += 1.0;
    }

    fn decay(&mut self, factor: f32) {
        self.counts.iter_mut().for_each(|count| *count *= factor);
        self.total = self.counts.iter().map(|&count| f64::from(count)).sum();
    }

    /// The threshold below which the share `u` of the confidences lies.
    fn quantile(&self, u: f64) -> f32 {
        if u >= 1.0 {
            return ALWAYS_REFINE;
        }
        let (wanted, mut below) = (u.max(0.0) * self.total, 0.0);
        for (i, &count) in self.counts.iter().enumerate() {
            let count = f64::from(count);
            if count > 0.0 && below + count >= wanted {
                let place = i as f64 + (wanted - below) / count;
                return (1.0 - (-place / BINS as f64 * TOP).exp()) as f32;
            }
            below += count;
        }
        ALWAYS_REFINE
    }

    /// The share of the confidences below `threshold`, 0 to 1.
    fn share_below(&self, threshold: f32) -> f64 {
        if self.total <= 0.0 || threshold > 1.0 {
            return if threshold > 1.0 { 1.0 } else { 0.0 };
        }
        let place = Self::place(threshold);
        let whole: f64 = self.counts[..place as usize].iter().map(|&count| f64::from(count)).sum();
        (whole + place.fract() * f64::from(self.counts[place as usize])) / self.total
    }
}

/// Costs that are averaged over windows.
#[derive(Clone, Copy, Debug, Default)]
struct Mean(Option<f64>);

impl Mean {
    fn update(&mut self, value: f64) {
        self.0 = Some(self.0.map_or(value, |old| old + WEIGHT * (value - old)));
    }
}

/// What happened in a window.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    frames: u32,
    refined: u32,
    coarse: f64,
    fine: f64,
}

/// What the operator must know.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// The budget cannot be kept at the lowest threshold that the certificate allows: mean cost and budget.
    Infeasible {
        /// Mean cost of a frame in the last window.
        mean: f64,
        /// The budget.
        budget: f64,
    },
    /// It can be kept again.
    Feasible,
}

/// Steers one camera. Costs are in the unit of the budget.
#[derive(Clone, Debug)]
pub struct Controller {
    budget: f64,
    /// Never below: the certified threshold.
    floor: f32,
    eta: f32,
    /// The steered share; `None` before the first full window.
    share: Option<f64>,
    integral: f64,
    coarse: Mean,
    fine: Mean,
    seen: Histogram,
    window: Window,
    started: Option<Instant>,
    length: Duration,
    missed: u32,
    infeasible: bool,
}

impl Controller {
    /// Keeps `budget` in windows of `length` (at least [`WINDOW`] for a camera), starting at the threshold `eta`, never below `floor`.
    pub fn new(budget: f64, floor: f32, eta: f32, length: Duration) -> Self {
        Self {
            budget,
            floor,
            eta: eta.max(floor),
            share: None,
            integral: 0.0,
            coarse: Mean::default(),
            fine: Mean::default(),
            seen: Histogram::new(),
            window: Window::default(),
            started: None,
            length,
            missed: 0,
            infeasible: false,
        }
    }

    /// η for the next frame.
    pub fn threshold(&self) -> f32 {
        self.eta
    }

    /// The promise changed: from now on never below `floor`.
    pub fn reset(&mut self, floor: f32) {
        self.floor = floor;
        self.eta = self.eta.max(floor);
        self.forget();
    }

    /// The machine changed, as with another power mode: what was missed before says nothing any more.
    pub fn forget(&mut self) {
        (self.integral, self.missed, self.window, self.started) = (0.0, 0, Window::default(), None);
    }

    /// A frame was decided: its confidence, what it cost before the gate, and what refining it cost.
    pub fn note(&mut self, confidence: f32, coarse: f64, fine: Option<f64>) {
        self.seen.add(confidence);
        self.window.frames += 1;
        self.window.coarse += coarse;
        if let Some(fine) = fine {
            self.window.refined += 1;
            self.window.fine += fine;
        }
    }

    /// Ends the window if `now` it is full, and sets η for the next.
    pub fn step(&mut self, now: Instant) -> Option<Event> {
        let started = *self.started.get_or_insert(now);
        let elapsed = now.saturating_duration_since(started);
        if elapsed < self.length || self.window.frames < FEWEST {
            return None;
        }
        let window = std::mem::take(&mut self.window);
        self.started = Some(now);
        let frames = f64::from(window.frames);
        self.coarse.update(window.coarse / frames);
        if window.refined > 0 {
            self.fine.update(window.fine / f64::from(window.refined));
        }
        let seen = (window.coarse + window.fine) / frames;
        self.steer(seen);
        self.seen.decay(0.5_f64.powf(elapsed.as_secs_f64() / HALF_LIFE_S) as f32);
        self.judge(seen)
    }

    /// Sets η from the mean cost `seen` in the window.
    fn steer(&mut self, seen: f64) {
        let Some(coarse) = self.coarse.0 else { return };
        // Before any frame was refined nothing is known of its cost: a little is tried.
        let Some(fine) = self.fine.0.filter(|&fine| fine > 0.0) else {
            let room = seen < self.budget;
            self.apply(if room { self.seen.share_below(self.eta) + MOST_CHANGE } else { 0.0 });
            return;
        };
        let lowest = self.seen.share_below(self.floor);
        let wanted = (self.budget - coarse) / fine;
        if let Some(share) = self.share {
            let missing = GAIN * (self.budget - seen) / fine;
            // What is at its end, or on its way, is not integrated further that way.
            let change = wanted + self.integral - share;
            let down = share <= lowest + 1e-9 || change < -MOST_CHANGE;
            let up = share >= 1.0 || change > MOST_CHANGE;
            if !(down && missing < 0.0 || up && missing > 0.0) {
                self.integral = (self.integral + missing).clamp(-MOST_INTEGRAL, MOST_INTEGRAL);
            }
            let target = (wanted + self.integral).clamp(lowest.min(1.0), 1.0);
            self.apply(target.clamp(share - MOST_CHANGE, share + MOST_CHANGE));
        } else {
            self.apply(wanted);
        }
    }

    fn apply(&mut self, share: f64) {
        let lowest = self.seen.share_below(self.floor);
        let share = share.clamp(lowest.min(1.0), 1.0);
        self.eta = if share <= lowest { self.floor } else { self.seen.quantile(share).max(self.floor) };
        self.share = self.fine.0.map(|_| share);
    }

    /// Counts windows that were missed at the floor.
    fn judge(&mut self, mean: f64) -> Option<Event> {
        let over = mean > self.budget * (1.0 + TOLERANCE) && self.eta <= self.floor;
        self.missed = if over { self.missed + 1 } else { 0 };
        match (self.infeasible, self.missed) {
            (false, MISSED..) => {
                self.infeasible = true;
                Some(Event::Infeasible { mean, budget: self.budget })
            }
            (true, 0) => {
                self.infeasible = false;
                Some(Event::Feasible)
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "budget_tests.rs"]
mod tests;
