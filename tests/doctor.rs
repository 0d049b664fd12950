//! `cfvit doctor` as a program: it describes any machine and never fails because something is absent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code outside of #[test] functions")]

use assert_cmd::Command;

fn doctor(arguments: &[&str]) -> String {
    let output = Command::cargo_bin("cfvit").unwrap().arg("doctor").args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_part_has_its_line() {
    let text = doctor(&[]);
    for what in ["TensorRT", "L4T", "power mode", "power meter", "camera", "engine package"] {
        assert!(text.lines().any(|line| line[3..].starts_with(what)), "{what}: {text}");
    }
    assert!(text.contains("engines/imagenette"), "{text}");
}

#[test]
fn a_folder_that_is_no_package_is_named_and_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let text = doctor(&["--model", folder.path().to_str().unwrap()]);
    assert!(text.contains("!  engine package") && text.contains("manifest.toml"), "{text}");
}
