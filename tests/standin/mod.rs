//! Builds the stand-in for libcuda and libnvinfer with the system's C++ compiler and runs programs on it. What it is and what it can and
//! cannot show stands in `cuda.cc`, `nvinfer.cc` and `engine.rs`.

mod defaults;

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// A violation of the stand-in's rules ends a program with this exit code.
pub const VIOLATION: i32 = 77;

/// The compiled stand-in.
pub struct Standin {
    /// Has the libraries under the names that programs ask for.
    pub libraries: PathBuf,
    /// Has TensorRT's libraries, but none of the CUDA driver.
    pub no_driver: PathBuf,
    engine: PathBuf,
}

/// How a program ended.
pub struct Ran {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it logged.
    pub stderr: String,
    /// How often each call of the stand-in was made.
    pub counts: BTreeMap<String, u64>,
}

/// The stand-in, built once per test program; `None`, with a printed line, where headers or compiler are missing.
pub fn standin() -> Option<&'static Standin> {
    static STANDIN: OnceLock<Result<Standin, String>> = OnceLock::new();
    match STANDIN.get_or_init(build) {
        Ok(standin) => Some(standin),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

fn build() -> Result<Standin, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/standin");
    let headers = headers().ok_or("TENSORRT_INCLUDE_DIR names no folder with TensorRT headers of version 10 or 11")?;
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("standin-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let [libraries, no_driver] = ["all", "no-driver"].map(|name| folder.join(name));
    for folder in [&libraries, &no_driver] {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    let read = |name: &str| std::fs::read_to_string(headers.path.join(name)).unwrap();
    std::fs::write(folder.join("defaults.h"), defaults::header(read)).unwrap();
    let library = folder.join("libstandin.so");
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let mut command = Command::new(&compiler);
    command.args(["-std=c++17", "-O1", "-Wall", "-Wno-deprecated-declarations", "-shared", "-fPIC"]);
    command.arg("-I").arg(&folder).arg("-I").arg(&source).arg("-isystem").arg(&headers.path);
    command.arg("-isystem").arg(source.join("../../src/engine/tensorrt/shim/cuda-stub"));
    command.args(["world.cc", "cuda.cc", "nvinfer.cc", "builder.cc"].map(|file| source.join(file)));
    command.arg("-o").arg(&library).arg("-ldl");
    let output = command.output().map_err(|e| format!("no C++ compiler: {}: {e}", compiler.display()))?;
    assert!(output.status.success(), "the stand-in does not compile:\n{}", String::from_utf8_lossy(&output.stderr));

    let major = headers.major;
    for name in ["nvinfer", "nvonnxparser"] {
        for folder in [&libraries, &no_driver] {
            symlink(&library, folder.join(format!("lib{name}.so.{major}"))).unwrap();
        }
    }
    for name in ["libcuda.so", "libcuda.so.1"] {
        symlink(&library, libraries.join(name)).unwrap();
    }
    Ok(Standin { libraries, no_driver, engine: engine() })
}

struct Headers {
    path: PathBuf,
    major: u32,
}

/// The first folder with headers that the stand-in can be compiled with; TensorRT 8's older interfaces are others.
fn headers() -> Option<Headers> {
    let list = std::env::var_os("TENSORRT_INCLUDE_DIR").unwrap_or_else(|| "/usr/include/aarch64-linux-gnu".into());
    std::env::split_paths(&list).find_map(|path| {
        let version = std::fs::read_to_string(path.join("NvInferVersion.h")).ok()?;
        if version.contains("TRT_MAJOR_RTX") || !path.join("NvOnnxParser.h").is_file() {
            return None;
        }
        let major = ["TRT_MAJOR_ENTERPRISE", "NV_TENSORRT_MAJOR"].into_iter().find_map(|name| {
            let line = version.lines().find(|line| line.starts_with(&format!("#define {name} ")))?;
            line.split_whitespace().nth(2)?.parse().ok()
        });
        major.filter(|major| [10, 11].contains(major)).map(|major| Headers { path, major })
    })
}

/// The shared library of `engine.rs`. `cargo test` has built it already unless it was asked for one test only.
fn engine() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_cfvit"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let mut command = Command::new(cargo);
    command.args([
        "build",
        "--offline",
        "--quiet",
        "--profile",
        "test",
        "--features",
        "tensorrt",
        "--example",
        "standin",
    ]);
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let library = program.with_file_name("examples").join("libstandin.so");
    assert!(library.is_file(), "{} was not built", library.display());
    library
}

impl Standin {
    /// Has `command` find the stand-in, with these `faults` (see `standin.h`).
    pub fn equip<'a>(&self, command: &'a mut Command, faults: &str) -> &'a mut Command {
        command.env("LD_LIBRARY_PATH", &self.libraries).env("CFVIT_STANDIN_ENGINE", &self.engine);
        command.env("CFVIT_STANDIN_FAULT", faults).env_remove("RUST_LOG").env_remove("CFVIT_TENSORRT_DIR")
    }

    /// Runs `cfvit` on it.
    pub fn cfvit(&self, arguments: &[&str], faults: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cfvit"));
        self.run(self.equip(command.args(arguments), faults))
    }

    /// Runs a `command` that was equipped. It must keep the stand-in's rules.
    pub fn run(&self, command: &mut Command) -> Ran {
        let ran = self.run_freely(command);
        let kept = ran.code != Some(VIOLATION) && !ran.stderr.contains("STAND-IN VIOLATION");
        assert!(kept, "{}{}", ran.stdout, ran.stderr);
        ran
    }

    /// Runs a `command` that was equipped and may break the stand-in's rules.
    pub fn run_freely(&self, command: &mut Command) -> Ran {
        let counts = tempfile::NamedTempFile::new().unwrap();
        let Output { status, stdout, stderr } = command.env("CFVIT_STANDIN_COUNTS", counts.path()).output().unwrap();
        let [stdout, stderr] = [stdout, stderr].map(|text| String::from_utf8(text).unwrap());
        let counts = std::fs::read_to_string(counts.path()).unwrap();
        let count = |line: &str| line.rsplit_once(' ').map(|(name, count)| (name.to_owned(), count.parse().unwrap()));
        Ran { code: status.code(), stdout, stderr, counts: counts.lines().filter_map(count).collect() }
    }
}

impl Ran {
    /// How often `call` was made.
    pub fn count(&self, call: &str) -> u64 {
        self.counts.get(call).copied().unwrap_or(0)
    }
}
