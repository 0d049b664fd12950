//! `cfvit classify` and `cfvit visualize` as processes, with the bundled model and pictures.

#![allow(clippy::unwrap_used, reason = "clippy allows it in test functions, not in their helpers")]

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

/// A photograph that the coarse stage is sure of.
const EASY: &str = "n01440764/ILSVRC2012_val_00017700.JPEG";
/// One that needs the fine stage.
const HARD: &str = "n03425413/n03425413_20741.JPEG";

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures")
}

fn cfvit(arguments: &[&str]) -> Command {
    let mut command = Command::cargo_bin("cfvit").unwrap();
    command.args(arguments);
    command
}

/// The objects that `classify --json` prints.
fn objects(output: &[u8]) -> Vec<Value> {
    std::str::from_utf8(output).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `classify --json` on one picture.
fn answer(picture: &str, arguments: &[&str]) -> Value {
    let output = cfvit(&["classify", "--json"]).args(arguments).arg(pictures().join(picture)).assert().success();
    let mut objects = objects(&output.get_output().stdout);
    assert_eq!(objects.len(), 1);
    objects.remove(0)
}

#[test]
fn easy_pictures_leave_early_and_hard_ones_are_refined() {
    let easy = answer(EASY, &[]);
    assert_eq!((&easy["exit"], &easy["name"], &easy["label"]), (&"coarse".into(), &"tench".into(), &0.into()));
    assert_eq!(easy["timing_ms"]["fine"], 0.0);
    let hard = answer(HARD, &["--trace"]);
    assert_eq!((&hard["exit"], &hard["name"]), (&"fine".into(), &"gas pump".into()));
    assert!(hard["timing_ms"]["fine"].as_f64().unwrap() > 0.0);
    assert!(hard["trace"]["coarse_confidence"].as_f64().unwrap() < 0.5);
    assert_eq!(hard["trace"]["informative"].as_array().unwrap().len(), 25);
    assert_eq!(hard["trace"]["class_attention"].as_array().unwrap().len(), 49);
    assert_eq!(hard["trace"]["fine_logits"].as_array().unwrap().len(), 10);
}

#[test]
fn the_threshold_decides_who_answers() {
    assert_eq!(answer(HARD, &["--threshold", "0"])["exit"], "coarse");
    assert_eq!(answer(EASY, &["--threshold", "1.1"])["exit"], "fine");
}

#[test]
fn a_coarse_trace_has_no_fine_logits_but_the_cells() {
    let trace = &answer(EASY, &["--trace"])["trace"];
    assert!(trace["fine_logits"].is_null());
    assert_eq!(trace["informative"].as_array().unwrap().len(), 25);
}

#[test]
fn no_crop_takes_pictures_of_the_right_size_only() {
    // The photographs have the model's size, so that both work, and differently.
    let (cropped, exact) = (answer(HARD, &["--trace"]), answer(HARD, &["--trace", "--no-crop"]));
    assert_ne!(cropped["trace"]["coarse_logits"], exact["trace"]["coarse_logits"]);
    assert_eq!(answer(HARD, &["--trace", "--crop", "1"])["trace"]["coarse_logits"], exact["trace"]["coarse_logits"]);
    let small = pictures().join("../pillow/cmyk.jpg");
    let output = cfvit(&["classify", "--no-crop"]).arg(small).assert().code(1);
    let error = String::from_utf8_lossy(&output.get_output().stderr).into_owned();
    assert!(error.contains("cmyk.jpg") && error.contains("77×103") && error.contains("224×224"), "{error}");
}

#[test]
fn folders_are_searched_and_a_bad_picture_does_not_stop_the_others() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("b")).unwrap();
    std::fs::copy(pictures().join(EASY), folder.path().join("b/easy.jpg")).unwrap();
    std::fs::copy(pictures().join(HARD), folder.path().join("hard.jpg")).unwrap();
    std::fs::write(folder.path().join("a\x1b[31m.png"), "no picture").unwrap();
    let output = cfvit(&["classify", "--json", "--top", "2"]).arg(folder.path()).assert().code(1);
    let output = output.get_output();
    let found = objects(&output.stdout);
    let names: Vec<_> = found.iter().map(|o| o["image"].as_str().unwrap().rsplit('/').next().unwrap()).collect();
    assert_eq!(names, ["easy.jpg", "hard.jpg"]);
    assert!(found.iter().all(|object| object["top"].as_array().unwrap().len() == 2));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("[31m.png") && error.contains("1 of 3 pictures") && !error.contains('\x1b'), "{error:?}");
}

#[test]
fn people_get_a_block_for_each_picture_and_a_summary() {
    let output = cfvit(&["classify"]).arg(pictures().join(EASY)).arg(pictures().join(HARD)).assert().success();
    let text = String::from_utf8_lossy(&output.get_output().stdout).into_owned();
    for expected in
        ["label       tench (class 0)", "exit        coarse\n", "exit        fine (coarse: ", "2 images: 1 refined"]
    {
        assert!(text.contains(expected), "`{expected}` is missing in\n{text}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    let empty = tempfile::tempdir().unwrap();
    let easy = pictures().join(EASY);
    for arguments in [
        &["--threshold", "-0.1"][..],
        &["--threshold", "nan"],
        &["--threshold", "inf"],
        &["--top", "0"],
        &["--crop", "0"],
        &["--crop", "1.5"],
        &["--crop", "0.9", "--no-crop"],
        &["--trace"],
    ] {
        cfvit(&["classify"]).args(arguments).arg(&easy).assert().code(2);
    }
    cfvit(&["classify"]).assert().code(2);
    cfvit(&["classify"]).arg(empty.path()).assert().code(2);
    cfvit(&["visualize"]).arg(&easy).assert().code(2);
}

#[test]
fn figures_show_the_stage_and_keep_pictures_of_the_same_name_apart() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("deep/figures");
    std::fs::create_dir(folder.path().join("b")).unwrap();
    let (easy, hard) = (folder.path().join("x.jpg"), folder.path().join("b/x.jpg"));
    std::fs::copy(pictures().join(EASY), &easy).unwrap();
    std::fs::copy(pictures().join(HARD), &hard).unwrap();
    // Twice: the second run replaces what the first has written.
    for _ in 0..2 {
        cfvit(&["visualize", "--out"]).args([&out, &easy, &hard]).assert().success();
    }
    let mut names: Vec<_> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["x-2.png", "x.png"]);
    let grey = |name: &str| {
        let image = image::open(out.join(name)).unwrap().into_rgb8();
        assert_eq!(image.width(), 672);
        let picture = image.rows().take(672).flatten();
        picture.filter(|pixel| pixel.0[0] == pixel.0[1] && pixel.0[1] == pixel.0[2]).count()
    };
    let cell = 96 * 96;
    assert!(grey("x-2.png") >= 24 * cell, "the 24 cells that the fine stage passed over are grey");
    assert!(grey("x.png") < 10 * cell, "nothing is greyed where the coarse stage answered");
}

#[test]
fn a_closed_pipe_is_not_a_failure() {
    let mut child = std::process::Command::new(assert_cmd::cargo::cargo_bin("cfvit"))
        .args(["classify", "--json"])
        .arg(pictures())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
