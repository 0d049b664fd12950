//! Fills the board from the decision thread: no waiting, and after the first frames no allocation.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use super::board::{Board, Channel, Snapshot};
use crate::cascade::{Cascade, Verdict};
use crate::frame::{Stage, Timing};
use crate::gate;
use crate::pipeline::{CameraId, Decision, Observer, View};
use crate::smoothing::Smooth;

/// So many of the most probable classes are shown.
pub const TOP: usize = 5;

/// The observer of decisions that fills a [`Board`]. The last one of a run: what it says of thresholds is an operator's word.
pub struct Feed {
    board: Arc<Board>,
    known: Vec<(CameraId, Arc<Channel>)>,
    /// Changes places with a channel's newest snapshot, so its memory is used again.
    spare: Option<Snapshot>,
    /// `[classes]`: softmax of the coarse logits.
    coarse: Vec<f32>,
}

impl Feed {
    /// Fills `board`.
    pub fn new(board: Arc<Board>) -> Self {
        Self { board, known: Vec::new(), spare: None, coarse: Vec::new() }
    }

    /// Only a camera's first frame looks for its channel.
    fn channel(&mut self, id: CameraId, name: &str) -> Arc<Channel> {
        if let Some((_, channel)) = self.known.iter().find(|(known, _)| *known == id) {
            return Arc::clone(channel);
        }
        // A camera that took the place of another of its name has the same channel.
        self.known.retain(|(_, channel)| channel.name != name);
        let channel = self.board.channel(name);
        self.known.push((id, Arc::clone(&channel)));
        channel
    }

    fn note(&self, channel: &Channel, verdict: &Verdict, decision: &Decision<'_>) {
        channel.age.record(decision.latency.as_secs_f64());
        channel.count_class(&self.board.facts.counted, verdict.label);
        channel.confidence.record(f64::from(verdict.coarse_confidence));
        let ran = [true, verdict.stage != Stage::Static, verdict.stage != Stage::Static]
            .into_iter()
            .chain([verdict.stage == Stage::Fine; 2])
            .chain([verdict.stage == Stage::Static]);
        for ((step, ms), ran) in self.board.steps.iter().zip(steps_ms(decision.timing)).zip(ran) {
            if ran {
                step.record(ms / 1e3);
            }
        }
    }

    fn fill(&mut self, verdict: &Verdict, decision: &Decision<'_>) {
        let now = Instant::now();
        let snapshot = self.spare.get_or_insert_with(|| Snapshot::empty(now));
        snapshot.seq = decision.frame.seq;
        snapshot.captured = SystemTime::now().checked_sub(decision.latency).unwrap_or(SystemTime::UNIX_EPOCH);
        snapshot.decided = now;
        (snapshot.stage, snapshot.label, snapshot.confidence) = (verdict.stage, verdict.label, verdict.confidence);
        (snapshot.smooth, snapshot.threshold) = (decision.smooth, decision.threshold);
        snapshot.coarse_confidence = verdict.coarse_confidence;
        (snapshot.latency, snapshot.timing) = (decision.latency, decision.timing);
        gate::best(&verdict.probabilities, TOP, &mut snapshot.top);
        snapshot.coarse_top.clear();
        snapshot.informative.clear();
        snapshot.attention.clear();
        if verdict.stage != Stage::Static {
            gate::softmax(&verdict.coarse.logits, &mut self.coarse);
            gate::best(&self.coarse, TOP, &mut snapshot.coarse_top);
            snapshot.attention.extend_from_slice(&verdict.coarse.class_attention);
        }
        if verdict.stage == Stage::Fine {
            snapshot.informative.extend_from_slice(&verdict.choice.informative);
        }
    }
}

impl Observer for Feed {
    fn started(&mut self, view: &View) {
        self.board.set_view(view);
    }

    fn threshold(&mut self, camera: &str, configured: f32) -> f32 {
        match self.known.iter().find(|(_, channel)| channel.name == camera) {
            Some((_, channel)) => channel.decide_threshold(configured),
            None => self.board.channel(camera).decide_threshold(configured),
        }
    }

    fn decided(&mut self, decision: &Decision<'_>, cascade: &mut Cascade) {
        let verdict = cascade.verdict();
        let channel = self.channel(decision.camera, decision.camera_name);
        self.note(&channel, verdict, decision);
        self.fill(verdict, decision);
        #[cfg(any(feature = "web", feature = "mqtt"))]
        if let Some(snapshot) = &self.spare
            && channel.easel.offer(&decision.frame.picture, snapshot)
        {
            self.board.studio.wake();
        }
        channel.show(&mut self.spare);
    }
}

impl Snapshot {
    fn empty(now: Instant) -> Self {
        Self {
            seq: 0,
            captured: SystemTime::UNIX_EPOCH,
            decided: now,
            stage: Stage::Coarse,
            label: 0,
            confidence: 0.0,
            smooth: Smooth { label: 0, confidence: 0.0 },
            coarse_confidence: f32::NAN,
            threshold: f32::NAN,
            top: Vec::with_capacity(TOP + 1),
            coarse_top: Vec::with_capacity(TOP + 1),
            informative: Vec::new(),
            attention: Vec::new(),
            latency: std::time::Duration::ZERO,
            timing: Timing::default(),
        }
    }
}

/// In the order of [`super::board::STEPS`].
pub(super) fn steps_ms(timing: Timing) -> [f64; 6] {
    [timing.preprocess_ms, timing.coarse_ms, timing.gate_ms, timing.gather_ms, timing.fine_ms, timing.static_ms]
}
