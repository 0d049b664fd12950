//! From observations and a wish to η: a limit on errors gives the lowest η, a budget the highest.

use super::cost::{Blocks, Unit};
use super::rule::{self, Bound};
use super::{Observation, Risk, binomial};
use crate::error::{Error, Kind, Result};

/// A limit on errors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accuracy {
    /// What counts as an error.
    pub risk: Risk,
    /// The largest share of frames, 0 to 1.
    pub limit: f64,
}

/// A limit on the mean cost of a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// What it is counted in.
    pub unit: Unit,
    /// The largest mean.
    pub limit: f64,
}

/// Which of several good thresholds to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prefer {
    /// The lowest that keeps the limit on errors.
    #[default]
    Cheap,
    /// The highest that keeps the budget.
    Accuracy,
}

/// What is wished for: at least one limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Request {
    /// The limit on errors.
    pub accuracy: Option<Accuracy>,
    /// The limit on the cost.
    pub budget: Option<Budget>,
    /// 1 − confidence: the probability, over the draw of the calibration frames, that any promise is broken.
    pub delta: f64,
    /// What to do with the room between both.
    pub prefer: Prefer,
}

impl Request {
    /// The part of delta that each of the two limits gets.
    pub fn delta_each(&self) -> f64 {
        if self.accuracy.is_some() && self.budget.is_some() { self.delta / 2.0 } else { self.delta }
    }
}

/// The part of a budget's delta that the share of fine gets; each of the two mean costs gets half of the rest.
pub const SHARE_OF_DELTA: f64 = 0.8;

/// The lowest η that keeps a limit on errors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floor {
    /// The limit.
    pub accuracy: Accuracy,
    /// η and its counts.
    pub bound: Bound,
    /// Upper bound on the share of bad frames at η.
    pub upper: f64,
}

/// The highest η that keeps a budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ceiling {
    /// The budget.
    pub budget: Budget,
    /// η and its counts.
    pub bound: Bound,
    /// The share of fine that the budget allows, 0 to 1.
    pub share: f64,
    /// Mean cost of the coarse path and of the fine stage.
    pub means: [f64; 2],
    /// Upper bounds of both.
    pub uppers: [f64; 2],
}

/// The threshold, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Solution {
    /// η
    pub eta: f32,
    /// From the limit on errors.
    pub floor: Option<Floor>,
    /// From the budget.
    pub ceiling: Option<Ceiling>,
    /// Share of fine at η: lower bound, estimate, upper bound.
    pub fine_share: [f64; 3],
}

/// Finds η. `blocks` are the measured costs; a budget needs them.
///
/// # Errors
/// [`Kind::TooFew`] when there are too few observations to promise anything, [`Kind::Infeasible`] when the limits cannot be kept, by how
/// much, and what could be.
pub fn solve(observations: &[Observation], request: &Request, blocks: Option<&Blocks>) -> Result<Solution> {
    let delta = request.delta_each();
    let floor = request.accuracy.map(|accuracy| solve_floor(observations, accuracy, delta)).transpose()?;
    let ceiling = match (request.budget, blocks) {
        (Some(budget), Some(blocks)) => Some(solve_ceiling(observations, budget, blocks, delta)?),
        (Some(_), None) => return Err(Error::new(Kind::Engine, "a budget needs measured costs")),
        (None, _) => None,
    };
    let eta = match (&floor, &ceiling) {
        (Some(floor), Some(ceiling)) => combine(observations, floor, ceiling, request.prefer)?,
        (Some(floor), None) => floor.bound.eta,
        (None, Some(ceiling)) => ceiling.bound.eta,
        (None, None) => return Err(Error::new(Kind::Usage, "there is neither a limit on errors nor a budget")),
    };
    Ok(Solution { eta, floor, ceiling, fine_share: share_of_fine(observations, eta, request.delta) })
}

/// The share of frames that are refined at `eta`: lower bound, estimate, upper bound, each pair of confidence `1 − delta`.
pub fn share_of_fine(observations: &[Observation], eta: f32, delta: f64) -> [f64; 3] {
    let refined = observations.iter().filter(|o| !o.stops(eta)).count() as u64;
    binomial::interval(refined, observations.len() as u64, delta)
}

