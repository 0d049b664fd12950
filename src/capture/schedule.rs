//! When the frames of a played source are due.

use std::time::{Duration, Instant};

use super::{Options, Pace, Wait};
use crate::error::{Error, Kind, Result};

/// When the frames are due: at multiples of the period after a start, so that lateness does not add up.
pub(super) struct Schedule {
    fps: f64,
    start: Option<Instant>,
    delivered: u64,
    warned: bool,
}

impl Schedule {
    /// `fps` frames a second, the first at once.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a frame rate outside [`Options::FPS`].
    pub(super) fn new(fps: f64) -> Result<Self> {
        if !Options::FPS.contains(&fps) {
            let (low, high) = (Options::FPS.start(), Options::FPS.end());
            let message = format!("cannot play {fps} frames/s: expected {low} to {high}");
            return Err(Error::new(Kind::Usage, message));
        }
        Ok(Self { fps, start: None, delivered: 0, warned: false })
    }

    /// `frames` periods. Saturates far beyond any run.
    fn periods(&self, frames: u64) -> Duration {
        Duration::try_from_secs_f64(frames as f64 / self.fps).unwrap_or(Duration::MAX)
    }

    /// Waits until the next frame is due; false if the wait ended before.
    pub(super) fn wait(&mut self, wait: &Wait<'_>) -> bool {
        let now = wait.clock.now();
        let start = *self.start.get_or_insert(now);
        let due = start.checked_add(self.periods(self.delivered)).unwrap_or(now);
        if now.saturating_duration_since(due) > self.periods(1) {
            // A camera does not deliver the past in a burst: what could not be read in time moves the schedule.
            if !std::mem::replace(&mut self.warned, true) {
                log::warn!("pictures cannot be made ready at {} frames/s: playing them slower", self.fps);
            }
            (self.start, self.delivered) = (Some(now), 0);
        } else if !wait.until(due) {
            return false;
        }
        self.delivered += 1;
        true
    }
}

/// Who sets the pace of a source with this schedule, or with none.
pub(super) fn pace(schedule: Option<&Schedule>) -> Pace {
    if schedule.is_some() { Pace::Live } else { Pace::Pull }
}

/// The same for a person.
pub(super) fn describe(schedule: Option<&Schedule>) -> String {
    match schedule {
        Some(schedule) => format!("{} frames/s, the newest wins", schedule.fps),
        None => "each is decided, as fast as they are taken".to_owned(),
    }
}
