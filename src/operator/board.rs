//! The newest of everything, where readers find it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::histogram::Histogram;
use super::messages::Messages;
#[cfg(any(feature = "web", feature = "mqtt"))]
use super::pictures::{Easel, Studio};
use crate::examples::Shelf;
use crate::frame::{Stage, Timing};
use crate::guard::Promises;
use crate::pipeline::View;
use crate::smoothing::Smooth;

/// What stays the same for a whole run.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The model's name.
    pub model: String,
    /// The engine, in words.
    pub engine: String,
    /// What it computes in.
    pub precision: &'static str,
    /// The classes' names, in class order.
    pub labels: Vec<String>,
    /// The classes whose decisions are counted one by one; where there are any, all others are counted together.
    pub counted: Vec<usize>,
    /// Coarse cells along a side.
    pub grid: usize,
    /// The share of the picture's shorter side that the network sees.
    pub crop: f64,
    /// Top-1 in percent over the share of fine, as the model's makers measured them, ascending; empty where they do not tell.
    pub accuracy: Vec<(f64, f64)>,
    /// What its certificate promises, if it has one.
    pub promise: Option<String>,
}

/// One decision with all that is shown of it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The frame's number.
    pub seq: u64,
    /// When the picture was taken, by the wall clock.
    pub captured: SystemTime,
    /// When it was decided.
    pub decided: Instant,
    /// Which stage answered.
    pub stage: Stage,
    /// The winning class.
    pub label: usize,
    /// Its probability.
    pub confidence: f32,
    /// The smoothed answer.
    pub smooth: Smooth,
    /// What the gate compared; NaN where the static pass answered.
    pub coarse_confidence: f32,
    /// η, with which it was compared.
    pub threshold: f32,
    /// The most probable classes of the answer, best first.
    pub top: Vec<(usize, f32)>,
    /// Those of the coarse stage; empty where it did not run.
    pub coarse_top: Vec<(usize, f32)>,
    /// The cells that the fine stage saw finer; empty where it did not run.
    pub informative: Vec<u32>,
    /// How much the coarse stage's answer looked at each cell, row by row; empty where it did not run.
    pub attention: Vec<f32>,
    /// From the capture to the decision.
    pub latency: Duration,
    /// Milliseconds per step.
    pub timing: Timing,
}

/// The steps whose durations are kept, as they are called everywhere.
pub const STEPS: [&str; 6] = ["preprocess", "coarse", "gate", "gather", "fine", "static"];

/// Everything that can be seen of a run.
#[derive(Debug)]
pub struct Board {
    /// What stays.
    pub facts: Facts,
    /// When it was made.
    pub started: SystemTime,
    /// Durations of the [`STEPS`] that ran, in seconds.
    pub steps: [Histogram; STEPS.len()],
    /// What was sent to other programs.
    pub messages: Messages,
    /// Who encodes pictures.
    #[cfg(any(feature = "web", feature = "mqtt"))]
    pub studio: Studio,
    /// Where examples are put, if anywhere.
    pub examples: Option<Arc<Shelf>>,
    /// Which cameras' thresholds rest on a promise, so that an operator may raise them and not lower them, and which promises hold.
    pub promises: Promises,
    channels: Mutex<Vec<Arc<Channel>>>,
    view: OnceLock<View>,
    closed: AtomicBool,
}

/// What can be seen of one camera, and changed about it.
#[derive(Debug)]
pub struct Channel {
    /// The camera's name.
    pub name: String,
    /// From the capture to the decision, in seconds.
    pub age: Histogram,
    /// What the gate compared.
    pub confidence: Histogram,
    /// Decisions by class: of each of [`Facts::counted`], then of all others together; empty where none is counted.
    pub by_class: Box<[AtomicU64]>,
    /// Its pictures.
    #[cfg(any(feature = "web", feature = "mqtt"))]
    pub easel: Easel,
    newest: Mutex<Option<Snapshot>>,
    threshold: ThresholdCell,
    guarded: bool,
}

/// η of a camera.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// What the configuration says; `None` before the first frame.
    pub configured: Option<f32>,
    /// What an operator put in its place, and when, in milliseconds of Unix time.
    pub changed: Option<(f32, u64)>,
    /// The configured one is a promise's: it is not gone below.
    pub guarded: bool,
}

impl Threshold {
    /// The one in force.
    pub fn in_force(&self) -> Option<f32> {
        match (self.changed, self.configured) {
            (Some((changed, _)), Some(configured)) if self.guarded => Some(changed.max(configured)),
            (Some((changed, _)), _) => Some(changed),
            (None, configured) => configured,
        }
    }
}

/// NaN stands for none.
#[derive(Debug)]
struct ThresholdCell {
    configured_bits: AtomicU32,
    changed_bits: AtomicU32,
    changed_ms: AtomicU64,
}

