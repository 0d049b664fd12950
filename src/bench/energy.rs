//! Energy per frame: blocks of one baseline after the other, because a meter sees seconds and not frames.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::measure::Runner;
use super::schedule::{Baseline, Random, order};
use super::stats::{Summary, mean, paired_difference};
use super::verdict::Saving;
use crate::clock::{Stop, System};
use crate::error::Result;
use crate::frame::Picture;
use crate::power::{Meter, Monitor};

/// What a baseline draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Draw {
    /// Mean power, in milliwatts.
    pub mean_mw: f64,
    /// Energy of one frame, in millijoules, the machine's idle power included.
    pub mj_per_frame: f64,
    /// Half the width of its 95 % interval, in millijoules, blocks being the unit; `null` for fewer than two blocks.
    #[serde(default)]
    pub mj_half: Option<f64>,
}

/// The energy of all baselines.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Energy {
    /// The meter.
    pub meter: String,
    /// Blocks of each baseline.
    pub blocks: usize,
    /// The static baseline.
    pub r#static: Draw,
    /// Coarse only.
    pub coarse_only: Draw,
    /// Fine always.
    pub fine_always: Draw,
    /// Adaptive.
    pub adaptive: Draw,
    /// What the adaptive path saves, in millijoules; the unit is the block. `None` for fewer than two blocks.
    #[serde(skip)]
    pub saving: Option<Saving>,
}

/// How long to measure energy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blocks {
    /// Blocks of each baseline; they alternate in a shuffled order.
    pub count: usize,
    /// How long each lasts.
    pub duration: Duration,
    /// Of the order.
    pub seed: u64,
}

/// Energy and power of one block.
type Block = Option<Draw>;

/// Runs `blocks` back to back on `pictures`, each block from the first picture on. `None` where the meter did not measure all of them: no
/// sample, no joule.
///
/// # Errors
/// As [`Runner::frame`].
pub fn measure(
    runner: &mut Runner,
    pictures: &[Picture],
    mut meter: Box<dyn Meter>,
    blocks: Blocks,
) -> Result<Option<Energy>> {
    let name = meter.describe();
    let (monitor, stop) = (Monitor::new(Instant::now()), Stop::new());
    let measured = std::thread::scope(|scope| {
        scope.spawn(|| monitor.sample(meter.as_mut(), &System, &stop));
        // Also where the runner panics: the scope waits for the sampler.
        let _stop = StopAtEnd(&stop);
        alternate(runner, pictures, &monitor, blocks)
    })?;
    let of = |baseline: Baseline| -> Option<Vec<Draw>> { measured[baseline as usize].iter().copied().collect() };
    let all: Option<Vec<Vec<Draw>>> = Baseline::ALL.into_iter().map(of).collect();
    Ok(all.and_then(|all| summarise(name, &all)))
}

/// Requests the stop when it goes.
struct StopAtEnd<'a>(&'a Stop);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.request();
    }
}

/// The blocks of each baseline, in the order that they ran.
fn alternate(runner: &mut Runner, pictures: &[Picture], monitor: &Monitor, blocks: Blocks) -> Result<[Vec<Block>; 4]> {
    let mut random = Random(blocks.seed);
    let mut measured: [Vec<Block>; 4] = Default::default();
    for baseline in (0..blocks.count).flat_map(|_| order(&mut random)) {
        let start = Instant::now();
        monitor.close_window(start);
        let mut frames = 0;
        for picture in pictures.iter().cycle() {
            runner.frame(baseline, picture)?;
            frames += 1;
            if start.elapsed() >= blocks.duration {
                break;
            }
        }
        let energy = monitor.close_window(Instant::now());
        let draw = |e: crate::power::Energy| Draw {
            mean_mw: e.mean_mw,
            mj_per_frame: e.energy_mj / f64::from(frames),
            mj_half: None,
        };
        measured[baseline as usize].push(energy.map(draw));
    }
    Ok(measured)
}

/// Means over blocks, and the saving over pairs of blocks.
fn summarise(meter: String, draws: &[Vec<Draw>]) -> Option<Energy> {
    let [full, coarse, fine, adaptive] = draws else { return None };
    let power = |draws: &[Draw]| mean(&draws.iter().map(|draw| draw.mean_mw).collect::<Vec<_>>());
    let energies = |draws: &[Draw]| draws.iter().map(|draw| draw.mj_per_frame).collect::<Vec<_>>();
    let draw = |draws: &[Draw]| {
        let of_blocks = Summary::of(&energies(draws))?;
        let mj_half = of_blocks.interval().map(|interval| interval.high - interval.mean);
        Some(Draw { mean_mw: power(draws)?, mj_per_frame: of_blocks.mean, mj_half })
    };
    let saving = paired_difference(&energies(full), &energies(adaptive));
    Some(Energy {
        meter,
        blocks: full.len(),
        r#static: draw(full)?,
        coarse_only: draw(coarse)?,
        fine_always: draw(fine)?,
        adaptive: draw(adaptive)?,
        saving: saving.zip(mean(&energies(full))).map(|(saving, full)| Saving::new(saving, full)),
    })
}
