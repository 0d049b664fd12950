//! What the machine draws: meters behind one trait, a sampler, and the integration of their readings over windows.
//!
//! No sample, no joule: where a meter is missing, unreadable or implausible, the energy of that time is not made up, it is
//! "not measured".

mod account;
mod attribution;
mod health;
mod idle;
mod integrate;
mod jetson;
mod rapl;
mod sampler;
mod sysfs;

use std::path::Path;

pub use account::{Account, Used};
pub use attribution::{Attribution, Decisions, Estimate, PerDecision};
pub use health::Health;
pub use idle::{Idle, measure_idle};
pub use integrate::{Energy, Integrator, MAX_GAP};
pub use jetson::Jetson;
pub use rapl::Rapl;
pub use sampler::{Monitor, RailMean, SAMPLE_PERIOD, Window};

use crate::error::Result;

/// No machine that this program runs on draws more; a reading above it is garbage. In milliwatts.
pub const PLAUSIBLE_MW: f64 = 10e6;

/// What a meter says at one instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reading {
    /// Drawn right now, in milliwatts.
    PowerMw(f64),
    /// Used since the meter was opened, in millijoules.
    EnergyMj(f64),
}

/// One supply rail or domain, and what it said at the last reading.
#[derive(Clone, Debug, PartialEq)]
pub struct Rail {
    /// The board's name of it.
    pub name: String,
    /// `None` where it could not be read.
    pub reading: Option<Reading>,
}

/// Measures power or energy.
pub trait Meter: Send {
    /// Reads the meter. May block for as long as the hardware takes; only the sampler's thread calls it.
    ///
    /// # Errors
    /// [`Kind::Io`](crate::error::Kind::Io) when the reading is missing or implausible. The next one may be good.
    fn read(&mut self) -> Result<Reading>;

    /// The rails beneath the total, as [`Meter::read`] last saw them: always the same ones, in the same order. They may overlap, so
    /// their sum means nothing.
    fn rails(&self) -> &[Rail] {
        &[]
    }

    /// One line for a person: which meter, which rails or domains are the total.
    fn describe(&self) -> String;
}

/// The best meter beneath the sysfs tree at `root` (`/sys`): a Jetson's power monitors, else a processor's RAPL, else none. Why a
/// meter that is there cannot be used is logged; one that merely does not answer yet is kept, it may do so later.
pub fn open(root: &Path) -> Option<Box<dyn Meter>> {
    if let Some(meter) = usable(Jetson::open(root)) {
        return Some(Box::new(meter));
    }
    usable(Rapl::open(root)).map(|meter| Box::new(meter) as Box<dyn Meter>)
}

/// A meter that can be used; why not is logged.
fn usable<M: Meter>(found: Result<Option<M>>) -> Option<M> {
    found.unwrap_or_else(|error| {
        log::info!("the power meter cannot be used: {error}");
        None
    })
}

#[cfg(test)]
mod tests;
