//! With feature `tensorrt`: compiles the C++ shim once for each set of TensorRT headers in `TENSORRT_INCLUDE_DIR`.
//!
//! `TENSORRT_INCLUDE_DIR` is a list of folders with `NvInfer.h` and `NvOnnxParser.h`, separated by colons. Without it JetPack's folder is
//! taken; where that has none the program is built without a shim, and says so when TensorRT is asked for.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(shim, values(\"8\", \"10\", \"11\", \"rtx\"))");
    println!("cargo::rerun-if-changed=build.rs");
    revision();
    #[cfg(feature = "tensorrt")]
    if let Err(message) = shim::compile() {
        println!("cargo::error={message}");
    }
}

/// Hands the commit to the program as `CFVIT_REVISION`: what the variable of that name says, else, in release builds, what git does, else
/// nothing (a commit is no reason to compile a debug build anew). A tree without git, or inside another project's, builds as well.
fn revision() {
    println!("cargo::rerun-if-env-changed=CFVIT_REVISION");
    let said = std::env::var("CFVIT_REVISION").ok().filter(|said| !said.trim().is_empty());
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let revision = said.or_else(|| release.then(from_git).flatten()).unwrap_or_default();
    // What is not a plain word is no revision: it ends up in labels and pages.
    let plain = |c: char| c.is_ascii_alphanumeric() || "+-._".contains(c);
    let revision: String = revision.trim().chars().take(64).collect();
    println!("cargo::rustc-env=CFVIT_REVISION={}", if revision.chars().all(plain) { &revision } else { "" });
}

/// The commit of this tree, where it is the root of a git checkout.
fn from_git() -> Option<String> {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").map(std::path::PathBuf::from)?;
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").arg("-C").arg(&root).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    if std::path::Path::new(&git(&["rev-parse", "--show-toplevel"])?).canonicalize().ok()?
        != root.canonicalize().ok()?
    {
        return None;
    }
    // The file that changes with every commit, on any branch.
    println!("cargo::rerun-if-changed={}", root.join(git(&["rev-parse", "--git-path", "logs/HEAD"])?).display());
    git(&["rev-parse", "--short=12", "HEAD"])
}

#[cfg(feature = "tensorrt")]
mod shim {
    use std::collections::HashMap;
    use std::fs;
    use std::path::{Path, PathBuf};

    const VARIABLE: &str = "TENSORRT_INCLUDE_DIR";
    const JETPACK: &str = "/usr/include/aarch64-linux-gnu";
    const FOLDER: &str = "src/engine/tensorrt/shim";

    /// Compiles a shim for each folder of the list.
    pub fn compile() -> Result<(), String> {
        println!("cargo::rerun-if-env-changed={VARIABLE}");
        println!("cargo::rerun-if-changed={FOLDER}");
        let folders = match std::env::var(VARIABLE) {
            Ok(list) => std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect(),
            Err(_) => default_folders(),
        };
        let mut done: HashMap<String, PathBuf> = HashMap::new();
        for folder in folders {
            let flavour = flavour(&folder)?;
            compile_one(&folder, &flavour);
            if let Some(other) = done.insert(flavour.clone(), folder.clone()) {
                let (a, b) = (other.display(), folder.display());
                return Err(format!("{VARIABLE}: {a} and {b} are both headers of TensorRT {flavour}: leave one out"));
            }
        }
        Ok(())
    }

    fn default_folders() -> Vec<PathBuf> {
        if Path::new(JETPACK).join("NvInfer.h").is_file() {
            return vec![JETPACK.into()];
        }
        println!(
            "cargo::warning=no TensorRT headers in {JETPACK}: this program will run no TensorRT engine. Install libnvinfer-dev and \
             libnvonnxparsers-dev, or name the headers' folder in {VARIABLE}"
        );
        Vec::new()
    }

    /// `8`, `10`, `11` or `rtx`: whose headers these are.
    fn flavour(folder: &Path) -> Result<String, String> {
        let shown = folder.display();
        for name in ["NvInfer.h", "NvOnnxParser.h", "NvInferVersion.h"] {
            if !folder.join(name).is_file() {
                return Err(format!(
                    "{VARIABLE}: {shown} has no {name}, expected TensorRT's headers and the ONNX parser's"
                ));
            }
        }
        let path = folder.join("NvInferVersion.h");
        println!("cargo::rerun-if-changed={}", path.display());
        let text = fs::read_to_string(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        if value(&text, "TRT_MAJOR_RTX").is_some() {
            return Ok("rtx".into());
        }
        let major = value(&text, "TRT_MAJOR_ENTERPRISE").or_else(|| value(&text, "NV_TENSORRT_MAJOR"));
        match major {
            Some(major @ ("8" | "10" | "11")) => Ok(major.into()),
            other => {
                let found = other.unwrap_or("no version");
                Err(format!(
                    "{VARIABLE}: {shown} has headers of TensorRT {found}, expected 8 (from 8.5), 10, 11 or RTX"
                ))
            }
        }
    }

    /// What `#define name value` says.
    fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
        text.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("#define") && words.next() == Some(name)).then(|| words.next())?
        })
    }

    fn compile_one(folder: &Path, flavour: &str) {
        cc::Build::new()
            .cpp(true)
            .std("c++17")
            .file(format!("{FOLDER}/shim.cc"))
            // NVIDIA's headers use what they deprecate themselves.
            .flag("-isystem")
            .flag(folder)
            .flag("-isystem")
            .flag(format!("{FOLDER}/cuda-stub"))
            .flag("-Wno-deprecated-declarations")
            .flag("-fvisibility=hidden")
            .define("nvinfer1", format!("cfvit_nvinfer_{flavour}").as_str())
            .define("nvonnxparser", format!("cfvit_nvonnxparser_{flavour}").as_str())
            .compile(&format!("cfvit_trt_shim_{flavour}"));
        println!("cargo::rustc-cfg=shim=\"{flavour}\"");
    }
}
