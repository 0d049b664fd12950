//! The power monitors of Jetson boards: which rails there are, and which of them is the total.
//!
//! | where | kernel | per rail |
//! |---|---|---|
//! | `class/hwmon/hwmon*/`, `name` = `ina3221` | JetPack 5 and later | K = 1..3: `inK_label`, `inK_input` (mV), `currK_input` (mA) |
//! | `bus/i2c/drivers/ina3221x/*/iio:device*/` | JetPack 4 | K = 0..2: `rail_name_K`, `in_powerK_input` (mW) |
//! | `class/hwmon/hwmon*/`, `name` = `ina238` | Thor | the input, VIN: `power1_input` (µW) |
//!
//! Numbers of hwmon folders change between boots, so chips are found by name and rails by label. USB-C supplies in hwmon
//! (`ucsi_source_psy_…`) tell what was negotiated and not what is drawn; they are not looked at.

use std::path::{Path, PathBuf};

use super::sysfs::{entries, number, text};
use super::{Meter, PLAUSIBLE_MW, Rail, Reading};
use crate::error::{Error, Kind, Result};

/// Rails that carry all that the board draws, so nothing may be added to them.
const TOTAL_RAILS: [&str; 3] = ["VIN", "VDD_IN", "POM_5V_IN"];
/// The label of a channel that is not connected.
const NOT_CONNECTED: &str = "NC";
/// After so many failed readings in a row (5 s) the chips are looked for anew: a driver that was bound again has other folders.
const SEARCH_AGAIN_AFTER: u32 = 100;

/// Where the power of a rail is read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Nodes {
    /// Millivolts and milliamperes.
    VoltageCurrent(PathBuf, PathBuf),
    /// Milliwatts.
    MilliWatt(PathBuf),
    /// Microwatts.
    MicroWatt(PathBuf),
}

impl Nodes {
    fn power_mw(&self) -> Result<f64> {
        match self {
            Nodes::VoltageCurrent(mv, ma) => Ok(number::<i64>(mv)? as f64 * number::<i64>(ma)? as f64 / 1e3),
            Nodes::MilliWatt(mw) => Ok(number::<i64>(mw)? as f64),
            Nodes::MicroWatt(uw) => Ok(number::<i64>(uw)? as f64 / 1e3),
        }
    }
}

/// What the board draws in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Total {
    /// This rail.
    Rail(usize),
    /// The sum of the first so many rails. What the carrier board draws is not in it.
    Sum(usize),
}

/// The power monitors of the board.
#[derive(Debug)]
pub struct Jetson {
    root: PathBuf,
    chip: &'static str,
    nodes: Vec<Nodes>,
    rails: Vec<Rail>,
    total: Total,
    failures: u32,
}

/// A rail's label and nodes.
type Found = (String, Nodes);

impl Jetson {
    /// Looks for the chips beneath the sysfs tree at `root`; `None` where there is no chip. Whether they answer is seen when they
    /// are read.
    ///
    /// # Errors
    /// [`Kind::Io`] when there are chips but no rail.
    pub fn open(root: &Path) -> Result<Option<Self>> {
        let hwmon = |chip: &str| -> Vec<PathBuf> {
            let named = |folder: &PathBuf| text(&folder.join("name")).is_ok_and(|name| name == chip);
            entries(&root.join("class/hwmon"), "hwmon").into_iter().filter(named).collect()
        };
        let (ina3221, ina238, legacy) = (hwmon("ina3221"), hwmon("ina238"), iio(root));
        if ina3221.is_empty() && ina238.is_empty() && legacy.is_empty() {
            return Ok(None);
        }
        let mut found: Vec<Found> = ina3221.iter().flat_map(|chip| channels(chip)).collect();
        if found.is_empty() {
            found.extend(legacy.iter().flat_map(|chip| legacy_channels(chip)));
        }
        let summed = found.len();
        found.extend(inputs(&ina238, summed > 0));
        let labelled = |label: &&str| found.iter().position(|(name, _)| name.eq_ignore_ascii_case(label));
        let total = TOTAL_RAILS.iter().find_map(labelled).map_or(Total::Sum(summed), Total::Rail);
        if total == Total::Sum(0) {
            let chips = ina3221.iter().chain(&legacy).chain(&ina238).next();
            let place = chips.map(|chip| chip.display().to_string()).unwrap_or_default();
            return Err(Error::new(Kind::Io, format!("the power monitor at {place} has no labelled rail")));
        }
        let chip = if matches!(total, Total::Rail(rail) if rail >= summed) { "INA238" } else { "INA3221" };
        let (names, nodes): (Vec<_>, _) = found.into_iter().unzip();
        let rails = names.into_iter().map(|name| Rail { name, reading: None }).collect();
        Ok(Some(Self { root: root.to_owned(), chip, nodes, rails, total, failures: 0 }))
    }

