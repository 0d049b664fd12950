//! `cfvit init` as a process: repeatable bytes, and a file that the other commands take.

#![allow(clippy::unwrap_used, reason = "clippy allows it in test functions, not in their helpers")]

use std::path::Path;

use assert_cmd::Command;
use serde_json::Value;

const PICTURE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pictures/n01440764/ILSVRC2012_val_00017700.JPEG");

fn cfvit(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("cfvit").unwrap();
    command.args(arguments);
    command
}

fn init(path: &Path, arguments: &[&str]) {
    let output = cfvit(&["init", "--out"]).arg(path).args(arguments).assert().success();
    let text = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
    assert!(text.contains(&path.display().to_string()), "{text}");
}

/// The JSON that a command prints about the model at `path`.
fn json(command: &mut Command) -> Value {
    serde_json::from_slice(&command.assert().success().get_output().stdout).unwrap()
}

#[test]
fn the_seed_decides_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let [first, again, other] = ["first", "again", "other"].map(|name| folder.path().join(name));
    let arguments = ["--arch", "cf_deit_small", "--classes", "10", "--seed"];
    for (path, seed) in [(&first, "5"), (&again, "5"), (&other, "6")] {
        init(path, &[&arguments[..], &[seed]].concat());
    }
    let [first, again, other] = [first, again, other].map(|path| std::fs::read(path).unwrap());
    assert!(first == again, "the same seed made other bytes");
    let differing = first.iter().zip(&other).filter(|(a, b)| a != b).count();
    assert!(first.len() == other.len() && differing > first.len() / 2, "{differing} of {} bytes", first.len());
}

#[test]
fn the_other_commands_take_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("random.safetensors");
    for (arch, grid, name, macs) in [
        ("cf_deit_small", "7", "cf_deit_small", ["1.10 G", "2.91 G"]),
        ("cf_lvvit_small", "9", "cf_lvvit_small", ["2.61 G", "7.74 G"]),
    ] {
        // The second replaces the first.
        init(&path, &["--arch", arch, "--grid", grid]);
        let output = cfvit(&["inspect"]).arg(&path).assert().success();
        let text = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
        for expected in [name, macs[0], macs[1], "1000"] {
            assert!(text.contains(expected), "`{expected}` is missing in\n{text}");
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
}

/// Activations neither die nor explode on the way: both stages' logits differ from class to class, and the class attention from
/// cell to cell.
#[test]
fn it_decides_pictures_with_lively_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("random.safetensors");
    for arch in ["cf_deit_small", "cf_lvvit_small"] {
        init(&path, &["--arch", arch, "--seed", "1"]);
        let arguments = ["classify", "--json", "--trace", "--threshold", "1.1", PICTURE, "--model"];
        let answer = json(cfvit(&arguments).arg(&path));
        let values = |key: &str| -> Vec<f64> {
            answer["trace"][key].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
        };
        for key in ["coarse_logits", "fine_logits"] {
            let spread = deviation(&values(key));
            assert!((1.0..10.0).contains(&spread), "{arch}: {key} differ by {spread}");
        }
        let attention = values("class_attention");
        let mean = attention.iter().sum::<f64>() / attention.len() as f64;
        let relative = deviation(&attention) / mean;
        assert!((0.1..5.0).contains(&relative), "{arch}: the class attention differs by {relative} of its mean");
    }
}

fn deviation(values: &[f64]) -> f64 {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
}

#[test]
fn wrong_usage_ends_with_2_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("random.safetensors");
    for arguments in [
        &["--arch", "cf_deit_base"][..],
        &["--arch", "cf_deit_small", "--grid", "8"],
        &["--arch", "cf_deit_small", "--classes", "0"],
        &["--arch", "cf_deit_small", "--seed", "-1"],
        &[],
    ] {
        cfvit(&["init", "--out"]).arg(&path).args(arguments).assert().code(2);
    }
    cfvit(&["init", "--arch", "cf_deit_small"]).assert().code(2);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    let nowhere = folder.path().join("none/x.safetensors");
    cfvit(&["init", "--arch", "cf_deit_small", "--out"]).arg(nowhere).assert().code(1);
}
