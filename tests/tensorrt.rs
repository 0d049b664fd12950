//! The TensorRT engine on a test double: stand-ins for libcuda and libnvinfer, made here, whose "GPU" is the CPU engine. They are strict (a
//! forgotten free, a use after free, an unset address end the program), and they fail where they are told to. No GPU has run this code.
#![cfg(feature = "tensorrt")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code outside of #[test] functions")]

mod standin;

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use standin::{Ran, Standin, standin};

/// A photograph that the coarse stage is sure of.
const EASY: &str = "tests/data/pictures/n01440764/ILSVRC2012_val_00017700.JPEG";
/// One that needs the fine stage.
const HARD: &str = "tests/data/pictures/n03425413/n03425413_20741.JPEG";
/// Both.
const PICTURES: [&str; 4] = [EASY, HARD, EASY, HARD];

/// The bundled model as a package with plans that the stand-in built, in a folder that lives as long as this program.
fn package() -> &'static str {
    static PACKAGE: OnceLock<(tempfile::TempDir, String)> = OnceLock::new();
    let made = PACKAGE.get_or_init(|| {
        let folder = bare_package();
        let path = folder.path().to_str().unwrap().to_owned();
        in_child("build_and_install", &path, "");
        (folder, path)
    });
    &made.1
}

/// A copy of it without the plan `left_out`.
fn package_without(left_out: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in Path::new(package()).read_dir().unwrap().map(|file| file.unwrap()) {
        if file.file_name() != left_out {
            std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
        }
    }
    folder
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

/// `cfvit classify` on the stand-in.
fn classify(standin: &Standin, backend: &str, more: &[&str], faults: &str) -> Ran {
    let mut arguments =
        vec!["classify", "--json", "--trace", "--threads", "1", "--model", package(), "--backend", backend];
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

#[test]
fn an_easy_frame_costs_no_fine_work() {
    let Some(standin) = standin() else { return };
    let [one, three] = [&[EASY][..], &[EASY; 3]].map(|pictures| classify(standin, "tensorrt", pictures, ""));
    assert_eq!(three.count("run fine"), one.count("run fine"));
    assert_eq!(three.count("run coarse"), one.count("run coarse") + 2);
}

#[test]
fn a_frame_costs_a_launch_per_stage_and_no_memory() {
    let Some(standin) = standin() else { return };
    let [one, three] = [&[HARD][..], &[HARD; 3]].map(|pictures| classify(standin, "tensorrt", pictures, ""));
    for (call, count) in &three.counts {
        let more = match call.as_str() {
            "run coarse" | "run fine" => 2,
            "cuGraphLaunch" | "cuEventElapsedTime" => 4,
            "cuEventRecord" => 8,
            "cuEventSynchronize" => 12,
            _ => 0,
        };
        assert_eq!(*count, one.count(call) + more, "{call}");
    }
    assert!(one.count("cuMemHostAlloc") > 0 && one.count("cuMemAlloc") == 2 && one.count("cuStreamCreate") == 1);
}

#[test]
fn a_stage_that_cannot_be_captured_is_enqueued_instead() {
    let Some(standin) = standin() else { return };
    let ran = classify(standin, "tensorrt", &PICTURES, "capture");
    assert_eq!((ran.code, ran.count("cuGraphLaunch")), (Some(0), 0));
    for stage in ["coarse", "fine"] {
        assert!(ran.stderr.contains(&format!("the {stage} stage runs without a CUDA graph")), "{}", ran.stderr);
    }
    assert!(ran.stderr.contains("cuStreamEndCapture") && ran.stderr.contains("CAPTURE_INVALIDATED"), "{}", ran.stderr);
    assert_eq!(answers(&ran), expected(standin, &PICTURES));
}

#[test]
fn a_graph_that_gives_another_result_is_dropped() {
    let Some(standin) = standin() else { return };
    let ran = classify(standin, "tensorrt", &PICTURES, "graph");
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    for (stage, output) in [("coarse", "coarse_logits"), ("fine", "fine_logits")] {
        let says = format!(
            "the {stage} stage runs without its CUDA graph, which is slower: the graph is wrong: `{output}` [0] is"
        );
        assert!(ran.stderr.contains(&says), "{}", ran.stderr);
    }
    assert_eq!(answers(&ran), expected(standin, &PICTURES));
}

#[test]
fn an_enqueue_that_fails_ends_the_command_with_the_calls_name() {
    let Some(standin) = standin() else { return };
    // Without graphs each of the three stages is enqueued three times before the first picture.
    let ran = classify(standin, "tensorrt", &[HARD, EASY], "capture,enqueue:11");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    for says in ["error: the fine stage failed on the device", "enqueueV3", "the test double was told to fail"] {
        assert!(ran.stderr.contains(says), "{says}: {}", ran.stderr);
    }
}

#[test]
fn a_lost_device_ends_the_command_with_the_calls_name() {
    let Some(standin) = standin() else { return };
    // Each of the three stages runs three times before the first picture: warm-up, and the comparison of graph and plain enqueue.
    let ran = classify(standin, "tensorrt", &[EASY, HARD, EASY], "lost:12");
    assert_eq!(ran.code, Some(1));
    assert_eq!(answers(&ran), expected(standin, &[EASY]), "what was decided before is told");
    let says = "the fine stage failed on the device: CUDA: cuEventSynchronize failed: CUDA_ERROR_ILLEGAL_ADDRESS";
    assert!(ran.stderr.contains(says), "{}", ran.stderr);
}

#[test]
fn a_lost_device_ends_a_run_so_that_a_service_manager_can_start_it_anew() {
    let Some(standin) = standin() else { return };
    let arguments = ["run", "--model", package(), "--backend", "tensorrt", "--source", "tests/data/pictures", "--loop"];
    let ran = standin.cfvit(&arguments, "lost:20");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains("error: the engine's device failed: the "), "{}", ran.stderr);
}

#[test]
fn what_cannot_be_opened_is_an_error_or_the_cpus_work() {
    let Some(standin) = standin() else { return };
    let reference = expected(standin, &[HARD]);
    for (fault, says) in [
        ("init", "cuInit: DriverError(CUDA_ERROR_NO_DEVICE"),
        ("count", "the CUDA driver sees no GPU"),
        ("pinned:3", "cuMemHostAlloc of 196 bytes failed: CUDA_ERROR_OUT_OF_MEMORY"),
        ("memory:2", "cuMemAlloc of "),
        ("context", "createExecutionContext"),
        ("lost:1", "the coarse stage failed on the device"),
    ] {
        let ran = classify(standin, "tensorrt", &[HARD], fault);
        assert!(ran.code == Some(1) && ran.stderr.contains(says), "{fault}: {}", ran.stderr);
        let ran = classify(standin, "auto", &[HARD], fault);
        assert_eq!((ran.code, answers(&ran)), (Some(0), reference.clone()), "{fault}");
        let warnings: Vec<&str> = ran.stderr.lines().filter(|line| line.contains(" warn ")).collect();
        let [warning] = warnings[..] else { panic!("{fault}: {}", ran.stderr) };
        let because = "running on the CPU, because TensorRT cannot be used: ";
        assert!(warning.contains(because) && warning.contains(says), "{warning}");
    }
}

#[test]
fn what_is_missing_is_named() {
    let Some(standin) = standin() else { return };
    let (bare, empty) = (bare_package(), tempfile::tempdir().unwrap());
    let checkpoint = bare.path().join("model.safetensors");
    let [bare, checkpoint] = [bare.path(), &checkpoint].map(|path| path.to_str().unwrap().to_owned());
    let command = |model: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cfvit"));
        command.args(["classify", "--backend", "tensorrt", EASY]).args(model);
        standin.equip(&mut command, "");
        command
    };
    let fails = |mut command: Command, says: &str| {
        let ran = standin.run(&mut command);
        assert!(ran.code == Some(1) && ran.stderr.contains(says), "expected {says}: {}", ran.stderr);
    };
    fails(command(&[]), "`cfvit build");
    fails(command(&["--model", &checkpoint]), "`cfvit build");
    fails(command(&["--model", &bare]), "`cfvit build");
    let mut no_library = command(&["--model", package()]);
    no_library.env("CFVIT_TENSORRT_DIR", empty.path());
    fails(no_library, "TensorRT not found");
    // SAFETY: only looks whether the system has a driver of its own.
    if unsafe { libc::dlopen(c"libcuda.so.1".as_ptr(), libc::RTLD_LAZY) }.is_null() {
        let mut no_driver = command(&["--model", package()]);
        no_driver.env("LD_LIBRARY_PATH", &standin.no_driver);
        fails(no_driver, "libcuda.so.1 cannot be loaded");
    } else {
        println!("skipped: what is said without a driver, because this machine has one");
    }
    let ran = standin.run(command(&["--model", package()]).args(["--heads", "3"]));
    assert!(ran.code == Some(2) && ran.stderr.contains("--heads"), "{}", ran.stderr);
}

