//! Reads a meter at a steady rate, so that whoever reports never waits for the hardware.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::health::{Health, Watch};
use super::{Energy, Integrator, Meter, Rail, Reading};
use crate::clock::{Clock, Stop};
use crate::episode::Episode;
use crate::error::Result;

/// 20 samples a second: enough for windows of seconds, and cheap enough not to be seen in what is measured.
pub const SAMPLE_PERIOD: Duration = Duration::from_millis(50);

/// What a rail drew.
#[derive(Clone, Debug, PartialEq)]
pub struct RailMean {
    /// The board's name of the rail.
    pub name: String,
    /// Mean power over the window, in milliwatts; `None` where it was not measured.
    pub mean_mw: Option<f64>,
    /// Energy used in the window, in millijoules; `None` where it was not measured.
    pub energy_mj: Option<f64>,
}

/// What was measured in a window.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// The total; `None` where it was not measured.
    pub energy: Option<Energy>,
    /// Every rail.
    pub rails: Vec<RailMean>,
    /// How the meter stood at the window's end.
    pub health: Health,
}

/// All that was sampled.
#[derive(Debug)]
struct Samples {
    start: Instant,
    total: Integrator,
    rails: Vec<(String, Integrator)>,
    watch: Watch,
}

impl Samples {
    fn take(&mut self, at: Instant, reading: Option<Reading>, rails: &[Rail]) {
        if let Some(reading) = reading {
            self.total.push(at, reading);
        }
        let start = self.start;
        if self.rails.len() != rails.len() {
            self.rails = rails.iter().map(|rail| (rail.name.clone(), Integrator::new(start))).collect();
        }
        for ((_, integrator), rail) in self.rails.iter_mut().zip(rails) {
            if let Some(reading) = rail.reading {
                integrator.push(at, reading);
            }
        }
    }

    /// Energies by `of`, of the total and of every rail.
    fn window(&mut self, end: Instant, of: fn(&mut Integrator, Instant) -> Option<Energy>) -> Window {
        let mean = |(name, integrator): &mut (String, Integrator)| {
            let energy = of(integrator, end);
            RailMean {
                name: name.clone(),
                mean_mw: energy.map(|energy| energy.mean_mw),
                energy_mj: energy.map(|energy| energy.energy_mj),
            }
        };
        let rails = self.rails.iter_mut().map(mean).collect();
        Window { energy: of(&mut self.total, end), rails, health: self.watch.health(end) }
    }
}

/// The energy seen so far; filled by [`Monitor::sample`], which needs a thread of its own. Clones see the same energy.
#[derive(Clone, Debug)]
pub struct Monitor {
    samples: Arc<Mutex<Samples>>,
}

impl Monitor {
    /// Windows and run start at `start`.
    pub fn new(start: Instant) -> Self {
        let total = Integrator::new(start);
        Self { samples: Arc::new(Mutex::new(Samples { start, total, rails: Vec::new(), watch: Watch::new(start) })) }
    }

    /// Reads `meter` every [`SAMPLE_PERIOD`] until the stop. A meter that fails is asked again at the next period. A failure and
    /// values that never change are logged once per episode.
    pub fn sample(&self, meter: &mut dyn Meter, clock: &dyn Clock, stop: &Stop) {
        let mut log = Log::default();
        let mut due = clock.now();
        while !clock.sleep_until(due, stop) {
            let at = clock.now();
            // The lock is not held while the hardware takes its time.
            let result = meter.read();
            let answered = clock.now();
            let health = {
                let mut samples = self.lock();
                samples.take(at, result.as_ref().ok().copied(), meter.rails());
                samples.watch.note(answered, result.as_ref().ok().copied(), meter.rails());
                samples.watch.health(answered)
            };
            log.note(&result, health);
            // A slow meter is read less often, never in a burst.
            due = (due + SAMPLE_PERIOD).max(clock.now());
        }
    }

    /// Ends the window at `end` and gives what was measured in it. Never waits for the meter.
    pub fn close(&self, end: Instant) -> Window {
        self.lock().window(end, Integrator::close_window)
    }

    /// As [`Monitor::close`], the total alone; `None` where it was not measured.
    pub fn close_window(&self, end: Instant) -> Option<Energy> {
        self.close(end).energy
    }

    /// What was measured in the whole run up to `end`.
    pub fn whole(&self, end: Instant) -> Window {
        self.lock().window(end, Integrator::run)
    }

    /// As [`Monitor::whole`], the total alone; `None` where it was not measured.
    pub fn run(&self, end: Instant) -> Option<Energy> {
        self.whole(end).energy
    }

    /// Forgets what was seen before `start`: the first window, and the run, start there.
    pub fn restart(&self, start: Instant) {
        let mut samples = self.lock();
        samples.start = start;
        samples.total.restart(start);
        samples.rails.iter_mut().for_each(|(_, rail)| rail.restart(start));
    }

    /// How the meter stands at `now`.
    pub fn health(&self, now: Instant) -> Health {
        self.lock().watch.health(now)
    }

    fn lock(&self) -> MutexGuard<'_, Samples> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line per episode of a meter that fails, or that always says the same.
#[derive(Default)]
struct Log {
    failing: Episode,
    constant: Episode,
}

impl Log {
    fn note(&mut self, result: &Result<Reading>, health: Health) {
        match result {
            Ok(_) => {
                if let Some(failures) = self.failing.recovers() {
                    log::info!("the power meter answers again after {failures} failed readings");
                }
            }
            Err(error) if self.failing.fails() => log::warn!("energy is not measured for now: {error}"),
            Err(_) => {}
        }
        match health {
            Health::Constant(_) if self.constant.fails() => {
                log::warn!("the power meter is {health}; its values count, but it may be stuck");
            }
            Health::Constant(_) => {}
            Health::Good | Health::Failing | Health::Silent(_) => {
                if self.constant.recovers().is_some() {
                    log::info!("the power meter's values change again");
                }
            }
        }
    }
}
