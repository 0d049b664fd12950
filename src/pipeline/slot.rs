//! The hand-over between the captures and the decision: room for one frame a camera, where the newest wins, a fair turn among the
//! cameras, and the counters that account for every frame. Buffers go round: nothing is allocated per frame.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::view::{CameraView, state};
use crate::capture::status::Status;
use crate::clock::Stop;
use crate::frame::{Frame, Picture, Stage};
use crate::report::{Reason, Tally};
use crate::smoothing::Smooth;

/// A camera of this run. Never used again after its camera is gone, so that what comes late finds nobody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CameraId(u64);

/// What was answered to a frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Answer {
    /// The stage that answered.
    pub stage: Stage,
    /// The winning class.
    pub label: usize,
    /// Its probability, 0 to 1.
    pub confidence: f32,
    /// The smoothed answer of the camera.
    pub smooth: Smooth,
    /// What was promised of the camera no longer holds.
    pub degraded: bool,
}

/// What became of a frame that was taken out of its slot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Outcome {
    Decided(Answer),
    /// Nobody answered.
    Failed,
}

/// One slot a camera: depth 1, newest frame wins. A thread per camera puts, one thread takes. The lock is held for moves and counts
/// only.
#[derive(Debug)]
pub(super) struct Slots {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lanes: Vec<Lane>,
    ids: u64,
    /// Index of the lane whose turn comes next.
    turn: usize,
    /// The frames that were taken and are not finished, at most one of a camera, and since when; the oldest first.
    deciding: Vec<(CameraId, Instant)>,
    /// The counters of cameras that are gone.
    past: Tally,
    /// Nothing more is decided.
    stopped: bool,
}

/// One camera's slot.
#[derive(Debug)]
struct Lane {
    id: CameraId,
    stop: Stop,
    /// The camera's name, what its source is, and how that is doing, for views.
    name: String,
    about: String,
    status: Option<Arc<Status>>,
    waiting: Option<Frame>,
    spare: Vec<Frame>,
    /// `in_flight` stays 0 here: it is what `waiting` and `deciding` say.
    tally: Tally,
    /// No more frames will be put; the waiting one is still decided.
    ended: bool,
    /// Since when the source has been at work without coming back.
    asked: Option<Instant>,
    /// Since when the source has had nothing to give.
    idle: Option<Instant>,
    answer: Option<Answer>,
}

/// A camera's slot at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Look {
    /// Its counters. They add up.
    pub(super) tally: Tally,
    /// Its last answer.
    pub(super) answer: Option<Answer>,
    /// Its capture has ended.
    pub(super) ended: bool,
    /// How long the source has been at work without coming back.
    pub(super) asked: Duration,
    /// How long the source has had nothing to give; `None` while it gives frames.
    pub(super) idle: Option<Duration>,
}

impl Slots {
    pub(super) fn new() -> Self {
        Self { state: Mutex::new(State::default()), changed: Condvar::new() }
    }

    /// A slot for one more camera; `stop` is what ends its capture.
    pub(super) fn add(&self, stop: Stop) -> CameraId {
        let mut state = self.lock();
        state.ids += 1;
        let id = CameraId(state.ids);
        state.lanes.push(Lane::new(id, stop));
        id
    }

    /// What views call the camera and say `about` its source, and where they see how that is doing.
    pub(super) fn introduce(&self, id: CameraId, name: &str, (about, status): (String, Option<Arc<Status>>)) {
        if let Some(lane) = self.lock().lane(id) {
            (lane.name, lane.about, lane.status) = (name.to_owned(), about, status);
        }
    }

    /// Every camera at this moment. Their counters add up.
    pub(super) fn survey(&self) -> Vec<CameraView> {
        let state = self.lock();
        state.lanes.iter().map(|lane| lane.view(state.is_deciding(lane.id))).collect()
    }

