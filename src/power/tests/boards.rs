//! Every board of `tests/data/sysfs`: which rails are found, and whether a known power curve gives the right joules.

use super::*;

/// A board: its file, how its meter describes itself, the total of the values in the file, and all its rails.
struct Board {
    name: &'static str,
    says: &'static str,
    total_mw: f64,
    rails: &'static [&'static str],
}

const BOARDS: [Board; 6] = [
    Board {
        name: "nano",
        says: "INA3221, POM_5V_IN",
        total_mw: 2249.0,
        rails: &["POM_5V_IN", "POM_5V_GPU", "POM_5V_CPU"],
    },
    Board {
        name: "xavier-nx",
        says: "INA3221, VDD_IN",
        total_mw: 5420.8,
        rails: &["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"],
    },
    Board {
        name: "agx-xavier",
        says: "INA3221, module rails (GPU + CPU + SOC + CV + VDDRQ + SYS5V)",
        total_mw: 18.96 * 290.0 + 4.896 * 400.0,
        rails: &["GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"],
    },
    Board {
        name: "orin-nano",
        says: "INA3221, VDD_IN",
        total_mw: 5443.2,
        rails: &["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"],
    },
    Board {
        name: "agx-orin",
        says: "INA3221, module rails (VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0 + VDDQ_VDD2_1V8AO)",
        total_mw: 19.008 * 225.0 + 5.032 * 700.0,
        rails: &["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"],
    },
    Board {
        name: "thor",
        says: "INA238, VIN",
        total_mw: 22_013.0,
        rails: &["VDD_GPU", "VDD_CPU_SOC_MSS", "VIN_SYS_5V0", "VIN"],
    },
];

#[test]
fn every_board_has_its_rails_and_the_right_total() {
    for Board { name, says, total_mw, rails } in BOARDS {
        let tree = Tree::board(name);
        let mut meter = open(&tree.sys()).unwrap();
        assert!((mw(meter.as_mut()) - total_mw).abs() < 1e-6, "{name}");
        assert_eq!(meter.describe(), says);
        assert_eq!(meter.rails().iter().map(|rail| rail.name.as_str()).collect::<Vec<_>>(), rails, "{name}");
        assert!(meter.rails().iter().all(|rail| rail.reading.is_some()), "{name}");
    }
}

/// A board whose rails follow a power curve: before each reading the nodes are set for that moment, with the resolution that the chip
/// has. The clock goes on a little meanwhile, unevenly.
struct Driven {
    tree: Tree,
    meter: Box<dyn Meter>,
    clock: Arc<Simulated>,
    start: Instant,
    stop: Stop,
    /// What sets the nodes for `mw` of the board's total.
    set: fn(&Tree, f64, f64),
    power_mw: fn(f64) -> f64,
    readings: u32,
    /// The time of the last reading in seconds, and the energy up to it.
    used: (f64, f64),
}

/// How long a curve is followed, in seconds.
const SECONDS: f64 = 10.0;

impl Meter for Driven {
    fn read(&mut self) -> Result<Reading> {
        self.readings += 1;
        let t = (self.clock.now() - self.start).as_secs_f64();
        if t >= SECONDS {
            self.stop.request();
        }
        let (before, used_mj) = self.used;
        self.used = (t, used_mj + integral_mj(self.power_mw, before, t, 50));
        (self.set)(&self.tree, (self.power_mw)(t), self.used.1);
        // The reading takes 0 to 18 ms, and three in a row of every hundred fail.
        self.clock.advance(Duration::from_millis(u64::from(self.readings * 7 % 19)));
        match self.readings % 100 {
            40..43 => Err(Error::new(Kind::Io, "EAGAIN")),
            _ => self.meter.read(),
        }
    }

    fn rails(&self) -> &[Rail] {
        self.meter.rails()
    }

    fn describe(&self) -> String {
        self.meter.describe()
    }
}

/// Sets the current of channel `k` so that it draws `mw` at the voltage that it has. Steps of 4 mA, as of a 10 mΩ shunt.
fn hwmon_ma(tree: &Tree, hwmon: u32, k: u32, mw: f64) {
    let node = |name: &str| format!("sys/class/hwmon/hwmon{hwmon}/{name}{k}_input");
    let mv: f64 = tree.get(&node("in")).parse().unwrap();
    tree.line(&node("curr"), ((mw * 1e3 / mv / 4.0).round() * 4.0) as i64);
}

