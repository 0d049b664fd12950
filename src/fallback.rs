//! The static fallback: when so many frames need the fine stage that one full-resolution pass would be cheaper, the frames take that
//! pass until the scene is easy again.
//!
//! The cascade costs `t_coarse + p · t_fine` a frame where a share `p` is refined, the static pass `t_static`; they meet at
//! `p* = (t_static − t_coarse) / t_fine`. While frames are static nobody knows what the gate would say, so every
//! [`PROBE_EVERY`]-th still goes through the cascade.

use std::fmt;
use std::time::Instant;

use crate::engine::Engine;
use crate::error::Result;
use crate::frame::{Choice, CoarseOutput};
use crate::gather;

/// Decisions of the cascade over which the share is taken while it is in use: four seconds of a camera. With fewer the share's own
/// noise (a standard deviation of 4 points at one half) would reach the hysteresis.
pub const WINDOW: usize = 128;
/// Probes over which it is taken while frames are static.
pub const PROBES: usize = 32;
/// While frames are static, one of so many goes through the cascade.
pub const PROBE_EVERY: usize = 8;
/// The share must be so far above `p*` to leave the cascade, and so far below to return.
pub const HYSTERESIS: f64 = 0.05;

/// Rounds of [`Costs::measure`]; the median of an odd number is one of them.
const ROUNDS: usize = 7;

/// How a frame is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Coarse, and fine where needed.
    Adaptive,
    /// One pass over all fine tokens.
    Static,
}

/// What one pass of each kind takes on this machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// One pass over all fine tokens.
    pub static_ms: f64,
    /// The coarse stage.
    pub coarse_ms: f64,
    /// The choice of cells and the fine stage.
    pub fine_ms: f64,
}

impl Costs {
    /// Measures `engine`: the three passes in turn, the median of each over seven rounds after one to warm up.
    ///
    /// # Errors
    /// What the engine reports, for instance that it has no static pass.
    pub fn measure(engine: &mut dyn Engine) -> Result<Self> {
        let geometry = *engine.geometry();
        // The time does not depend on the values, as long as none is subnormal.
        let image =
            |side: usize| (0..3 * side * side).map(|i| (i * 7919 % 1000) as f32 * 4e-3 - 2.0).collect::<Vec<_>>();
        let (small, large) = (image(geometry.coarse_side()), image(geometry.fine_side()));
        let (mut coarse, mut choice, mut logits) = (CoarseOutput::default(), Choice::default(), Vec::new());
        let mut times = [const { Vec::new() }; 3];
        for round in 0..=ROUNDS {
            let start = Instant::now();
            engine.full(&large, &mut logits)?;
            let full = Instant::now();
            engine.coarse(&small, &mut coarse)?;
            let sure = Instant::now();
            gather::choose(&coarse.class_attention, geometry.informative(), &mut choice);
            engine.fine(&large, &choice, &mut logits)?;
            let took = [full - start, sure - full, sure.elapsed()];
            if round > 0 {
                times.iter_mut().zip(took).for_each(|(times, took)| times.push(took));
            }
        }
        let [static_ms, coarse_ms, fine_ms] = times.map(|mut times| {
            times.sort();
            times[ROUNDS / 2].as_secs_f64() * 1e3
        });
        Ok(Self { static_ms, coarse_ms, fine_ms })
    }

    /// `p*`: the share of fine above which the static pass is cheaper. Below 0 the cascade never pays, above 1 it always does.
    pub fn break_even(&self) -> f64 {
        (self.static_ms - self.coarse_ms) / self.fine_ms.max(f64::MIN_POSITIVE)
    }
}

/// A change of path, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The path from now on.
    pub to: Path,
    /// The share of fine that was seen, 0 to 1.
    pub share: f64,
    /// `p*`.
    pub break_even: f64,
}

/// The log line of a change.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (share, limit) = (100.0 * self.share, 100.0 * self.break_even);
        match self.to {
            Path::Static => {
                write!(f, "static fallback: {share:.0} % of the frames need the fine stage, break-even is {limit:.0} %")
            }
            Path::Adaptive => write!(
                f,
                "back to the cascade: {share:.0} % of the frames would need the fine stage, break-even is {limit:.0} %"
            ),
        }
    }
}

/// Watches the share of fine and says which path the next frame takes. Allocates once.
#[derive(Clone, Debug)]
pub struct Fallback {
    break_even: f64,
    path: Path,
    /// The cascade's last decisions on this path, as a ring: whether each was refined.
    refined: Vec<bool>,
    /// Decisions noted on this path.
    noted: usize,
    /// Frames since the last probe.
    since_probe: usize,
}

impl Fallback {
    /// Starts with the cascade; `break_even` is `p*`.
    pub fn new(break_even: f64) -> Self {
        Self { break_even, path: Path::Adaptive, refined: Vec::with_capacity(WINDOW), noted: 0, since_probe: 0 }
    }

