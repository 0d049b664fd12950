//! What the machine draws: meters behind one trait, a sampler, and the integration of their readings over windows.
//!
//! No sample, no joule: where a meter is missing, unreadable or implausible, the energy of that time is not made up, it is
//! "not measured".

mod ina3221;
mod integrate;
mod rapl;
mod sampler;

use std::fs;
use std::path::Path;

pub use ina3221::Ina3221;
pub use integrate::{Energy, Integrator, MAX_GAP};
pub use rapl::Rapl;
pub use sampler::{Monitor, SAMPLE_PERIOD};

use crate::error::{Error, Kind, Result};

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

/// Measures power or energy.
pub trait Meter: Send {
    /// Reads the meter. May block for as long as the hardware takes; only the sampler's thread calls it.
    ///
    /// # Errors
    /// [`Kind::Io`] when the reading is missing or implausible. The next one may be good.
    fn read(&mut self) -> Result<Reading>;

    /// One line for a person: which meter, which rails or domains.
    fn describe(&self) -> String;
}

/// The best meter beneath the sysfs tree at `root` (`/sys`): a Jetson's INA3221, else a processor's RAPL, else none. Why a meter
/// that is there cannot be used is logged.
pub fn open(root: &Path) -> Option<Box<dyn Meter>> {
    if let Some(meter) = usable(Ina3221::open(root)) {
        return Some(Box::new(meter));
    }
    usable(Rapl::open(root)).map(|meter| Box::new(meter) as Box<dyn Meter>)
}

/// A meter that answers; one that does not is explained.
fn usable<M: Meter>(found: Result<Option<M>>) -> Option<M> {
    let checked = found.and_then(|meter| match meter {
        Some(mut meter) => meter.read().map(|_| Some(meter)),
        None => Ok(None),
    });
    checked.unwrap_or_else(|error| {
        log::info!("the power meter cannot be used: {error}");
        None
    })
}

/// The text of a sysfs node, without the newline.
fn text(path: &Path) -> Result<String> {
    let unreadable = |cause| Error::caused(Kind::Io, format!("cannot read {}", path.display()), cause);
    fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(unreadable)
}

/// The integer in a sysfs node.
fn number<T: std::str::FromStr>(path: &Path) -> Result<T> {
    let text = text(path)?;
    text.parse().map_err(|_| {
        let found: String = text.chars().take(40).collect();
        Error::new(Kind::Io, format!("{} holds `{found}`, expected an integer", path.display()))
    })
}

/// The folders `class/…` beneath `root` whose name starts with `prefix`, in the order of their names; none where there is no
/// such class.
fn class(root: &Path, class: &str, prefix: &str) -> Vec<std::path::PathBuf> {
    let Ok(entries) = fs::read_dir(root.join("class").join(class)) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests;