    /// Takes a camera out of service: its capture is asked to end, and its waiting frame is dropped. Gives its counters; a frame of it
    /// that is being decided is in flight there, and counted when it is finished.
    pub(super) fn remove(&self, id: CameraId) -> Tally {
        let mut state = self.lock();
        let Some(at) = state.lanes.iter().position(|lane| lane.id == id) else { return Tally::default() };
        let mut lane = state.lanes.remove(at);
        lane.stop.request();
        if lane.waiting.take().is_some() {
            lane.tally.lose(Reason::Newer);
        }
        if at < state.turn {
            state.turn -= 1;
        }
        state.past += lane.tally;
        self.changed.notify_all();
        Tally { in_flight: u64::from(state.is_deciding(id)), ..lane.tally }
    }

    /// A frame to fill: one that has been used, or a new one while there are too few. From now on the source is at work.
    pub(super) fn spare(&self, id: CameraId) -> Frame {
        let mut state = self.lock();
        let used = state.lane(id).and_then(|lane| {
            lane.asked = Some(Instant::now());
            lane.spare.pop()
        });
        used.unwrap_or_else(|| Frame {
            seq: 0,
            name: String::new(),
            captured: Instant::now(),
            picture: Picture::default(),
        })
    }

    /// Gives back a frame that the source had nothing for.
    pub(super) fn give_back(&self, id: CameraId, frame: Frame) {
        if let Some(lane) = self.lock().lane(id) {
            lane.asked = None;
            lane.idle.get_or_insert_with(Instant::now);
            lane.spare.push(frame);
        }
    }