/// By board: from the total (mW) and the energy (mJ) to nodes.
fn set_nodes(board: &str) -> fn(&Tree, f64, f64) {
    match board {
        "nano" => |tree, mw, _| {
            let chip = "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0";
            for (k, share) in [(0, 1.0), (1, 0.3), (2, 0.2)] {
                tree.line(&format!("{chip}/in_power{k}_input"), (mw * share).round() as i64);
            }
        },
        "xavier-nx" => |tree, mw, _| (1..).zip([1.0, 0.5, 0.2]).for_each(|(k, share)| hwmon_ma(tree, 4, k, mw * share)),
        "agx-xavier" => |tree, mw, _| {
            (1..).zip([0.3, 0.2, 0.1]).for_each(|(k, share)| hwmon_ma(tree, 2, k, mw * share));
            (1..).zip([0.0, 0.1, 0.3]).for_each(|(k, share)| hwmon_ma(tree, 3, k, mw * share));
        },
        "orin-nano" => |tree, mw, _| (1..).zip([1.0, 0.5, 0.2]).for_each(|(k, share)| hwmon_ma(tree, 1, k, mw * share)),
        "agx-orin" => |tree, mw, _| {
            (1..).zip([0.4, 0.2, 0.3]).for_each(|(k, share)| hwmon_ma(tree, 3, k, mw * share));
            hwmon_ma(tree, 4, 2, mw * 0.1);
        },
        "thor" => |tree, mw, _| {
            tree.line("sys/class/hwmon/hwmon6/power1_input", (mw * 1e3) as i64);
            (1..).zip([0.3, 0.3, 0.1]).for_each(|(k, share)| hwmon_ma(tree, 5, k, mw * share));
        },
        // The counter wraps every 9 J.
        "rapl" => |tree, _, mj| {
            tree.line("sys/class/powercap/intel-rapl:0/energy_uj", (mj * 1e3) as u64 % 9_000_000);
        },
        _ => unreachable!(),
    }
}

fn board(name: &str) -> Tree {
    if name != "rapl" {
        return Tree::board(name);
    }
    let tree = Tree::new();
    rapl(&tree, "intel-rapl:0", "package-0", 0, 9_000_000);
    tree
}

/// Follows the curve; the monitor, and where the curve began.
fn follow(name: &str, power_mw: fn(f64) -> f64) -> (Monitor, Instant) {
    let (clock, stop, tree) = (Arc::new(Simulated::new()), Stop::new(), board(name));
    let (start, meter) = (clock.now(), open(&tree.sys()).unwrap());
    let monitor = Monitor::new(start);
    let (set, stopped) = (set_nodes(name), stop.clone());
    let mut driven = Driven {
        tree,
        meter,
        clock: Arc::clone(&clock),
        start,
        stop: stopped,
        set,
        power_mw,
        readings: 0,
        used: (0.0, 0.0),
    };
    monitor.sample(&mut driven, clock.as_ref(), &stop);
    (monitor, start)
}

#[test]
fn a_known_power_curve_gives_the_right_joules_on_every_board() {
    let curves: [fn(f64) -> f64; 3] = [
        |t| 6_000.0 + 300.0 * t,
        |t| 10_000.0 + 5_000.0 * (t * 6.0).sin(),
        |t| if (t as u64) % 4 < 2 { 5_000.0 } else { 14_000.0 },
    ];
    for name in BOARDS.iter().map(|board| board.name).chain(["rapl"]) {
        for (i, curve) in curves.into_iter().enumerate() {
            let (monitor, start) = follow(name, curve);
            let found = monitor.run(start + Duration::from_secs_f64(SECONDS)).unwrap().energy_mj;
            let truth = joules_x1000(curve, 0.0, SECONDS);
            assert!((found / truth - 1.0).abs() < 0.01, "{name}, curve {i}: {found:.0} of {truth:.0} mJ");
        }
    }
}

#[test]
fn rails_are_kept_apart_from_the_total() {
    let (monitor, start) = follow("thor", |_| 10_000.0);
    let whole = monitor.whole(start + Duration::from_secs_f64(SECONDS));
    let means: Vec<(&str, f64)> = whole.rails.iter().map(|rail| (rail.name.as_str(), rail.mean_mw.unwrap())).collect();
    let expected = [("VDD_GPU", 3_000.0), ("VDD_CPU_SOC_MSS", 3_000.0), ("VIN_SYS_5V0", 1_000.0), ("VIN", 10_000.0)];
    for ((name, mw), (expected, expected_mw)) in means.into_iter().zip(expected) {
        // A step of 4 mA at 20 V is 80 mW.
        assert!(name == expected && (mw - expected_mw).abs() <= 41.0, "{name}: {mw}");
    }
    assert!((whole.energy.unwrap().mean_mw - 10_000.0).abs() < 1.0, "no rail is added to the input");
}

