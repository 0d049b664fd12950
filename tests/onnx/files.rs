//! `cfvit export` as a process.

use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use cfvit::model::{self, Family, Geometry};

fn export(arguments: &[&str], out: &Path) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cfvit"));
    command.arg("export").args(arguments).arg("--out").arg(out).output().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn it_prints_files_inputs_and_outputs_and_repeats_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let [first, again] = ["first", "again"].map(|name| folder.path().join(name));
    for out in [&first, &again] {
        let output = export(&["--precision", "fp16", "--static", "--batch", "2"], out);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        for name in names(out) {
            let line = text.lines().find(|line| line.contains(&name)).unwrap_or_else(|| panic!("no {name}:\n{text}"));
            assert!(line.ends_with(" MB"), "{line}");
        }
        for expected in [
            "input   coarse_image      fp32  [2, 3, 112, 112]",
            "output  class_attention   fp32  [2, 49]",
            "input   informative       int32  [2, 25]",
            "input   kept              int32  [2, 24]",
            "output  static_logits     fp32  [2, 10]",
        ] {
            assert!(text.contains(expected), "no `{expected}` in\n{text}");
        }
        assert_eq!(names(out), ["coarse.onnx", "fine.onnx", "static.onnx"]);
    }
    for name in names(&first) {
        let [a, b] = [&first, &again].map(|out| std::fs::read(out.join(&name)).unwrap());
        assert!(a == b, "{name} differs from run to run");
    }
}

/// Weights of the fine graph that FP16 leaves in 32 bits: patch projection and positions, around the first attention, the head.
#[cfg(target_os = "linux")]
fn wide_weights(geometry: &Geometry) -> usize {
    let &Geometry { family, patch, width, classes, stem, .. } = geometry;
    let patch = if family == Family::Deit { 3 * patch * patch } else { stem * patch * patch / 4 };
    width * (patch + 1 + 4 * geometry.cells() + 4 * width + classes)
}

/// A full-size model is exported inside an address space of 400 MB, so its resident memory stays below that.
#[test]
#[cfg(target_os = "linux")]
fn a_full_size_export_takes_less_than_400_mb_of_memory() {
    const KIB: u64 = 400_000_000 / 1024;
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("random.safetensors");
    for family in [Family::Deit, Family::Lvvit] {
        let geometry = Geometry::published(family, 9, 1000);
        model::write_random(&checkpoint, &geometry, 0).unwrap();
        for precision in ["fp16", "fp32"] {
            let limited = format!("ulimit -v {KIB} && exec \"$@\"");
            let mut command = Command::new("sh");
            command.args(["-c", &limited, "sh"]).arg(assert_cmd::cargo::cargo_bin!("cfvit"));
            command.args(["export", "--static", "--precision", precision, "--model"]).arg(&checkpoint);
            let output = command.arg("--out").arg(folder.path().join(precision)).output().unwrap();
            assert!(output.status.success(), "{family:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let bytes = |precision: &str| std::fs::metadata(folder.path().join(precision).join("fine.onnx")).unwrap().len();
        let [half, full, weights] = [bytes("fp16"), bytes("fp32"), std::fs::metadata(&checkpoint).unwrap().len()];
        assert!(full < weights + weights / 20, "{family:?}: {full} bytes of graph for {weights} bytes of weights");
        // FP16 halves all but the weights that stay wide; a per cent for what is no weight.
        let wide = wide_weights(&geometry) as u64 * 4;
        assert!(
            half < (full + wide) / 2 + full / 100,
            "{family:?}: {half} bytes in fp16, {full} in fp32, of which {wide} stay"
        );
    }
}

#[test]
fn wrong_usage_ends_with_2_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("onnx");
    for arguments in [
        &["--precision", "int8"][..],
        &["--precision", "fp16", "--batch", "0"],
        &["--precision", "fp16", "--batch", "257"],
        &["--precision", "fp16", "--heads", "5"],
        &[],
    ] {
        let output = export(arguments, &out);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    assert!(!out.exists());
}

#[test]
fn what_cannot_be_read_or_written_is_named_and_old_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taken");
    std::fs::write(&file, "old").unwrap();
    let output = export(&["--precision", "fp16"], &file);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("cannot make the folder") && said.contains("taken"), "{said}");

    let out = folder.path().join("onnx");
    let output = export(&["--precision", "fp16", "--model", "none.pth"], &out);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("none.pth"));
    assert!(!out.exists(), "a model that cannot be read leaves no folder behind");

    // A folder in the file's place makes the rename fail; the file before it is whole.
    std::fs::create_dir_all(out.join("fine.onnx")).unwrap();
    let output = export(&["--precision", "fp16"], &out);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("fine.onnx"));
    assert_eq!(names(&out), ["coarse.onnx", "fine.onnx"], "no temporary file is left");
    assert_eq!(std::fs::read(&file).unwrap(), b"old");
}
