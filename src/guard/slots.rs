//! Which frame of a slot is audited: the first one at or after an instant drawn beforehand, so that nothing in the scene decides it.

use std::time::{Duration, Instant};

use crate::bench::schedule::Random;

/// Time cut into slots, each with a random instant.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    length: Duration,
    random: Random,
    /// Where the current slot starts; `None` before the first frame.
    start: Option<Instant>,
    due: Instant,
    taken: bool,
    missed: u64,
}

impl Slots {
    /// Slots of `length` (above 0); the first one starts with the first frame.
    pub(super) fn new(length: Duration, seed: u64) -> Self {
        Self { length, random: Random(seed), start: None, due: Instant::now(), taken: false, missed: 0 }
    }

    /// Whether the frame decided at `now` is the one of its slot.
    pub(super) fn pick(&mut self, now: Instant) -> bool {
        let start = match self.start {
            None => self.enter(now),
            Some(start) => {
                let passed = now.saturating_duration_since(start).as_nanos() / self.length.as_nanos().max(1);
                match u32::try_from(passed) {
                    Ok(0) => start,
                    Ok(passed) => {
                        self.missed += u64::from(passed) - u64::from(self.taken);
                        self.enter(start + self.length * passed)
                    }
                    // Longer than anybody waits: begin anew.
                    Err(_) => self.enter(now),
                }
            }
        };
        self.start = Some(start);
        let picked = !self.taken && now >= self.due;
        self.taken |= picked;
        picked
    }

    /// Slots that ended without a frame at or after their instant, since the last call.
    pub(super) fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }

    fn enter(&mut self, start: Instant) -> Instant {
        let part = (self.random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        (self.due, self.taken) = (start + self.length.mul_f64(part), false);
        start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_frame_of_each_slot_at_any_place_in_it() {
        let (mut slots, start) = (Slots::new(Duration::from_secs(10), 1), Instant::now());
        let mut picked: Vec<f64> = Vec::new();
        // 20 frames/s for 400 slots.
        for i in 0..80_000_u32 {
            let at = Duration::from_millis(50) * i;
            if slots.pick(start + at) {
                picked.push(at.as_secs_f64());
            }
        }
        let slot = |at: f64| (at / 10.0) as usize;
        assert!(picked.windows(2).all(|pair| slot(pair[0]) < slot(pair[1])), "never two of a slot");
        let missed = slots.take_missed();
        assert_eq!(picked.len() as u64 + missed, 400, "{missed}");
        assert!(missed <= 8, "only where the instant lies behind the slot's last frame: {missed}");
        let mean = picked.iter().map(|at| at % 10.0).sum::<f64>() / picked.len() as f64;
        // Uniform: 5 ± 3 · 2.9/√400.
        assert!((mean - 5.0).abs() < 0.45, "{mean}");
    }

    #[test]
    fn slots_without_frames_are_counted_and_a_long_pause_does_no_harm() {
        let (mut slots, start) = (Slots::new(Duration::from_secs(1), 2), Instant::now());
        slots.pick(start);
        slots.pick(start + Duration::from_secs(10));
        let missed = slots.take_missed();
        assert!((9..=10).contains(&missed), "{missed}");
        assert_eq!(slots.take_missed(), 0);
        let mut fast = Slots::new(Duration::from_nanos(1), 3);
        fast.pick(start);
        fast.pick(start + Duration::from_secs(3600));
    }
}