impl Board {
    /// Nothing was seen yet.
    pub fn new(facts: Facts) -> Self {
        Self {
            facts,
            started: SystemTime::now(),
            steps: STEPS.map(|_| Histogram::new(Histogram::SECONDS)),
            messages: Messages::default(),
            #[cfg(any(feature = "web", feature = "mqtt"))]
            studio: Studio::default(),
            examples: None,
            promises: Promises::default(),
            channels: Mutex::default(),
            view: OnceLock::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// The run, once it has begun.
    pub fn view(&self) -> Option<&View> {
        self.view.get()
    }

    pub(super) fn set_view(&self, view: &View) {
        // A board shows one run; a second one would find the first.
        let _ = self.view.set(view.clone());
    }

    /// Every camera that ever had a frame decided.
    pub fn channels(&self) -> Vec<Arc<Channel>> {
        self.lock().clone()
    }

    /// The channel of the camera `name`, if it ever had one.
    pub fn find(&self, name: &str) -> Option<Arc<Channel>> {
        self.lock().iter().find(|channel| channel.name == name).cloned()
    }

    /// The channel of the camera `name`, made where there is none.
    pub fn channel(&self, name: &str) -> Arc<Channel> {
        let mut channels = self.lock();
        if let Some(channel) = channels.iter().find(|channel| channel.name == name) {
            return Arc::clone(channel);
        }
        let channel = Arc::new(Channel::new(name, self.facts.counted.len(), self.promises.is_degraded(name).is_some()));
        channels.push(Arc::clone(&channel));
        channel
    }

    /// The name of a class.
    pub fn label(&self, label: usize) -> &str {
        self.facts.labels.get(label).map_or("", String::as_str)
    }

    /// Nobody will look any more.
    pub fn close(&self) {
        self.closed.store(true, Relaxed);
    }

    #[cfg(any(feature = "web", feature = "mqtt"))]
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Channel>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    /// `counted` classes are counted one by one.
    fn new(name: &str, counted: usize, guarded: bool) -> Self {
        let none = || AtomicU32::new(f32::NAN.to_bits());
        Self {
            name: name.to_owned(),
            age: Histogram::new(Histogram::SECONDS),
            confidence: Histogram::new(Histogram::RATIO),
            by_class: (0..if counted > 0 { counted + 1 } else { 0 }).map(|_| AtomicU64::new(0)).collect(),
            #[cfg(any(feature = "web", feature = "mqtt"))]
            easel: Easel::default(),
            newest: Mutex::default(),
            threshold: ThresholdCell { configured_bits: none(), changed_bits: none(), changed_ms: AtomicU64::new(0) },
            guarded,
        }
    }

    /// Counts a decision for `label`, where classes are counted at all: a look through at most twenty numbers.
    pub(super) fn count_class(&self, counted: &[usize], label: usize) {
        let at = counted.iter().position(|&class| class == label).unwrap_or(counted.len());
        if let Some(count) = self.by_class.get(at) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// The newest decision.
    pub fn newest(&self) -> Option<Snapshot> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts `snapshot` in the cell and takes what was there for reuse. While a reader copies, the cell is left as it is: the next frame
    /// brings a newer one.
    pub(super) fn show(&self, snapshot: &mut Option<Snapshot>) {
        if let Ok(mut newest) = self.newest.try_lock() {
            std::mem::swap(&mut *newest, snapshot);
        }
    }

    /// η.
    pub fn threshold(&self) -> Threshold {
        let value = |bits: &AtomicU32| Some(f32::from_bits(bits.load(Relaxed))).filter(|value| !value.is_nan());
        let cell = &self.threshold;
        let changed = value(&cell.changed_bits).map(|value| (value, cell.changed_ms.load(Relaxed)));
        Threshold { configured: value(&cell.configured_bits), changed, guarded: self.guarded }
    }

    /// From the next frame on η is `threshold`; `None` is what the configuration says.
    pub fn set_threshold(&self, threshold: Option<f32>) {
        self.threshold.changed_ms.store(unix_ms(SystemTime::now()), Relaxed);
        self.threshold.changed_bits.store(threshold.unwrap_or(f32::NAN).to_bits(), Relaxed);
    }

    /// Notes what the configuration says and gives what is in force.
    pub(super) fn decide_threshold(&self, configured: f32) -> f32 {
        self.threshold.configured_bits.store(configured.to_bits(), Relaxed);
        self.threshold().in_force().unwrap_or(configured)
    }
}

/// Milliseconds of Unix time.
pub fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operators_threshold_stands_above_the_configurations_until_it_is_taken_back() {
        let channel = Channel::new("door", 0, false);
        assert_eq!(channel.threshold(), Threshold { configured: None, changed: None, guarded: false });
        assert_eq!(channel.decide_threshold(0.6), 0.6);
        channel.set_threshold(Some(0.9));
        assert_eq!((channel.decide_threshold(0.6), channel.decide_threshold(0.7)), (0.9, 0.9));
        let threshold = channel.threshold();
        assert_eq!((threshold.configured, threshold.in_force()), (Some(0.7), Some(0.9)));
        assert!(threshold.changed.is_some_and(|(_, at_ms)| at_ms > 0));
        channel.set_threshold(None);
        assert_eq!((channel.decide_threshold(0.5), channel.threshold().changed), (0.5, None));
    }

    #[test]
    fn what_a_promise_rests_on_can_be_raised_only_and_nobody_is_told_otherwise() {
        let channel = Channel::new("door", 0, true);
        channel.set_threshold(Some(0.2));
        assert_eq!((channel.decide_threshold(0.6), channel.threshold().in_force()), (0.6, Some(0.6)));
        channel.set_threshold(Some(0.9));
        assert_eq!((channel.decide_threshold(0.6), channel.threshold().in_force()), (0.9, Some(0.9)));
        // An alarm raises what comes in.
        assert_eq!((channel.decide_threshold(1.5), channel.threshold().in_force()), (1.5, Some(1.5)));
    }

    #[test]
    fn a_camera_has_one_channel_however_often_it_is_asked_for() {
        let board = Board::new(Facts::default());
        assert!(board.find("a").is_none());
        let channel = board.channel("a");
        assert!(Arc::ptr_eq(&channel, &board.channel("a")) && Arc::ptr_eq(&channel, &board.find("a").unwrap()));
        board.channel("b");
        assert_eq!(board.channels().len(), 2);
    }
}
