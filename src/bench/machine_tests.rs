//! States read from trees made here.

use super::*;
use proptest::prelude::*;

struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn set(&self, node: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.0.path().join(node);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn stat(&self, [user, idle, steal, own]: [u64; 4]) -> &Self {
        self.set("proc/stat", format!("cpu  {user} 0 0 {idle} 0 0 0 {steal} 0 0\ncpu0 1 2\ncpu1 1 2\nintr 5\n"));
        self.set("proc/self/stat", format!("7 (a ) b) R 1 1 1 0 -1 4 1 0 0 0 {own} 0 0 0 20"))
    }

    fn state(&self) -> State {
        State::read(self.0.path())
    }
}

#[test]
fn a_machine_that_tells_nothing_gives_nothing_and_no_warning() {
    let tree = Tree::new();
    assert_eq!(tree.state(), State::default());
    assert_eq!(Memory::read(tree.0.path()), Memory::default());
    assert_eq!(cpu_name(tree.0.path()), None);
    let change = Change::between(&tree.state(), &tree.state());
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
        .set("proc/self/status", "Name:\tx\nVmHWM:\t  2048 kB\nVmRSS:\t  1024 kB\n")
        .stat([100, 850, 50, 40]);
    let state = tree.state();
    assert_eq!((state.clock_mhz, state.hottest_celsius, state.throttled), (Some(2000.0), Some(61.0), Some(7)));
    assert_eq!((state.load_1min, state.running), (Some(1.25), Some(3)));
    assert_eq!(state.ticks, Some(Ticks { total: 1000, idle: 850, steal: 50, own: 40, processors: 2 }));
    assert_eq!(Memory::read(tree.0.path()), Memory { resident_kib: Some(1024), peak_kib: Some(2048) });
    assert_eq!(cpu_name(tree.0.path()).as_deref(), Some("Some CPU @ 3"));
}

#[test]
fn clock_and_name_have_a_second_source() {
    let tree = Tree::new();
    tree.set("proc/cpuinfo", "cpu MHz : 1000.0\ncpu MHz : 2000.0\n").set("proc/device-tree/model", b"Jetson Orin\0");
    assert_eq!(tree.state().clock_mhz, Some(1500.0));
    assert_eq!(cpu_name(tree.0.path()).as_deref(), Some("Jetson Orin"));
}

#[test]
fn a_clean_window_has_no_warning_and_each_disturbance_has_one() {
    let tree = Tree::new();
    let set = |mhz: u32, throttled: u32| {
        tree.set("proc/cpuinfo", format!("cpu MHz : {mhz}\n"))
            .set("sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count", throttled.to_string());
    };
    set(2000, 5);
    let before = tree.stat([0, 0, 0, 0]).state();
    // Two processors, 1000 ticks together: this program used 700, others 40 (8 % of one processor), 5 were stolen.
    set(2080, 5);
    let clean = tree.stat([740, 255, 5, 700]).state();
    assert_eq!(Change::between(&before, &clean).warnings(), Vec::<String>::new());

    set(1800, 7);
    let disturbed = tree.stat([800, 150, 50, 700]).state();
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
            "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count",
        ];
        for node in nodes {
            tree.set(node, &content);
        }
        let before = tree.state();
        let (_, _) = (Memory::read(tree.0.path()), cpu_name(tree.0.path()));
        // Counters at their limits.
        let numbers = numbers.map(|n| n.to_string()).join(" ");
        tree.set("proc/stat", format!("cpu {numbers}\ncpu0\n")).set("proc/self/stat", format!("1 (x) R {numbers} {numbers} {numbers}"));
        let after = tree.state();
        for (a, b) in [(&before, &after), (&after, &before), (&after, &after)] {
            Change::between(a, b).warnings();
        }
    }
}
