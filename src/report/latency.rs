//! The time from capture to decision, in histograms of bounded memory.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::error::{Error, Kind, Result};

/// Longer latencies count as this one: an hour, in microseconds.
const MAX_US: u64 = 3_600_000_000;
/// Three significant digits: no latency is off by more than 0.1 %.
const DIGITS: u8 = 3;

fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, MAX_US, DIGITS)
        .map_err(|cause| Error::caused(Kind::Engine, "cannot make a latency histogram", cause))
}

/// Takes the latencies of the current window. The lock is held for one increment.
#[derive(Debug)]
pub struct Recorder(Mutex<Histogram<u64>>);

impl Recorder {
    /// Empty.
    ///
    /// # Errors
    /// Never, with the bounds above; the histogram's constructor can fail.
    pub fn new() -> Result<Self> {
        Ok(Self(Mutex::new(histogram()?)))
    }

    /// Adds one latency.
    pub fn record(&self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(MAX_US);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(us);
    }
}

/// The windows' latencies, collected from a [`Recorder`], and those of the whole run.
#[derive(Debug)]
pub struct Latencies {
    run: Histogram<u64>,
    /// Changes places with the recorder's at the end of each window.
    window: Histogram<u64>,
}

impl Latencies {
    /// Empty.
    ///
    /// # Errors
    /// As [`Recorder::new`].
    pub fn new() -> Result<Self> {
        Ok(Self { run: histogram()?, window: histogram()? })
    }

    /// Ends the window: its percentiles, or `None` if nothing was decided in it.
    pub fn close_window(&mut self, recorder: &Recorder) -> Option<Percentiles> {
        self.window.reset();
        std::mem::swap(&mut self.window, &mut *recorder.0.lock().unwrap_or_else(PoisonError::into_inner));
        // Histograms with the same bounds can always be added.
        let _ = self.run.add(&self.window);
        Percentiles::of(&self.window)
    }

    /// The percentiles of the windows that `others` closed last, put together; `None` if nothing was decided in them.
    pub fn window_of<'a>(&mut self, others: impl Iterator<Item = &'a Latencies>) -> Option<Percentiles> {
        self.window.reset();
        for other in others {
            let _ = self.window.add(&other.window);
        }
        Percentiles::of(&self.window)
    }

    /// Adds the windows that `other` has closed so far to the run.
    pub fn add_run(&mut self, other: &Latencies) {
        let _ = self.run.add(&other.run);
    }

    /// The percentiles of the windows closed so far.
    pub fn run(&self) -> Option<Percentiles> {
        Percentiles::of(&self.run)
    }
}

/// Latencies in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percentiles {
    /// How many latencies these are.
    pub count: u64,
    /// Half of the frames took no longer.
    pub p50_ms: f64,
    /// 95 % of the frames took no longer.
    pub p95_ms: f64,
    /// 99 % of the frames took no longer.
    pub p99_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl Percentiles {
    fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        (!histogram.is_empty()).then(|| Self {
            count: histogram.len(),
            p50_ms: ms(0.5),
            p95_ms: ms(0.95),
            p99_ms: ms(0.99),
            max_ms: histogram.max() as f64 / 1e3,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_apart_and_the_run_is_their_sum() {
        let (recorder, mut latencies) = (Recorder::new().unwrap(), Latencies::new().unwrap());
        assert_eq!(latencies.close_window(&recorder), None);
        (1..=100).for_each(|ms| recorder.record(Duration::from_millis(ms)));
        let first = latencies.close_window(&recorder).unwrap();
        let near = |found: f64, truth: f64| (found / truth - 1.0).abs() < 1e-3;
        assert!(near(first.p50_ms, 50.0) && near(first.p95_ms, 95.0) && near(first.p99_ms, 99.0), "{first:?}");
        assert!(near(first.max_ms, 100.0));
        recorder.record(Duration::from_millis(500));
        let second = latencies.close_window(&recorder).unwrap();
        assert!(second.count == 1 && near(second.p50_ms, 500.0));
        assert_eq!(latencies.close_window(&recorder), None);
        let run = latencies.run().unwrap();
        assert!(run.count == 101 && near(run.max_ms, 500.0));
    }

    #[test]
    fn latencies_of_several_cameras_are_put_together() {
        let mut all = Latencies::new().unwrap();
        let cameras: Vec<Latencies> = [10, 1000]
            .map(|ms| {
                let (recorder, mut latencies) = (Recorder::new().unwrap(), Latencies::new().unwrap());
                recorder.record(Duration::from_millis(ms));
                latencies.close_window(&recorder);
                all.add_run(&latencies);
                latencies
            })
            .into();
        let window = all.window_of(cameras.iter()).unwrap();
        assert!(window.count == 2 && window.max_ms > 990.0 && window.p50_ms < 11.0, "{window:?}");
        assert_eq!(all.run(), Some(window));
        assert_eq!(all.window_of(std::iter::empty()), None);
    }

    #[test]
    fn absurd_latencies_saturate() {
        let (recorder, mut latencies) = (Recorder::new().unwrap(), Latencies::new().unwrap());
        recorder.record(Duration::ZERO);
        recorder.record(Duration::MAX);
        let window = latencies.close_window(&recorder).unwrap();
        assert!(window.count == 2 && window.max_ms >= 3.59e6);
    }
}
