//! What a run tells whoever attends it: how it is, and its numbers.

use std::time::Duration;

use crate::report::Report;

/// A part of the run that is at work now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// Which part, and with what.
    pub what: String,
    /// For how long without a break.
    pub time: Duration,
}

/// How a run is at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Frames decided so far.
    pub decided: u64,
    /// Every camera that has not ended has nothing to give for now.
    pub waiting: bool,
    /// The parts that are at work: the decision of a frame, a source that was asked for a frame, a write of records to a file. Each
    /// should take milliseconds.
    pub busy: Vec<Busy>,
}

impl Health {
    /// The part that has been at work for longest, if that is more than `limit`: it hangs.
    pub fn stalled(&self, limit: Duration) -> Option<&Busy> {
        self.busy.iter().max_by_key(|busy| busy.time).filter(|busy| busy.time > limit)
    }
}

/// Attends a run from the thread that supervises it. Must not wait.
pub trait Attendant {
    /// How often [`Attendant::tick`] is wanted; `None` for never.
    fn period(&self) -> Option<Duration> {
        None
    }

    /// Called about once a [`Attendant::period`], also while nothing moves.
    fn tick(&mut self, _health: &Health) {}

    /// The numbers of one window, right after they were logged.
    fn reported(&mut self, _report: &Report) {}

    /// The run is over, for whatever reason, and winds down.
    fn stopping(&mut self) {}
}

/// Nobody attends.
impl Attendant for () {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_part_beyond_the_limit_is_stalled() {
        let busy = |what: &str, s| Busy { what: what.to_owned(), time: Duration::from_secs(s) };
        let health = Health { busy: vec![busy("a", 3), busy("b", 5), busy("c", 4)], ..Health::default() };
        assert_eq!(health.stalled(Duration::from_secs(4)).unwrap().what, "b");
        assert_eq!(health.stalled(Duration::from_secs(5)), None);
        assert_eq!(Health::default().stalled(Duration::ZERO), None);
    }
}
