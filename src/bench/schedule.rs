//! Which baseline runs when: the order inside a round, and the fixed schedule of `--paced`.

use std::time::{Duration, Instant};

use serde::Serialize;

/// The four ways to decide a picture that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// One full-resolution pass, 1 + 4g² tokens: what a vision transformer without a cascade does.
    Static,
    /// The coarse pass and the gate, whatever its confidence.
    CoarseOnly,
    /// Both passes on every picture.
    FineAlways,
    /// The gate decides.
    Adaptive,
}

impl Baseline {
    /// All, in the order of the reports; `baseline as usize` is the index here.
    pub const ALL: [Self; 4] = [Self::Static, Self::CoarseOnly, Self::FineAlways, Self::Adaptive];

    /// What it is called in the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::CoarseOnly => "coarse only",
            Self::FineAlways => "fine always",
            Self::Adaptive => "adaptive",
        }
    }
}

/// A small seeded generator (SplitMix64): the same seed gives the same schedule and pictures on every machine.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `limit` (at least 1). The bias of the remainder is far below anything seen here.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next_u64() % limit.max(1) as u64) as usize
    }

    /// Fisher and Yates: every order is equally likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

/// The baselines in the order of one round. A new order each round, so that none profits from what another leaves in the caches
/// or in the processor's clock.
pub fn order(random: &mut Random) -> [Baseline; 4] {
    let mut order = Baseline::ALL;
    random.shuffle(&mut order);
    order
}

/// Starts frames on a fixed schedule.
#[derive(Clone, Debug)]
pub struct Pacer {
    period: Duration,
    due: Instant,
    late: u64,
}

impl Pacer {
    /// `fps` frames a second (above 0), the first at `start`.
    pub fn new(fps: f64, start: Instant) -> Self {
        Self { period: Duration::try_from_secs_f64(1.0 / fps).unwrap_or(Duration::MAX), due: start, late: 0 }
    }

    /// How long to sleep at `now` before the next frame, and moves on. A frame whose time has passed by more than a period is
    /// late: it starts at once, and the schedule goes on from there, never in a burst.
    pub fn wait(&mut self, now: Instant) -> Duration {
        if now.saturating_duration_since(self.due) > self.period {
            self.late += 1;
            self.due = now;
        }
        let wait = self.due.saturating_duration_since(now);
        self.due = self.due.checked_add(self.period).unwrap_or(self.due);
        wait
    }

    /// Frames that started late.
    pub fn late(&self) -> u64 {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_a_baseline_is_its_place_in_the_list() {
        assert!(Baseline::ALL.iter().enumerate().all(|(i, &baseline)| baseline as usize == i));
    }

    #[test]
    fn every_round_runs_each_baseline_once_and_each_comes_first_equally_often() {
        let mut random = Random(1);
        let mut first = [0; 4];
        for _ in 0..4000 {
            let order = order(&mut random);
            assert!(Baseline::ALL.iter().all(|baseline| order.contains(baseline)));
            first[order[0] as usize] += 1;
        }
        // 1000 each; 150 is more than five standard deviations.
        assert!(first.iter().all(|&n: &i32| (n - 1000).abs() < 150), "{first:?}");
        let run = |seed| {
            let mut random = Random(seed);
            [(); 5].map(|()| order(&mut random))
        };
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn paced_frames_start_at_multiples_of_the_period_and_lateness_makes_no_burst() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let ms = Duration::from_millis;
        let mut pacer = Pacer::new(10.0, start);
        assert_eq!(pacer.wait(at(0)), ms(0));
        assert_eq!(pacer.wait(at(30)), ms(70));
        assert_eq!(pacer.wait(at(250)), ms(0), "50 ms behind: at once");
        assert_eq!(pacer.wait(at(260)), ms(40), "and back on the schedule");
        assert_eq!(pacer.late(), 0);
        assert_eq!(pacer.wait(at(900)), ms(0));
        assert_eq!((pacer.wait(at(910)), pacer.late()), (ms(90), 1), "the schedule starts anew at 900");
    }
}
