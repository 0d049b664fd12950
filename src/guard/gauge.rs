//! The power that the machine draws, for the decision thread: measured beside it, read without waiting or allocating.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::power::Monitor;

/// A mean over less than this is that of a few readings.
const SHORTEST: Duration = Duration::from_secs(1);

/// The newest mean power. Clones show the same.
#[derive(Clone, Debug)]
pub(super) struct Power(Arc<AtomicU64>);

impl Power {
    /// In milliwatts; `None` where it was not measured.
    pub(super) fn mean_mw(&self) -> Option<f64> {
        Some(f64::from_bits(self.0.load(Ordering::Relaxed))).filter(|mw| !mw.is_nan())
    }
}

/// Keeps a [`Power`] up to date.
#[derive(Debug)]
pub(super) struct Gauge {
    monitor: Monitor,
    newest: Arc<AtomicU64>,
    since: Instant,
}

impl Gauge {
    /// Of what `monitor` sees from `now` on.
    pub(super) fn new(monitor: Monitor, now: Instant) -> Self {
        monitor.close_window(now);
        Self { monitor, newest: Arc::new(AtomicU64::new(f64::NAN.to_bits())), since: now }
    }

    /// What it shows.
    pub(super) fn power(&self) -> Power {
        Power(Arc::clone(&self.newest))
    }

    /// To be called now and then: from time to time the mean since the last time is the newest one.
    pub(super) fn tick(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) >= SHORTEST {
            self.since = now;
            let mw = self.monitor.close_window(now).map_or(f64::NAN, |energy| energy.mean_mw);
            self.newest.store(mw.to_bits(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Simulated, Stop};
    use crate::error::{Error, Kind, Result};
    use crate::power::{Meter, Reading};

    /// Draws 5 W for three seconds, then cannot be read.
    struct Failing<'a> {
        clock: &'a Simulated,
        start: Instant,
        stop: &'a Stop,
        gauge: &'a mut Gauge,
        seen: Vec<Option<f64>>,
    }

    impl Meter for Failing<'_> {
        fn read(&mut self) -> Result<Reading> {
            let now = self.clock.now();
            self.gauge.tick(now);
            self.seen.push(self.gauge.power().mean_mw());
            match now - self.start {
                t if t < Duration::from_secs(3) => Ok(Reading::PowerMw(5000.0)),
                t => {
                    if t > Duration::from_secs(6) {
                        self.stop.request();
                    }
                    Err(Error::new(Kind::Io, "gone"))
                }
            }
        }

        fn describe(&self) -> String {
            "failing".into()
        }
    }

    #[test]
    fn the_newest_mean_is_shown_and_none_where_nothing_was_measured() {
        let (clock, stop) = (Simulated::new(), Stop::new());
        let (start, monitor) = (clock.now(), Monitor::new(clock.now()));
        let mut gauge = Gauge::new(monitor.clone(), start);
        let mut meter = Failing { clock: &clock, start, stop: &stop, gauge: &mut gauge, seen: Vec::new() };
        monitor.sample(&mut meter, &clock, &stop);
        let seen = meter.seen;
        assert_eq!((seen[0], seen.last()), (None, Some(&None)));
        let measured = seen.iter().flatten().count();
        // From the first second to the fourth, a reading every 50 ms.
        assert!((40..=65).contains(&measured) && seen.iter().flatten().all(|mw| (mw - 5000.0).abs() < 1.0), "{seen:?}");
    }
}