#[test]
fn a_plan_for_something_else_is_never_loaded() {
    let Some(standin) = standin() else { return };
    let reference = expected(standin, &[HARD]);
    let arguments = |backend| ["classify", "--json", "--trace", "--model", package(), "--backend", backend, HARD];
    let with = |backend, variable, value| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cfvit"));
        standin.run(standin.equip(command.args(arguments(backend)), "").env(variable, value))
    };
    for (variable, value, says) in [
        ("CFVIT_STANDIN_DRIVER", "12070", "built for CUDA driver 12.6, expected 12.7"),
        ("CFVIT_STANDIN_SM", "4", "built for number of multiprocessors"),
    ] {
        let ran = with("tensorrt", variable, value);
        assert!(
            ran.code == Some(1) && ran.stderr.contains(says) && ran.stderr.contains("cfvit build"),
            "{}",
            ran.stderr
        );
        assert_eq!((ran.count("deserializeCudaEngine"), ran.stdout.as_str()), (0, ""));
        let ran = with("auto", variable, value);
        assert!(ran.code == Some(0) && ran.stderr.contains(says), "{}", ran.stderr);
        assert_eq!(answers(&ran), reference);
    }
}

#[test]
fn a_plan_that_is_refused_is_put_aside() {
    let Some(standin) = standin() else { return };
    let package = package_without("");
    let arguments = ["classify", "--model", package.path().to_str().unwrap(), "--backend", "tensorrt", HARD];
    let mut short = Command::new(env!("CARGO_BIN_EXE_cfvit"));
    standin.equip(short.args(arguments), "deserialize:2").env("CFVIT_STANDIN_FREE", "100");
    let ran = standin.run(&mut short);
    assert!(ran.code == Some(1) && ran.stderr.contains("perhaps for want of memory"), "{}", ran.stderr);
    assert!(package.path().join("fine.plan").exists(), "a plan is not bad because memory is short");
    let ran = standin.cfvit(&arguments, "deserialize:2");
    assert!(
        ran.code == Some(1) && ran.stderr.contains("fine.plan.bad; `cfvit build` builds it anew"),
        "{}",
        ran.stderr
    );
    assert!(package.path().join("fine.plan.bad").exists() && !package.path().join("fine.plan").exists());
    assert!(package.path().join("coarse.plan").exists());
}

