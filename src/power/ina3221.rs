//! The three-channel power monitor of Jetson modules, through the kernel's hwmon interface.
//!
//! `class/hwmon/hwmon*/` with `name` = `ina3221`; per channel K = 1..3 `inK_label`, `inK_input` (mV) and `currK_input` (mA).
//! Numbers of hwmon folders change between boots, so the chips are found by name and the rails by label.

use std::path::{Path, PathBuf};

use super::{Meter, PLAUSIBLE_MW, Reading, class, number, text};
use crate::error::{Error, Kind, Result};

/// Rails that carry all that the board draws, so nothing may be added to them.
const TOTAL_RAILS: [&str; 2] = ["VDD_IN", "POM_5V_IN"];
/// The label of a channel that is not connected.
const NOT_CONNECTED: &str = "NC";

/// One supply rail.
#[derive(Clone, Debug)]
struct Rail {
    label: String,
    voltage: PathBuf,
    current: PathBuf,
}

impl Rail {
    /// Milliwatts: mV × mA / 1000.
    fn power_mw(&self) -> Result<f64> {
        let mw = number::<i64>(&self.voltage)? as f64 * number::<i64>(&self.current)? as f64 / 1e3;
        match (0.0..=PLAUSIBLE_MW).contains(&mw) {
            true => Ok(mw),
            false => Err(Error::new(Kind::Io, format!("rail {} claims {mw} mW", self.label))),
        }
    }
}

/// All INA3221 chips of the board.
#[derive(Debug)]
pub struct Ina3221 {
    /// The rails that are summed: the total rail alone, or all of them.
    rails: Vec<Rail>,
    name: String,
}

impl Ina3221 {
    /// Looks for the chips beneath the sysfs tree at `root`; `None` where there is no chip.
    ///
    /// # Errors
    /// [`Kind::Io`] when there are chips but no rail.
    pub fn open(root: &Path) -> Result<Option<Self>> {
        let chips: Vec<PathBuf> = class(root, "hwmon", "hwmon")
            .into_iter()
            .filter(|chip| text(&chip.join("name")).is_ok_and(|name| name == "ina3221"))
            .collect();
        if chips.is_empty() {
            return Ok(None);
        }
        let rails: Vec<Rail> = chips.iter().flat_map(|chip| rails(chip)).collect();
        let total = rails.iter().find(|rail| TOTAL_RAILS.iter().any(|total| total.eq_ignore_ascii_case(&rail.label)));
        let (name, rails) = match total {
            Some(total) => (total.label.clone(), vec![total.clone()]),
            None => ("module rails".to_owned(), rails),
        };
        if rails.is_empty() {
            let message = format!("the INA3221 at {} has no labelled rail", chips[0].display());
            return Err(Error::new(Kind::Io, message));
        }
        Ok(Some(Self { rails, name }))
    }
}

/// The connected rails of a chip.
fn rails(chip: &Path) -> Vec<Rail> {
    let rail = |channel: u32| {
        let label = text(&chip.join(format!("in{channel}_label"))).ok()?;
        let voltage = chip.join(format!("in{channel}_input"));
        let current = chip.join(format!("curr{channel}_input"));
        let connected = !label.is_empty() && !label.eq_ignore_ascii_case(NOT_CONNECTED);
        (connected && voltage.exists() && current.exists()).then_some(Rail { label, voltage, current })
    };
    (1..=3).filter_map(rail).collect()
}

impl Meter for Ina3221 {
    /// The sum of the rails. One rail that cannot be read makes the sum unknown: the others alone would look like a saving.
    fn read(&mut self) -> Result<Reading> {
        let mut sum_mw = 0.0;
        for rail in &self.rails {
            sum_mw += rail.power_mw()?;
        }
        Ok(Reading::PowerMw(sum_mw))
    }

    fn describe(&self) -> String {
        let labels: Vec<&str> = self.rails.iter().map(|rail| rail.label.as_str()).collect();
        match labels.as_slice() {
            [only] if *only == self.name => format!("INA3221, {only}"),
            _ => format!("INA3221, {} ({})", self.name, labels.join(" + ")),
        }
    }
}
