//! The state of the machine around a measurement: power mode, clocks, heat, throttling, and who else was running. Everything is optional:
//! what a machine does not tell is `None`, and no warning rests on it.

#[cfg(test)]
pub(crate) mod fixture;
mod jetson;
mod watch;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

pub use jetson::{PowerMode, power_mode};
use serde::{Deserialize, Serialize};
pub use watch::Watcher;

use crate::stats::{Summary, mean};

/// A coefficient of variation above this is not clean, in percent.
const MAX_CV_PERCENT: f64 = 10.0;
/// Time that a hypervisor took away, of all processors' time, in percent.
const MAX_STEAL_PERCENT: f64 = 1.0;
/// Time that other programs computed, of one processor's time, in percent.
const MAX_OTHERS_PERCENT: f64 = 10.0;
/// Change of the mean clock, in percent.
const MAX_CLOCK_CHANGE_PERCENT: f64 = 5.0;

/// What Linux told at one instant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct State {
    /// Mean clock of the processors, in MHz.
    pub clock_mhz: Option<f64>,
    /// Clock of the GPU, in MHz.
    pub gpu_clock_mhz: Option<f64>,
    /// The hottest thermal zone, in °C.
    pub hottest_celsius: Option<f64>,
    /// The thermal zones by name, in °C; of zones with the same name the hottest.
    pub zones_celsius: BTreeMap<String, f64>,
    /// What holds clocks back right now: active cooling devices that are no fans, and current alarms.
    pub limited_by: Vec<String>,
    /// Times that a supply's current was too high since the machine started.
    pub over_current: Option<u64>,
    /// The power mode's name, where there are modes.
    pub power_mode: Option<String>,
    /// Load average over one minute.
    pub load_1min: Option<f64>,
    /// Threads that were running or wanted to, this program's included.
    pub running: Option<u64>,
    /// Times that processors were throttled for heat since the machine started.
    pub throttled: Option<u64>,
    /// Processor time since the machine started.
    #[serde(skip)]
    pub ticks: Option<Ticks>,
}

/// Processor time since the machine started, in the kernel's clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    /// All processors, idle time included.
    pub total: u64,
    /// Of it idle or waiting for disks.
    pub idle: u64,
    /// Of it taken by a hypervisor.
    pub steal: u64,
    /// Of it used by this program.
    pub own: u64,
    /// Processors.
    pub processors: u64,
}

impl State {
    /// Reads the state beneath `root` (`/`).
    pub fn read(root: &Path) -> Self {
        let load = text(root, "proc/loadavg");
        let load = |field: usize| load.as_deref().and_then(|text| text.split_whitespace().nth(field));
        let zones_celsius = zones(root);
        Self {
            clock_mhz: clock_mhz(root),
            gpu_clock_mhz: jetson::gpu_clock_mhz(root),
            hottest_celsius: zones_celsius.values().copied().reduce(f64::max),
            zones_celsius,
            limited_by: jetson::limited_by(root),
            over_current: jetson::over_current(root),
            power_mode: power_mode(root).ok().flatten().map(|mode| mode.to_string()),
            load_1min: load(0).and_then(|load| load.parse().ok()),
            running: load(3).and_then(|of_all| of_all.split('/').next()?.parse().ok()),
            throttled: throttled(root),
            ticks: ticks(root),
        }
    }

    /// Reads the processor times alone beneath `root` (`/`).
    pub fn read_ticks(root: &Path) -> Option<Ticks> {
        ticks(root)
    }
}

/// Where nothing is known of the machine.
const UNKNOWN: &str = "nothing is known of its clocks and temperatures";

impl State {
    /// One line for people: power mode, clocks, the hottest zone, what holds the clocks back.
    pub fn summary(&self) -> String {
        let mut parts: Vec<String> = self.power_mode.iter().cloned().collect();
        parts.extend(self.clock_mhz.map(|mhz| format!("CPU {mhz:.0} MHz")));
        parts.extend(self.gpu_clock_mhz.map(|mhz| format!("GPU {mhz:.0} MHz")));
        parts.extend(self.hottest_celsius.map(|celsius| format!("hottest {celsius:.0} °C")));
        if !self.limited_by.is_empty() {
            parts.push(format!("held back by {}", self.limited_by.join(", ")));
        }
        if parts.is_empty() { UNKNOWN.to_owned() } else { parts.join(", ") }
    }
}

