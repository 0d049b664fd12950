//! Does an engine compute what the CPU engine computes? Compilers have been wrong before: TensorRT 10.3 (JetPack 6.1) with FP16 vision
//! transformers, for one.

use std::fmt;

use crate::engine::Engine;
use crate::error::Result;
use crate::frame::{Choice, CoarseOutput, Inputs};
use crate::model::onnx::Precision;
use crate::{gate, gather};

/// What an engine must keep to be accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The most by which any logit may differ from the CPU engine's. Where the CPU engine's answer leads by more than this, the class must be
    /// the same.
    pub logit_error: f32,
    /// The most by which the class attention of any cell may differ, as a share of the picture's largest.
    pub attention_error: f32,
}

impl Bounds {
    /// Those of plans of this precision. FP16 has 11 significant bits: of logits up to 16, rounding alone is worth 0.01.
    pub fn of(precision: Precision) -> Self {
        match precision {
            Precision::Fp16 => Self { logit_error: 0.1, attention_error: 0.05 },
            Precision::Fp32 => Self { logit_error: 0.01, attention_error: 0.01 },
        }
    }
}

/// `logit error at most 0.1, the same class wherever the CPU's lead is greater than that, class attention off by at most 5 % of its largest`
impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "logit error at most {}, the same class wherever the CPU's lead is greater than that, class attention off by at most {} % of its \
             largest",
            self.logit_error,
            self.attention_error * 100.0
        )
    }
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Passes compared, of all stages.
    pub passes: usize,
    /// Of them with the CPU engine's class.
    pub same_class: usize,
    /// Of them with another class although the CPU engine's leads clearly.
    pub clearly_wrong: usize,
    /// Pictures.
    pub pictures: usize,
    /// Of them with the CPU engine's choice of cells.
    pub same_choice: usize,
    /// The greatest difference of a logit; infinite where one is no number.
    pub logit_error: f32,
    /// The greatest difference of a cell's class attention, as a share of the picture's largest; infinite where one is no number.
    pub attention_error: f32,
}

impl Outcome {
    /// Whether the engine may be used.
    pub fn is_within(&self, bounds: &Bounds) -> bool {
        let exact = self.logit_error <= bounds.logit_error && self.attention_error <= bounds.attention_error;
        self.passes > 0 && self.clearly_wrong == 0 && exact
    }

    /// Compares the class attention of a picture, and the cells that it leads to.
    fn compare_attention(&mut self, expected: &[f32], found: &[f32], informative: usize) -> Choice {
        let largest = expected.iter().fold(f32::MIN_POSITIVE, |largest, x| largest.max(x.abs()));
        self.attention_error = self.attention_error.max(difference(expected, found) / largest);
        let (mut choice, mut other) = (Choice::default(), Choice::default());
        gather::choose(expected, informative, &mut choice);
        gather::choose(found, informative, &mut other);
        self.same_choice += usize::from(choice == other);
        choice
    }

    fn compare(&mut self, expected: &[f32], found: &[f32], bounds: &Bounds) {
        self.passes += 1;
        self.logit_error = self.logit_error.max(difference(expected, found));
        let (class, top) = gate::argmax(expected);
        let (answer, _) = gate::argmax(found);
        let lead = expected.get(answer).map_or(f32::INFINITY, |other| top - other);
        self.same_class += usize::from(class == answer);
        self.clearly_wrong += usize::from(class != answer && lead > bounds.logit_error);
    }
}

/// The greatest difference of two values of the same place; infinite where one found is no number, or the lengths differ.
fn difference(expected: &[f32], found: &[f32]) -> f32 {
    if expected.len() != found.len() {
        return f32::INFINITY;
    }
    let difference = |(a, b): (&f32, &f32)| if b.is_finite() { (a - b).abs() } else { f32::INFINITY };
    expected.iter().zip(found).map(difference).fold(0.0, f32::max)
}

/// `24 passes over 12 pictures, same class in 24, same cells in 12, logit error at most 0.0120, class attention off by at most 0.21 %`
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passes, same_class, pictures, same_choice, logit_error, attention_error, .. } = self;
        write!(
            f,
            "{passes} passes over {pictures} pictures, same class in {same_class}, same cells in {same_choice}, logit error at most \
             {logit_error:.4}, class attention off by at most {:.2} %",
            attention_error * 100.0
        )
    }
}

/// Runs both engines over `inputs`: the coarse stage, the fine stage with the reference's choice of cells, and, `with_static`, the static
/// baseline.
///
/// # Errors
/// What an engine reports.
pub fn run(
    reference: &mut dyn Engine,
    candidate: &mut dyn Engine,
    inputs: &[Inputs],
    bounds: &Bounds,
    with_static: bool,
) -> Result<Outcome> {
    let geometry = *reference.geometry();
    let mut outcome = Outcome { pictures: inputs.len(), ..Outcome::default() };
    let (mut expected, mut found) = (CoarseOutput::default(), CoarseOutput::default());
    let (mut expected_logits, mut logits) = (Vec::new(), Vec::new());
    for inputs in inputs {
        reference.coarse(&inputs.coarse, &mut expected)?;
        candidate.coarse(&inputs.coarse, &mut found)?;
        outcome.compare(&expected.logits, &found.logits, bounds);
        let attention = (&expected.class_attention, &found.class_attention);
        let choice = outcome.compare_attention(attention.0, attention.1, geometry.informative());
        reference.fine(&inputs.fine, &choice, &mut expected_logits)?;
        candidate.fine(&inputs.fine, &choice, &mut logits)?;
        outcome.compare(&expected_logits, &logits, bounds);
        if with_static {
            reference.full(&inputs.fine, &mut expected_logits)?;
            candidate.full(&inputs.fine, &mut logits)?;
            outcome.compare(&expected_logits, &logits, bounds);
        }
    }
    Ok(outcome)
}
