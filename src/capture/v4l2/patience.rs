//! How long a camera may be silent before it counts as lost. Pure.

use std::time::{Duration, Instant};

/// A camera is lost after so many frame periods without a frame.
const PERIODS: u32 = 3;
/// But not before this.
const SHORTEST: Duration = Duration::from_millis(250);
/// The first frame may take so long: cameras switch their sensors on.
const FIRST: Duration = Duration::from_secs(5);
/// So many frames come irregularly, while the camera sets its exposure.
const SETTLING: u32 = 8;
/// Meanwhile.
const WHILE_SETTLING: Duration = Duration::from_secs(1);
/// A gap that says nothing about the period.
const LONGEST_GAP: Duration = Duration::from_secs(5);

/// Knows the period that the driver tells and the one that frames really have: in the dark cameras take longer than they say.
#[derive(Debug)]
pub struct Patience {
    told: Duration,
    mean: Duration,
    frames: u32,
    last: Option<Instant>,
}

impl Patience {
    /// For a driver that tells the period `told`.
    pub fn new(told: Duration) -> Self {
        Self { told, mean: told, frames: 0, last: None }
    }

    /// A frame was taken at `captured`. Frames come in their order; several may be noted at once.
    pub fn note(&mut self, captured: Instant) {
        self.frames = self.frames.saturating_add(1);
        let gap = self.last.replace(captured).and_then(|last| captured.checked_duration_since(last));
        if let Some(gap) = gap.filter(|&gap| !gap.is_zero() && gap <= LONGEST_GAP) {
            // An eighth of the way to the newest.
            self.mean = (self.mean * 7 + gap) / 8;
        }
    }

    /// Whether no frame came yet.
    pub fn is_first(&self) -> bool {
        self.frames == 0
    }

    /// How long the next frame may take.
    pub fn length(&self) -> Duration {
        let usual = self.told.max(self.mean).saturating_mul(PERIODS).max(SHORTEST);
        match self.frames {
            0 => usual.max(FIRST),
            1..SETTLING => usual.max(WHILE_SETTLING),
            _ => usual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// After `frames` frames with a `gap` between them.
    fn after(told: Duration, frames: u32, gap: Duration) -> Patience {
        let (mut patience, start) = (Patience::new(told), Instant::now());
        (0..frames).for_each(|frame| patience.note(start + gap * frame));
        patience
    }

    #[test]
    fn three_periods_but_a_quarter_of_a_second_at_least() {
        assert_eq!(after(33 * MS, 100, 33 * MS).length(), 250 * MS);
        assert_eq!(after(200 * MS, 100, 200 * MS).length(), 600 * MS);
        assert_eq!(after(200 * MS, 100, 20 * MS).length(), 600 * MS, "faster than it says");
    }

    #[test]
    fn the_first_frames_may_take_longer() {
        let first = Patience::new(33 * MS);
        assert!(first.is_first() && first.length() == FIRST);
        assert_eq!(after(33 * MS, 1, MS).length(), WHILE_SETTLING);
        assert_eq!(after(33 * MS, SETTLING, 33 * MS).length(), 250 * MS);
        assert_eq!(
            Patience::new(Duration::from_secs(10)).length(),
            Duration::from_secs(30),
            "one frame in ten seconds"
        );
    }

    #[test]
    fn a_camera_slower_than_it_says_is_borne_with() {
        let length = after(33 * MS, 60, 200 * MS).length();
        assert!(length > 590 * MS && length <= 600 * MS, "{length:?}");
        let mut quick = after(33 * MS, 60, 200 * MS);
        let start = Instant::now() + Duration::from_secs(3600);
        (0..60).for_each(|frame| quick.note(start + 33 * MS * frame));
        assert_eq!(quick.length(), 250 * MS, "the hour between counts for nothing");
    }

    #[test]
    fn stamps_that_stand_still_or_go_back_say_nothing() {
        let (mut patience, now) = (Patience::new(33 * MS), Instant::now());
        (0..50).for_each(|n| patience.note(now - MS * (n % 3)));
        assert!(patience.length() <= 250 * MS);
    }
}
