//! The guard in the decision thread. Allocates nothing per frame: buffers are kept, the queue is bounded and filled without waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender};

use super::slots::Slots;
use super::{Counters, Promises};
use crate::calibrate::ALWAYS_REFINE;
use crate::calibrate::audit::Record;
use crate::calibrate::budget::{Controller, Event};
use crate::calibrate::cost::Unit;
use crate::calibrate::drift::Detector;
use crate::cascade::{Cascade, Lap};
use crate::error::Result;
use crate::frame::{Choice, Stage};
use crate::gate;
use crate::gather;
use crate::pipeline::{Decision, Observer};
use crate::power::Monitor;

/// An audited frame on its way to the keeper.
#[derive(Clone, Copy, Debug)]
pub(super) struct Audited {
    /// Index of the camera.
    pub(super) camera: usize,
    pub(super) record: Record,
    /// The detector after it, if there is a promise to watch.
    pub(super) detector: Option<Detector>,
    /// It raised the alarm.
    pub(super) alarm: bool,
}

/// What the keeper has found out: a new certified threshold after an alarm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) camera: usize,
    pub(super) eta: f32,
}

/// What is guarded of one camera.
pub(super) struct Post {
    pub(super) name: String,
    /// Its threshold is a certificate's.
    pub(super) promised: bool,
    pub(super) slots: Slots,
    pub(super) detector: Option<Detector>,
    /// The promise is broken: every frame is refined. Written by the guard alone.
    pub(super) degraded: Arc<AtomicBool>,
    /// An alarm that the keeper was not told of yet.
    pub(super) untold: bool,
    /// A threshold that was certified here, in the place of the configured one.
    pub(super) eta: Option<f32>,
    pub(super) controller: Option<Controller>,
    /// The budget's.
    pub(super) unit: Option<Unit>,
    pub(super) counters: Arc<Counters>,
}

/// Guards all cameras of a run.
pub struct Guard {
    posts: Vec<Post>,
    records: Sender<Audited>,
    orders: Receiver<Order>,
    power: Option<Monitor>,
    /// Mean power of the last window, in milliwatts.
    mean_mw: Option<f64>,
    choice: Choice,
    logits: Vec<f32>,
    probabilities: Vec<f32>,
}

impl Guard {
    pub(super) fn new(
        posts: Vec<Post>,
        records: Sender<Audited>,
        orders: Receiver<Order>,
        power: Option<Monitor>,
    ) -> Self {
        let (choice, logits, probabilities) = Default::default();
        Self { posts, records, orders, power, mean_mw: None, choice, logits, probabilities }
    }

    /// Which promises hold.
    pub fn promises(&self) -> Promises {
        let promised = self.posts.iter().filter(|post| post.promised);
        Promises(promised.map(|post| (post.name.clone(), Arc::clone(&post.degraded))).collect())
    }

    /// Takes what the keeper has found out.
    fn obey(&mut self) {
        for Order { camera, eta } in self.orders.try_iter() {
            let Some(post) = self.posts.get_mut(camera) else { continue };
            post.eta = Some(eta);
            post.degraded.store(false, Relaxed);
            if let Some(controller) = &mut post.controller {
                controller.reset(eta);
            }
        }
    }

    /// Both stages' answers to the frame that was just decided, whichever it stopped at; `None` where the cascade did not decide it or the
    /// engine fails, which the next frame will tell.
    fn answers(
        &mut self,
        decision: &Decision<'_>,
        cascade: &mut Cascade,
        counters: &Counters,
    ) -> Option<(f32, usize, usize)> {
        let informative = cascade.engine().geometry().informative();
        let verdict = cascade.verdict();
        let confidence = verdict.coarse_confidence;
        let fine = match verdict.stage {
            Stage::Static => return None,
            Stage::Fine => Some(verdict.label),
            Stage::Coarse => None,
        };
        gate::softmax(&verdict.coarse.logits, &mut self.probabilities);
        let coarse = gate::argmax(&self.probabilities).0;
        if let Some(fine) = fine {
            return Some((confidence, coarse, fine));
        }
        let mut clock = Lap::start();
        gather::choose(&verdict.coarse.class_attention, informative, &mut self.choice);
        let ran: Result<()> = cascade.refine(decision.inputs, &self.choice, &mut self.logits);
        Counters::add(&counters.passes, 1);
        Counters::add(&counters.pass_us, (1e3 * clock.lap_ms()) as u64);
        if ran.is_err() {
            Counters::add(&counters.failed, 1);
            return None;
        }
        gate::softmax(&self.logits, &mut self.probabilities);
        Some((confidence, coarse, gate::argmax(&self.probabilities).0))
    }

