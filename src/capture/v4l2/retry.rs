//! When a camera that is away is tried again. Pure.

use std::time::{Duration, Instant};

/// The first pause.
const SHORTEST: Duration = Duration::from_millis(250);
/// The longest pause: what every further one is.
const LONGEST: Duration = Duration::from_secs(5);
/// Between two attempts lies at least this, whatever happens to the node.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// A camera that gave frames for so long is not the one that came and went at once.
const STEADY: Duration = Duration::from_secs(10);

/// Pauses that double from 0.25 to 5 s. A node that comes or changes is tried at once.
#[derive(Debug)]
pub struct Retry {
    pause: Duration,
    next: Instant,
    last: Option<Instant>,
    up_since: Option<Instant>,
}

impl Retry {
    /// The first attempt is due at once.
    pub fn new(now: Instant) -> Self {
        Self { pause: SHORTEST, next: now, last: None, up_since: None }
    }

    /// When the next attempt is due.
    pub fn due(&self) -> Instant {
        self.next
    }

    /// An attempt begins.
    pub fn begin(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// Frames come since `now`.
    pub fn note_up(&mut self, now: Instant) {
        self.up_since = Some(now);
    }

    /// The attempt failed, or frames stopped: pauses before the next attempt.
    pub fn note_down(&mut self, now: Instant) {
        if self.up_since.take().is_some_and(|since| now.saturating_duration_since(since) >= STEADY) {
            self.pause = SHORTEST;
        }
        self.next = now + self.pause;
        self.pause = (2 * self.pause).min(LONGEST);
    }

    /// The node came or changed: the next attempt is due, unless the last one has just been.
    pub fn hurry(&mut self, now: Instant) {
        self.pause = SHORTEST;
        let earliest = self.last.map_or(now, |last| last + DEBOUNCE);
        self.next = self.next.min(earliest.max(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_seconds_and_steady_frames_start_anew() {
        let mut now = Instant::now();
        let mut retry = Retry::new(now);
        assert_eq!(retry.due(), now);
        let mut pauses = Vec::new();
        let mut fail = |retry: &mut Retry, now: &mut Instant| {
            retry.begin(*now);
            retry.note_down(*now);
            pauses.push((retry.due() - *now).as_millis());
            *now = retry.due();
        };
        (0..7).for_each(|_| fail(&mut retry, &mut now));
        retry.note_up(now);
        now += Duration::from_secs(1);
        fail(&mut retry, &mut now);
        retry.note_up(now);
        now += Duration::from_secs(60);
        fail(&mut retry, &mut now);
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 5000, 5000, 5000, 250]);
    }

    #[test]
    fn a_change_of_the_node_is_tried_at_once_but_not_ever_again() {
        let now = Instant::now();
        let mut retry = Retry::new(now);
        (0..9).for_each(|_| retry.note_down(now));
        retry.begin(now);
        retry.hurry(now);
        assert_eq!(retry.due() - now, DEBOUNCE);
        let later = now + Duration::from_secs(1);
        retry.note_down(now);
        retry.hurry(later);
        assert_eq!(retry.due(), later.min(now + SHORTEST).max(now + SHORTEST), "never later than it was");
    }
}
