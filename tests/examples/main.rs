//! Collecting as a process: from frames to a folder that `cfvit eval` reads; and what a full disk stops.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod power;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// Pictures, each of a scene of its own.
const PICTURES: usize = 24;

/// Says why a test shows nothing here. Not `println!`: the harness would swallow the line of a test that passes.
fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

fn cfvit(args: &[&str]) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cfvit"));
    command.args(args).env_remove("RUST_LOG").env_remove("STATE_DIRECTORY").stdin(Stdio::null()).output().unwrap()
}

fn works(args: &[&str]) -> String {
    let output = cfvit(args);
    let says = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {says}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Blocks of light and dark: a small hash says where.
fn picture(number: usize, path: &Path) {
    let hash = |x: u32, y: u32| {
        ((u64::from(x / 32) * 73_856_093) ^ (u64::from(y / 30) * 19_349_663) ^ (number as u64 * 83_492_791))
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            >> 40
    };
    let image = image::RgbImage::from_fn(320, 240, |x, y| image::Rgb([if hash(x, y) % 2 == 0 { 30 } else { 210 }; 3]));
    image.save(path).unwrap();
}

/// Decides the pictures like a camera, with `collect` in the configuration. What the log says; all frames were decided or dropped.
fn collect(dir: &Path, folder: &Path, collect: &str) -> String {
    let photos = dir.join("photos");
    std::fs::create_dir_all(&photos).unwrap();
    (0..PICTURES).for_each(|number| picture(number, &photos.join(format!("{number:02}.png"))));
    let config = dir.join("cfvit.toml");
    let text = format!(
        "[gate]\nthreshold = 2\n[[camera]]\nname = \"yard\"\nsource = {:?}\nfps = 8\n[web]\nenabled = false\n\
         [audit]\nfolder = \"none\"\n[collect]\nfolder = {:?}\ninterval_s = 0.1\n{collect}\n",
        photos.display().to_string(),
        folder.display().to_string()
    );
    // Without the feature the section is there all the same.
    std::fs::write(&config, text).unwrap();
    let output = cfvit(&["run", "--config", config.to_str().unwrap()]);
    let says = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{says}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("failed     0"),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    says
}

fn list(folder: &str) -> Value {
    serde_json::from_str(&works(&["examples", "list", "--json", "--folder", folder])).unwrap()
}

#[test]
fn frames_become_a_folder_that_eval_reads() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("examples");
    let folder = root.to_str().unwrap();
    let log = collect(dir.path(), &root, "auto = \"random\"\nprobability = 1\nmin_free_mib = 0");
    assert!(log.contains("examples: random") && !log.contains("no more examples"), "{log}");
    let found = list(folder);
    let names: Vec<String> =
        found["examples"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect();
    assert!((4..=PICTURES).contains(&names.len()), "{found}");
    assert!(names.iter().all(|name| name.contains("Z-yard-")), "{names:?}");
    let side_car: Value =
        serde_json::from_slice(&std::fs::read(root.join(format!("inbox/{}.json", names[0]))).unwrap()).unwrap();
    assert_eq!((&side_car["reason"], &side_car["stage"]), (&"random".into(), &"fine".into()));
    assert_eq!((&side_car["width"], &side_car["top"][0]["probability"].is_number()), (&320.into(), &true));

    // Half of them to one class, all but one of the others to another, by id and by name.
    let half = names.len() / 2;
    let mut label = vec!["examples", "label", "--folder", folder, "--class"];
    label.push("n03028079");
    label.extend(names[..half].iter().map(String::as_str));
    works(&label);
    let mut label = vec!["examples", "label", "--folder", folder, "--class", "parachute"];
    label.extend(names[half..names.len() - 1].iter().map(String::as_str));
    works(&label);
    for (wrong, says) in [("no class", "has no class"), ("../..", "has no class")] {
        let refused = cfvit(&["examples", "label", "--folder", folder, "--class", wrong, &names[0]]);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.status.code() == Some(2) && error.contains(says), "{error}");
    }
    let table = works(&["examples", "list", "--folder", folder]);
    assert!(table.contains("n03028079") && table.contains("(not labelled)"), "{table}");

    let labelled = names.len() - 1;
    let (flat, split) = (dir.path().join("flat"), dir.path().join("split"));
    works(&["examples", "export", "--flat", flat.to_str().unwrap(), "--folder", folder]);
    works(&["examples", "export", split.to_str().unwrap(), "--folder", folder]);
    let report = dir.path().join("report.json");
    works(&["eval", "--json", report.to_str().unwrap(), flat.to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    assert_eq!((&report["images"], &report["unreadable"]), (&labelled.into(), &0.into()));
    let exported = walkdir::WalkDir::new(&split).into_iter().flatten().filter(|entry| entry.file_type().is_file());
    assert_eq!(exported.count(), labelled, "without side-cars");
    let again = cfvit(&["examples", "export", flat.to_str().unwrap(), "--folder", folder]);
    assert_eq!(again.status.code(), Some(2), "nothing is overwritten");

    purging_asks_first(folder, names.len());
}

fn purging_asks_first(folder: &str, all: usize) {
    let count = || list(folder)["examples"].as_array().unwrap().len();
    assert_eq!(cfvit(&["examples", "purge", "--folder", folder]).status.code(), Some(2));
    assert!(works(&["examples", "purge", "--all", "--folder", folder]).contains("would be deleted"));
    works(&["examples", "purge", "--older-than", "1d", "--yes", "--folder", folder]);
    assert_eq!(count(), all, "none is a day old");
    works(&["examples", "purge", "--class", "inbox", "--yes", "--folder", folder]);
    assert_eq!(count(), all - 1);
    works(&["examples", "purge", "--all", "--yes", "--folder", folder]);
    assert_eq!(count(), 0);
}

#[test]
fn a_cap_stops_the_collecting_says_so_once_and_stops_no_frame() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("examples");
    let log = collect(dir.path(), &root, "auto = \"unsure\"\nband = [0, 1]\nmax_files = 2\nmin_free_mib = 0");
    assert_eq!(log.matches("no more examples are collected").count(), 1, "{log}");
    assert_eq!(list(root.to_str().unwrap())["examples"].as_array().unwrap().len(), 2);
    let log =
        collect(dir.path(), &dir.path().join("never"), "auto = \"random\"\nprobability = 1\nmin_free_mib = 1000000");
    assert!(log.contains("collect.min_free_mib"), "{log}");
    let log = collect(dir.path(), &dir.path().join("off"), "auto = \"off\"");
    assert!(!dir.path().join("off").exists(), "{log}");
}

/// A file system of a few pictures' size, until it is dropped.
struct Tiny<'a>(&'a Path);

impl<'a> Tiny<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        std::fs::create_dir(at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=128k", "tmpfs"]).arg(at).output().ok()?;
        mounted.status.success().then_some(Self(at))
    }
}

impl Drop for Tiny<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).output();
    }
}

#[test]
fn a_full_disk_stops_no_frame_and_leaves_no_half_file() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk");
    let Some(_tiny) = Tiny::mount(&disk) else {
        skipped("no file system can be mounted here (needs root)");
        return;
    };
    let root = disk.join("examples");
    let log = collect(dir.path(), &root, "auto = \"random\"\nprobability = 1\nmin_free_mib = 0");
    let stopped =
        log.matches("an example is not collected").count() + log.matches("no more examples are collected").count();
    assert!((1..=4).contains(&stopped), "{log}");
    let found = list(root.to_str().unwrap());
    let pictures = found["examples"].as_array().unwrap();
    assert!(!pictures.is_empty());
    for one in pictures {
        image::open(one["path"].as_str().unwrap()).unwrap();
    }
    let hidden = walkdir::WalkDir::new(&root).into_iter().flatten();
    assert_eq!(hidden.filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).count(), 0);
}
