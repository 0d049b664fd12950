//! What a coarse-only frame and the fine stage cost here: alternating blocks, and one-sided bounds on their means.
//!
//! Shapes are fixed, so neither depends on what a picture shows: a frame costs `μ_coarse + P(c < η) · μ_fine`. A block is the unit, because
//! frames next to each other are not independent and a power meter sees seconds. The bounds are Student's, so approximate: they assume block
//! means that are about normal and a machine that stays as it is.

use std::time::{Duration, Instant};

use crate::bench::schedule::Random;
use crate::bench::stats::mean;
use crate::clock::Clock;
use crate::error::Result;
use crate::model::package::Target;
use crate::power::Monitor;

/// What a cost is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Ms,
    /// Millijoules.
    Mj,
}

impl Unit {
    /// `ms` or `mJ`.
    pub fn as_str(self) -> &'static str {
        match self {
            Unit::Ms => "ms",
            Unit::Mj => "mJ",
        }
    }

    /// What a budget in it is called in a certificate.
    pub fn target(self) -> Target {
        match self {
            Unit::Ms => Target::Latency,
            Unit::Mj => Target::Energy,
        }
    }
}

/// Counts what a block costs.
pub trait Account {
    /// A block starts at `now`.
    fn open(&mut self, now: Instant);

    /// The block ends at `now`: what it cost, `None` where that was not measured.
    fn close(&mut self, now: Instant) -> Option<f64>;
}

/// Costs in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Time(Option<Instant>);

impl Account for Time {
    fn open(&mut self, now: Instant) {
        self.0 = Some(now);
    }

    fn close(&mut self, now: Instant) -> Option<f64> {
        Some(now.saturating_duration_since(self.0.take()?).as_secs_f64() * 1e3)
    }
}

/// Costs in millijoules, what the machine draws while idle included.
#[derive(Clone, Debug)]
pub struct Energy(pub Monitor);

impl Account for Energy {
    fn open(&mut self, now: Instant) {
        self.0.close_window(now);
    }

    fn close(&mut self, now: Instant) -> Option<f64> {
        self.0.close_window(now).map(|energy| energy.energy_mj)
    }
}

/// How to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Blocks of each kind.
    pub pairs: usize,
    /// How long a block of coarse-only frames lasts, about.
    pub block: Duration,
    /// Of the order in the pairs.
    pub seed: u64,
}

/// Mean costs of a frame, by block; as many of each kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Blocks {
    /// Preprocessing, coarse stage and gate.
    pub coarse: Vec<f64>,
    /// The same with the choice of cells and the fine stage.
    pub both: Vec<f64>,
}

impl Blocks {
    /// The fine stage: what refining adds, by pair.
    fn fine(&self) -> Vec<f64> {
        self.both.iter().zip(&self.coarse).map(|(both, coarse)| both - coarse).collect()
    }

    /// Mean cost of a frame that is not refined, and of refining.
    pub fn means(&self) -> [f64; 2] {
        [&self.coarse, &self.fine()].map(|costs| mean(costs).unwrap_or(f64::INFINITY))
    }

    /// Upper bounds of both, of confidence `1 − delta` each; infinite for fewer than two blocks.
    pub fn uppers(&self, delta: f64) -> [f64; 2] {
        [&self.coarse, &self.fine()].map(|costs| upper(costs, delta))
    }
}

/// Student's one-sided upper bound on the mean.
fn upper(values: &[f64], delta: f64) -> f64 {
    let (Some(mean), n) = (mean(values), values.len() as f64) else { return f64::INFINITY };
    if values.len() < 2 {
        return f64::INFINITY;
    }
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    mean + student(delta, values.len() - 1) * (variance / n).sqrt()
}

/// The quantile of Student's t with `degrees` of freedom that is exceeded with probability `tail` (below ½). With `t = √ν tan θ` the density
/// becomes `cos^(ν−1) θ`: the angle is found by bisection on Simpson's sums.
pub fn student(tail: f64, degrees: usize) -> f64 {
    use std::f64::consts::FRAC_PI_2;
    let power = i32::try_from(degrees.max(1) - 1).unwrap_or(i32::MAX);
    let area = |from: f64| {
        const STEPS: u32 = 2000;
        let width = (FRAC_PI_2 - from) / f64::from(STEPS);
        let value = |i: u32| (from + width * f64::from(i)).cos().max(0.0).powi(power);
        let weight = |i: u32| if i == 0 || i == STEPS { 1.0 } else { 2.0 + 2.0 * f64::from(i % 2) };
        (0..=STEPS).map(|i| weight(i) * value(i)).sum::<f64>() * width / 3.0
    };
    let whole = 2.0 * area(0.0);
    let (mut low, mut high) = (0.0, FRAC_PI_2);
    for _ in 0..50 {
        let middle = (low + high) / 2.0;
        if area(middle) / whole > tail { low = middle } else { high = middle }
    }
    (degrees as f64).sqrt() * low.tan()
}

/// Measures both kinds of blocks by turns in a shuffled order, after one block of each that is not counted. `frame(i, refine)` runs the `i`-th
/// frame of a block; blocks have the same frames. `None` where `account` did not measure every block.
///
/// # Errors
/// What `frame` reports.
pub fn measure(
    plan: &Plan,
    clock: &dyn Clock,
    account: &mut dyn Account,
    frame: &mut dyn FnMut(usize, bool) -> Result<()>,
) -> Result<Option<Blocks>> {
    frame(0, true)?;
    let (start, mut frames) = (clock.now(), 0);
    while frames == 0 || clock.now().saturating_duration_since(start) < plan.block {
        frame(frames, false)?;
        frames += 1;
    }
    let mut block = |refine: bool| -> Result<Option<f64>> {
        account.open(clock.now());
        for i in 0..frames {
            frame(i, refine)?;
        }
        Ok(account.close(clock.now()).map(|cost| cost / frames as f64))
    };
    block(true)?;
    let mut random = Random(plan.seed);
    let mut blocks = Blocks::default();
    for _ in 0..plan.pairs {
        let mut order = [false, true];
        random.shuffle(&mut order);
        for refine in order {
            let Some(cost) = block(refine)? else { return Ok(None) };
            if refine { &mut blocks.both } else { &mut blocks.coarse }.push(cost);
        }
    }
    Ok(Some(blocks))
}

#[cfg(test)]
#[path = "cost_tests.rs"]
mod tests;
