//! The machine's arithmetic peak, timed on the engine's own threads.

use std::time::{Duration, Instant};

use crate::engine::Engine;

/// One timing: long beside the start of a parallel step, and short beside the turns that a scheduler gives, so that a thread that loses its
/// core spoils some of them and not all.
const SLICE: Duration = Duration::from_millis(1);
/// All of them together.
const TOTAL: Duration = Duration::from_millis(150);

/// The best rate of multiply-adds in 10^9 floating-point operations a second (a multiply-add is two) over at least 150 ms; `None` where the
/// engine has no such measure.
pub fn gflops(engine: &mut dyn Engine) -> Option<f64> {
    let mut time = |rounds| {
        let start = Instant::now();
        let flops = engine.peak_flops(rounds)?;
        Some((flops as f64, start.elapsed()))
    };
    let mut rounds = 1000;
    // Threads may sleep: the first timings only find how many rounds a slice takes.
    while time(rounds)?.1 < SLICE && rounds < 1 << 40 {
        rounds *= 2;
    }
    let (start, mut best) = (Instant::now(), 0.0f64);
    while start.elapsed() < TOTAL {
        let (flops, elapsed) = time(rounds)?;
        best = best.max(flops / elapsed.as_secs_f64().max(1e-9) / 1e9);
    }
    Some(best)
}