    /// The path in force.
    pub fn path(&self) -> Path {
        self.path
    }

    /// The path of the next frame: a probe takes the cascade whatever is in force.
    pub fn next_path(&mut self) -> Path {
        if self.path == Path::Adaptive {
            return Path::Adaptive;
        }
        self.since_probe += 1;
        if self.since_probe < PROBE_EVERY {
            return Path::Static;
        }
        self.since_probe = 0;
        Path::Adaptive
    }

    /// Notes whether the cascade refined a frame; gives the change that follows from it.
    pub fn note(&mut self, refined: bool) -> Option<Change> {
        let window = if self.path == Path::Adaptive { WINDOW } else { PROBES };
        match self.refined.len() < window {
            true => self.refined.push(refined),
            false => self.refined[self.noted % window] = refined,
        }
        self.noted += 1;
        if self.refined.len() < window {
            return None;
        }
        let share = self.refined.iter().filter(|&&refined| refined).count() as f64 / window as f64;
        let to = match self.path {
            Path::Adaptive if share > self.break_even + HYSTERESIS => Path::Static,
            Path::Static if share < self.break_even - HYSTERESIS => Path::Adaptive,
            _ => return None,
        };
        (self.path, self.noted, self.since_probe) = (to, 0, 0);
        self.refined.clear();
        Some(Change { to, share, break_even: self.break_even })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Plays frames of which each is hard (would be refined) or not; gives the path that each took and the changes.
    fn play(fallback: &mut Fallback, hard: impl IntoIterator<Item = bool>) -> (Vec<Path>, Vec<Change>) {
        let (mut paths, mut changes) = (Vec::new(), Vec::new());
        for hard in hard {
            let path = fallback.next_path();
            paths.push(path);
            if path == Path::Adaptive {
                changes.extend(fallback.note(hard));
            }
        }
        (paths, changes)
    }

    #[test]
    fn a_hard_scene_goes_static_and_an_easy_one_comes_back() {
        let mut fallback = Fallback::new(0.6);
        let (paths, changes) = play(&mut fallback, [true; WINDOW + 80]);
        assert_eq!(changes, [Change { to: Path::Static, share: 1.0, break_even: 0.6 }]);
        assert!(paths[..WINDOW].iter().all(|&path| path == Path::Adaptive));
        let probes = paths[WINDOW..].iter().filter(|&&path| path == Path::Adaptive).count();
        assert_eq!(probes, 80 / PROBE_EVERY);
        let (_, changes) = play(&mut fallback, [false; PROBE_EVERY * PROBES]);
        assert_eq!(changes.len(), 1);
        assert_eq!((changes[0].to, fallback.path()), (Path::Adaptive, Path::Adaptive));
        assert!(changes[0].share < 0.55);
    }

    #[test]
    fn a_share_within_the_hysteresis_changes_nothing() {
        let mut fallback = Fallback::new(0.5);
        let (paths, changes) = play(&mut fallback, (0..10 * WINDOW).map(|i| i % 2 == 0));
        assert!(changes.is_empty() && paths.iter().all(|&path| path == Path::Adaptive));
    }

    #[test]
    fn a_cascade_that_always_pays_is_never_left_and_one_that_never_does_is_not_returned_to() {
        let (paths, _) = play(&mut Fallback::new(1.0), [true; 1000]);
        assert!(paths.iter().all(|&path| path == Path::Adaptive));
        let mut never = Fallback::new(-0.2);
        let (_, changes) = play(&mut never, [false; 5000]);
        assert_eq!((changes.len(), never.path()), (1, Path::Static));
    }

    #[test]
    fn the_break_even_share_is_where_the_costs_meet() {
        let costs = Costs { static_ms: 20.0, coarse_ms: 6.0, fine_ms: 16.0 };
        let share = costs.break_even();
        assert!((costs.coarse_ms + share * costs.fine_ms - costs.static_ms).abs() < 1e-12);
    }

    proptest! {
        /// Whatever comes: a change happens only with its share on the right side of p*, and the memory stays what it was.
        #[test]
        fn every_change_has_its_reason(hard in prop::collection::vec(any::<bool>(), 0..3000), break_even in -0.5f64..1.5) {
            let mut fallback = Fallback::new(break_even);
            let room = fallback.refined.capacity();
            let (_, changes) = play(&mut fallback, hard);
            let mut expected = Path::Static;
            for change in changes {
                prop_assert_eq!(change.to, expected);
                match change.to {
                    Path::Static => prop_assert!(change.share > break_even + HYSTERESIS),
                    Path::Adaptive => prop_assert!(change.share < break_even - HYSTERESIS),
                }
                expected = if expected == Path::Static { Path::Adaptive } else { Path::Static };
            }
            prop_assert_eq!(fallback.refined.capacity(), room);
        }
    }
}
