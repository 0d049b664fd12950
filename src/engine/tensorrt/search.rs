//! Where NVIDIA's libraries may lie.

use std::path::{Path, PathBuf};

/// The folder to search instead of all others.
pub const VARIABLE: &str = "CFVIT_TENSORRT_DIR";

/// Where JetPack and NVIDIA's packages put them, for loaders that do not know these folders.
const KNOWN: [&str; 5] = [
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/local/tensorrt/lib",
    "/usr/local/cuda/lib64",
    "/usr/lib64",
];

/// The paths to try for the library called `name` (as `libnvinfer.so.10`), in this order. One without a folder is for the loader, which
/// knows `LD_LIBRARY_PATH` and the system's own folders. With `only`, nothing but that folder is searched.
pub fn candidates(name: &str, only: Option<&Path>) -> Vec<PathBuf> {
    match only {
        Some(folder) => files_in(folder, name),
        None => {
            let known = KNOWN.iter().flat_map(|folder| files_in(Path::new(folder), name));
            std::iter::once(PathBuf::from(name)).chain(known).collect()
        }
    }
}

/// The folder that the user names.
pub fn named_folder() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// The files of that name in `folder`: itself, else those with further version digits, the highest first.
fn files_in(folder: &Path, name: &str) -> Vec<PathBuf> {
    let exact = folder.join(name);
    if exact.is_file() {
        return vec![exact];
    }
    let Ok(entries) = folder.read_dir() else { return Vec::new() };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| {
            let file_name = entry.ok()?.file_name().into_string().ok()?;
            let digits = file_name.strip_prefix(name)?.strip_prefix('.')?;
            let version = digits.split('.').map(str::parse).collect::<Result<Vec<u32>, _>>().ok()?;
            Some((version, folder.join(file_name)))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_version_of_the_right_name_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        for name in
            ["libx.so.1.7.1", "libx.so.1.10.0", "libx.so.11.0.0", "libx.so.1.7.1.bak", "libx.so.1beta", "liby.so.1"]
        {
            std::fs::write(folder.path().join(name), "").unwrap();
        }
        let names = |found: Vec<PathBuf>| -> Vec<String> {
            found.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        assert_eq!(names(candidates("libx.so.1", Some(folder.path()))), ["libx.so.1.10.0", "libx.so.1.7.1"]);
        assert_eq!(names(candidates("liby.so.1", Some(folder.path()))), ["liby.so.1"]);
        assert!(candidates("libz.so.1", Some(folder.path())).is_empty());
        assert_eq!(candidates("libcfvit-none.so.1", None), [Path::new("libcfvit-none.so.1")]);
    }
}
