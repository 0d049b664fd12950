//! The measurement: one frame of a baseline, timed step by step, and the alternating series of rounds.

use std::time::{Duration, Instant};

use super::schedule::{Baseline, Pacer, Random, order};
use crate::cascade::{Cascade, Lap};
use crate::error::{Error, Kind, Result};
use crate::frame::{Inputs, Picture, Stage, Timing};
use crate::preprocess::Preprocess;

/// How long to measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// The series lasts at least so long,
    pub seconds: f64,
    /// and has at least so many rounds.
    pub min_runs: usize,
    /// Rounds are run so long before any is counted (at least two rounds).
    pub warmup_s: f64,
    /// Frames a second; back to back where there is none.
    pub paced_fps: Option<f64>,
    /// Of the order in the rounds.
    pub seed: u64,
}

/// A frame that was timed.
#[derive(Clone, Copy, Debug)]
pub struct FrameTime {
    /// The steps; of the static baseline only the preprocessing.
    pub timing: Timing,
    /// The static baseline's pass, in milliseconds; 0 for the others.
    pub full_ms: f64,
    /// The same by the device's own clock, where it has one.
    pub device_full_ms: Option<f32>,
    /// From the decoded picture to the decision, in milliseconds.
    pub total_ms: f64,
    /// The stage that answered; the static baseline's counts as fine.
    pub stage: Stage,
}

/// Runs single frames of any baseline. Allocates nothing after the first frame of each.
pub struct Runner {
    cascade: Cascade,
    preprocess: Preprocess,
    threshold: f32,
    inputs: Inputs,
    logits: Vec<f32>,
}

impl Runner {
    /// A runner whose adaptive frames use the cascade's own threshold.
    pub fn new(cascade: Cascade, preprocess: Preprocess) -> Self {
        let threshold = cascade.threshold();
        Self { cascade, preprocess, threshold, inputs: Inputs::default(), logits: Vec::new() }
    }

    /// The cascade beneath. Its threshold is whatever the last frame needed.
    pub fn cascade(&mut self) -> &mut Cascade {
        &mut self.cascade
    }

    /// Decides `picture` as `baseline` does. Static makes only the tensor that it needs, and does not turn its logits into
    /// probabilities: what is left unclear is left in its favour.
    ///
    /// # Errors
    /// What preprocessing or engine report, or a confidence that is not a number, with which no coarse answer can be final.
    pub fn frame(&mut self, baseline: Baseline, picture: &Picture) -> Result<FrameTime> {
        let start = Instant::now();
        let mut clock = Lap::start();
        if baseline == Baseline::Static {
            self.preprocess.run_fine(picture, &mut self.inputs)?;
            let timing = Timing { preprocess_ms: clock.lap_ms(), ..Timing::default() };
            self.cascade.engine_mut().full(&self.inputs.fine, &mut self.logits)?;
            return Ok(FrameTime {
                timing,
                full_ms: clock.lap_ms(),
                device_full_ms: self.cascade.engine().device_ms(),
                total_ms: ms(start.elapsed()),
                stage: Stage::Fine,
            });
        }
        self.cascade.set_threshold(match baseline {
            Baseline::CoarseOnly => 0.0,
            Baseline::FineAlways => f32::INFINITY,
            _ => self.threshold,
        });
        self.preprocess.run(picture, &mut self.inputs)?;
        let preprocess_ms = clock.lap_ms();
        let verdict = self.cascade.decide(&self.inputs)?;
        let total_ms = ms(start.elapsed());
        if baseline == Baseline::CoarseOnly && verdict.stage == Stage::Fine {
            let message =
                "the model's confidence is not a number: it never answers coarsely, so there is nothing to compare";
            return Err(Error::new(Kind::Model, message));
        }
        let timing = Timing { preprocess_ms, ..verdict.timing };
        Ok(FrameTime { timing, full_ms: 0.0, device_full_ms: None, total_ms, stage: verdict.stage })
    }
}

