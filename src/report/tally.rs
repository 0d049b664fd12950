//! The frame counters.

/// What became of the frames. At every moment `captured = decided + dropped + failed + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames that the source gave, damaged ones included.
    pub captured: u64,
    /// Frames that got an answer.
    pub decided: u64,
    /// Frames that a newer one replaced before their turn came.
    pub dropped: u64,
    /// Frames without an answer because the picture was damaged or the engine failed.
    pub failed: u64,
    /// Frames that wait for their turn (at most one) or are being decided (at most one). What is left of them when a run is
    /// stopped stays here.
    pub in_flight: u64,
    /// Those of `decided` that the fine stage answered.
    pub fine: u64,
    /// Those of `decided` that the static pass answered.
    pub full: u64,
}

impl Tally {
    /// The frames of the time after `earlier`; `in_flight` is that of now.
    pub fn since(&self, earlier: &Tally) -> Tally {
        Tally {
            captured: self.captured.saturating_sub(earlier.captured),
            decided: self.decided.saturating_sub(earlier.decided),
            dropped: self.dropped.saturating_sub(earlier.dropped),
            failed: self.failed.saturating_sub(earlier.failed),
            in_flight: self.in_flight,
            fine: self.fine.saturating_sub(earlier.fine),
            full: self.full.saturating_sub(earlier.full),
        }
    }

    /// Whether every captured frame is accounted for.
    pub fn adds_up(&self) -> bool {
        self.captured == self.decided + self.dropped + self.failed + self.in_flight
            && self.fine + self.full <= self.decided
    }

    /// The share of decisions that the fine stage made, 0 to 1; `None` without decisions.
    pub fn fine_fraction(&self) -> Option<f64> {
        (self.decided > 0).then(|| self.fine as f64 / self.decided as f64)
    }

    /// The share of decisions that the static pass made, 0 to 1; `None` where it made none.
    pub fn static_fraction(&self) -> Option<f64> {
        (self.full > 0).then(|| self.full as f64 / self.decided as f64)
    }
}
