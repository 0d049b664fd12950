//! The frame counters.

use std::ops::AddAssign;

use crate::capture::Damage;

/// Why a captured frame got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// A newer frame took its place before its turn came, or its camera was taken out of service: dropped.
    Newer,
    /// The device marked the buffer as damaged, or its content cannot be decoded: failed.
    Corrupt,
    /// The buffer holds fewer bytes than its format needs: failed.
    Short,
    /// The picture cannot be preprocessed, or the engine failed: failed.
    Undecided,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Reason; 4] = [Reason::Newer, Reason::Corrupt, Reason::Short, Reason::Undecided];

    /// The word in logs, records and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Newer => "newer",
            Reason::Corrupt => "corrupt",
            Reason::Short => "short",
            Reason::Undecided => "undecided",
        }
    }
}

impl From<Damage> for Reason {
    fn from(damage: Damage) -> Self {
        match damage {
            Damage::Unreadable | Damage::Corrupt => Reason::Corrupt,
            Damage::Short => Reason::Short,
        }
    }
}

/// What became of the frames. At every moment `captured = decided + dropped + failed + in_flight`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames that the source gave, damaged ones included.
    pub captured: u64,
    /// Frames that got an answer.
    pub decided: u64,
    /// Frames that a newer one replaced before their turn came ([`Reason::Newer`]).
    pub dropped: u64,
    /// Frames without an answer because the picture was damaged or the engine failed.
    pub failed: u64,
    /// Frames that wait for their turn (at most one a camera) or are being decided (at most one). What is left of them when a run
    /// is stopped stays here.
    pub in_flight: u64,
    /// Those of `decided` that the fine stage answered.
    pub fine: u64,
    /// Those of `decided` that the static pass answered.
    pub full: u64,
    /// Those of `failed` that were captured damaged ([`Reason::Corrupt`]).
    pub corrupt: u64,
    /// Those of `failed` that were captured incomplete ([`Reason::Short`]).
    pub short: u64,
}

impl Tally {
    /// Counts a frame that got no answer for `reason`.
    pub fn lose(&mut self, reason: Reason) {
        match reason {
            Reason::Newer => self.dropped += 1,
            Reason::Corrupt | Reason::Short | Reason::Undecided => self.failed += 1,
        }
        match reason {
            Reason::Corrupt => self.corrupt += 1,
            Reason::Short => self.short += 1,
            Reason::Newer | Reason::Undecided => {}
        }
    }

    /// How many frames got no answer for `reason`.
    pub fn lost(&self, reason: Reason) -> u64 {
        match reason {
            Reason::Newer => self.dropped,
            Reason::Corrupt => self.corrupt,
            Reason::Short => self.short,
            Reason::Undecided => self.failed.saturating_sub(self.corrupt + self.short),
        }
    }

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
            corrupt: self.corrupt.saturating_sub(earlier.corrupt),
            short: self.short.saturating_sub(earlier.short),
        }
    }

    /// Whether every captured frame is accounted for.
    pub fn adds_up(&self) -> bool {
        self.captured == self.decided + self.dropped + self.failed + self.in_flight
            && self.fine + self.full <= self.decided
            && self.corrupt + self.short <= self.failed
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

/// The frames of several cameras together.
impl AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.captured += other.captured;
        self.decided += other.decided;
        self.dropped += other.dropped;
        self.failed += other.failed;
        self.in_flight += other.in_flight;
        self.fine += other.fine;
        self.full += other.full;
        self.corrupt += other.corrupt;
        self.short += other.short;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_once_and_the_whole_still_adds_up() {
        let mut tally = Tally { captured: 10, ..Tally::default() };
        for (times, reason) in (1..).zip(Reason::ALL) {
            (0..times).for_each(|_| tally.lose(reason));
        }
        assert!(tally.adds_up(), "{tally:?}");
        assert_eq!(Reason::ALL.map(|reason| tally.lost(reason)), [1, 2, 3, 4]);
        assert_eq!((tally.dropped, tally.failed), (1, 9));
        let mut twice = tally;
        twice += tally;
        assert!(twice.adds_up() && twice.since(&tally) == Tally { in_flight: 0, ..tally });
    }
}
