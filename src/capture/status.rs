//! How a source is doing, for threads that only watch: the report, the service manager's watchdog.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::Damage;

/// Whether frames come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Never seen so far: the run began without it.
    Waiting,
    /// Frames come.
    Up,
    /// It was there, is away, and is being looked for.
    Lost,
}

impl State {
    /// `"waiting"`, `"up"` or `"lost"`: the word in logs and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Up => "up",
            State::Lost => "lost",
        }
    }
}

/// The state and the counters of one source. One thread writes, any may read; each value is right by itself, together they may be a frame
/// apart.
#[derive(Debug)]
pub struct Status {
    /// All instants are kept as nanoseconds after this one.
    epoch: Instant,
    state: AtomicU8,
    beat_ns: AtomicU64,
    /// 0: no frame yet.
    frame_ns: AtomicU64,
    reconnects: AtomicU64,
    corrupt: AtomicU64,
    short: AtomicU64,
    skipped: AtomicU64,
    superseded: AtomicU64,
}

/// What a source has counted since it was opened. None of these frames is one of [`super::Event::Frame`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often the source came back after it was lost.
    pub reconnects: u64,
    /// Frames that the driver flagged as damaged or that could not be decoded. Each was an [`super::Event::Failed`].
    pub corrupt: u64,
    /// Frames with fewer bytes than their format takes. Each was an [`super::Event::Failed`].
    pub short: u64,
    /// Frames that the driver dropped before anybody saw them: gaps in its numbering.
    pub skipped: u64,
    /// Frames passed over because a newer one was there already.
    pub superseded: u64,
}

impl Default for Status {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            epoch: Instant::now(),
            state: AtomicU8::new(State::Waiting as u8),
            beat_ns: zero(),
            frame_ns: zero(),
            reconnects: zero(),
            corrupt: zero(),
            short: zero(),
            skipped: zero(),
            superseded: zero(),
        }
    }
}

impl Status {
    /// Whether frames come.
    pub fn state(&self) -> State {
        match self.state.load(Relaxed) {
            0 => State::Waiting,
            1 => State::Up,
            _ => State::Lost,
        }
    }

    /// The counters.
    pub fn counts(&self) -> Counts {
        Counts {
            reconnects: self.reconnects.load(Relaxed),
            corrupt: self.corrupt.load(Relaxed),
            short: self.short.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            superseded: self.superseded.load(Relaxed),
        }
    }

    /// When the source's thread last showed that it is not stuck in a driver. It does so before and after every wait, at least every
    /// 100 ms also while the source is away, unless a call into the driver hangs.
    pub fn last_beat(&self) -> Instant {
        self.epoch + Duration::from_nanos(self.beat_ns.load(Relaxed))
    }

    /// When the last good frame was taken out of the driver, if any was.
    pub fn last_frame(&self) -> Option<Instant> {
        let after_ns = self.frame_ns.load(Relaxed);
        (after_ns != 0).then(|| self.epoch + Duration::from_nanos(after_ns))
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Relaxed);
    }

    pub(super) fn beat(&self) {
        self.beat_ns.store(self.after_epoch_ns(), Relaxed);
    }

    pub(super) fn note_frame(&self) {
        self.frame_ns.store(self.after_epoch_ns().max(1), Relaxed);
    }

    pub(super) fn note_reconnect(&self) {
        self.reconnects.fetch_add(1, Relaxed);
    }

    pub(super) fn note_damage(&self, damage: Damage) {
        match damage {
            Damage::Short => self.short.fetch_add(1, Relaxed),
            Damage::Corrupt | Damage::Unreadable => self.corrupt.fetch_add(1, Relaxed),
        };
    }

    pub(super) fn note_skipped(&self, frames: u64) {
        self.skipped.fetch_add(frames, Relaxed);
    }

    pub(super) fn note_superseded(&self, frames: u64) {
        self.superseded.fetch_add(frames, Relaxed);
    }

    fn after_epoch_ns(&self) -> u64 {
        // 584 years.
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_told() {
        let status = Status::default();
        assert_eq!((status.state(), status.last_frame(), status.counts()), (State::Waiting, None, Counts::default()));
        for state in [State::Up, State::Lost, State::Waiting] {
            status.set_state(state);
            assert_eq!(status.state(), state);
        }
        let before = Instant::now();
        status.beat();
        status.note_frame();
        assert!(status.last_beat() >= before && status.last_frame().unwrap() >= before);
        status.note_damage(Damage::Corrupt);
        status.note_damage(Damage::Short);
        status.note_damage(Damage::Short);
        status.note_reconnect();
        status.note_skipped(7);
        status.note_superseded(3);
        let expected = Counts { reconnects: 1, corrupt: 1, short: 2, skipped: 7, superseded: 3 };
        assert_eq!(status.counts(), expected);
    }
}