/// Why `n` frames are too few for a limit of `epsilon`.
pub fn too_few(n: usize, epsilon: f64, delta: f64) -> Error {
    let (fewest, good) = (binomial::fewest(epsilon, delta), binomial::comfortable(epsilon, delta, super::plan::ROOM));
    let message = format!(
        "{n} frames are too few: even without one bad frame, at most {:.2} % with {:.1} % confidence takes {fewest} frames, \
         and {good} leave room for {:.0} % of that. Take more, or a larger limit",
        100.0 * epsilon,
        100.0 * (1.0 - delta),
        100.0 * super::plan::ROOM,
    );
    Error::new(Kind::TooFew, message)
}

fn solve_floor(observations: &[Observation], accuracy: Accuracy, delta: f64) -> Result<Floor> {
    let n = observations.len() as u64;
    let bad = observations.iter().filter(|o| o.is_bad(accuracy.risk)).map(|o| o.confidence);
    let bound = rule::floor(&mut bad.collect(), n, accuracy.limit, delta)
        .ok_or_else(|| too_few(observations.len(), accuracy.limit, delta))?;
    Ok(Floor { accuracy, bound, upper: binomial::upper(bound.seen, n, delta) })
}

fn solve_ceiling(observations: &[Observation], budget: Budget, blocks: &Blocks, delta: f64) -> Result<Ceiling> {
    let delta_mean = delta * (1.0 - SHARE_OF_DELTA) / 2.0;
    let (means, uppers) = (blocks.means(), blocks.uppers(delta_mean));
    let share = (budget.limit - uppers[0]) / uppers[1].max(f64::MIN_POSITIVE);
    let unit = budget.unit.as_str();
    if share.is_nan() || share <= 0.0 {
        let message = format!(
            "a frame that is never refined already costs {:.3} {unit} (at most {:.3}), more than the budget of {} {unit}: \
             a faster engine or fewer pixels, or a larger budget",
            means[0], uppers[0], budget.limit
        );
        return Err(Error::new(Kind::Infeasible, message));
    }
    let share = share.min(1.0);
    let mut confidences: Vec<f32> = observations.iter().map(|o| o.confidence).collect();
    let delta_share = delta * SHARE_OF_DELTA;
    let bound = rule::ceiling(&mut confidences, share, delta_share).ok_or_else(|| {
        too_few(observations.len(), share, delta_share).within(format!(
            "the budget of {} {unit} allows {:.2} % to be refined",
            budget.limit,
            100.0 * share
        ))
    })?;
    if bound.seen > bound.allowed {
        let message = format!(
            "{} of {} frames have no confidence and are always refined, the budget allows {}",
            bound.seen,
            observations.len(),
            bound.allowed
        );
        return Err(Error::new(Kind::Infeasible, message));
    }
    Ok(Ceiling { budget, bound, share, means, uppers })
}

/// The threshold that keeps both.
fn combine(observations: &[Observation], floor: &Floor, ceiling: &Ceiling, prefer: Prefer) -> Result<f32> {
    let (low, high) = (floor.bound.eta, ceiling.bound.eta);
    if low <= high {
        return Ok(if prefer == Prefer::Cheap { low } else { high });
    }
    let [_, needed, _] = share_of_fine(observations, low, 0.1);
    let unit = ceiling.budget.unit.as_str();
    let cost = ceiling.uppers[0] + needed * ceiling.uppers[1];
    let message = format!(
        "the two limits contradict each other: errors need η ≥ {low}, which refines {:.1} % and costs about {cost:.3} {unit} a frame; \
         the budget of {} {unit} allows η ≤ {high} ({:.1} %). Raise the budget to about {cost:.3} {unit}, or allow more errors",
        100.0 * needed,
        ceiling.budget.limit,
        100.0 * ceiling.share,
    );
    Err(Error::new(Kind::Infeasible, message))
}

#[cfg(test)]
#[path = "solve_tests.rs"]
mod tests;
