//! `cfvit build` on the stand-in, and `doctor` on what it made.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::standin::{Ran, Standin, standin};
use super::{HARD, answers, bare_package, expected, in_child, package, package_without};

/// The folder of a photograph that the coarse stage is sure of.
const EASY_FOLDER: &str = "tests/data/pictures/n01440764";

/// `cfvit build` on the stand-in, in `package`.
fn build(standin: &Standin, package: &Path, faults: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cfvit"));
    command.args(["build", "--model"]).arg(package);
    standin.run(standin.equip(&mut command, faults).env("CFVIT_STANDIN_MODEL", package))
}

/// The files of a folder and their content.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    folder
        .read_dir()
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect()
}

#[test]
fn built_plans_are_proven_and_installed() {
    let Some(standin) = standin() else { return };
    let package = bare_package();
    let ran = build(standin, package.path(), "");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("self-test passed") && ran.stdout.contains("fp16 engines"),
        "{}{}",
        ran.stdout,
        ran.stderr
    );
    assert!(ran.stderr.contains("fine: 1 fused attention kernels"), "{}", ran.stderr);
    let path = package.path().to_str().unwrap();
    let ran = standin.cfvit(&["classify", "--json", "--trace", "--model", path, "--backend", "tensorrt", HARD], "");
    assert_eq!((ran.code, answers(&ran)), (Some(0), expected(standin, &[HARD])), "{}", ran.stderr);
}

#[test]
fn an_engine_that_fits_is_not_built_again_and_one_that_is_missing_is() {
    let Some(standin) = standin() else { return };
    let package = bare_package();
    let path = package.path().to_str().unwrap();
    let again = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cfvit"));
        command.args(["build", "--if-missing", "--model", path]);
        standin.run(standin.equip(&mut command, "").env("CFVIT_STANDIN_MODEL", path))
    };
    let first = again();
    assert!(first.code == Some(0) && first.stderr.contains("self-test passed"), "{}", first.stderr);
    let before = contents(package.path());
    let second = again();
    assert!(second.code == Some(0) && second.stdout.contains("are built for this device"), "{}", second.stdout);
    assert!(contents(package.path()) == before, "nothing is written");
    std::fs::remove_file(package.path().join("fine.plan")).unwrap();
    let third = again();
    assert!(third.stderr.contains("not built yet") && third.stderr.contains("self-test passed"), "{}", third.stderr);

    std::fs::remove_file(package.path().join("coarse.plan")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_cfvit"));
    command.args(["run", "--build-missing", "--model", path, "--source", EASY_FOLDER, "--frames", "1"]);
    let ran = standin.run(standin.equip(&mut command, "").env("CFVIT_STANDIN_MODEL", path));
    assert!(ran.code == Some(0) && ran.stderr.contains("self-test passed"), "{}", ran.stderr);
    assert!(ran.stderr.contains("fp16, CUDA graphs"), "the engines that were built decide: {}", ran.stderr);
}

#[test]
fn engines_that_are_wrong_in_fp16_are_built_in_fp32() {
    let Some(standin) = standin() else { return };
    let package = bare_package();
    let ran = build(standin, package.path(), "wrong-fp16");
    assert!(ran.code == Some(0) && ran.stdout.contains("fp32 engines"), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("fp16: refused") && ran.stderr.contains("self-test passed"), "{}", ran.stderr);
}

#[test]
fn engines_that_are_always_wrong_are_refused_and_the_old_ones_stay() {
    let Some(standin) = standin() else { return };
    let package = package_without("");
    let plans = |folder: &Path| {
        let all = contents(folder).into_iter();
        all.filter(|(path, _)| path.extension().is_some_and(|extension| extension == "plan")).collect::<Vec<_>>()
    };
    let before = plans(package.path());
    assert_eq!(before.len(), 3);
    for (faults, says) in [("wrong", "nothing was installed"), ("build", "buildSerializedNetwork"), ("parse", "parse")]
    {
        let ran = build(standin, package.path(), faults);
        assert!(ran.code == Some(1) && ran.stderr.contains(says), "{faults}: {}", ran.stderr);
        assert!(plans(package.path()) == before, "{faults}: the old plans are no more");
    }
}

/// The memory that a build may take is not known beforehand, and on the way to less some die.
#[test]
fn a_build_that_runs_out_of_memory_is_tried_with_less_scratch_space() {
    let Some(standin) = standin() else { return };
    let package = bare_package();
    let ran = build(standin, package.path(), "scratch");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for says in [
        "coarse fp16: building, scratch space 512 MiB",
        "trying again with less",
        "fine fp16: building, scratch space 128 MiB",
    ] {
        assert!(ran.stderr.contains(says), "{says}: {}", ran.stderr);
    }
    assert!(!ran.stderr.contains("scratch space 64 MiB"), "{}", ran.stderr);
    let plan = std::fs::read(package.path().join("fine.plan")).unwrap();
    assert!(String::from_utf8_lossy(&plan).contains("workspace 128 MiB"), "the key has what it was built with");

    let before = contents(package.path());
    let ran = build(standin, package.path(), "killed");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("scratch space 64 MiB"), "{}", ran.stderr);
    let says = "error: cannot build the coarse engine: the building process was killed; most likely memory ran out";
    assert!(ran.stderr.contains(says), "{}", ran.stderr);
    assert!(contents(package.path()) == before, "the plans that are there stay, and nothing else is left");
}

#[test]
fn a_package_keeps_the_timings_of_its_last_build() {
    let Some(standin) = standin() else { return };
    let package = bare_package();
    assert_eq!(build(standin, package.path(), "").code, Some(0));
    let files = contents(package.path());
    let caches: Vec<_> = files.iter().filter(|(path, _)| path.extension().is_some_and(|e| e == "cache")).collect();
    assert!(caches.len() == 1 && caches[0].1 == b"timings", "{caches:?}");
    for (cached, faults, used) in
        [("timings", "", "earlier"), ("timings", "timings", "empty"), ("damaged", "", "empty")]
    {
        let ran = in_child("a_build_uses_the_timings_that_it_is_given", cached, faults);
        let counts = ["earlier", "empty"].map(|which| ran.as_ref().unwrap().count(&format!("setTimingCache: {which}")));
        assert_eq!(counts, if used == "earlier" { [1, 0] } else { [0, 1] }, "{cached}, {faults}");
    }
}

#[test]
fn doctor_tells_whether_the_plans_would_load() {
    let Some(standin) = standin() else { return };
    let doctor = |variable, value| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cfvit"));
        let ran = standin.run(standin.equip(command.args(["doctor", "--model", package()]), "").env(variable, value));
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stdout
    };
    let text = doctor("CFVIT_STANDIN_SM", "8");
    for says in [
        "ok GPU             cfvit test double, SM 8.7, 8 multiprocessors",
        "ok CUDA driver     for CUDA up to 12.6",
        "ok TensorRT        TensorRT 1",
        "fp16 engines for this GPU",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let text = doctor("CFVIT_STANDIN_SM", "4");
    let line = text.lines().find(|line| line.starts_with("!  engine package")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("built for number of multiprocessors") && line.contains("cfvit build --model"), "{line}");
}
