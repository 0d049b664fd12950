//! An energy budget kept by a meter: `cfvit run` in a file system of its own, in which `/sys` is a made-up board whose power follows a known
//! curve. Needs root and `unshare`; says so where they are missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::explicit_write, reason = "tests")]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The node that says the input's current in milliamperes, and the input's voltage in volts.
const CURRENT: &str = "sys/bus/i2c/devices/1-0040/hwmon/hwmon1/curr1_input";
const VOLTS: f64 = 5.04;
/// Watts, over the seconds since the start: between 4 and 8, with the mean 6 over windows of 5 s.
fn watts(t: f64) -> f64 {
    6.0 + 2.0 * (std::f64::consts::TAU * t / 1.25).sin()
}
const MEAN_W: f64 = 6.0;

/// An Orin Nano in files, whose power follows [`watts`] until it is dropped.
struct Board {
    root: tempfile::TempDir,
    over: Arc<AtomicBool>,
    curve: Option<JoinHandle<()>>,
}

impl Board {
    fn new() -> Self {
        let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sysfs/orin-nano.tree");
        let root = tempfile::tempdir().unwrap();
        for line in fs::read_to_string(tree).unwrap().lines().filter(|line| !line.starts_with('#')) {
            if let Some((node, value)) = line.split_once(" = ") {
                let node = root.path().join(node);
                fs::create_dir_all(node.parent().unwrap()).unwrap();
                fs::write(node, format!("{value}\n")).unwrap();
            } else if let Some((node, target)) = line.split_once(" -> ") {
                let link = root.path().join(node);
                fs::create_dir_all(link.parent().unwrap()).unwrap();
                std::os::unix::fs::symlink(target, link).unwrap();
            }
        }
        let over = Arc::new(AtomicBool::new(false));
        let (node, next, end) = (root.path().join(CURRENT), root.path().join("next"), Arc::clone(&over));
        let curve = std::thread::spawn(move || {
            let start = Instant::now();
            while !end.load(Ordering::Relaxed) {
                let ma = 1e3 * watts(start.elapsed().as_secs_f64()) / VOLTS;
                // Renamed: a reader never finds half a number.
                fs::write(&next, format!("{ma:.0}\n")).and_then(|()| fs::rename(&next, &node)).unwrap();
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { root, over, curve: Some(curve) }
    }

    /// `cfvit` where `/sys` is the board's; `None` where no such place can be made.
    fn cfvit(&self, args: &[&str]) -> Option<Output> {
        let script = "mount --bind \"$0\" /sys || exit 99; exec \"$@\"";
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", script]).arg(self.root.path().join("sys"));
        command.arg(assert_cmd::cargo::cargo_bin("cfvit")).args(args);
        let output = command.env_remove("RUST_LOG").env_remove("STATE_DIRECTORY").output().ok()?;
        let denied = output.status.code() == Some(99) || output.stderr.starts_with(b"unshare");
        (!denied).then_some(output)
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.curve.take().map(JoinHandle::join);
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The decisions of a run with `gate` in its configuration; `None` where it cannot run.
fn run(board: &Board, gate: &str, frames: usize) -> Option<(Vec<Value>, String)> {
    let folder = tempfile::tempdir().unwrap();
    let (config, records) = (folder.path().join("cfvit.toml"), folder.path().join("records.jsonl"));
    let pictures: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures");
    let text_of = format!(
        "[gate]\n{gate}\n[[camera]]\nname = \"door\"\nsource = \"{}\"\nrepeat = true\n[power]\nidle_s = 0\n[audit]\nslot_s = \"off\"\n",
        pictures.display()
    );
    fs::write(&config, text_of).unwrap();
    let frames = frames.to_string();
    let output = board.cfvit(&["run", "--config", text(&config), "--frames", &frames, "--jsonl", text(&records)])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let lines = fs::read_to_string(&records).unwrap();
    Some((lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), said))
}

/// Millijoules of a frame on average, by the curve's mean power.
fn mean_mj(records: &[Value]) -> f64 {
    let ms: f64 = records.iter().map(|record| record["timing_ms"]["total"].as_f64().unwrap()).sum();
    MEAN_W * ms / records.len() as f64
}

/// Measures what a frame costs and keeps the mean half-way between a coarse exit and both stages; `None` where nothing can run.
fn keeps_a_budget(board: &Board) -> Option<bool> {
    let (coarse, said) = run(board, "threshold = 0", 400)?;
    assert!(said.contains("energy: INA3221, VDD_IN"), "{said}");
    let (both, _) = run(board, "threshold = 2", 400)?;
    let (none, all) = (mean_mj(&coarse[50..]), mean_mj(&both[50..]));
    let budget = none + 0.5 * (all - none);
    // Three windows of 5 s until it is kept, then some to look at.
    let frames = (45e3 / (budget / MEAN_W)) as usize;
    let (records, said) = run(board, &format!("budget = \"{budget} mJ\""), frames)?;
    let infeasible = said.contains("budget_infeasible");
    let looked_at = &records[frames / 2..];
    let kept = mean_mj(looked_at);
    let share = looked_at.iter().filter(|record| record["exit"] == "fine").count() as f64 / looked_at.len() as f64;
    let line =
        format!("coarse {none:.2} mJ, both {all:.2} mJ, budget {budget:.2} mJ, mean {kept:.2} mJ, fine {share:.2}");
    writeln!(std::io::stderr(), "{line}").unwrap();
    Some(!infeasible && (kept / budget - 1.0).abs() < 0.05 && (0.1..0.9).contains(&share))
}

#[test]
fn a_budget_in_millijoules_is_kept_by_what_the_meter_says() {
    let board = Board::new();
    // What a frame costs is time, and other programs may change that in the middle of a run: then the costs are measured anew. Never to
    // refine, or always, misses the budget by a quarter on any machine.
    for _ in 0..8 {
        match keeps_a_budget(&board) {
            Some(true) => return,
            Some(false) => {}
            None => {
                writeln!(std::io::stderr(), "skipped: no file system of its own (needs root and unshare)").unwrap();
                return;
            }
        }
    }
    panic!("the budget was never kept within 5 %");
}

#[test]
fn without_a_meter_a_budget_in_millijoules_is_refused() {
    let board = Board::new();
    fs::remove_file(board.root.path().join("sys/class/hwmon/hwmon1")).unwrap();
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures");
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("cfvit.toml");
    let says = format!("[gate]\nbudget = \"9 mJ\"\n[[camera]]\nname = \"door\"\nsource = \"{}\"\n", pictures.display());
    fs::write(&config, says).unwrap();
    let Some(output) = board.cfvit(&["run", "--config", text(&config)]) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("no power meter"), "{said}");
}
