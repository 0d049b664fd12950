//! Keeping a promise while frames run: the audit of one frame per slot, the alarm when the promise no longer holds, the budget.
//!
//! [`Guard`] sits in the decision thread as an observer: it runs the fine stage once more where a slot's frame was answered by the coarse
//! one, and steers η. Everything with a file is the [`Keeper`]'s, in a thread of its own, to which 16-byte records go through a bounded queue: a
//! disk that hangs costs records, never frames.

mod keeper;
mod observe;
mod slots;
mod state;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;

use crate::calibrate::budget::{Controller, WINDOW};
use crate::calibrate::drift::{Detector, PATIENCE_S};
use crate::calibrate::{Budget, Keys};
use crate::error::Result;
use crate::model::package::{Certificate, Target};
use crate::power::Meter;

pub use keeper::Keeper;
pub use observe::Guard;
use observe::Post;
use slots::Slots;
use state::State;

/// Audited frames that may wait for the disk.
const QUEUE: usize = 256;

/// How to guard.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Length of a slot.
    pub slot: Duration,
    /// Where audits and states are kept; nowhere where there is none.
    pub folder: Option<PathBuf>,
    /// After an alarm, certify anew from audited frames.
    pub auto: bool,
    /// The mean cost to keep.
    pub budget: Option<Budget>,
    /// The budget may break the certified limit on errors.
    pub budget_first: bool,
    /// Of the instants in the slots.
    pub seed: u64,
}

/// A camera to guard.
#[derive(Clone, Debug)]
pub struct Camera {
    /// Its name.
    pub name: String,
    /// What its threshold rests on; `None` where nothing was promised, or it was given another threshold.
    pub promise: Option<Certificate>,
    /// The threshold at the start.
    pub threshold: f32,
}

/// What the audits of one camera took. They are in no latency.
#[derive(Debug, Default)]
pub struct Counters {
    audits: AtomicU64,
    passes: AtomicU64,
    pass_us: AtomicU64,
    failed: AtomicU64,
    missed: AtomicU64,
    lost: AtomicU64,
}

/// Which cameras' promises hold, for whoever only watches. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Promises(Vec<(String, Arc<AtomicBool>)>);

impl Promises {
    /// Whether an alarm for drift has ended what was promised for `camera`, so that every frame is refined; `None` where nothing was
    /// promised.
    pub fn is_degraded(&self, camera: &str) -> Option<bool> {
        let (_, degraded) = self.0.iter().find(|(name, _)| name == camera)?;
        Some(degraded.load(Ordering::Relaxed))
    }

    /// Some that are degraded or not.
    #[cfg(all(test, feature = "web"))]
    pub(crate) fn sample(promises: &[(&str, bool)]) -> Self {
        Self(promises.iter().map(|&(name, degraded)| (name.to_owned(), Arc::new(AtomicBool::new(degraded)))).collect())
    }

    /// `degraded: door, yard`; `None` while every promise holds.
    pub fn complaint(&self) -> Option<String> {
        let broken = self.0.iter().filter(|(_, degraded)| degraded.load(Ordering::Relaxed));
        let names: Vec<&str> = broken.map(|(name, _)| name.as_str()).collect();
        (!names.is_empty()).then(|| format!("degraded: {}", names.join(", ")))
    }
}

impl Counters {
    fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }

    /// `12 audited (3 fine passes, 7 ms, 35 mJ), 0 slots without a frame, 0 failed, 0 records lost`; the energy is that time at `mean_mw`:
    /// a pass is far too short for a meter.
    fn text(&self, mean_mw: Option<f64>) -> String {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let pass_s = get(&self.pass_us) as f64 / 1e6;
        let energy = mean_mw.map_or(String::new(), |mw| format!(", {:.0} mJ", mw * pass_s));
        format!(
            "{} audited ({} fine passes, {:.0} ms{energy}), {} slots without a frame, {} failed, {} records lost",
            get(&self.audits),
            get(&self.passes),
            1e3 * pass_s,
            get(&self.missed),
            get(&self.failed),
            get(&self.lost)
        )
    }
}

/// Begins to guard `cameras` that run on the engine of `keys`, whose model has `classes`. `meter` measures what an energy budget is kept by.
/// The keeper ends when the guard is gone.
///
/// # Errors
/// When an audit cannot be written, or the keeper's thread cannot be started.
pub fn start(
    settings: &Settings,
    cameras: Vec<Camera>,
    keys: &Keys,
    classes: usize,
    meter: Option<Box<dyn Meter>>,
) -> Result<(Guard, Keeper)> {
    let (records, kept) = bounded(QUEUE);
    let (orders, obeyed) = bounded(cameras.len().max(1) * 2);
    let slot_s = settings.slot.as_secs_f64();
    let mut posts = Vec::with_capacity(cameras.len());
    let mut files = Vec::with_capacity(cameras.len());
    for (index, camera) in cameras.into_iter().enumerate() {
        let watched = camera.promise.as_ref().filter(|certificate| can_watch(certificate, settings.budget.is_some()));
        let limit = watched.map(|certificate| certificate.drift_limit);
        let fresh = limit.map(|limit| Detector::new(limit, PATIENCE_S / slot_s));
        let file = keeper::CameraFiles::open(settings, &camera, fresh, keys, classes)?;
        let state = file.state();
        let counters = Arc::clone(&file.counters);
        let eta = state.as_ref().and_then(State::threshold);
        let mut controller = settings.budget.map(|budget| controller(budget, &camera, settings.budget_first));
        if let (Some(controller), Some(eta)) = (&mut controller, eta) {
            controller.reset(eta);
        }
        posts.push(Post {
            promised: camera.promise.is_some(),
            slots: Slots::new(settings.slot, settings.seed.wrapping_add(index as u64)),
            detector: fresh.map(|fresh| state.as_ref().map_or(fresh, |state| state.detector)),
            degraded: Arc::new(AtomicBool::new(state.as_ref().is_some_and(|state| state.degraded_since_ms.is_some()))),
            untold: false,
            eta,
            controller,
            unit: settings.budget.map(|budget| budget.unit),
            name: camera.name,
            counters,
        });
        files.push(file);
    }
    let (keeper, power) = Keeper::start(files, settings.auto, kept, orders, meter)?;
    Ok((Guard::new(posts, records, obeyed, power), keeper))
}

/// Whether the drift limit of `certificate` holds for every threshold that may be in force: a controller goes down to the floor, and only a
/// limit on disagreement was certified there.
fn can_watch(certificate: &Certificate, steered: bool) -> bool {
    !steered || certificate.floor() >= certificate.threshold() || certificate.target == Target::Disagreement
}

/// The controller of one camera: above the certified floor, unless the budget comes first.
fn controller(budget: Budget, camera: &Camera, budget_first: bool) -> Controller {
    let floor = camera.promise.as_ref().map_or(0.0, Certificate::floor);
    let floor = if budget_first { 0.0 } else { floor };
    Controller::new(budget.limit, floor, camera.threshold.min(1.0), WINDOW)
}

#[cfg(test)]
mod tests;