    /// Reads every rail; the errors of those that the total needs.
    fn read_rails(&mut self) -> Result<()> {
        let mut result = Ok(());
        for (index, (rail, nodes)) in self.rails.iter_mut().zip(&self.nodes).enumerate() {
            let power = nodes.power_mw().and_then(|mw| plausible(&rail.name, mw));
            let needed = match self.total {
                Total::Rail(total) => index == total,
                Total::Sum(summed) => index < summed,
            };
            rail.reading = power.as_ref().ok().map(|&mw| Reading::PowerMw(mw));
            if let (true, true, Err(error)) = (needed, result.is_ok(), power) {
                result = Err(error);
            }
        }
        result
    }

    /// The total of the rails as they were read.
    fn total_mw(&self) -> f64 {
        let mw = |rail: &Rail| if let Some(Reading::PowerMw(mw)) = rail.reading { mw } else { 0.0 };
        match self.total {
            Total::Rail(total) => self.rails.get(total).map_or(0.0, mw),
            Total::Sum(summed) => self.rails.iter().take(summed).map(mw).sum(),
        }
    }

    /// Looks for the same rails at other places.
    fn search_again(&mut self) {
        let same = |found: &Self| {
            found.total == self.total && found.rails.iter().map(|r| &r.name).eq(self.rails.iter().map(|r| &r.name))
        };
        if let Some(found) = Self::open(&self.root).ok().flatten().filter(same) {
            self.nodes = found.nodes;
        }
    }
}

impl Meter for Jetson {
    /// The total. One rail of a sum that cannot be read makes it unknown: the others alone would look like a saving.
    fn read(&mut self) -> Result<Reading> {
        let read = self.read_rails();
        let total_mw = self.total_mw();
        let result = match read {
            Ok(()) if total_mw == 0.0 => {
                let name = self.describe();
                Err(Error::new(Kind::Io, format!("{name} claims 0 mW, which no running board draws")))
            }
            Ok(()) => plausible(self.chip, total_mw).map(Reading::PowerMw),
            Err(error) => Err(error),
        };
        self.failures = if result.is_ok() { 0 } else { self.failures.saturating_add(1) };
        if self.failures % SEARCH_AGAIN_AFTER == SEARCH_AGAIN_AFTER - 1 {
            self.search_again();
        }
        result
    }

    fn rails(&self) -> &[Rail] {
        &self.rails
    }

    fn describe(&self) -> String {
        let labels: Vec<&str> = self.rails.iter().map(|rail| rail.name.as_str()).collect();
        match self.total {
            Total::Rail(total) => format!("{}, {}", self.chip, labels.get(total).unwrap_or(&"?")),
            Total::Sum(summed) => {
                format!("{}, module rails ({})", self.chip, labels.get(..summed).unwrap_or_default().join(" + "))
            }
        }
    }
}

fn plausible(rail: &str, mw: f64) -> Result<f64> {
    match (0.0..=PLAUSIBLE_MW).contains(&mw) {
        true => Ok(mw),
        false => Err(Error::new(Kind::Io, format!("rail {rail} claims {mw} mW"))),
    }
}

/// A label of a connected channel.
fn label(path: &Path) -> Option<String> {
    let label: String = text(path).ok()?.escape_debug().take(64).collect();
    (!label.is_empty() && !label.eq_ignore_ascii_case(NOT_CONNECTED)).then_some(label)
}

/// The connected channels of an INA3221 in hwmon. Channel 7, the sum of the shunts, is no rail.
fn channels(chip: &Path) -> Vec<Found> {
    let channel = |k: u32| {
        let node = |name: &str, what: &str| chip.join(format!("{name}{k}_{what}"));
        let off = text(&node("in", "enable")).is_ok_and(|enabled| enabled == "0");
        let label = label(&node("in", "label")).filter(|_| !off)?;
        Some((label, Nodes::VoltageCurrent(node("in", "input"), node("curr", "input"))))
    };
    (1..=3).filter_map(channel).collect()
}

/// The chips of JetPack 4's driver.
fn iio(root: &Path) -> Vec<PathBuf> {
    let devices = entries(&root.join("bus/i2c/drivers/ina3221x"), "");
    devices.iter().flat_map(|device| entries(device, "iio:device")).collect()
}

/// The connected channels of an INA3221 in JetPack 4's iio.
fn legacy_channels(chip: &Path) -> Vec<Found> {
    let channel = |k: u32| {
        let label = label(&chip.join(format!("rail_name_{k}")))?;
        Some((label, Nodes::MilliWatt(chip.join(format!("in_power{k}_input")))))
    };
    (0..=2).filter_map(channel).collect()
}

/// What INA238 chips measure. The driver names no rail; on a board that has an INA3221 too, a single chip without a label is VIN.
fn inputs(chips: &[PathBuf], is_jetson: bool) -> Vec<Found> {
    let labelled =
        |chip: &PathBuf| ["label", "power1_label", "in1_label"].iter().find_map(|node| label(&chip.join(node)));
    let input = |chip: &PathBuf| {
        let assumed = || (is_jetson && chips.len() == 1).then(|| "VIN".to_owned());
        Some((labelled(chip).or_else(assumed)?, Nodes::MicroWatt(chip.join("power1_input"))))
    };
    chips.iter().filter_map(input).collect()
}
