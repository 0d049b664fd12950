//! The answer to one picture: as JSON for programs, as a block of lines for people.

use std::fmt;

use serde::Serialize;

use crate::cascade::Verdict;
use crate::frame::{Choice, Stage, Timing};
use crate::gate;
use crate::gather;
use crate::model::Label;
use crate::report::text::printable;

/// The answer to one picture, as `classify --json` prints it. `Display` is the block for people.
#[derive(Serialize)]
pub struct Answer<'a> {
    /// The picture's path.
    pub image: &'a str,
    /// `"coarse"` or `"fine"`.
    pub exit: &'static str,
    /// The winning class.
    pub label: usize,
    /// Its name.
    pub name: &'a str,
    /// Its probability.
    pub confidence: f32,
    /// The most probable classes, best first.
    pub top: Vec<Candidate<'a>>,
    /// Milliseconds per step.
    pub timing_ms: TimingMs,
    /// What happened inside, where it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace<'a>>,
    /// What the coarse stage answered, for people.
    #[serde(skip)]
    pub coarse: Candidate<'a>,
}

/// A class and its probability.
#[derive(Clone, Copy, Serialize)]
pub struct Candidate<'a> {
    /// The class.
    pub label: usize,
    /// Its name.
    pub name: &'a str,
    /// `0..=1`.
    pub probability: f32,
}

/// Milliseconds per step; `fine` is 0 where the fine stage did not run, `total` is the sum of all steps, the gate's included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TimingMs {
    /// Resize, crop, normalise (not reading and decoding the file).
    pub preprocess: f64,
    /// The coarse stage.
    pub coarse: f64,
    /// The fine stage.
    pub fine: f64,
    /// Everything.
    pub total: f64,
}

impl From<Timing> for TimingMs {
    fn from(timing: Timing) -> Self {
        let total = timing.total_ms();
        Self { preprocess: timing.preprocess_ms, coarse: timing.coarse_ms, fine: timing.fine_ms, total }
    }
}

/// The inner values of one decision.
#[derive(Serialize)]
pub struct Trace<'a> {
    /// `[classes]`.
    pub coarse_logits: &'a [f32],
    /// What the gate compared with the threshold.
    pub coarse_confidence: f32,
    /// `[grid²]`.
    pub class_attention: &'a [f32],
    /// The cells that the fine stage sees finer, or would have; sorted.
    pub informative: Vec<u32>,
    /// `[classes]`; `None` where the fine stage did not run.
    pub fine_logits: Option<&'a [f32]>,
}

/// What an answer contains beyond the verdict.
#[derive(Clone, Copy)]
pub struct Detail {
    /// How many of the most probable classes.
    pub top: usize,
    /// With the cells that are informative (`k` of them), a trace.
    pub trace: Option<usize>,
}

impl<'a> Answer<'a> {
    /// The answer to the picture at `image`.
    pub fn new(image: &'a str, verdict: &'a Verdict, timing: Timing, labels: &'a [Label], detail: Detail) -> Self {
        let coarse_label = gate::argmax(&verdict.coarse.logits).0;
        Self {
            image,
            exit: verdict.stage.as_str(),
            label: verdict.label,
            name: name(labels, verdict.label),
            confidence: verdict.confidence,
            top: top(&verdict.probabilities, labels, detail.top),
            timing_ms: timing.into(),
            trace: detail.trace.map(|informative| trace(verdict, informative)),
            coarse: Candidate {
                label: coarse_label,
                name: name(labels, coarse_label),
                probability: verdict.coarse_confidence,
            },
        }
    }
}

/// The name of a class.
pub fn name(labels: &[Label], label: usize) -> &str {
    labels.get(label).map_or("(no name)", |label| &label.name)
}

/// The `count` most probable classes, best first; equals in class order.
fn top<'a>(probabilities: &[f32], labels: &'a [Label], count: usize) -> Vec<Candidate<'a>> {
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
    let candidate = |label| Candidate { label, name: name(labels, label), probability: probabilities[label] };
    order.into_iter().take(count).map(candidate).collect()
}

/// The trace of `verdict`. A coarse exit did not choose cells, so the choice it would have made is made here.
fn trace(verdict: &Verdict, informative: usize) -> Trace<'_> {
    let fine = verdict.stage == Stage::Fine;
    let informative = if fine {
        verdict.choice.informative.clone()
    } else {
        let mut choice = Choice::default();
        gather::choose(&verdict.coarse.class_attention, informative, &mut choice);
        choice.informative
    };
    Trace {
        coarse_logits: &verdict.coarse.logits,
        coarse_confidence: verdict.coarse_confidence,
        class_attention: &verdict.coarse.class_attention,
        informative,
        fine_logits: fine.then_some(&verdict.fine_logits),
    }
}

/// A probability for people.
pub fn percent(probability: f32) -> String {
    format!("{:.1} %", probability * 100.0)
}

impl fmt::Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", printable(self.image))?;
        writeln!(f, "  label       {} (class {})", printable(self.name), self.label)?;
        writeln!(f, "  confidence  {}", percent(self.confidence))?;
        if self.exit == Stage::Fine.as_str() {
            let (name, sure) = (printable(self.coarse.name), percent(self.coarse.probability));
            writeln!(f, "  exit        fine (coarse: {name}, {sure})")?;
        } else {
            writeln!(f, "  exit        coarse")?;
        }
        let TimingMs { preprocess, coarse, fine, total } = self.timing_ms;
        write!(f, "  time        {total:.1} ms: preprocess {preprocess:.1}, coarse {coarse:.1}, fine {fine:.1}")?;
        if self.top.len() > 1 {
            for (i, candidate) in self.top.iter().enumerate() {
                let head = if i == 0 { "top" } else { "" };
                let share = percent(candidate.probability);
                write!(f, "\n  {head:<10}{share:>9}  {}", printable(candidate.name))?;
            }
        }
        Ok(())
    }
}

/// Counts the answers of one command for its last line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    images: usize,
    fine: usize,
    total_ms: f64,
}

impl Tally {
    /// Counts one answer.
    pub fn add(&mut self, exit: Stage, timing: Timing) {
        self.images += 1;
        self.fine += usize::from(exit == Stage::Fine);
        self.total_ms += timing.total_ms();
    }

    /// Answers counted.
    pub fn images(&self) -> usize {
        self.images
    }
}

/// `12 images: 4 refined by the fine stage (33.3 %), mean 4.1 ms`.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { images, fine, total_ms } = *self;
        let count = images.max(1) as f64;
        let plural = if images == 1 { "image" } else { "images" };
        let share = 100.0 * fine as f64 / count;
        write!(f, "{images} {plural}: {fine} refined by the fine stage ({share:.1} %), mean {:.1} ms", total_ms / count)
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