#[test]
fn a_rail_beside_the_total_may_fail_alone() {
    let tree = Tree::board("orin-nano");
    let mut meter = open(&tree.sys()).unwrap();
    tree.line("sys/class/hwmon/hwmon1/curr2_input", "garbage");
    assert_eq!(mw(meter.as_mut()), 5443.2);
    assert!(meter.rails()[1].reading.is_none() && meter.rails()[2].reading.is_some());
}

#[test]
fn an_unlabelled_ina238_is_the_input_only_alone_and_beside_an_ina3221() {
    let tree = Tree::new();
    let chip = |hwmon: u32, uw: u64| {
        tree.line(&format!("sys/class/hwmon/hwmon{hwmon}/name"), "ina238");
        tree.line(&format!("sys/class/hwmon/hwmon{hwmon}/power1_input"), uw);
    };
    chip(1, 5_000_000);
    assert!(open(&tree.sys()).is_none(), "what it measures on another machine is unknown");
    ina3221(&tree, 0, &[("VDD_GPU", 5000, 100)]);
    assert_eq!(open(&tree.sys()).unwrap().describe(), "INA238, VIN");
    chip(2, 7_000_000);
    assert_eq!(open(&tree.sys()).unwrap().describe(), "INA3221, module rails (VDD_GPU)");
    tree.line("sys/class/hwmon/hwmon2/label", "VIN");
    let mut meter = open(&tree.sys()).unwrap();
    assert_eq!((mw(meter.as_mut()), meter.describe().as_str()), (7000.0, "INA238, VIN"));
}

#[test]
fn a_driver_that_comes_back_under_another_number_is_found_again() {
    let tree = Tree::new();
    ina3221(&tree, 2, &[("VDD_IN", 5000, 1000), ("VDD_SOC", 5000, 100)]);
    let mut meter = open(&tree.sys()).unwrap();
    assert_eq!(mw(meter.as_mut()), 5000.0);
    std::fs::remove_dir_all(tree.root().join("sys/class/hwmon/hwmon2")).unwrap();
    assert!(meter.read().is_err());
    ina3221(&tree, 6, &[("VDD_IN", 5000, 1200), ("VDD_SOC", 5000, 100)]);
    let readings =
        (0..200).map(|_| meter.read()).position(|reading| matches!(reading, Ok(Reading::PowerMw(mw)) if mw == 6000.0));
    assert!(readings.is_some_and(|n| n <= 100), "{readings:?}");
    // Another chip is not taken for it.
    std::fs::remove_dir_all(tree.root().join("sys/class/hwmon/hwmon6")).unwrap();
    ina3221(&tree, 7, &[("CPU", 5000, 1200)]);
    assert!((0..300).all(|_| meter.read().is_err()));
}

#[test]
fn a_total_of_zero_is_not_believed() {
    let tree = Tree::board("xavier-nx");
    let mut meter = open(&tree.sys()).unwrap();
    tree.line("sys/class/hwmon/hwmon4/curr1_input", 0);
    assert!(meter.read().unwrap_err().to_string().contains("claims 0 mW"));
}

proptest! {
    #[test]
    fn no_content_of_any_node_makes_a_meter_panic(content in prop::collection::vec(any::<u8>(), 0..60), number in any::<i64>()) {
        for name in ["orin-nano", "nano", "thor"] {
            let tree = Tree::board(name);
            let mut meter = open(&tree.sys()).unwrap();
            let nodes = ["sys/bus/i2c/devices/1-0040/hwmon/hwmon1/in1_input", "sys/class/hwmon/hwmon6/power1_input",
                "sys/bus/i2c/drivers/ina3221x/6-0040/iio:device0/in_power0_input"];
            for node in nodes.into_iter().filter(|node| tree.root().join(node).exists()) {
                tree.set(node, &content);
                let _ = meter.read();
                tree.line(node, number);
                if let Ok(Reading::PowerMw(mw)) = meter.read() {
                    prop_assert!((0.0..=PLAUSIBLE_MW).contains(&mw));
                }
            }
            for label in ["sys/class/hwmon/hwmon1/in1_label", "sys/class/hwmon/hwmon6/label"] {
                if tree.root().join(label).parent().unwrap().exists() {
                    tree.set(label, &content);
                }
            }
            if let Some(mut meter) = open(&tree.sys()) {
                let _ = (meter.read(), meter.describe());
            }
        }
    }
}
