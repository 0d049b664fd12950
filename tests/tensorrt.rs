//! The TensorRT engine on a test double: stand-ins for libcuda and libnvinfer, made here, whose "GPU" is the CPU engine. They are strict (a
//! forgotten free, a use after free, an unset address end the program), and they fail where they are told to. No GPU has run this code.
#![cfg(feature = "tensorrt")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code outside of #[test] functions")]

mod standin;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cfvit::model::onnx::{self, Graph, Options, Precision};
use serde_json::Value;
use standin::{Ran, Standin, standin};

/// A photograph that the coarse stage is sure of.
const EASY: &str = "tests/data/pictures/n01440764/ILSVRC2012_val_00017700.JPEG";
/// One that needs the fine stage.
const HARD: &str = "tests/data/pictures/n03425413/n03425413_20741.JPEG";
/// Both.
const PICTURES: [&str; 4] = [EASY, HARD, EASY, HARD];

/// The bundled model as a package with plans, in a folder that lives as long as this program.
fn package() -> &'static str {
    static PACKAGE: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    let made = PACKAGE.get_or_init(|| {
        let folder = bare_package();
        add_plans(folder.path());
        let path = folder.path().to_str().unwrap().to_owned();
        (folder, path)
    });
    &made.1
}

/// The bundled model as a package without plans.
fn bare_package() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let bundled = Path::new(env!("CARGO_MANIFEST_DIR")).join("engines/imagenette");
    for file in ["manifest.toml", "model.safetensors", "labels.txt"] {
        std::fs::copy(bundled.join(file), folder.path().join(file)).unwrap();
    }
    folder
}

fn add_plans(folder: &Path) {
    let geometry = cfvit::model::open(Some(folder), None).unwrap().geometry;
    for graph in [Graph::Coarse, Graph::Fine] {
        let bindings = onnx::bindings(&geometry, Options { precision: Precision::Fp16, batch: 1 }, graph);
        let mut text = format!("cfvit stand-in plan 1\nstage {}\nmodel {}\nprecision fp16\n", graph.as_str(), folder.display());
        for (direction, list) in [("input", &bindings.inputs), ("output", &bindings.outputs)] {
            for binding in list {
                let element = match binding.element {
                    onnx::Element::F16 => "f16",
                    onnx::Element::F32 => "f32",
                    _ => "i32",
                };
                text += &format!("{direction} {} {element}", binding.name);
                for size in &binding.shape {
                    text += &format!(" {size}");
                }
                text += "\n";
            }
        }
        std::fs::write(folder.join(format!("{}.plan", graph.as_str())), text + "end\n").unwrap();
    }
}

/// `cfvit classify` on the stand-in.
fn classify(standin: &Standin, backend: &str, more: &[&str], faults: &str) -> Ran {
    let mut arguments = vec!["classify", "--json", "--trace", "--threads", "1", "--model", package(), "--backend", backend];
    arguments.extend(more);
    standin.cfvit(&arguments, faults)
}

/// The JSON objects that it printed, without the times.
fn answers(ran: &Ran) -> Vec<Value> {
    let parse = |line: &str| {
        let mut answer: Value = serde_json::from_str(line).unwrap();
        answer.as_object_mut().unwrap().remove("timing_ms").unwrap();
        answer
    };
    ran.stdout.lines().map(parse).collect()
}

/// What the CPU engine answers.
fn expected(standin: &Standin, more: &[&str]) -> Vec<Value> {
    let ran = classify(standin, "cpu", more, "");
    assert_eq!((ran.code, ran.count("cuInit")), (Some(0), 0), "{}", ran.stderr);
    answers(&ran)
}

#[test]
fn every_answer_is_the_cpu_engines() {
    let Some(standin) = standin() else { return };
    for threshold in [&["--threshold", "2"][..], &[]] {
        let more = [&PICTURES[..], threshold].concat();
        let ran = classify(standin, "tensorrt", &more, "");
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        assert_eq!(answers(&ran), expected(standin, &more));
    }
}
