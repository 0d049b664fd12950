//! Meters over sysfs trees made from the kernel's documentation (not recorded on a device), driven by a simulated clock.

mod attribution;
mod boards;
mod health;

use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, Simulated, Stop};
use crate::error::{Error, Kind};
use crate::machine::fixture::Tree;

/// A chip whose rails are `(label, mV, mA)`.
fn ina3221(tree: &Tree, hwmon: u32, rails: &[(&str, i64, i64)]) {
    let chip = format!("sys/class/hwmon/hwmon{hwmon}");
    tree.line(&format!("{chip}/name"), "ina3221");
    for (channel, (label, mv, ma)) in (1..).zip(rails) {
        tree.line(&format!("{chip}/in{channel}_label"), label);
        tree.line(&format!("{chip}/in{channel}_input"), mv);
        tree.line(&format!("{chip}/curr{channel}_input"), ma);
    }
}

fn rapl(tree: &Tree, domain: &str, name: &str, uj: u64, max_uj: u64) {
    let domain = format!("sys/class/powercap/{domain}");
    tree.line(&format!("{domain}/name"), name);
    tree.line(&format!("{domain}/energy_uj"), uj);
    tree.line(&format!("{domain}/max_energy_range_uj"), max_uj);
}

fn mw(meter: &mut dyn Meter) -> f64 {
    match meter.read().unwrap() {
        Reading::PowerMw(mw) => mw,
        other => panic!("{other:?}"),
    }
}

#[test]
fn orin_nano_reports_its_input_rail_alone() {
    let tree = Tree::new();
    tree.line("sys/class/hwmon/hwmon0/name", "nvme");
    ina3221(&tree, 3, &[("VDD_IN", 5000, 1200), ("VDD_CPU_GPU_CV", 5000, 400), ("VDD_SOC", 5000, 300)]);
    let mut meter = open(&tree.sys()).unwrap();
    assert_eq!(mw(meter.as_mut()), 6000.0);
    assert_eq!(meter.describe(), "INA3221, VDD_IN");
}

#[test]
fn agx_orin_reports_the_sum_of_both_chips_as_module_rails() {
    let tree = Tree::new();
    ina3221(&tree, 4, &[("VDD_GPU_SOC", 19000, 100), ("VDD_CPU_CV", 19000, 50), ("VIN_SYS_5V0", 5000, 600)]);
    ina3221(&tree, 5, &[("NC", 0, 0), ("VDDQ_VDD2_1V8AO", 19000, 10), ("", 1, 1)]);
    // Channel 7 of the chip is the sum of the shunts, not a rail.
    tree.line("sys/class/hwmon/hwmon4/in7_label", "sum of shunt voltages");
    let mut meter = open(&tree.sys()).unwrap();
    assert_eq!(mw(meter.as_mut()), 1900.0 + 950.0 + 3000.0 + 190.0);
    assert_eq!(meter.describe(), "INA3221, module rails (VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0 + VDDQ_VDD2_1V8AO)");
}

#[test]
fn a_bad_rail_is_an_error_not_a_smaller_sum_and_can_recover() {
    let tree = Tree::new();
    ina3221(&tree, 0, &[("GPU", 5000, 100), ("CPU", 5000, 200)]);
    let mut meter = open(&tree.sys()).unwrap();
    let node = "sys/class/hwmon/hwmon0/curr1_input";
    for garbage in ["", "12 apples", "-40", "99999999999", "1.5", "\u{0}\u{ff}"] {
        tree.line(node, garbage);
        assert_eq!(meter.read().unwrap_err().kind(), Kind::Io, "{garbage:?}");
    }
    tree.remove(node);
    assert!(meter.read().unwrap_err().to_string().contains("curr1_input"));
    tree.line(node, 0);
    assert_eq!(mw(meter.as_mut()), 1000.0, "a rail without load reads zero");
}

#[test]
fn rapl_sums_the_packages_and_follows_a_wrap() {
    let tree = Tree::new();
    rapl(&tree, "intel-rapl:0", "package-0", 9_000, 10_000);
    rapl(&tree, "intel-rapl:0:0", "core", 5, 10_000);
    rapl(&tree, "intel-rapl:1", "package-1", 0, 10_000);
    rapl(&tree, "intel-rapl:2", "psys", 77, 10_000);
    let mut meter = open(&tree.sys()).unwrap();
    assert_eq!(meter.describe(), "RAPL, package-0 + package-1 (processor only)");
    assert_eq!(meter.read().unwrap(), Reading::EnergyMj(0.0));
    tree.line("sys/class/powercap/intel-rapl:0/energy_uj", 2_000);
    tree.line("sys/class/powercap/intel-rapl:1/energy_uj", 500);
    assert_eq!(meter.read().unwrap(), Reading::EnergyMj(3.5));
    tree.line("sys/class/powercap/intel-rapl:0/energy_uj", 3_000);
    tree.line("sys/class/powercap/intel-rapl:1/energy_uj", 20_000);
    assert!(meter.read().is_err(), "beyond its range");
    tree.line("sys/class/powercap/intel-rapl:1/energy_uj", 600);
    assert_eq!(meter.read().unwrap(), Reading::EnergyMj(4.6), "a failed reading loses nothing");
}

