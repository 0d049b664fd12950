//! Whether the meter can be believed.

use std::fmt;
use std::time::{Duration, Instant};

use super::{Rail, Reading};

/// The same raw values for so long are suspicious: a live supply changes by more than its last digit.
const CONSTANT_AFTER: Duration = Duration::from_secs(30);
/// A reading that takes longer hangs.
const SILENT_AFTER: Duration = Duration::from_secs(2);

/// Whether the meter can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers.
    Good,
    /// Its last reading was missing or implausible.
    Failing,
    /// It has not come back from a reading for so long.
    Silent(Duration),
    /// It answers, and every value has been the same for so long. The values count all the same.
    Constant(Duration),
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Health::Good => f.write_str("good"),
            Health::Failing => f.write_str("failing"),
            Health::Silent(time) => write!(f, "no answer for {} s", time.as_secs()),
            Health::Constant(time) => write!(f, "suspicious: constant for {} s", time.as_secs()),
        }
    }
}

/// Follows the readings.
#[derive(Debug)]
pub(super) struct Watch {
    /// When the last reading came back.
    answered: Instant,
    failing: bool,
    last: Option<Reading>,
    rails: Vec<Option<Reading>>,
    /// Since when nothing has changed.
    constant_since: Instant,
}

impl Watch {
    pub(super) fn new(start: Instant) -> Self {
        Self { answered: start, failing: false, last: None, rails: Vec::new(), constant_since: start }
    }

    /// Takes what the meter said at `now`; `None` is a failure.
    pub(super) fn note(&mut self, now: Instant, reading: Option<Reading>, rails: &[Rail]) {
        self.answered = now;
        self.failing = reading.is_none();
        let same =
            reading.is_some() && reading == self.last && rails.iter().map(|r| r.reading).eq(self.rails.iter().copied());
        if !same {
            self.constant_since = now;
            self.last = reading;
            self.rails.clear();
            self.rails.extend(rails.iter().map(|rail| rail.reading));
        }
    }

    /// At `now`.
    pub(super) fn health(&self, now: Instant) -> Health {
        let silent = now.saturating_duration_since(self.answered);
        let constant = self.answered.saturating_duration_since(self.constant_since);
        match () {
            () if silent > SILENT_AFTER => Health::Silent(silent),
            () if self.failing => Health::Failing,
            () if constant >= CONSTANT_AFTER => Health::Constant(constant),
            () => Health::Good,
        }
    }
}
