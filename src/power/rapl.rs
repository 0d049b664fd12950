//! The energy counters of x86 processors, through the kernel's powercap interface.
//!
//! `class/powercap/intel-rapl:N/` with `name` = `package-N`, `energy_uj` (µJ, wraps to 0 beyond `max_energy_range_uj`). Newer
//! kernels let only root read `energy_uj`.

use std::path::{Path, PathBuf};

use super::sysfs::{entries, number, text};
use super::{Meter, Rail, Reading};
use crate::error::{Error, Kind, Result};

/// One processor package.
#[derive(Debug)]
struct Package {
    counter: PathBuf,
    max_uj: u64,
    last_uj: u64,
    /// Since the meter was opened.
    used_mj: f64,
}

/// The sum of the processor packages. Memory, disks and everything else beside the processors are not in it.
#[derive(Debug)]
pub struct Rapl {
    packages: Vec<Package>,
    /// The packages by name, with what they used.
    rails: Vec<Rail>,
    /// The counters of the reading in progress.
    now_uj: Vec<u64>,
}

impl Rapl {
    /// Looks for packages beneath the sysfs tree at `root`; `None` where there is none.
    ///
    /// # Errors
    /// [`Kind::Io`] when a counter is there but cannot be read (not root).
    pub fn open(root: &Path) -> Result<Option<Self>> {
        let (mut packages, mut rails) = (Vec::new(), Vec::new());
        // Subdomains (`intel-rapl:0:1`) are parts of their package.
        for domain in entries(&root.join("class/powercap"), "intel-rapl:") {
            let Ok(name) = text(&domain.join("name")) else { continue };
            let subdomain = domain.file_name().is_some_and(|name| name.to_string_lossy().matches(':').count() > 1);
            if name.starts_with("package") && !subdomain {
                packages.push(Package::open(&name, &domain)?);
                rails.push(Rail { name, reading: None });
            }
        }
        let now_uj = Vec::with_capacity(packages.len());
        Ok((!packages.is_empty()).then_some(Self { packages, rails, now_uj }))
    }
}

impl Package {
    fn open(name: &str, domain: &Path) -> Result<Self> {
        let counter = domain.join("energy_uj");
        let last_uj =
            number(&counter).map_err(|error| error.within(format!("RAPL {name} (readable by root only?)")))?;
        let max_uj = number(&domain.join("max_energy_range_uj"))?;
        Ok(Self { counter, max_uj, last_uj, used_mj: 0.0 })
    }

    fn counter_uj(&self) -> Result<u64> {
        let now = number(&self.counter)?;
        match now <= self.max_uj {
            true => Ok(now),
            false => {
                let message =
                    format!("{} counts {now} µJ, beyond its range of {} µJ", self.counter.display(), self.max_uj);
                Err(Error::new(Kind::Io, message))
            }
        }
    }

    /// µJ since the last reading, across a wrap.
    fn used_uj(&self, now: u64) -> u64 {
        if now >= self.last_uj { now - self.last_uj } else { (self.max_uj - self.last_uj.min(self.max_uj)) + now }
    }
}

impl Meter for Rapl {
    fn read(&mut self) -> Result<Reading> {
        // All counters first: a failure half-way must not move any of them.
        self.now_uj.clear();
        for package in &self.packages {
            self.now_uj.push(package.counter_uj()?);
        }
        for ((package, rail), &now) in self.packages.iter_mut().zip(&mut self.rails).zip(&self.now_uj) {
            package.used_mj += package.used_uj(now) as f64 / 1e3;
            package.last_uj = now;
            rail.reading = Some(Reading::EnergyMj(package.used_mj));
        }
        Ok(Reading::EnergyMj(self.packages.iter().map(|package| package.used_mj).sum()))
    }

    fn rails(&self) -> &[Rail] {
        &self.rails
    }

    fn describe(&self) -> String {
        let names: Vec<&str> = self.rails.iter().map(|rail| rail.name.as_str()).collect();
        format!("RAPL, {} (processor only)", names.join(" + "))
    }
}
