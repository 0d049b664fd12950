//! The cascade: coarse → gate → gather → fine for one frame, on any engine. The only place where the steps meet, so `classify`,
//! `eval`, `visualize` and `run` cannot decide differently.

use std::time::Instant;

use crate::engine::{Engine, FineFrame, swap};
use crate::error::{Error, Kind, Result};
use crate::fallback::{Change, Fallback, Path};
use crate::frame::{Choice, CoarseOutput, Inputs, Stage, Timing};
use crate::{gate, gather};

/// Everything known about the last decided frame. Its buffers are reused from frame to frame.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The stage that gave the answer.
    pub stage: Stage,
    /// The winning class.
    pub label: usize,
    /// `max softmax` of the logits that answered.
    pub confidence: f32,
    /// `[classes]`: softmax of the logits that answered.
    pub probabilities: Vec<f32>,
    /// The coarse stage's output; of this frame unless `stage` is [`Stage::Static`].
    pub coarse: CoarseOutput,
    /// `max softmax(coarse logits)`: what the gate compared with η. NaN where `stage` is [`Stage::Static`].
    pub coarse_confidence: f32,
    /// The chosen cells; meaningful only where `stage` is [`Stage::Fine`].
    pub choice: Choice,
    /// `[classes]`: logits of the fine stage, or of the static pass; meaningless where `stage` is [`Stage::Coarse`].
    pub fine_logits: Vec<f32>,
    /// Time per step; `preprocess_ms` is the caller's.
    pub timing: Timing,
}

/// The most frames that share a coarse pass.
pub const MOST_AT_ONCE: usize = 8;

/// An engine with a threshold.
pub struct Cascade {
    engine: Box<dyn Engine>,
    threshold: f32,
    verdict: Verdict,
    /// Which image of the engine's last coarse pass the verdict is on.
    slot: usize,
    /// What the last shared coarse pass said of each frame, and a frame's part of its time.
    ahead: Vec<CoarseOutput>,
    ahead_ms: f64,
    fallback: Option<Fallback>,
    change: Option<Change>,
}

impl Cascade {
    /// Decides with `engine` at the threshold η (`0` never refines, above `1` always does).
    pub fn new(engine: Box<dyn Engine>, threshold: f32) -> Self {
        let verdict = Verdict {
            stage: Stage::Coarse,
            label: 0,
            confidence: 0.0,
            probabilities: Vec::new(),
            coarse: CoarseOutput::default(),
            coarse_confidence: 0.0,
            choice: Choice::default(),
            fine_logits: Vec::new(),
            timing: Timing::default(),
        };
        Self { engine, threshold, verdict, slot: 0, ahead: Vec::new(), ahead_ms: 0.0, fallback: None, change: None }
    }

    /// The engine beneath.
    pub fn engine(&self) -> &dyn Engine {
        self.engine.as_ref()
    }

    /// The engine beneath, to run a stage by itself.
    pub fn engine_mut(&mut self) -> &mut dyn Engine {
        self.engine.as_mut()
    }

    /// Puts a newly opened engine in the place of the one in service, if it is good: see [`swap::replace`].
    ///
    /// # Errors
    /// As [`swap::replace`]; the old engine goes on then.
    pub fn replace_engine(&mut self, open: impl FnOnce() -> Result<Box<dyn Engine>>) -> Result<()> {
        swap::replace(&mut self.engine, open)
    }

    /// The verdict on the last decided frame; meaningless before the first.
    pub fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    /// The threshold η in force.
    pub fn threshold(&self) -> f32 {
        self.threshold
    }

    /// Sets η for the frames to come.
    pub fn set_threshold(&mut self, threshold: f32) {
        self.threshold = threshold;
    }

    /// From now on `fallback` decides which frames take the static pass instead.
    pub fn set_fallback(&mut self, fallback: Fallback) {
        self.fallback = Some(fallback);
    }

    /// The change of path that the last frame brought about, once.
    pub fn take_change(&mut self) -> Option<Change> {
        self.change.take()
    }

    /// Decides one frame: the fine stage runs only where the gate asks for it, and neither stage where the fallback has taken over. The
    /// verdict stays valid until the next call.
    ///
    /// # Errors
    /// What the engine reports.
    pub fn decide(&mut self, inputs: &Inputs) -> Result<&Verdict> {
        match self.fallback.as_mut().map_or(Path::Adaptive, Fallback::next_path) {
            Path::Adaptive => self.decide_adaptively(inputs)?,
            Path::Static => self.decide_statically(inputs)?,
        }
        Ok(&self.verdict)
    }

    /// The most frames that [`Cascade::coarse_ahead`] takes: what the engine takes in a pass, and one where a fallback chooses frame by frame.
    pub fn most_at_once(&self) -> usize {
        if self.fallback.is_some() { 1 } else { self.engine.max_batch().min(MOST_AT_ONCE) }
    }