/// What happened between two states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Change {
    /// Share of all processors' time that a hypervisor took, in percent.
    pub steal_percent: Option<f64>,
    /// Time that other programs computed, in percent of one processor.
    pub others_percent: Option<f64>,
    /// Change of the mean clock, in percent of the one before.
    pub clock_percent: Option<f64>,
    /// Times that processors were throttled.
    pub throttled: Option<u64>,
    /// Times that a supply's current was too high.
    pub over_current: Option<u64>,
}

impl Change {
    /// From `before` to `after`.
    pub fn between(before: &State, after: &State) -> Self {
        let ticks = before.ticks.zip(after.ticks).filter(|(b, a)| a.total > b.total && a.processors > 0);
        let share = |of: fn(&Ticks) -> u64| {
            ticks.map(|(b, a)| 100.0 * of(&a).saturating_sub(of(&b)) as f64 / (a.total - b.total) as f64)
        };
        let busy = share(|t| t.total.saturating_sub(t.idle).saturating_sub(t.steal));
        let others = busy.zip(share(|t| t.own)).map(|(busy, own)| (busy - own).max(0.0));
        let clocks = before.clock_mhz.zip(after.clock_mhz).filter(|(before, _)| *before > 0.0);
        Self {
            steal_percent: share(|t| t.steal),
            others_percent: others.zip(ticks).map(|(others, (_, a))| others * a.processors as f64),
            clock_percent: clocks.map(|(before, after)| 100.0 * (after / before - 1.0)),
            throttled: more(before.throttled, after.throttled),
            over_current: more(before.over_current, after.over_current),
        }
    }

    /// One sentence for each thing that makes the window not clean.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let above = |value: Option<f64>, limit: f64| value.filter(|value| value.abs() > limit);
        if let Some(steal) = above(self.steal_percent, MAX_STEAL_PERCENT) {
            warnings.push(format!("the hypervisor took {steal:.1} % of the processors' time (steal)"));
        }
        if let Some(others) = above(self.others_percent, MAX_OTHERS_PERCENT) {
            warnings.push(format!("other programs used {others:.0} % of a processor meanwhile"));
        }
        if let Some(clock) = above(self.clock_percent, MAX_CLOCK_CHANGE_PERCENT) {
            warnings.push(format!("the clock changed by {clock:+.0} % between start and end"));
        }
        if let Some(throttled @ 1..) = self.throttled {
            warnings.push(format!("processors were throttled for heat {throttled} times"));
        }
        if let Some(events @ 1..) = self.over_current {
            warnings.push(format!("a supply's current was too high {events} times, which throttles the clocks"));
        }
        warnings
    }
}

/// By how much a counter rose.
fn more(before: Option<u64>, after: Option<u64>) -> Option<u64> {
    before.zip(after).map(|(before, after)| after.saturating_sub(before))
}

/// A warning where the times called `name` scatter too much.
pub fn scatter_warning(name: &str, times: &Summary) -> Option<String> {
    let cv = times.cv_percent;
    (cv > MAX_CV_PERCENT).then(|| format!("{name} scatters: coefficient of variation {cv:.0} %, clean is below 10 %"))
}

/// Memory of this program, in kibibytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Memory {
    /// Resident now.
    pub resident_kib: Option<u64>,
    /// The most that was ever resident.
    pub peak_kib: Option<u64>,
}

