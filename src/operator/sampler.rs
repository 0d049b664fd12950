//! Makes rows of the history from what a board has counted.

use std::collections::HashMap;
use std::time::{Instant, SystemTime};

use super::board::{Board, STEPS, unix_ms};
use super::histogram::Counted;
use super::history::{CAMERA_COLUMNS, Row};
use crate::machine;
use crate::pipeline::CameraView;
use crate::power::{Attribution, Decisions, Energy, PerDecision};
use crate::report::Tally;

/// The stages whose times are in the history, as [`STEPS`] calls them.
const STAGES: [&str; 2] = ["coarse", "fine"];

/// Makes rows from what a board has counted.
#[derive(Debug)]
pub struct Sampler {
    at: Instant,
    cameras: HashMap<String, (Tally, Counted, Counted)>,
    energy: Option<Energy>,
    rails_mj: Vec<(String, f64)>,
    rails_w: Vec<(String, f64)>,
    attribution: Attribution,
    stages: [Counted; STAGES.len()],
}

impl Sampler {
    /// The first row is of the time after `now`.
    pub fn new(now: Instant) -> Self {
        Self {
            at: now,
            cameras: HashMap::new(),
            energy: None,
            rails_mj: Vec::new(),
            rails_w: Vec::new(),
            attribution: Attribution::new(None),
            stages: Default::default(),
        }
    }

    /// Mean power by rail in the time of the newest row, in watts; empty where it was not measured.
    pub fn rails_w(&self) -> &[(String, f64)] {
        &self.rails_w
    }

    /// What a decision of each kind has cost, as far as the rows tell.
    pub fn per_decision(&self) -> Option<PerDecision> {
        self.attribution.estimate()
    }

    /// The row of the time from the last one to `now`. `machine` is its newest known state.
    pub fn sample(&mut self, now: Instant, board: &Board, machine: &machine::State) -> Row {
        let elapsed = now.saturating_duration_since(self.at);
        let elapsed_s = elapsed.as_secs_f64();
        self.at = now;
        let views = board.view().map(|view| view.cameras()).unwrap_or_default();
        let decisions = self.decisions(&views);
        let frames = decisions.coarse + decisions.fine + decisions.full;
        self.cameras.retain(|name, _| views.iter().any(|camera| camera.name == *name));
        let cameras = views.iter().map(|camera| {
            let values = self.camera(board, &camera.name, camera.tally, elapsed_s);
            (camera.name.clone(), values)
        });
        let cameras = cameras.collect();
        let spent = self.spent(board, elapsed_s);
        self.attribution.push(elapsed, spent, decisions);
        let [coarse, fine] = self.stages(board);
        let machine = [
            spent.map(|spent| spent.mean_mw / 1e3),
            spent.filter(|_| frames > 0).map(|spent| spent.energy_mj / frames as f64),
            machine.hottest_celsius,
            Some(f64::from(u8::from(!machine.limited_by.is_empty()))),
            coarse[0],
            coarse[1],
            fine[0],
            fine[1],
        ];
        Row { unix_ms: unix_ms(SystemTime::now()), machine: machine.map(or_nan), cameras }
    }

    /// The decisions since the last row, of all cameras; of those that began anew, since then.
    fn decisions(&self, views: &[CameraView]) -> Decisions {
        views.iter().fold(Decisions::default(), |sum, camera| {
            let before = self.cameras.get(&camera.name).map(|(tally, ..)| *tally).unwrap_or_default();
            let tally = since(camera.tally, before);
            let coarse = tally.decided.saturating_sub(tally.fine + tally.full);
            Decisions { coarse: sum.coarse + coarse, fine: sum.fine + tally.fine, full: sum.full + tally.full }
        })
    }

    /// What was drawn since the last row, and its mean power, in all; by rail it is kept.
    fn spent(&mut self, board: &Board, elapsed_s: f64) -> Option<Energy> {
        let energy = board.view().and_then(|view| view.energy());
        let rails_mj = board.view().map(|view| view.rails_mj()).unwrap_or_default();
        let watts = |(rail, now_mj): &(String, f64)| {
            let (_, before_mj) = self.rails_mj.iter().find(|(name, _)| name == rail)?;
            Some((rail.clone(), (now_mj - before_mj) / 1e3 / elapsed_s))
        };
        self.rails_w = rails_mj.iter().filter(|_| elapsed_s > 0.0).filter_map(watts).collect();
        self.rails_mj = rails_mj;
        let before = std::mem::replace(&mut self.energy, energy);
        let energy_mj = energy?.energy_mj - before?.energy_mj;
        (elapsed_s > 0.0).then(|| Energy { mean_mw: energy_mj / elapsed_s, energy_mj })
    }

    /// Median and 99th percentile of each of the [`STAGES`] since the last row, in milliseconds.
    fn stages(&mut self, board: &Board) -> [[Option<f64>; 2]; STAGES.len()] {
        std::array::from_fn(|at| {
            let step = STEPS.iter().position(|step| *step == STAGES[at]);
            let now = step.map(|step| board.steps[step].counted()).unwrap_or_default();
            let times = now.since(&std::mem::replace(&mut self.stages[at], now.clone()));
            [0.5, 0.99].map(|q| times.quantile(q).map(|seconds| seconds * 1e3))
        })
    }

    fn camera(&mut self, board: &Board, name: &str, tally: Tally, elapsed_s: f64) -> [f32; CAMERA_COLUMNS.len()] {
        let channel = board.find(name);
        let counted = channel.as_ref().map(|channel| (channel.age.counted(), channel.confidence.counted()));
        let (age, confidence) = counted.unwrap_or_default();
        let before = self.cameras.insert(name.to_owned(), (tally, age.clone(), confidence.clone()));
        let (tally_before, age_before, confidence_before) = before.unwrap_or_default();
        let tally = since(tally, tally_before);
        let (age, confidence) = (age.since(&age_before), confidence.since(&confidence_before));
        let threshold = channel.and_then(|channel| channel.threshold().in_force()).map(f64::from);
        let per_s = |count: u64| (elapsed_s > 0.0).then(|| count as f64 / elapsed_s);
        let ms = |q: f64| age.quantile(q).map(|seconds| seconds * 1e3);
        [
            confidence.mean(),
            threshold,
            tally.fine_fraction(),
            ms(0.5),
            ms(0.99),
            per_s(tally.decided),
            per_s(tally.dropped),
        ]
        .map(or_nan)
    }
}

/// What a camera has counted since it had counted `before`. One that began anew has counted less.
fn since(tally: Tally, before: Tally) -> Tally {
    if tally.captured < before.captured { tally } else { tally.since(&before) }
}

fn or_nan(value: Option<f64>) -> f32 {
    value.map_or(f32::NAN, |value| value as f32)
}