    /// One coarse pass over several frames, at most [`Cascade::most_at_once`]; each is then decided by [`Cascade::decide_ahead`]. Memory is
    /// allocated by the first pass over so many.
    ///
    /// # Errors
    /// What the engine reports, also where they are too many.
    pub fn coarse_ahead(&mut self, inputs: &[Inputs]) -> Result<()> {
        let mut clock = Lap::start();
        let mut images: [&[f32]; MOST_AT_ONCE] = [&[]; MOST_AT_ONCE];
        images.iter_mut().zip(inputs).for_each(|(image, inputs)| *image = &inputs.coarse);
        let n = inputs.len();
        if self.ahead.len() < n {
            self.ahead.resize_with(n, CoarseOutput::default);
        }
        self.engine.coarse_batch(&images[..n.min(MOST_AT_ONCE)], &mut self.ahead[..n])?;
        self.ahead_ms = clock.lap_ms() / n.max(1) as f64;
        Ok(())
    }

    /// Decides the `slot`-th frame of the last [`Cascade::coarse_ahead`], as [`Cascade::decide`] does; each only once.
    ///
    /// # Errors
    /// What the engine reports, also where there is no such frame.
    pub fn decide_ahead(&mut self, slot: usize, inputs: &Inputs) -> Result<&Verdict> {
        let Some(output) = self.ahead.get_mut(slot) else {
            return Err(Error::new(Kind::Engine, format!("no coarse pass was made for frame {slot}")));
        };
        std::mem::swap(output, &mut self.verdict.coarse);
        self.verdict.timing = Timing { coarse_ms: self.ahead_ms, ..Timing::default() };
        self.slot = slot;
        self.settle(inputs, Lap::start())?;
        Ok(&self.verdict)
    }

    /// One more fine pass over the frame that was decided last, with any `choice`: `logits` becomes `[classes]`, its memory is reused. The
    /// verdict stays as it is.
    ///
    /// # Errors
    /// What the engine reports; there must have been a coarse pass.
    pub fn refine(&mut self, inputs: &Inputs, choice: &Choice, logits: &mut Vec<f32>) -> Result<()> {
        let frame = FineFrame { slot: self.slot, image: &inputs.fine, choice };
        self.engine.fine_batch(&[frame], std::slice::from_mut(logits))
    }

    fn decide_statically(&mut self, inputs: &Inputs) -> Result<()> {
        let verdict = &mut self.verdict;
        let mut clock = Lap::start();
        self.engine.full(&inputs.fine, &mut verdict.fine_logits)?;
        gate::softmax(&verdict.fine_logits, &mut verdict.probabilities);
        (verdict.label, verdict.confidence) = gate::argmax(&verdict.probabilities);
        (verdict.stage, verdict.coarse_confidence) = (Stage::Static, f32::NAN);
        verdict.timing = Timing { static_ms: clock.lap_ms(), ..Timing::default() };
        Ok(())
    }

    fn decide_adaptively(&mut self, inputs: &Inputs) -> Result<()> {
        let mut clock = Lap::start();
        self.engine.coarse(&inputs.coarse, &mut self.verdict.coarse)?;
        let (coarse_ms, device_coarse_ms) = (clock.lap_ms(), self.engine.device_ms());
        self.verdict.timing = Timing { coarse_ms, device_coarse_ms, ..Timing::default() };
        self.slot = 0;
        self.settle(inputs, clock)
    }

    /// Gate, gather, fine: what follows the coarse pass whose output lies in the verdict.
    fn settle(&mut self, inputs: &Inputs, mut clock: Lap) -> Result<()> {
        let verdict = &mut self.verdict;
        gate::softmax(&verdict.coarse.logits, &mut verdict.probabilities);
        (verdict.label, verdict.coarse_confidence) = gate::argmax(&verdict.probabilities);
        verdict.confidence = verdict.coarse_confidence;
        verdict.stage = gate::decide(verdict.coarse_confidence, self.threshold);
        verdict.timing.gate_ms = clock.lap_ms();

        if verdict.stage == Stage::Fine {
            gather::choose(&verdict.coarse.class_attention, self.engine.geometry().informative(), &mut verdict.choice);
            verdict.timing.gather_ms = clock.lap_ms();
            let frame = FineFrame { slot: self.slot, image: &inputs.fine, choice: &verdict.choice };
            self.engine.fine_batch(&[frame], std::slice::from_mut(&mut verdict.fine_logits))?;
            verdict.timing.fine_ms = clock.lap_ms();
            verdict.timing.device_fine_ms = self.engine.device_ms();
            gate::softmax(&verdict.fine_logits, &mut verdict.probabilities);
            (verdict.label, verdict.confidence) = gate::argmax(&verdict.probabilities);
        }
        if let Some(fallback) = &mut self.fallback {
            self.change = fallback.note(verdict.stage == Stage::Fine).or(self.change);
        }
        Ok(())
    }
}

/// A stopwatch that starts again at every reading.
pub struct Lap(Instant);

impl Lap {
    /// Starts now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the start or the last reading.
    pub fn lap_ms(&mut self) -> f64 {
        let now = Instant::now();
        let elapsed = now - self.0;
        self.0 = now;
        elapsed.as_secs_f64() * 1e3
    }
}
