//! The graphs in ONNX Runtime, by `onnx_runtime.py` beside this file.

use std::path::{Path, PathBuf};
use std::process::Command;

use cfvit::frame::Choice;
use cfvit::model::Family;
use cfvit::model::onnx::{Graph, Options, Precision};

use super::cases::{self, Case, skipped};

/// A Python that has onnxruntime and numpy: `CFVIT_PYTHON`, the environment that `make venv` makes, or the system's. None, with a
/// printed line, where there is none; a `CFVIT_PYTHON` without them is an error.
fn python() -> Option<PathBuf> {
    let asked = std::env::var_os("CFVIT_PYTHON").map(PathBuf::from);
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/venv/bin/python");
    let candidates = match &asked {
        Some(python) => vec![python.clone()],
        None => vec![venv, "python3".into()],
    };
    let usable = |python: &PathBuf| {
        let output = Command::new(python).args(["-c", "import numpy, onnxruntime"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    let found = candidates.into_iter().find(usable);
    assert!(asked.is_none() || found.is_some(), "CFVIT_PYTHON ({asked:?}) cannot import numpy and onnxruntime");
    if found.is_none() {
        skipped("ONNX Runtime: no Python with onnxruntime and numpy (`make venv` makes one, CFVIT_PYTHON names one)");
    }
    found
}

/// Writes what the script reads into a folder of its own below `root`.
fn write(case: &Case, precision: Precision, root: &Path) -> PathBuf {
    let folder = root.join(format!("{} {}", case.name, precision.as_str()));
    std::fs::create_dir(&folder).unwrap();
    let options = Options { precision, batch: case.batch() };
    for graph in [Graph::Coarse, Graph::Fine, Graph::Static] {
        std::fs::write(folder.join(graph.file_name()), case.export(options, graph)).unwrap();
    }
    let floats = |name: &str, values: &[f32]| {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(folder.join(name).with_extension("f32"), bytes).unwrap();
    };
    let cells = |name: &str, of: fn(&Choice) -> &Vec<u32>| {
        let cells = case.joined(|e| of(&e.choice));
        let bytes: Vec<u8> = cells.iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(folder.join(name).with_extension("i32"), bytes).unwrap();
    };
    let [coarse_image, fine_image] = case.images();
    floats("coarse_image", &coarse_image);
    floats("fine_image", &fine_image);
    floats("coarse_logits", &case.joined(|e| &e.coarse.logits));
    floats("fine_logits", &case.joined(|e| &e.fine_logits));
    floats("static_logits", &case.joined(|e| &e.static_logits));
    floats("class_attention", &case.joined(|e| &e.coarse.class_attention));
    cells("informative", |choice| &choice.informative);
    cells("kept", |choice| &choice.kept);
    folder
}

/// All graphs of the cases in both precisions.
fn check(cases: &[Case]) {
    let Some(python) = python() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut folders = Vec::new();
    for case in cases {
        folders.extend([Precision::Fp32, Precision::Fp16].map(|precision| write(case, precision, root.path())));
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/onnx/onnx_runtime.py");
    let output = Command::new(python).arg(script).args(&folders).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().filter(|line| line.starts_with("ok ")).count(), folders.len(), "{said}");
}

#[test]
fn golden_models() {
    check(&cases::golden("tests/data/golden"));
}

#[test]
fn golden_models_of_the_published_code() {
    let cases = cases::golden("../shared/golden");
    if !cases.is_empty() {
        check(&cases);
    }
}

#[test]
fn models_of_other_shapes() {
    check(&[Family::Deit, Family::Lvvit].map(cases::odd));
}

#[test]
fn full_size_deit() {
    check(&[7, 9].map(|grid| cases::full_size(Family::Deit, grid)));
}

#[test]
fn full_size_lvvit() {
    check(&[7, 9].map(|grid| cases::full_size(Family::Lvvit, grid)));
}
