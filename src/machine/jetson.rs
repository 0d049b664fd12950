//! What Jetson boards tell beyond other Linux machines: the power mode, the GPU's clock, and what throttles.

use std::fmt;
use std::fs;
use std::path::Path;

use super::{name, number, numbered};
use crate::error::{Error, Kind, Result};

/// A power mode. Numbers mean different modes on different boards and releases, so the name is what is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerMode {
    /// The number.
    pub id: u32,
    /// The name, where the board's table has one.
    pub name: Option<String>,
}

impl fmt::Display for PowerMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (mode {})", self.name.as_deref().unwrap_or("unnamed"), self.id)
    }
}

/// The power mode of the machine at `root` (`/`), as nvpmodel left it in its files; `None` where there is no nvpmodel.
///
/// # Errors
/// [`Kind::Io`] when nvpmodel's status cannot be understood.
pub fn power_mode(root: &Path) -> Result<Option<PowerMode>> {
    let Ok(status) = fs::read_to_string(root.join("var/lib/nvpmodel/status")) else { return Ok(None) };
    let Some(id) = mode_id(&status) else {
        return Err(Error::new(Kind::Io, "nvpmodel's status cannot be understood, expected `pmode:` and a number"));
    };
    let names = fs::read_to_string(root.join("etc/nvpmodel.conf")).unwrap_or_default();
    Ok(Some(PowerMode { id, name: mode_name(&names, id) }))
}

/// From `pmode:0002`.
fn mode_id(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.trim().strip_prefix("pmode:"))?.trim().parse().ok()
}

/// From `< POWER_MODEL ID=2 NAME=MAXN_SUPER >`.
fn mode_name(conf: &str, id: u32) -> Option<String> {
    conf.lines().find_map(|line| {
        let words = line.trim().strip_prefix("< POWER_MODEL")?;
        let value = |key: &str| words.split_whitespace().find_map(|word| word.strip_prefix(key));
        (value("ID=")?.parse() == Ok(id)).then(|| value("NAME="))?.map(|name| name.escape_debug().take(64).collect())
    })
}

/// What devfreq calls the GPUs: by the device (`57000000.gpu`, `gpu-gpc-0`) or the chip (`17000000.gv11b`).
const GPU_NAMES: [&str; 5] = ["gpu", "gm20b", "gp10b", "gv11b", "ga10b"];

/// The highest clock of the GPU's devices, in MHz.
pub(super) fn gpu_clock_mhz(root: &Path) -> Option<f64> {
    let devices = fs::read_dir(root.join("sys/class/devfreq")).ok()?;
    let gpus = devices.flatten().filter(|device| {
        let name = device.file_name();
        GPU_NAMES.iter().any(|gpu| name.to_string_lossy().contains(gpu))
    });
    gpus.filter_map(|gpu| number(&gpu.path().join("cur_freq"))).map(|hz| hz / 1e6).reduce(f64::max)
}

/// Cooling devices with such a word in their type slow something down; the others are fans and limits that are always set.
const SLOWING: [&str; 6] = ["cpu", "gpu", "processor", "throttle", "devfreq", "powerclamp"];

/// Active cooling devices that slow something down, and the current alarms of power monitors.
pub(super) fn limited_by(root: &Path) -> Vec<String> {
    let mut limits = Vec::new();
    for device in numbered(&root.join("sys/class/thermal"), "cooling_device") {
        let Some(kind) = name(&device.join("type")) else { continue };
        let slows = SLOWING.iter().any(|word| kind.to_ascii_lowercase().contains(word));
        match number(&device.join("cur_state")) {
            Some(state) if slows && state > 0.0 => limits.push(kind),
            _ => {}
        }
    }
    for monitor in numbered(&root.join("sys/class/hwmon"), "hwmon") {
        for (channel, level) in (1..=3).flat_map(|channel| [(channel, "max"), (channel, "crit")]) {
            if number(&monitor.join(format!("curr{channel}_{level}_alarm"))) == Some(1.0) {
                let rail = name(&monitor.join(format!("in{channel}_label"))).unwrap_or_default();
                limits.push(format!("{rail} current above {level}"));
            }
        }
    }
    limits.sort_unstable();
    limits.dedup();
    limits
}

/// The sum of the over-current counters (`ocN_event_cnt` of the SoC's monitor in hwmon).
pub(super) fn over_current(root: &Path) -> Option<u64> {
    let monitors = numbered(&root.join("sys/class/hwmon"), "hwmon");
    let counters = monitors.iter().flat_map(|monitor| (1..=5).map(|n| monitor.join(format!("oc{n}_event_cnt"))));
    let counts = counters.filter_map(|counter| fs::read_to_string(counter).ok()?.trim().parse::<u64>().ok());
    counts.reduce(u64::saturating_add)
}