/// The times of a series, in milliseconds. Every list has one value a round.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Samples {
    /// Whole frames, by [`Baseline`].
    pub frames: [Vec<f64>; 4],
    /// The steps of the fine-always frames, which run all of them.
    pub steps: Vec<Timing>,
    /// The static baseline's pass.
    pub full: Vec<f64>,
    /// The same by the device's own clock; empty where it has none.
    pub device_full: Vec<f64>,
    /// Adaptive frames that the fine stage answered.
    pub fine: usize,
    /// Paced frames that started late.
    pub late: u64,
}

impl Samples {
    fn with_capacity(rounds: usize) -> Self {
        Self {
            frames: [(); 4].map(|()| Vec::with_capacity(rounds)),
            steps: Vec::with_capacity(rounds),
            full: Vec::with_capacity(rounds),
            device_full: Vec::with_capacity(rounds),
            ..Self::default()
        }
    }

    /// Rounds that are complete.
    pub fn rounds(&self) -> usize {
        self.frames[0].len()
    }

    /// The share of the adaptive frames that the fine stage answered, 0 to 1.
    pub fn fine_share(&self) -> f64 {
        self.fine as f64 / self.rounds().max(1) as f64
    }

    fn add(&mut self, baseline: Baseline, time: &FrameTime) {
        self.frames[baseline as usize].push(time.total_ms);
        match baseline {
            Baseline::Static => {
                self.full.push(time.full_ms);
                self.device_full.extend(time.device_full_ms.map(f64::from));
            }
            Baseline::FineAlways => self.steps.push(time.timing),
            Baseline::Adaptive => self.fine += usize::from(time.stage == Stage::Fine),
            Baseline::CoarseOnly => {}
        }
    }
}

/// The steady part of a series: what runs before and during it.
pub struct Series<'a> {
    runner: &'a mut Runner,
    pictures: &'a [Picture],
    random: Random,
    pacer: Option<Pacer>,
}

impl<'a> Series<'a> {
    /// Warms up and gives the series with the expected number of rounds.
    ///
    /// # Errors
    /// As [`Runner::frame`], or when there is no picture.
    pub fn warmed_up(runner: &'a mut Runner, pictures: &'a [Picture], plan: &Plan) -> Result<(Self, usize)> {
        if pictures.is_empty() {
            return Err(Error::new(Kind::Usage, "there is no picture to measure with"));
        }
        let mut series = Self { runner, pictures, random: Random(plan.seed), pacer: None };
        let (start, mut rounds) = (Instant::now(), 0);
        while rounds < 2 || start.elapsed().as_secs_f64() < plan.warmup_s {
            series.round(rounds, &mut Samples::with_capacity(1))?;
            rounds += 1;
        }
        let per_round_s = start.elapsed().as_secs_f64() / rounds as f64;
        // Never more than memory is sensibly reserved for: a longer series grows between its frames.
        let expected = (1.5 * plan.seconds / per_round_s.max(1e-9)).min(1e6) as usize;
        series.random = Random(plan.seed);
        Ok((series, expected.max(plan.min_runs)))
    }

    /// Measures until the plan is fulfilled. `between` is called with the samples after each round, outside of every time.
    ///
    /// # Errors
    /// As [`Runner::frame`].
    pub fn run(mut self, expected: usize, plan: &Plan, between: &mut dyn FnMut(&Samples)) -> Result<Samples> {
        let mut samples = Samples::with_capacity(expected);
        let start = Instant::now();
        self.pacer = plan.paced_fps.map(|fps| Pacer::new(fps, start));
        while samples.rounds() < plan.min_runs || start.elapsed().as_secs_f64() < plan.seconds {
            self.round(samples.rounds(), &mut samples)?;
            between(&samples);
        }
        samples.late = self.pacer.map_or(0, |pacer| pacer.late());
        Ok(samples)
    }

    /// All baselines on the picture of round `index`. What is not a frame (order, sleep, book-keeping) lies between the times.
    fn round(&mut self, index: usize, samples: &mut Samples) -> Result<()> {
        let picture = &self.pictures[index % self.pictures.len()];
        for baseline in order(&mut self.random) {
            if let Some(pacer) = &mut self.pacer {
                std::thread::sleep(pacer.wait(Instant::now()));
            }
            let time = self.runner.frame(baseline, picture)?;
            samples.add(baseline, &time);
        }
        Ok(())
    }
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
#[path = "measure_tests.rs"]
mod tests;