#[test]
fn no_meter_and_a_meter_that_cannot_be_read_are_no_meter() {
    let tree = Tree::new();
    assert!(open(&tree.sys()).is_none());
    rapl(&tree, "intel-rapl:0", "package-0", 1, 10_000);
    tree.remove("sys/class/powercap/intel-rapl:0/energy_uj");
    assert!(open(&tree.sys()).is_none());
    tree.line("sys/class/hwmon/hwmon0/name", "ina3221");
    assert!(open(&tree.sys()).is_none(), "a chip without rails");
}

/// A meter that follows a known power curve (mW over seconds) on the simulated clock, as power or as an energy counter.
struct Curve {
    clock: Arc<Simulated>,
    start: Instant,
    power_mw: fn(f64) -> f64,
    counts_energy: bool,
    stop_after_s: f64,
    stop: Stop,
}

impl Meter for Curve {
    fn read(&mut self) -> Result<Reading> {
        let t = (self.clock.now() - self.start).as_secs_f64();
        if t >= self.stop_after_s {
            self.stop.request();
        }
        Ok(match self.counts_energy {
            true => Reading::EnergyMj(joules_x1000(self.power_mw, 0.0, t)),
            false => Reading::PowerMw((self.power_mw)(t)),
        })
    }

    fn describe(&self) -> String {
        "curve".to_owned()
    }
}

/// The integral of `power_mw` from `a` to `b` seconds in mJ, by a fine midpoint rule.
fn joules_x1000(power_mw: fn(f64) -> f64, a: f64, b: f64) -> f64 {
    integral_mj(power_mw, a, b, 20_000)
}

fn integral_mj(power_mw: fn(f64) -> f64, a: f64, b: f64, steps: u32) -> f64 {
    let h = (b - a) / f64::from(steps);
    (0..steps).map(|i| power_mw(a + (f64::from(i) + 0.5) * h)).sum::<f64>() * h
}

/// Samples `power_mw` with the real sampler for 10 simulated seconds.
fn sampled(power_mw: fn(f64) -> f64, counts_energy: bool) -> (Monitor, Instant) {
    let (clock, stop) = (Arc::new(Simulated::new()), Stop::new());
    let start = clock.now();
    let monitor = Monitor::new(start);
    let mut meter =
        Curve { clock: Arc::clone(&clock), start, power_mw, counts_energy, stop_after_s: 10.0, stop: stop.clone() };
    monitor.sample(&mut meter, clock.as_ref(), &stop);
    (monitor, start)
}

const CURVES: [fn(f64) -> f64; 4] = [
    |_| 7_000.0,
    |t| 2_000.0 + 1_500.0 * t,
    |t| 10_000.0 + 5_000.0 * (t * 6.0).sin(),
    |t| if t < 4.98 { 3_000.0 } else { 15_000.0 },
];

#[test]
fn a_known_power_curve_gives_the_right_joules() {
    for (i, curve) in CURVES.into_iter().enumerate() {
        for counts_energy in [false, true] {
            let (monitor, start) = sampled(curve, counts_energy);
            let energy = monitor.run(start + Duration::from_secs(10)).unwrap();
            let truth = joules_x1000(curve, 0.0, 10.0);
            assert!((energy.energy_mj / truth - 1.0).abs() < 0.01, "curve {i}: {} of {truth} mJ", energy.energy_mj);
            assert!((energy.mean_mw - energy.energy_mj / 10.0).abs() < 1e-6);
        }
    }
}

/// Integrates `curve` sampled at 20 Hz over windows that end at `ends` (seconds, ascending).
fn windows(curve: fn(f64) -> f64, counts_energy: bool, ends: &[f64]) -> (Vec<Option<Energy>>, Option<Energy>) {
    let start = Instant::now();
    let at = |t: f64| start + Duration::from_secs_f64(t);
    let mut integrator = Integrator::new(start);
    let (mut measured, mut sample) = (Vec::new(), 0u32);
    for &end in ends {
        while f64::from(sample) * 0.05 <= end {
            let t = f64::from(sample) * 0.05;
            let reading = match counts_energy {
                true => Reading::EnergyMj(joules_x1000(curve, 0.0, t)),
                false => Reading::PowerMw(curve(t)),
            };
            integrator.push(at(t), reading);
            sample += 1;
        }
        measured.push(integrator.close_window(at(end)));
    }
    (measured, integrator.run(at(*ends.last().unwrap())))
}

