//! `--backend` in a program without TensorRT.
#![cfg(not(feature = "tensorrt"))]

use assert_cmd::Command;

const PICTURE: &str = "tests/data/pictures/n01440764/ILSVRC2012_val_00017700.JPEG";

#[test]
fn without_tensorrt_the_cpu_computes_and_whoever_asks_for_more_is_told() {
    let run = |more: &[&str]| {
        let output = Command::cargo_bin("cfvit").unwrap().args(["classify", PICTURE]).args(more).output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), stdout.contains("tench"), stderr)
    };
    assert_eq!(run(&[]), (Some(0), true, String::new()));
    let (code, answered, warning) = run(&["--backend", "auto"]);
    assert_eq!((code, answered), (Some(0), true));
    assert!(warning.contains("running on the CPU") && warning.contains("built without TensorRT"), "{warning}");
    let (code, answered, error) = run(&["--backend", "tensorrt"]);
    assert_eq!((code, answered), (Some(2), false));
    assert!(error.contains("cargo build --release --features tensorrt"), "{error}");
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_processor_without_16_bit_arithmetic_refuses_fp16_and_says_what_to_do() {
    let run = |more: &[&str]| {
        let output = Command::cargo_bin("cfvit").unwrap().args(["classify", PICTURE]).args(more).output().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), stdout.contains("tench"), stderr)
    };
    assert_eq!(run(&["--precision", "fp32"]), (Some(0), true, String::new()));
    let (code, answered, error) = run(&["--precision", "fp16"]);
    assert_eq!((code, answered), (Some(2), false));
    assert!(error.contains("precision fp16: expected") && error.contains("found x86_64"), "{error}");
    assert!(!error.contains("  "), "a gap in the sentence: {error}");
    let (code, _, error) = run(&["--precision", "int8"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("fp16, fp32"), "{error}");
}