    /// Waits until no frame is waiting; false if the slot is gone, ended or stopped.
    pub(super) fn wait_empty(&self, id: CameraId) -> bool {
        let mut state = self.lock();
        loop {
            let stopped = state.stopped;
            match state.lane(id) {
                Some(lane) if !lane.ended && !stopped => {
                    if lane.waiting.is_none() {
                        return true;
                    }
                }
                _ => return false,
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Numbers `frame` and makes it the one that waits. A frame that was waiting is dropped.
    pub(super) fn put(&self, id: CameraId, mut frame: Frame) {
        let mut state = self.lock();
        let Some(lane) = state.lane(id) else { return };
        (lane.asked, lane.idle) = (None, None);
        frame.seq = lane.tally.captured;
        lane.tally.captured += 1;
        if let Some(older) = lane.waiting.replace(frame) {
            lane.tally.lose(Reason::Newer);
            lane.spare.push(older);
        }
        self.changed.notify_all();
    }

    /// Counts a frame that was captured damaged, and takes its buffers back.
    pub(super) fn put_damaged(&self, id: CameraId, frame: Frame, reason: Reason) {
        if let Some(lane) = self.lock().lane(id) {
            (lane.asked, lane.idle) = (None, None);
            lane.tally.captured += 1;
            lane.tally.lose(reason);
            lane.spare.push(frame);
        }
    }

    /// Waits for a frame to decide; `None` when there will be none. Cameras with a frame that waits take turns. Every frame must be
    /// [`Slots::finish`]ed before the next is waited for.
    pub(super) fn take(&self) -> Option<(CameraId, Frame)> {
        let mut state = self.lock();
        loop {
            if state.stopped {
                return None;
            }
            if let Some(taken) = state.take() {
                self.changed.notify_all();
                return Some(taken);
            }
            if state.lanes.iter().all(|lane| lane.ended) {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// One more frame, of a camera that none is taken of yet, if it waits already.
    pub(super) fn take_too(&self) -> Option<(CameraId, Frame)> {
        let mut state = self.lock();
        let taken = if state.stopped { None } else { state.take() };
        if taken.is_some() {
            self.changed.notify_all();
        }
        taken
    }

    /// Counts what became of a frame that was taken, and takes its buffers back.
    pub(super) fn finish(&self, id: CameraId, frame: Frame, outcome: Outcome) {
        let mut state = self.lock();
        state.deciding.retain(|&(deciding, _)| deciding != id);
        match state.lane(id) {
            Some(lane) => {
                lane.tally.count(outcome);
                if let Outcome::Decided(answer) = outcome {
                    lane.answer = Some(answer);
                }
                lane.spare.push(frame);
            }
            None => state.past.count(outcome),
        }
    }

    /// No more frames come from this camera: the decision goes on until its slot is empty.
    pub(super) fn end(&self, id: CameraId) {
        if let Some(lane) = self.lock().lane(id) {
            lane.ended = true;
            lane.asked = None;
        }
        self.changed.notify_all();
    }

    /// Nothing more is to be captured or decided: every waiter comes back at once. Frames that wait stay in flight.
    pub(super) fn stop(&self) {
        let mut state = self.lock();
        state.stopped = true;
        state.lanes.iter().for_each(|lane| lane.stop.request());
        self.changed.notify_all();
    }

    /// The counters of all cameras at this moment, those that are gone included. They add up.
    pub(super) fn tally(&self) -> Tally {
        let state = self.lock();
        let mut tally = state.past;
        for lane in &state.lanes {
            tally += lane.tally;
            tally.in_flight += u64::from(lane.waiting.is_some());
        }
        tally.in_flight += state.deciding.len() as u64;
        tally
    }

    /// One camera at this moment; `None` when it is gone.
    pub(super) fn look(&self, id: CameraId) -> Option<Look> {
        let mut state = self.lock();
        let deciding = state.is_deciding(id);
        let lane = state.lane(id)?;
        let in_flight = u64::from(lane.waiting.is_some()) + u64::from(deciding);
        Some(Look {
            tally: Tally { in_flight, ..lane.tally },
            answer: lane.answer,
            ended: lane.ended,
            asked: lane.asked.map_or(Duration::ZERO, |since| since.elapsed()),
            idle: lane.idle.map(|since| since.elapsed()),
        })
    }

    /// Whose frame is being decided, and for how long already; the one that was taken first.
    pub(super) fn deciding(&self) -> Option<(CameraId, Duration)> {
        self.lock().deciding.first().map(|&(id, since)| (id, since.elapsed()))
    }

    // A thread that panicked cannot have left the state half-way: nothing in here panics between two changes.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lane(&mut self, id: CameraId) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.id == id)
    }

    fn is_deciding(&self, id: CameraId) -> bool {
        self.deciding.iter().any(|&(deciding, _)| deciding == id)
    }

    /// The frame of the first camera from `turn` on that has one and none that is being decided; the turn passes to the camera after it.
    fn take(&mut self) -> Option<(CameraId, Frame)> {
        let count = self.lanes.len();
        for step in 0..count {
            let at = (self.turn + step) % count;
            let id = self.lanes[at].id;
            if self.is_deciding(id) {
                continue;
            }
            if let Some(frame) = self.lanes[at].waiting.take() {
                self.turn = (at + 1) % count;
                self.deciding.push((id, Instant::now()));
                return Some((id, frame));
            }
        }
        None
    }
}

impl Lane {
    fn new(id: CameraId, stop: Stop) -> Self {
        Self {
            id,
            stop,
            name: String::new(),
            about: String::new(),
            status: None,
            waiting: None,
            spare: Vec::new(),
            tally: Tally::default(),
            ended: false,
            asked: None,
            idle: None,
            answer: None,
        }
    }

    fn view(&self, deciding: bool) -> CameraView {
        let in_flight = u64::from(self.waiting.is_some()) + u64::from(deciding);
        let idle = self.idle.map(|since| since.elapsed());
        let status = self.status.as_deref();
        CameraView {
            name: self.name.clone(),
            about: self.about.clone(),
            tally: Tally { in_flight, ..self.tally },
            state: state(status.map(Status::state), self.ended, idle),
            counts: status.map(Status::counts),
        }
    }
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Decided(Answer { stage, .. }) => {
                self.decided += 1;
                self.fine += u64::from(stage == Stage::Fine);
                self.full += u64::from(stage == Stage::Static);
            }
            Outcome::Failed => self.lose(Reason::Undecided),
        }
    }
}

#[cfg(test)]
#[path = "slot_tests.rs"]
mod tests;
