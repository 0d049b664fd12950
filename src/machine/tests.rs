//! States read from trees made here.

use super::fixture::Tree;
use super::*;
use proptest::prelude::*;

fn stat([user, idle, steal, own]: [u64; 4], tree: &Tree) -> &Tree {
    tree.set("proc/stat", format!("cpu  {user} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu0 1 2\ncpu1 1 2\nintr 5\n"));
    tree.set("proc/self/stat", format!("7 (a ) b) R 1 1 1 0 -1 4 1 0 0 0 {own} 0 0 0 20"))
}

fn state(tree: &Tree) -> State {
    State::read(tree.root())
}

#[test]
fn a_machine_that_tells_nothing_gives_nothing_and_no_warning() {
    let tree = Tree::new();
    assert_eq!(state(&tree), State::default());
    assert_eq!(Memory::read(tree.root()), Memory::default());
    assert_eq!(cpu_name(tree.root()), None);
    let change = Change::between(&state(&tree), &state(&tree));
    assert_eq!(change, Change::default());
    assert!(change.warnings().is_empty());
}

#[test]
fn a_machine_that_tells_all_is_read_right() {
    let tree = Tree::new();
    tree.set("sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1500000\n")
        .set("sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "2500000\n")
        .set("sys/devices/system/cpu/cpufreq/scaling_cur_freq", "1\n")
        .set("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "3\n")
        .set("sys/devices/system/cpu/cpu1/thermal_throttle/package_throttle_count", "4\n")
        .set("sys/class/thermal/thermal_zone0/temp", "45500\n")
        .set("sys/class/thermal/thermal_zone10/temp", "61000\n")
        .set("sys/class/thermal/thermal_zone2/temp", "-256000\n")
        .set("proc/loadavg", "1.25 0.5 0.4 3/148 99\n")
        .set("proc/cpuinfo", "processor : 0\nmodel name\t: Some CPU @ 3\ncpu MHz\t\t: 900.0\n")
        .set("proc/self/status", "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n");
    stat([100, 850, 50, 40], &tree);
    let state = state(&tree);
    assert_eq!((state.clock_mhz, state.hottest_celsius, state.throttled), (Some(2000.0), Some(61.0), Some(7)));
    assert_eq!((state.load_1min, state.running), (Some(1.25), Some(3)));
    assert_eq!(state.ticks, Some(Ticks { total: 1000, idle: 850, steal: 50, own: 40, processors: 2 }));
    assert_eq!(Memory::read(tree.root()), Memory { resident_kib: Some(1024), peak_kib: Some(2048) });
    assert_eq!(cpu_name(tree.root()).as_deref(), Some("Some CPU @ 3"));
}

#[test]
fn jetson_boards_tell_mode_clock_zones_and_over_current() {
    let tree = Tree::board("orin-nano");
    let before = state(&tree);
    assert_eq!(before.power_mode.as_deref(), Some("MAXN_SUPER (mode 2)"));
    assert_eq!((before.clock_mhz, before.gpu_clock_mhz), (Some(1728.0), Some(1020.0)));
    assert_eq!((before.hottest_celsius, before.zones_celsius.get("gpu-thermal")), (Some(51.437), Some(&49.5)));
    assert_eq!((before.over_current, before.limited_by.len()), (Some(7), 0), "a fan that turns holds nothing back");
    tree.line("sys/class/thermal/cooling_device3/cur_state", 1);
    tree.line("sys/class/hwmon/hwmon1/curr1_max_alarm", 1).line("sys/class/hwmon/hwmon2/oc3_event_cnt", 9);
    let after = state(&tree);
    assert_eq!(after.limited_by, ["VDD_IN current above max", "gpu-throttle-alert"]);
    let warnings = Change::between(&before, &after).warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("too high 2 times"), "{warnings:?}");
    for (board, mode, mhz) in [
        ("nano", Some("MAXN (mode 0)"), 921.6),
        ("xavier-nx", Some("MODE_15W_6CORE (mode 2)"), 1109.25),
        ("agx-xavier", Some("MAXN (mode 0)"), 1377.0),
        ("agx-orin", Some("MODE_50W (mode 3)"), 828.75),
        ("thor", None, 1386.0),
    ] {
        let state = state(&Tree::board(board));
        assert_eq!((state.power_mode.as_deref(), state.gpu_clock_mhz), (mode, Some(mhz)), "{board}");
    }
}

#[test]
fn clock_and_name_have_a_second_source() {
    let tree = Tree::new();
    tree.set("proc/cpuinfo", "cpu MHz : 1000.0\ncpu MHz : 2000.0\n").set("proc/device-tree/model", b"Jetson Orin\0");
    assert_eq!(state(&tree).clock_mhz, Some(1500.0));
    assert_eq!(cpu_name(tree.root()).as_deref(), Some("Jetson Orin"));
}

#[test]
fn a_clean_window_has_no_warning_and_each_disturbance_has_one() {
    let tree = Tree::new();
    let set = |mhz: u32, throttled: u32| {
        tree.set("proc/cpuinfo", format!("cpu MHz : {mhz}\n"))
            .set("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", throttled.to_string());
    };
    set(2000, 5);
    let before = state(stat([0, 0, 0, 0], &tree));
    // Two processors, 1000 ticks together: this program used 700, others 40 (8 % of one processor), 5 were stolen.
    set(2080, 5);
    let clean = state(stat([740, 255, 5, 700], &tree));
    assert_eq!(Change::between(&before, &clean).warnings(), Vec::<String>::new());

    set(1800, 7);
    let disturbed = state(stat([800, 150, 50, 700], &tree));
    let change = Change::between(&before, &disturbed);
    assert_eq!(change.steal_percent, Some(5.0));
    assert!((change.others_percent.unwrap() - 20.0).abs() < 1e-9);
    let warnings = change.warnings().join("\n");
    assert_eq!(change.warnings().len(), 4, "{warnings}");
    for part in ["took 5.0 %", "used 20 %", "-10 %", "throttled for heat 2 times"] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
}

#[test]
fn scattered_times_are_warned_about() {
    let summary = |values: &[f64]| Summary::of(values).unwrap();
    assert_eq!(scatter_warning("coarse", &summary(&[10.0, 10.5, 9.5])), None);
    assert!(scatter_warning("coarse", &summary(&[10.0, 15.0])).unwrap().starts_with("coarse scatters"));
}

proptest! {
    #[test]
    fn no_content_of_any_node_makes_it_fail(content in prop::collection::vec(any::<u8>(), 0..200), numbers in any::<[u64; 8]>()) {
        let tree = Tree::new();
        let nodes = [
            "proc/loadavg", "proc/stat", "proc/self/stat", "proc/self/status", "proc/cpuinfo", "proc/device-tree/model",
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "sys/class/thermal/thermal_zone0/temp",
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", "var/lib/nvpmodel/status", "etc/nvpmodel.conf",
            "sys/class/thermal/thermal_zone0/type", "sys/class/thermal/cooling_device0/type",
            "sys/class/thermal/cooling_device0/cur_state", "sys/class/hwmon/hwmon0/oc1_event_cnt",
            "sys/class/hwmon/hwmon0/curr1_max_alarm", "sys/class/devfreq/gpu/cur_freq",
        ];
        for node in nodes {
            tree.set(node, &content);
        }
        let before = state(&tree);
        let (_, _) = (Memory::read(tree.root()), cpu_name(tree.root()));
        // Counters at their limits.
        let numbers = numbers.map(|n| n.to_string()).join(" ");
        tree.set("proc/stat", format!("cpu {numbers}\ncpu0\n")).set("proc/self/stat", format!("1 (x) R {numbers} {numbers} {numbers}"));
        let after = state(&tree);
        for (a, b) in [(&before, &after), (&after, &before), (&after, &after)] {
            Change::between(a, b).warnings();
        }
    }
}