#[test]
fn a_benchmark_shows_the_devices_own_times() {
    let Some(standin) = standin() else { return };
    let json = tempfile::NamedTempFile::new().unwrap();
    let path = json.path().to_str().unwrap();
    let short = ["bench", "--seconds", "0.1", "--min-runs", "2", "--warmup", "0", "--backend", "tensorrt"];
    let ran = standin.cfvit(&[&short[..], &["--model", package(), "--json", path]].concat(), "");
    assert!(ran.code == Some(0) && ran.stdout.contains("coarse, on the device"), "{}{}", ran.stdout, ran.stderr);
    let report: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for stage in ["coarse", "fine", "static"] {
        assert!(report["steps_ms"]["device"][stage]["median"].is_f64(), "{stage}: {report}");
    }
}

/// A test of [`child`] in a process of its own, on the stand-in.
fn child(standin: &Standin, name: &str, package: &str, faults: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "--nocapture", &format!("child::{name}")])
        .env("CFVIT_STANDIN_MODEL", package);
    standin.equip(&mut command, faults);
    command
}

/// Runs it; it must pass. `None` without the stand-in.
fn in_child(name: &str, package: &str, faults: &str) -> Option<Ran> {
    let ran = standin()?.run(&mut child(standin()?, name, package, faults));
    assert!(ran.code == Some(0) && ran.stdout.contains("1 passed"), "{}{}", ran.stdout, ran.stderr);
    Some(ran)
}

/// The same on [`package`].
fn run_child(name: &str, faults: &str) {
    if standin().is_some() {
        in_child(name, package(), faults);
    }
}

#[test]
fn frames_allocate_nothing() {
    run_child("frames_allocate_nothing", "");
}

#[test]
fn an_engine_that_failed_refuses_work_until_it_is_opened_anew() {
    run_child("an_engine_that_failed_refuses_work_until_it_is_opened_anew", "capture,enqueue:10");
}

#[test]
fn a_lost_device_stays_lost_for_the_process() {
    run_child("a_lost_device_stays_lost_for_the_process", "lost:10");
}

#[test]
fn only_a_good_engine_replaces_the_one_in_service() {
    run_child("only_a_good_engine_replaces_the_one_in_service", "");
}

#[test]
fn wrong_use_is_refused_and_harms_nothing() {
    if standin().is_some() {
        let without = package_without("static.plan");
        in_child("wrong_use_is_refused_and_harms_nothing", without.path().to_str().unwrap(), "");
    }
}

#[test]
fn the_static_baseline_is_the_cpu_engines() {
    run_child("the_static_baseline_is_the_cpu_engines", "");
}

#[test]
fn the_stand_in_sees_what_is_wrong() {
    let Some(standin) = standin() else { return };
    for (name, says) in [
        ("an_engine_is_forgotten", "blocks of memory were not freed"),
        ("a_plan_is_run_without_addresses", "enqueueV3 without an address for coarse_image"),
        ("an_address_has_too_little_memory", "do not fit the 16 bytes allocated there"),
    ] {
        let ran = standin.run_freely(&mut child(standin, name, package(), ""));
        assert_eq!(ran.code, Some(standin::VIOLATION), "{name}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stderr.contains(says), "{name}: {}", ran.stderr);
    }
}

#[path = "standin/building.rs"]
mod building;
#[path = "standin/child.rs"]
mod child;