    /// Runs the stage that the frame did not need, notes both answers and watches for drift.
    fn audit(&mut self, index: usize, decision: &Decision<'_>, cascade: &mut Cascade) {
        let counters = Arc::clone(&self.posts[index].counters);
        Counters::add(&counters.missed, self.posts[index].slots.take_missed());
        let stopped = cascade.verdict().stage == Stage::Coarse;
        let Some((confidence, coarse, fine)) = self.answers(decision, cascade, &counters) else { return };
        Counters::add(&counters.audits, 1);
        let record = Record { time_ms: now_ms(), confidence, coarse: coarse as u32, fine: fine as u32 };
        let post = &mut self.posts[index];
        let watched = post.detector.as_mut().filter(|_| !post.degraded.load(Relaxed));
        let alarm = watched.is_some_and(|detector| detector.push(stopped && coarse != fine));
        post.degraded.fetch_or(alarm, Relaxed);
        let audited = Audited { camera: index, record, detector: post.detector, alarm: alarm || post.untold };
        // The keeper is behind, or has failed: frames go on. A record may be lost, an alarm is told again.
        let told = self.records.try_send(audited).is_ok();
        post.untold = audited.alarm && !told;
        if !told {
            Counters::add(&counters.lost, 1);
        }
    }

    /// Counts the frame against the budget of camera `index`.
    fn spend(&mut self, index: usize, decision: &Decision<'_>, cascade: &Cascade, now: Instant) {
        let post = &mut self.posts[index];
        let (Some(controller), Some(unit)) = (&mut post.controller, post.unit) else { return };
        let verdict = cascade.verdict();
        // While degraded every frame is refined, and the static pass has costs of its own: neither says anything of the budget.
        if post.degraded.load(Relaxed) || verdict.stage == Stage::Static {
            return;
        }
        let t = &decision.timing;
        let coarse_ms = t.preprocess_ms + t.coarse_ms + t.gate_ms;
        let fine_ms = (verdict.stage == Stage::Fine).then_some(t.gather_ms + t.fine_ms);
        if unit == Unit::Mj && self.mean_mw.is_none() {
            self.mean_mw = self.power.as_ref().and_then(|power| power.close_window(now)).map(|energy| energy.mean_mw);
        }
        let scale = match unit {
            Unit::Ms => 1.0,
            Unit::Mj => match self.mean_mw {
                Some(mw) => mw / 1e3,
                // Nothing measured yet: no sample, no joule.
                None => return,
            },
        };
        controller.note(verdict.coarse_confidence, scale * coarse_ms, fine_ms.map(|ms| scale * ms));
        if let Some(event) = controller.step(now, None) {
            tell(&post.name, event, unit);
        }
        if unit == Unit::Mj && controller.window_mean().is_none() {
            // A window has just ended: the power of the next one.
            self.mean_mw = None;
        }
    }
}

impl Observer for Guard {
    fn threshold(&mut self, camera: &str, configured: f32) -> f32 {
        let Some(post) = self.posts.iter().find(|post| post.name == camera) else { return configured };
        match (&post.controller, post.degraded.load(Relaxed)) {
            (_, true) => ALWAYS_REFINE,
            (Some(controller), false) => controller.threshold(),
            (None, false) => post.eta.unwrap_or(configured),
        }
    }

    fn degraded(&self, camera: &str) -> bool {
        self.posts.iter().any(|post| post.degraded.load(Relaxed) && post.name == camera)
    }

    fn decided(&mut self, decision: &Decision<'_>, cascade: &mut Cascade) {
        let Some(index) = self.posts.iter().position(|post| post.name == decision.camera_name) else { return };
        let now = decision.frame.captured + decision.latency;
        self.spend(index, decision, cascade, now);
        if self.posts[index].slots.pick(now) {
            self.obey();
            self.audit(index, decision, cascade);
        }
    }
}

/// What a budget's event means. Rare, so it may be logged here.
fn tell(camera: &str, event: Event, unit: Unit) {
    let unit = unit.as_str();
    match event {
        Event::Infeasible { mean, budget } => log::warn!(
            "camera {camera}: budget_infeasible: at the lowest threshold allowed a frame costs {mean:.2} {unit}, the budget is {budget} \
             {unit}; take fewer frames a second, or allow more errors"
        ),
        Event::Feasible => log::info!("camera {camera}: the budget can be kept again"),
    }
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as u64)
}
