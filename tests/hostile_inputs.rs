//! Replays the hostile corpus: an error for each file, no panic, and less than a gigabyte of memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy allows them in test functions, not in their helpers")]

mod hostile;

use std::collections::HashSet;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::LazyLock;

use hostile::torch::{Checkpoint, HEADS};
use hostile::{Case, MAY_BE_VALID, Random, models};

/// The most address space that the program may have while it reads a hostile file.
const ADDRESS_SPACE: u64 = 1 << 30;

/// The error that opening `path` gives; `None` when it is a valid model. Panics go through, with the case's name.
fn open_error(name: &str, path: &Path) -> Option<String> {
    let opened = catch_unwind(AssertUnwindSafe(|| cfvit::model::open(Some(path), Some(HEADS))));
    let opened = opened.unwrap_or_else(|_| panic!("{name}: panicked"));
    opened.err().map(|error| error.to_string())
}

/// Generated once for all tests.
static CORPUS: LazyLock<Vec<Case>> = LazyLock::new(models::corpus);

/// What is wrong with the answer to `case`, if anything.
fn complaint(case: &Case, folder: &Path) -> Option<String> {
    let path = models::place(case, folder);
    match (open_error(&case.name, &path), case.expect) {
        (_, MAY_BE_VALID) => None,
        (None, _) => Some(format!("{}: was opened", case.name)),
        (Some(error), expect) if !error.contains(expect) => Some(format!("{}: `{error}` lacks `{expect}`", case.name)),
        (Some(error), _) if error.chars().any(char::is_control) => {
            Some(format!("{}: control characters in {error:?}", case.name))
        }
        _ => None,
    }
}

#[test]
fn every_hostile_model_gives_an_error_that_says_what_is_wrong() {
    let certain = CORPUS.iter().filter(|case| case.expect != MAY_BE_VALID).count();
    assert!(certain >= 300, "only {certain} cases");
    let folder = tempfile::tempdir().unwrap();
    let complaints: Vec<String> = CORPUS.iter().filter_map(|case| complaint(case, folder.path())).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn the_names_of_the_corpus_differ() {
    let corpus = hostile::corpus();
    let names: HashSet<_> = corpus.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), corpus.len());
}

/// What the corpus spoils is a valid model before.
#[test]
fn the_seeds_of_the_corpus_are_valid() {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in [
        ("deit.pth", Checkpoint::deit().bytes()),
        ("lvvit.pth", Checkpoint::lvvit().bytes()),
        ("deit.safetensors", hostile::models_package::TensorFile::valid().bytes()),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(open_error(name, &path), None);
    }
    let package = hostile::models_package::Package::valid().write(&folder.path().join("package"));
    assert_eq!(open_error("package", &package), None);
}

/// Damage at random, far more of it than is worth keeping as files: an error or a valid model, never a panic.
#[test]
fn random_damage_never_panics() {
    let mut random = Random(4);
    let checkpoint = Checkpoint::deit();
    let (file, pickle) = (checkpoint.bytes(), checkpoint.pickle());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("m.pth");
    let mut errors = 0;
    for i in 0..1500 {
        let bytes = if i % 3 == 0 {
            damaged(&file, &mut random)
        } else {
            checkpoint.zip_with(damaged(&pickle, &mut random)).bytes()
        };
        std::fs::write(&path, bytes).unwrap();
        errors += usize::from(open_error(&format!("damage {i}"), &path).is_some());
    }
    assert!(errors > 500, "the damage is too mild: {errors} errors");
}

/// One to four bytes replaced, inserted or removed.
fn damaged(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + random.below(4) {
        let at = random.below(bytes.len());
        match random.below(4) {
            0 => bytes[at] ^= 1 << random.below(8),
            1 => bytes[at] = random.next() as u8,
            2 => bytes.insert(at, random.next() as u8),
            _ => _ = bytes.remove(at),
        }
    }
    bytes
}

/// `cfvit inspect` in a process that may not have more than [`ADDRESS_SPACE`].
fn inspect_confined(path: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cfvit"));
    command.args(["inspect", "--heads", &HEADS.to_string()]).arg(path);
    // SAFETY: between fork and exec the closure calls `setrlimit` alone, which is async-signal-safe and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: ADDRESS_SPACE, rlim_max: ADDRESS_SPACE };
            match libc::setrlimit(libc::RLIMIT_AS, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    command.output().unwrap()
}

/// The program itself, on every twelfth case and on all that try to use up memory.
#[test]
fn the_program_answers_hostile_models_with_an_error_in_little_memory() {
    let folder = tempfile::tempdir().unwrap();
    let heavy = |case: &Case| {
        ["limit-", "expanded-", "zip-bomb", "zip-huge", "zip-size"].iter().any(|p| case.name.starts_with(p))
    };
    let sample = CORPUS.iter().enumerate().filter(|(i, case)| heavy(case) || i % 12 == 0);
    let mut count = 0;
    for (_, case) in sample.filter(|(_, case)| case.expect != MAY_BE_VALID && case.name != "geometry-width-3") {
        let output = inspect_confined(&models::place(case, folder.path()));
        let says = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{}: {says}", case.name);
        assert!(
            says.starts_with("error: ") && says.contains(case.expect) && !says.contains("panicked"),
            "{}: {says}",
            case.name
        );
        assert!(output.stdout.is_empty(), "{}", case.name);
        count += 1;
    }
    assert!(count >= 40, "only {count} cases");
}

#[test]
fn the_confined_program_still_opens_a_valid_model() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deit.pth");
    std::fs::write(&path, Checkpoint::deit().bytes()).unwrap();
    let output = inspect_confined(&path);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
