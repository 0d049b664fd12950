//! What the machine draws before frames flow.

use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use serde::Serialize;

use super::{Energy, Meter, Monitor};
use crate::clock::{Clock, Stop, System};

/// An idle time is measured in parts of about this length, to see how much they scatter.
const PART_S: f64 = 0.5;
/// Fewer parts say nothing of their scatter.
const MIN_PARTS: usize = 3;
/// The baseline counts when at least this share of the parts was measured.
const COVERAGE: f64 = 0.9;

/// The baseline: the machine's draw with the engine loaded and no frame flowing. It holds for the power mode and the clocks that it
/// was measured in.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Idle {
    /// Mean power, in milliwatts.
    pub mean_mw: f64,
    /// Standard error of the mean, in milliwatts.
    pub standard_error_mw: f64,
    /// How long was measured, in seconds.
    pub seconds: f64,
}

impl Idle {
    /// From consecutive parts of `part_s` seconds each; `None` where too little of them was measured.
    pub fn from_parts(parts: &[Option<Energy>], part_s: f64) -> Option<Self> {
        let powers: Vec<f64> = parts.iter().flatten().map(|energy| energy.mean_mw).collect();
        if powers.len() < MIN_PARTS || (powers.len() as f64) < COVERAGE * parts.len() as f64 {
            return None;
        }
        let n = powers.len() as f64;
        let mean_mw = powers.iter().sum::<f64>() / n;
        let variance = powers.iter().map(|mw| (mw - mean_mw).powi(2)).sum::<f64>() / (n - 1.0);
        Some(Self { mean_mw, standard_error_mw: (variance / n).sqrt(), seconds: n * part_s })
    }

    /// What `energy` is beyond idling for as long, in millijoules. Below 0 where the machine drew less than before.
    pub fn net_mj(&self, energy: Energy) -> f64 {
        match energy.mean_mw > 0.0 {
            // The window's length follows from its energy and its mean.
            true => energy.energy_mj * (1.0 - self.mean_mw / energy.mean_mw),
            false => 0.0,
        }
    }
}

/// A reading that takes so much longer than the measurement hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Measures the idle baseline for `duration`, before frames flow, and gives `meter` back. The meter is read in a thread of its own; one
/// that hangs is left behind there, and both results are `None`.
pub fn measure_idle(
    mut meter: Box<dyn Meter>,
    duration: Duration,
    stop: &Stop,
) -> (Option<Box<dyn Meter>>, Option<Idle>) {
    let (monitor, over, name) = (Monitor::new(System.now()), Stop::new(), meter.describe());
    let (give_back, back) = bounded(1);
    let (samples, ends) = (monitor.clone(), over.clone());
    let started = std::thread::Builder::new().name("idle".to_owned()).spawn(move || {
        samples.sample(meter.as_mut(), &System, &ends);
        // Nobody waits any more for a meter that was left behind.
        let _ = give_back.send(meter);
    });
    let idle = started.ok().and_then(|_| monitor.measure_idle(&System, duration, stop));
    over.request();
    let meter = back.recv_timeout(PATIENCE).ok();
    if meter.is_none() {
        log::warn!("energy is not measured: {name} does not answer");
    }
    (meter, idle)
}

impl Monitor {
    /// Measures the idle baseline for `duration` from now on, while another thread samples and no frame flows; then windows and run
    /// start anew. Ends early at the stop. `None` where `duration` is too short (below half a second) or the meter does not answer.
    pub fn measure_idle(&self, clock: &dyn Clock, duration: Duration, stop: &Stop) -> Option<Idle> {
        let parts = (duration.as_secs_f64() / PART_S) as usize;
        if parts == 0 {
            return None;
        }
        let parts = parts.max(MIN_PARTS);
        let part = duration.div_f64(parts as f64);
        let mut end: Instant = clock.now();
        self.restart(end);
        let mut measured = Vec::with_capacity(parts);
        while measured.len() < parts {
            end += part;
            if clock.sleep_until(end, stop) {
                return None;
            }
            measured.push(self.close_window(end));
        }
        self.restart(clock.now());
        Idle::from_parts(&measured, part.as_secs_f64())
    }
}