impl Memory {
    /// Reads it beneath `root` (`/`).
    pub fn read(root: &Path) -> Self {
        let status = text(root, "proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Self { resident_kib: field("VmRSS"), peak_kib: field("VmHWM") }
    }
}

/// What the processor (or, on Arm boards, the machine) is called.
pub fn cpu_name(root: &Path) -> Option<String> {
    let info = text(root, "proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map(|(_, name)| name.trim().to_owned());
    let board = || text(root, "proc/device-tree/model").map(|name| name.trim_matches('\0').trim().to_owned());
    model.or_else(board).filter(|name| !name.is_empty())
}

/// The release of the running Linux kernel.
pub fn kernel(root: &Path) -> Option<String> {
    name(&root.join("proc/sys/kernel/osrelease"))
}

fn text(root: &Path, node: &str) -> Option<String> {
    // Not every node is UTF-8 all through.
    fs::read(root.join(node)).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// The folders in `parent` that are called `prefix` and a number.
fn numbered(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let is_numbered =
        |name: &str| name.strip_prefix(prefix).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    entries.flatten().filter(|e| e.file_name().to_str().is_some_and(is_numbered)).map(|e| e.path()).collect()
}

/// A short text in a node, safe to print.
fn name(path: &Path) -> Option<String> {
    let name = fs::read_to_string(path).ok()?;
    let name = name.trim().escape_debug().take(64).collect::<String>();
    (!name.is_empty()).then_some(name)
}

fn number(path: &Path) -> Option<f64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn cpus(root: &Path) -> Vec<PathBuf> {
    numbered(&root.join("sys/devices/system/cpu"), "cpu")
}

/// From cpufreq (kHz), else from cpuinfo (MHz).
fn clock_mhz(root: &Path) -> Option<f64> {
    let scaling: Vec<f64> = cpus(root)
        .iter()
        .filter_map(|cpu| number(&cpu.join("cpufreq/scaling_cur_freq")))
        .map(|khz| khz / 1e3)
        .collect();
    mean(&scaling).or_else(|| {
        let info = text(root, "proc/cpuinfo")?;
        let lines = info.lines().filter_map(|line| line.strip_prefix("cpu MHz")?.split_once(':'));
        mean(&lines.filter_map(|(_, mhz)| mhz.trim().parse().ok()).collect::<Vec<f64>>())
    })
}

/// Zones give thousandths of a degree; some give garbage while their sensor sleeps.
fn zones(root: &Path) -> BTreeMap<String, f64> {
    let mut zones = BTreeMap::new();
    for zone in numbered(&root.join("sys/class/thermal"), "thermal_zone") {
        let Some(celsius) = number(&zone.join("temp")).map(|thousandths| thousandths / 1e3) else { continue };
        if (-50.0..200.0).contains(&celsius) {
            let hottest: &mut f64 = zones.entry(name(&zone.join("type")).unwrap_or_default()).or_insert(celsius);
            *hottest = hottest.max(celsius);
        }
    }
    zones
}

fn throttled(root: &Path) -> Option<u64> {
    let counters = ["core_throttle_count", "package_throttle_count"];
    let nodes =
        cpus(root).into_iter().flat_map(|cpu| counters.map(|counter| cpu.join("thermal_throttle").join(counter)));
    nodes.filter_map(|node| fs::read_to_string(node).ok()?.trim().parse::<u64>().ok()).reduce(u64::saturating_add)
}

/// The `cpu` line of `/proc/stat` (user, nice, system, idle, iowait, irq, softirq, steal, …: guest time is in user already), and
/// fields 14 and 15 of `/proc/self/stat`.
fn ticks(root: &Path) -> Option<Ticks> {
    let stat = text(root, "proc/stat")?;
    let all = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields: Vec<u64> = all.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let &[_, _, _, idle, iowait, ..] = fields.as_slice() else { return None };
    let processors = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu ")).count() as u64;
    let own = text(root, "proc/self/stat")?;
    // The program's name stands in brackets and may hold anything.
    let (_, after_name) = own.rsplit_once(')')?;
    let mut own = after_name.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    let own = own.next()?.saturating_add(own.next()?);
    Some(Ticks {
        total: fields.iter().fold(0, |sum, &field| sum.saturating_add(field)),
        idle: idle.saturating_add(iowait),
        steal: fields.get(7).copied().unwrap_or(0),
        own,
        processors,
    })
}

#[cfg(test)]
mod tests;
