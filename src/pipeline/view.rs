//! A run from outside, for whoever only watches: counters and states, taken at one moment, without anybody waiting.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::slot::Slots;
use crate::capture::status::{Counts, State};
use crate::power::{Energy, Monitor};
use crate::report::{CameraState, Tally};

/// A camera that gives nothing for so long is said to be waited for.
const WAITING: Duration = Duration::from_secs(1);

/// Shows a run for as long as it is kept. Clones show the same run.
#[derive(Clone, Debug)]
pub struct View {
    slots: Arc<Slots>,
    energy: Option<Monitor>,
}

/// One camera at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraView {
    /// Its name.
    pub name: String,
    /// What its source is, where, and how fast, in words.
    pub about: String,
    /// Its counters. They add up.
    pub tally: Tally,
    /// Whether frames come.
    pub state: CameraState,
    /// What its source has counted, where it can be lost.
    pub counts: Option<Counts>,
}

impl View {
    pub(super) fn new(slots: Arc<Slots>, energy: Option<Monitor>) -> Self {
        Self { slots, energy }
    }

    /// Every camera in service, all at the same moment. While one takes the place of another of its name, the newer one.
    pub fn cameras(&self) -> Vec<CameraView> {
        let mut cameras: Vec<CameraView> = Vec::new();
        for camera in self.slots.survey() {
            cameras.retain(|other| other.name != camera.name);
            cameras.push(camera);
        }
        cameras
    }

    /// What was drawn since the run began, in millijoules by rail: the total first, called `total`, then the rails beneath it, which may overlap.
    /// What is not measured is left out.
    pub fn rails_mj(&self) -> Vec<(String, f64)> {
        let Some(monitor) = &self.energy else { return Vec::new() };
        let whole = monitor.whole(Instant::now());
        let total = whole.energy.map(|energy| ("total".to_owned(), energy.energy_mj));
        let rails = whole.rails.into_iter().filter_map(|rail| Some((rail.name, rail.energy_mj?)));
        total.into_iter().chain(rails.filter(|(name, _)| name != "total")).collect()
    }

    /// What was drawn since the run began; `None` where it is not measured.
    pub fn energy(&self) -> Option<Energy> {
        self.energy.as_ref()?.run(Instant::now())
    }
}

/// Whether frames come, from what the source says of itself where it can be lost, and how long it has had nothing to give.
pub(super) fn state(source: Option<State>, ended: bool, idle: Option<Duration>) -> CameraState {
    match source {
        _ if ended => CameraState::Ended,
        Some(State::Waiting) => CameraState::Waiting,
        Some(State::Lost) => CameraState::Lost,
        Some(State::Up) => CameraState::Up,
        None if idle.is_some_and(|idle| idle >= WAITING) => CameraState::Waiting,
        None => CameraState::Up,
    }
}
