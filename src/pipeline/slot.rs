//! The hand-over between capture and decision: room for one frame, where the newest wins, and the counters that account for every
//! frame. Buffers go round: nothing is allocated per frame.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::frame::{Frame, Picture, Stage};
use crate::report::Tally;

/// What became of a frame that was taken out of the slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The stage that answered.
    Decided(Stage),
    /// Nobody answered.
    Failed,
}

/// Depth 1, newest frame wins. One thread puts, one takes. The lock is held for moves and counts only.
#[derive(Debug)]
pub(super) struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Option<Frame>,
    /// A frame was taken and is not finished.
    deciding: bool,
    spare: Vec<Frame>,
    /// `in_flight` stays 0 here: it is what `waiting` and `deciding` say.
    tally: Tally,
    /// No more frames will be put; the waiting one is still decided.
    ended: bool,
    /// Nothing more is decided.
    stopped: bool,
}

impl Slot {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State::default()), changed: Condvar::new() }
    }

    /// A frame to fill: one that has been used, or a new one while there are too few.
    pub(super) fn spare(&self) -> Frame {
        let new = || Frame { seq: 0, name: String::new(), captured: Instant::now(), picture: Picture::default() };
        self.lock().spare.pop().unwrap_or_else(new)
    }

    /// Gives back a frame that was not put.
    pub(super) fn give_back(&self, frame: Frame) {
        self.lock().spare.push(frame);
    }

    /// Waits until no frame is waiting; false if the slot was ended or stopped.
    pub(super) fn wait_empty(&self) -> bool {
        let mut state = self.lock();
        while state.waiting.is_some() && !state.ended && !state.stopped {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.ended && !state.stopped
    }

    /// Numbers `frame` and makes it the one that waits. A frame that was waiting is dropped.
    pub(super) fn put(&self, mut frame: Frame) {
        let mut state = self.lock();
        frame.seq = state.tally.captured;
        state.tally.captured += 1;
        if let Some(older) = state.waiting.replace(frame) {
            state.tally.dropped += 1;
            state.spare.push(older);
        }
        self.changed.notify_all();
    }

    /// Counts a frame that was captured damaged.
    pub(super) fn put_damaged(&self) {
        let mut state = self.lock();
        state.tally.captured += 1;
        state.tally.failed += 1;
    }

    /// Waits for a frame to decide; `None` when there will be none. Each must be [`Slot::finish`]ed before the next is taken.
    pub(super) fn take(&self) -> Option<Frame> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(frame) = state.waiting.take() {
                state.deciding = true;
                self.changed.notify_all();
                return Some(frame);
            }
            if state.ended {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Counts what became of the frame that was taken, and takes its buffers back.
    pub(super) fn finish(&self, frame: Frame, outcome: Outcome) {
        let mut state = self.lock();
        state.deciding = false;
        match outcome {
            Outcome::Decided(stage) => {
                state.tally.decided += 1;
                state.tally.fine += u64::from(stage == Stage::Fine);
                state.tally.full += u64::from(stage == Stage::Static);
            }
            Outcome::Failed => state.tally.failed += 1,
        }
        state.spare.push(frame);
    }

    /// No more frames come: the decision goes on until the slot is empty.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    /// Nothing more is to be decided: every waiter comes back at once. A frame that waits stays in flight.
    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    /// The counters at this moment. They add up.
    pub(super) fn tally(&self) -> Tally {
        let state = self.lock();
        let in_flight = u64::from(state.waiting.is_some()) + u64::from(state.deciding);
        Tally { in_flight, ..state.tally }
    }

    // A thread that panicked cannot have left the state half-way: nothing in here panics between two changes.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a thread can do to a slot.
    #[derive(Clone, Copy, Debug)]
    enum Act {
        Put,
        PutDamaged,
        Take,
        Finish(Outcome),
        End,
        Stop,
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => Just(Act::Put),
            1 => Just(Act::PutDamaged),
            6 => Just(Act::Take),
            3 => Just(Act::Finish(Outcome::Decided(Stage::Coarse))),
            3 => Just(Act::Finish(Outcome::Decided(Stage::Fine))),
            1 => Just(Act::Finish(Outcome::Decided(Stage::Static))),
            1 => Just(Act::Finish(Outcome::Failed)),
            1 => Just(Act::End),
            1 => Just(Act::Stop),
        ]
    }

    proptest! {
        #[test]
        fn the_counters_add_up_after_every_step_and_the_newest_frame_wins(acts in prop::collection::vec(act(), 0..200)) {
            let slot = Slot::new();
            let (mut waiting, mut taken): (Option<u64>, Option<Frame>) = (None, None);
            let (mut expected, mut over, mut frames) = (Tally::default(), false, 0);
            for act in acts {
                match act {
                    Act::Put => {
                        let mut frame = slot.spare();
                        frames += u64::from(frame.name.is_empty());
                        frame.name = "used".to_owned();
                        slot.put(frame);
                        expected.dropped += u64::from(waiting.is_some());
                        waiting = Some(expected.captured);
                        expected.captured += 1;
                    }
                    Act::PutDamaged => {
                        slot.put_damaged();
                        expected.captured += 1;
                        expected.failed += 1;
                    }
                    // Where the real thread would wait there is nothing to check.
                    Act::Take if taken.is_some() || (waiting.is_none() && !over) => {}
                    Act::Take => {
                        taken = slot.take();
                        let stopped = slot.lock().stopped;
                        prop_assert_eq!(taken.as_ref().map(|frame| frame.seq), if stopped { None } else { waiting });
                        waiting = if stopped { waiting } else { None };
                    }
                    Act::Finish(outcome) => if let Some(frame) = taken.take() {
                        slot.finish(frame, outcome);
                        match outcome {
                            Outcome::Decided(stage) => {
                                expected.decided += 1;
                                expected.fine += u64::from(stage == Stage::Fine);
                                expected.full += u64::from(stage == Stage::Static);
                            }
                            Outcome::Failed => expected.failed += 1,
                        }
                    },
                    Act::End => { slot.end(); over = true; }
                    Act::Stop => { slot.stop(); over = true; }
                }
                expected.in_flight = u64::from(waiting.is_some()) + u64::from(taken.is_some());
                prop_assert_eq!(slot.tally(), expected);
                prop_assert!(slot.tally().adds_up());
                prop_assert!(frames <= 3, "one filled, one waiting, one being decided");
            }
        }
    }
}
