//! The machine while a series runs: windows of a second or more, so that a part that was throttled can be told from the rest.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::machine::{Change, State};
use super::measure::Samples;
use super::schedule::Baseline;
use super::stats::percentile;

/// The shortest window: looking at the machine costs some dozens of small reads, which cool the caches of the next frame.
const SHORTEST: Duration = Duration::from_secs(1);
/// A series has at most about so many windows.
const MOST: u32 = 60;

/// A part of the series.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Window {
    /// Seconds from the series' begin to the window's end.
    pub end_s: f64,
    /// Rounds in it.
    pub rounds: usize,
    /// The median static frame in it, in milliseconds: the baseline whose work is always the same.
    pub static_ms: f64,
    /// Mean clock of the processors at its end, in MHz; `null` where it is not known, as with all of these.
    pub clock_mhz: Option<f64>,
    /// Clock of the GPU at its end, in MHz.
    pub gpu_clock_mhz: Option<f64>,
    /// The hottest thermal zone at its end, in °C.
    pub hottest_celsius: Option<f64>,
    /// Whether anything held the clocks back: at its end, or counted by the kernel in it. `null` where nothing tells.
    pub throttled: Option<bool>,
    /// What held them back at its end.
    pub limited_by: Vec<String>,
}

impl Window {
    /// The window that ends `end_s` after the series' begin, between two states of the machine, with these times of static frames.
    fn new(end_s: f64, (before, after): (&State, &State), static_ms: &[f64]) -> Self {
        let mut sorted = static_ms.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let change = Change::between(before, after);
        let counted = [change.throttled, change.over_current];
        let events = counted.iter().flatten().any(|&events| events > 0);
        let held = events || !after.limited_by.is_empty();
        // Boards that list what limits them know their zones; a machine without zones and counters tells nothing.
        let tells = !after.zones_celsius.is_empty() || counted.iter().any(Option::is_some);
        Self {
            end_s,
            rounds: static_ms.len(),
            static_ms: percentile(&sorted, 50.0).unwrap_or_default(),
            clock_mhz: after.clock_mhz,
            gpu_clock_mhz: after.gpu_clock_mhz,
            hottest_celsius: after.hottest_celsius,
            throttled: (held || tells).then_some(held),
            limited_by: after.limited_by.clone(),
        }
    }
}

/// Looks at the machine between rounds.
pub struct Watch {
    root: PathBuf,
    start: Instant,
    due: Instant,
    period: Duration,
    seen: usize,
    last: State,
    windows: Vec<Window>,
}

impl Watch {
    /// From now on, for a series of about `seconds`; `first` is the state of the machine beneath `root` (`/`).
    pub fn new(root: &Path, first: &State, seconds: f64) -> Self {
        let period = Duration::try_from_secs_f64(seconds / f64::from(MOST)).unwrap_or(SHORTEST).max(SHORTEST);
        let start = Instant::now();
        let (root, last, windows) = (root.to_owned(), first.clone(), Vec::new());
        Self { root, start, due: start + period, period, seen: 0, last, windows }
    }

    /// Ends a window where one is due.
    pub fn between(&mut self, samples: &Samples) {
        let now = Instant::now();
        if now >= self.due {
            self.end_window(now, State::read(&self.root), samples);
        }
    }

    fn end_window(&mut self, now: Instant, state: State, samples: &Samples) {
        let times = samples.frames[Baseline::Static as usize].get(self.seen..).unwrap_or_default();
        if times.is_empty() {
            return;
        }
        let end_s = now.saturating_duration_since(self.start).as_secs_f64();
        self.windows.push(Window::new(end_s, (&self.last, &state), times));
        self.seen += times.len();
        (self.last, self.due) = (state, now + self.period);
    }

    /// The windows, the last of them ended by `after`, the state at the series' end.
    pub fn finish(mut self, after: &State, samples: &Samples) -> Vec<Window> {
        self.end_window(Instant::now(), after.clone(), samples);
        self.windows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(static_ms: &[f64]) -> Samples {
        Samples { frames: [static_ms.to_vec(), vec![], vec![], vec![]], ..Samples::default() }
    }

    #[test]
    fn each_window_has_its_own_rounds_and_says_whether_it_was_throttled() {
        let hot = State { limited_by: vec!["gpu-throttle-alert".into()], ..State::default() };
        let counted = |throttled| State { throttled: Some(throttled), ..State::default() };
        let mut watch = Watch::new(Path::new("/nowhere"), &State::default(), 3.0);
        let start = watch.start;
        let at = |s| start + Duration::from_secs(s);
        watch.end_window(at(1), State::default(), &samples(&[2.0, 3.0, 4.0]));
        watch.end_window(at(1), State::default(), &samples(&[2.0, 3.0, 4.0]));
        watch.end_window(at(2), hot, &samples(&[2.0, 3.0, 4.0, 9.0]));
        watch.end_window(at(3), counted(5), &samples(&[2.0, 3.0, 4.0, 9.0, 7.0]));
        let windows = watch.finish(&counted(6), &samples(&[2.0, 3.0, 4.0, 9.0, 7.0, 8.0]));
        let found: Vec<_> = windows.iter().map(|w| (w.rounds, w.static_ms, w.throttled)).collect();
        let expected = [(3, 3.0, None), (1, 9.0, Some(true)), (1, 7.0, None), (1, 8.0, Some(true))];
        assert_eq!(found, expected, "a window without rounds is none; a counter needs two readings");
        assert_eq!(windows[1].end_s, 2.0);
        assert_eq!(windows[1].limited_by, ["gpu-throttle-alert"]);
    }

    #[test]
    fn long_series_have_long_windows() {
        let period = |seconds| Watch::new(Path::new("/nowhere"), &State::default(), seconds).period.as_secs();
        assert_eq!([period(0.2), period(30.0), period(3600.0)], [1, 1, 60]);
    }
}
