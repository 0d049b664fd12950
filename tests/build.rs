//! `cfvit build` with NVIDIA's TensorRT-RTX, which builds for a GPU that is not there. `make tensorrt-rtx` fetches the library; without it, or
//! without feature `tensorrt`, these tests are skipped aloud.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code outside of #[test] functions")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use cfvit::build::fusion;
use cfvit::model::onnx::Graph;
use cfvit::plan::{self, DeviceKey};

/// Runs cfvit with TensorRT-RTX; `None`, and a line that says so, where there is none.
fn with_rtx(arguments: &[&str]) -> Option<Output> {
    let folder = std::env::var_os("CFVIT_TENSORRT_DIR").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tensorrt-rtx"));
    let found = folder.read_dir().is_ok_and(|mut files| {
        files.any(|file| file.unwrap().file_name().to_string_lossy().starts_with("libtensorrt_rtx.so"))
    });
    if !cfg!(feature = "tensorrt") || !found {
        println!("skipped: needs feature tensorrt and TensorRT-RTX (make tensorrt-rtx)");
        return None;
    }
    Some(Command::cargo_bin("cfvit").unwrap().args(arguments).env("CFVIT_TENSORRT_DIR", folder).output().unwrap())
}

/// What went to standard error.
fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A random full-size checkpoint of `architecture`, built into a package; `None` where that cannot be.
fn built(architecture: &str, precision: &str, folder: &Path) -> Option<PathBuf> {
    let (checkpoint, package) = (folder.join("random.safetensors"), folder.join("package"));
    let paths = (checkpoint.to_str().unwrap(), package.to_str().unwrap());
    let init =
        Command::cargo_bin("cfvit").unwrap().args(["init", "--arch", architecture, "--out", paths.0]).output().unwrap();
    assert!(init.status.success());
    let output =
        with_rtx(&["build", "--model", paths.0, "--precision", precision, "--target", "sm86", "--out", paths.1])?;
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("self-test skipped"), "{}", said(&output));
    Some(package)
}

/// Fused attention kernels that a plan launches.
fn fused(package: &Path, graph: Graph) -> usize {
    fusion::in_rtx_plan(&fs::read(plan::path(package, graph)).unwrap())
}

/// All blocks' attention fuses, but that of the last block in DeiT's fine graph: only its cls row is computed, and one row of queries is no
/// matrix product.
#[test]
fn attention_fuses_in_every_block_that_can() {
    for (architecture, coarse, fine) in [("cf_deit_small", 12, 11), ("cf_lvvit_small", 16, 16)] {
        let folder = tempfile::tempdir().unwrap();
        let Some(package) = built(architecture, "fp16", folder.path()) else { return };
        let found = [Graph::Coarse, Graph::Fine].map(|graph| fused(&package, graph));
        assert_eq!(found, [coarse, fine], "{architecture}");
    }
}

/// FP32 attention never fuses, which shows that the count above counts something.
#[test]
fn nothing_fuses_in_fp32() {
    for architecture in ["cf_deit_small", "cf_lvvit_small"] {
        let folder = tempfile::tempdir().unwrap();
        let Some(package) = built(architecture, "fp32", folder.path()) else { return };
        assert_eq!([Graph::Coarse, Graph::Fine].map(|graph| fused(&package, graph)), [0, 0], "{architecture}");
    }
}

/// What the plans that these tests build are for.
fn target() -> DeviceKey {
    DeviceKey {
        tensorrt: "TensorRT-RTX 1.7.1.116".into(),
        driver: "none".into(),
        l4t: "none".into(),
        gpu: "any".into(),
        compute_capability: "8.6".into(),
        sm_count: 0,
        shim_abi: 1,
    }
}

#[test]
fn built_plans_load_for_their_target_only_and_damaged_ones_never() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path().join("imagenette");
    let arguments = ["build", "--target", "sm86", "--static", "--out", package.to_str().unwrap()];
    let Some(output) = with_rtx(&arguments) else { return };
    assert!(output.status.success(), "{}", said(&output));
    let plans = plan::load_all(&package, &target()).unwrap();
    assert!(plans.full.is_some() && plans.fine.key.precision == "fp16");

    let other = DeviceKey { gpu: "Orin".into(), ..target() };
    let message = plan::load_all(&package, &other).unwrap_err().to_string();
    assert!(
        message.contains("built for GPU any, expected Orin") && message.contains("cfvit build --model"),
        "{message}"
    );

    let path = plan::path(&package, Graph::Fine);
    let whole = fs::read(&path).unwrap();
    let mut corrupt = whole.clone();
    corrupt[whole.len() / 2] ^= 0x55;
    for damaged in [&corrupt[..], &whole[..whole.len() / 2], b""] {
        fs::write(&path, damaged).unwrap();
        let message = plan::load(&package, Graph::Fine, &target()).unwrap_err().to_string();
        assert!(message.contains("damaged") && message.contains("fine.plan.bad"), "{message}");
        assert!(plan::load(&package, Graph::Coarse, &target()).is_ok(), "the other plan stays");
    }

    // The package is the same model's: built again in place, it is whole again.
    assert!(with_rtx(&["build", "--target", "sm86", "--model", package.to_str().unwrap()]).unwrap().status.success());
    assert!(plan::load_all(&package, &target()).unwrap().full.is_none());
}

#[test]
fn what_cannot_be_built_is_said_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (onnx, plan) = (folder.path().join("bad.onnx"), folder.path().join("bad.plan"));
    fs::write(&onnx, "not an ONNX file").unwrap();
    let arguments = ["build-plan", "--precision", "fp16", "--workspace", "512", "--target", "sm86", "--onnx"];
    let paths =
        [&onnx, Path::new("--plan"), &plan, Path::new("--caches"), folder.path()].map(|path| path.to_str().unwrap());
    let Some(output) = with_rtx(&[&arguments[..], &paths].concat()) else { return };
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let message = answer["failed"]["message"].as_str().unwrap();
    assert!(message.contains("TensorRT-RTX 1.7.1.116: parse"), "{message}");
    assert_eq!(answer["failed"]["retry"], false);
    assert!(!plan.exists());
}

/// No GPU here: without a target the builder must not even be made, as a library without a driver crashes.
#[test]
fn without_a_driver_a_build_for_this_machine_says_what_is_missing() {
    let driver = Path::new("/dev/nvidiactl").exists() || Path::new("/dev/nvhost-gpu").exists();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("package");
    let Some(output) = with_rtx(&["build", "--out", out.to_str().unwrap()]) else { return };
    if driver {
        println!("skipped: this machine has a GPU");
        return;
    }
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("error: cannot build the coarse engine: ") && said(&output).contains("libcuda"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_wrong_target_is_wrong_usage_and_a_program_without_tensorrt_says_so() {
    let run = |arguments: &[&str]| Command::cargo_bin("cfvit").unwrap().args(arguments).output().unwrap();
    let output = run(&["build", "--target", "sm87"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("built on the Jetson"), "{}", said(&output));
    if !cfg!(feature = "tensorrt") {
        let output = run(&["build"]);
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains("--features tensorrt"), "{}", said(&output));
    }
}
