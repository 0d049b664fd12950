//! What both stages said of one calibration frame.

use crate::gate;
use crate::model::package::Target;

/// What both stages said of one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// What the gate sees: `max softmax(coarse logits)`. NaN never stops at the coarse stage.
    pub confidence: f32,
    /// The coarse stage's class.
    pub coarse: usize,
    /// The fine stage's class.
    pub fine: usize,
    /// The right class, where it is known.
    pub label: Option<usize>,
}

/// What counts as bad about stopping at the coarse stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Risk {
    /// The fine stage would have been right and the coarse one is wrong.
    Loss,
    /// The fine stage would have answered something else.
    Disagreement,
}

impl Risk {
    /// The same in a certificate.
    pub fn target(self) -> Target {
        match self {
            Risk::Loss => Target::Loss,
            Risk::Disagreement => Target::Disagreement,
        }
    }
}

impl Observation {
    /// Whether the two stages answer differently.
    pub fn differs(&self) -> bool {
        self.coarse != self.fine
    }

    /// Whether stopping at the coarse stage would be bad. Where the right class is not known, two answers count as a loss: the bound
    /// stays valid, so only disagreements need labels.
    pub fn is_bad(&self, risk: Risk) -> bool {
        self.differs() && (risk == Risk::Disagreement || self.label.is_none_or(|label| label == self.fine))
    }

    /// Whether the cascade at `threshold` stops at the coarse stage: the gate's own rule.
    pub fn stops(&self, threshold: f32) -> bool {
        gate::decide(self.confidence, threshold) == crate::frame::Stage::Coarse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_bad() {
        let frame = |coarse, fine, label| Observation { confidence: 0.9, coarse, fine, label };
        for (observation, loss, disagreement) in [
            (frame(1, 1, Some(1)), false, false),
            (frame(1, 1, Some(2)), false, false),
            (frame(1, 2, Some(2)), true, true),
            (frame(1, 2, Some(1)), false, true),
            (frame(1, 2, Some(3)), false, true),
            (frame(1, 2, None), true, true),
            (frame(1, 1, None), false, false),
        ] {
            let found = (observation.is_bad(Risk::Loss), observation.is_bad(Risk::Disagreement));
            assert_eq!(found, (loss, disagreement), "{observation:?}");
        }
    }
}
