//! `cfvit eval` as a process: the bundled model on the bundled pictures, and, where they lie beside the checkout, on the thousand
//! photographs and against the curve that the model's training code measured.

#![allow(clippy::unwrap_used, clippy::explicit_write, reason = "test code outside of #[test] functions")]

use std::io::Write;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn eval(arguments: &[&str], dir: &Path) -> Command {
    let mut command = Command::cargo_bin("cfvit").unwrap();
    command.arg("eval").args(arguments).arg(dir);
    command
}

/// What `eval --json` writes.
fn report(arguments: &[&str], dir: &Path) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    eval(arguments, dir).arg("--json").arg(&file).assert().success();
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| unreachable!("{value} is no number"))
}

#[test]
fn the_report_has_the_documented_keys_and_agrees_with_itself() {
    let report = report(&["--sweep"], &root().join("tests/data/pictures"));
    assert_eq!((&report["images"], &report["unreadable"]), (&12.into(), &0.into()));
    assert_eq!(report["threshold"], 0.5, "the package's");
    let sweep = report["sweep"].as_array().unwrap();
    assert_eq!(sweep.len(), 101);
    assert_eq!((number(&sweep[7]["threshold"]), number(&sweep[100]["threshold"])), (0.07, 1.0));
    assert_eq!(sweep[0]["top1"], report["coarse"]["top1"]);
    assert_eq!(sweep[100]["top1"], report["fine"]["top1"]);
    assert_eq!(sweep[50]["fine_fraction"], report["dynamic"]["fine_fraction"]);
    assert_eq!(sweep[50]["mean_gmacs"], report["dynamic"]["mean_gmacs"]);
    for key in ["top1", "top5"] {
        for part in ["coarse", "fine", "dynamic"] {
            assert!((0.0..=100.0).contains(&number(&report[part][key])), "{part}.{key}");
        }
    }
    let fine_share = number(&report["dynamic"]["fine_fraction"]);
    let cost = number(&report["gmacs"]["coarse"]) + fine_share * number(&report["gmacs"]["fine"]);
    assert!((number(&report["dynamic"]["mean_gmacs"]) - cost).abs() < 1e-9);
}

#[test]
fn a_damaged_picture_is_named_skipped_and_makes_the_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["n01440764", "n02102040"] {
        std::fs::create_dir(folder.path().join(class)).unwrap();
    }
    let good = root().join("tests/data/pictures/n01440764/ILSVRC2012_val_00017700.JPEG");
    std::fs::copy(good, folder.path().join("n01440764/good.jpg")).unwrap();
    std::fs::write(folder.path().join("n02102040/bad.jpg"), b"no picture").unwrap();
    let output = eval(&[], folder.path()).assert().code(1);
    let (stdout, stderr) = (&output.get_output().stdout, String::from_utf8_lossy(&output.get_output().stderr));
    assert!(String::from_utf8_lossy(stdout).contains("1 picture,"), "the good one is counted");
    assert!(stderr.contains("n02102040/bad.jpg") && stderr.contains("1 of 2 pictures"), "{stderr}");
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_what_was_expected() {
    let (pictures, folder) = (root().join("tests/data/pictures"), tempfile::tempdir().unwrap());
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    for (arguments, dir, expected) in [
        (&["--threshold", "-0.1"][..], pictures.as_path(), "a number from 0 to 2"),
        (&["--threshold", "60"], &pictures, "0.6 is 60 %"),
        (&["--sweep", "--threshold", "0.5"], &pictures, "cannot be used with"),
        (&["--crop", "1.5"], &pictures, "0.01 to 1"),
        (&[], folder.path(), "hold no pictures"),
        (&[], &root().join("tests/data/pictures/n01440764"), "holds no folders"),
    ] {
        let output = eval(arguments, dir).assert().code(2);
        let stderr = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

/// The photographs and the training code's numbers beside the checkout; `None`, said aloud, where they are not.
fn shared() -> Option<(PathBuf, Value)> {
    let shared = root().join("../shared");
    let reference = std::fs::read(shared.join("models/imagenette-cf-deit.reference.json"));
    let (Ok(reference), photographs) = (reference, shared.join("imagenette/val")) else {
        // Not `println!`: the harness would swallow the line of a test that passes.
        writeln!(std::io::stderr(), "skipped: {} has no photographs", shared.display()).unwrap();
        return None;
    };
    Some((photographs, serde_json::from_slice(&reference).unwrap()))
}

#[test]
fn a_thousand_photographs_give_the_training_code_s_accuracy_and_curve() {
    let Some((photographs, reference)) = shared() else { return };
    let report = report(&["--sweep"], &photographs);
    for part in ["coarse", "fine"] {
        let difference = number(&report[part]["top1"]) - number(&reference[part]["top1"]);
        assert!(difference.abs() <= 0.3, "{part} top-1 differs by {difference} points");
    }
    for (point, expected) in report["sweep"].as_array().unwrap().iter().zip(reference["sweep"].as_array().unwrap()) {
        let difference = |key: &str| (number(&point[key]) - number(&expected[key])).abs();
        assert!(difference("top1") <= 0.5, "{point}, expected {expected}");
        assert!(difference("fine_fraction") <= 0.005, "{point}, expected {expected}");
    }
}

#[test]
fn storing_the_bundled_model_in_16_bits_changes_next_to_no_answer() {
    if shared().is_none() {
        return;
    }
    let answers = |model: &[&str]| -> Vec<Value> {
        let photographs = root().join("../shared/imagenette/val");
        // Both stages' answers: never refined, then always.
        let run = |threshold: &str| {
            let mut command = Command::cargo_bin("cfvit").unwrap();
            command.args(["classify", "--json", "--threshold", threshold]).args(model).arg(&photographs);
            let output = command.assert().success().get_output().stdout.clone();
            let labels = String::from_utf8(output).unwrap();
            labels.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["label"].clone()).collect::<Vec<_>>()
        };
        [run("0"), run("2")].concat()
    };
    let checkpoint = root().join("../shared/models/imagenette-cf-deit.pth");
    let (bundled, original) = (answers(&[]), answers(&["--model", checkpoint.to_str().unwrap()]));
    for stage in [0..1000, 1000..2000] {
        let changed = stage.clone().filter(|&i| bundled[i] != original[i]).count();
        assert!(changed <= 2, "{changed} of 1000 answers changed in {stage:?}");
    }
}