#[test]
fn windows_that_end_between_samples_are_right_and_add_up_to_the_run() {
    let ends: Vec<f64> = (1..=9).map(|i| f64::from(i) * 1.0137).collect();
    for curve in &CURVES[..3] {
        for counts_energy in [false, true] {
            let (measured, run) = windows(*curve, counts_energy, &ends);
            let mut begin = 0.0;
            for (energy, &end) in measured.iter().zip(&ends) {
                let truth = joules_x1000(*curve, begin, end);
                let found = energy.unwrap().energy_mj;
                assert!((found / truth - 1.0).abs() < 0.015, "{begin} to {end}: {found} of {truth} mJ");
                begin = end;
            }
            let sum: f64 = measured.iter().flatten().map(|energy| energy.energy_mj).sum();
            assert!((sum / run.unwrap().energy_mj - 1.0).abs() < 1e-9);
        }
    }
}

#[test]
fn no_sample_no_joule() {
    let start = Instant::now();
    let at = |ms: u64| start + Duration::from_millis(ms);
    let mut integrator = Integrator::new(start);
    assert_eq!(integrator.close_window(at(1000)), None, "never sampled");
    integrator.push(at(1000), Reading::PowerMw(5000.0));
    assert_eq!(integrator.close_window(at(2000)), None, "one sample does not make a second");
    integrator.push(at(2000), Reading::PowerMw(5000.0));
    assert_eq!(integrator.close_window(at(2100)), None, "nor a tenth of one");
    for ms in (2100..3000).step_by(50) {
        integrator.push(at(ms), Reading::PowerMw(5000.0));
    }
    let energy = integrator.close_window(at(3000)).unwrap();
    assert!((energy.energy_mj - 4500.0).abs() < 1e-6 && (energy.mean_mw - 5000.0).abs() < 1e-6);
    for ms in (3000..3500).step_by(50) {
        integrator.push(at(ms), Reading::PowerMw(5000.0));
    }
    assert_eq!(integrator.close_window(at(4000)), None, "half a window");
    assert_eq!(integrator.run(at(4000)), None, "1.75 of 4 seconds");
    integrator.push(at(4000), Reading::EnergyMj(1.0));
    integrator.push(at(4050), Reading::EnergyMj(0.5));
    integrator.push(at(4100), Reading::EnergyMj(9e9));
    assert_eq!(integrator.close_window(at(4100)), None, "a counter that goes back or leaps is not believed");
}

#[test]
fn a_failing_meter_stops_nothing_and_is_measured_again_when_it_answers() {
    /// Fails between the 20th and the 60th reading, then asks for the stop at the 100th.
    struct Flaky(u32, Stop);
    impl Meter for Flaky {
        fn read(&mut self) -> Result<Reading> {
            self.0 += 1;
            match self.0 {
                20..60 => Err(Error::new(Kind::Io, "gone")),
                100.. => {
                    self.1.request();
                    Ok(Reading::PowerMw(100.0))
                }
                _ => Ok(Reading::PowerMw(100.0)),
            }
        }
        fn describe(&self) -> String {
            String::new()
        }
    }
    let (clock, stop) = (Simulated::new(), Stop::new());
    let start = clock.now();
    let monitor = Monitor::new(start);
    monitor.sample(&mut Flaky(0, stop.clone()), &clock, &stop);
    assert_eq!(monitor.run(clock.now()), None, "two of five seconds are unknown");
    assert!(clock.now() - start >= SAMPLE_PERIOD * 99);
}

proptest! {
    #[test]
    fn the_mean_power_stays_within_the_readings_whatever_their_times(
        steps in prop::collection::vec((0u64..400, 100.0f64..20_000.0, any::<bool>()), 1..80),
    ) {
        let start = Instant::now();
        let (mut now, mut integrator) = (start, Integrator::new(start));
        let within = |energy: Option<Energy>| energy.is_none_or(|e| (99.999..20_000.001).contains(&e.mean_mw));
        for (ms, mw, close) in steps {
            now += Duration::from_millis(ms);
            integrator.push(now, Reading::PowerMw(mw));
            // A window may end later than the next sample was begun, because reading a meter takes time.
            if close {
                let energy = integrator.close_window(now + Duration::from_millis(20));
                prop_assert!(within(energy), "{energy:?}");
            }
        }
        let energy = integrator.run(now);
        prop_assert!(within(energy), "{energy:?}");
    }
}
