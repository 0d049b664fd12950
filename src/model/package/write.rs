//! Writing a package: into a temporary folder beside its place, then moved there in one step.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::super::open::{check_crop, check_threshold};
use super::super::{DType, Label, Model, tensor_file};
use super::manifest::{GateTable, MANIFEST, Manifest};
use super::{Certificate, Files, labels, sha256};
use crate::error::{Error, Kind, Result};
use crate::files;

const WEIGHTS: &str = "model.safetensors";
const LABELS: &str = "labels.txt";
/// What a build adds for one device; it belongs to the weights and goes with them.
const BUILT: [&str; 3] = ["plan", "onnx", "bad"];
/// What the temporary folders of a build begin with; one that was killed leaves its own.
pub const SCRATCH: &str = ".build-";

/// What `cfvit import` may change on the way.
///
/// The default stores 32-bit floats, which keeps a checkpoint exact; half the size is for those who have measured that it does
/// not matter.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// The name in the manifest; the folder's name when `None`.
    pub name: Option<String>,
    /// A note in the manifest: where the model comes from.
    pub about: Option<String>,
    /// Evaluation crop ratio; the model's own when `None`.
    pub crop: Option<f64>,
    /// η; the model's own when `None`.
    pub threshold: Option<f32>,
    /// How to store the weights, [`DType::F16`] or [`DType::F32`].
    pub dtype: DType,
    /// Replace a package that is there already.
    pub force: bool,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self { name: None, about: None, crop: None, threshold: None, dtype: DType::F32, force: false }
    }
}

/// Writes `model` with its new `labels` as an engine package into the folder `out`. The package appears whole or not at all,
/// and one that it replaces stays until then.
///
/// # Errors
/// [`Kind::Usage`] when `out` is taken or an option makes no sense, [`Kind::Model`] when the labels do not fit, [`Kind::Io`]
/// when it cannot be written.
pub fn import(model: &Model, labels: &[Label], options: &ImportOptions, out: &Path) -> Result<()> {
    labels::check_count(labels.len(), model.geometry.classes)?;
    let usage = |e: Error| Error::new(Kind::Usage, e.to_string());
    options.crop.map(check_crop).transpose().map_err(usage)?;
    options.threshold.map(check_threshold).transpose().map_err(usage)?;
    let replaces = check_place(out, options.force)?;
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&parent).map_err(|e| io_error("create", &parent, e))?;
    let temporary = tempfile::Builder::new().prefix(".import-").tempdir_in(&parent);
    let temporary = temporary.map_err(|e| io_error("create a folder in", &parent, e))?;
    // The package is a folder inside the temporary one: it gets the usual permissions, and whatever is left goes with it.
    let staged = temporary.path().join("package");
    fs::create_dir(&staged).map_err(|e| io_error("create", &staged, e))?;
    write_files(&staged, model, labels, options, out)?;
    if replaces {
        keep_foreign_files(out, &staged)?;
    }
    sync(&staged)?;
    put_in_place(&staged, out, replaces)?;
    sync(&parent)
}

/// Whether there is a package at `out` that may be replaced.
fn check_place(out: &Path, force: bool) -> Result<bool> {
    let Ok(metadata) = out.symlink_metadata() else { return Ok(false) };
    let shown = out.display();
    let is_package = metadata.is_dir() && out.join(MANIFEST).is_file();
    if !is_package {
        let what = "is there already and is no engine package";
        return Err(Error::new(Kind::Usage, format!("{shown} {what}: choose another --out, or move it away")));
    }
    if !force {
        return Err(Error::new(Kind::Usage, format!("{shown} is there already: --force replaces it")));
    }
    Ok(true)
}

fn write_files(folder: &Path, model: &Model, labels: &[Label], options: &ImportOptions, out: &Path) -> Result<()> {
    let weights = tensor_file::serialize(&model.tensors, model.geometry.heads, options.dtype)?;
    let lines: String = labels.iter().map(|Label { id, name }| format!("{id}\t{name}\n")).collect();
    let mut sums = BTreeMap::new();
    for (name, content) in [(WEIGHTS, weights.as_slice()), (LABELS, lines.as_bytes())] {
        write_file(&folder.join(name), content)?;
        let sum = sha256(&mut &*content).map_err(|e| io_error("sum up", &folder.join(name), e))?;
        sums.insert(name.to_string(), sum);
    }
    let crop = options.crop.unwrap_or(model.crop);
    let mut manifest = Manifest::new(&model.geometry, crop, WEIGHTS, LABELS, sums);
    manifest.name = options.name.clone().or_else(|| Some(out.file_name()?.to_string_lossy().into_owned()));
    manifest.about = options.about.clone();
    let threshold = options.threshold.or(model.threshold);
    // By way of its shortest decimal form: 0.7, not 0.699999988079071.
    manifest.gate = threshold.map(|t| GateTable { threshold: t.to_string().parse().ok() });
    manifest.set_results(&model.results);
    let text = manifest.to_toml()?;
    Manifest::parse(&text).map_err(|e| Error::new(Kind::Usage, format!("the manifest would not be readable: {e}")))?;
    write_file(&folder.join(MANIFEST), text.as_bytes())
}

/// Puts `certificate` into the manifest of the package in `folder`, in one step, in the place of one that is there. The rest of the file
/// stays as it is, comments included.
///
/// # Errors
/// [`Kind::Model`] when the folder is no package, [`Kind::Io`] when it cannot be written.
pub fn certify(folder: &Path, certificate: &Certificate) -> Result<()> {
    let path = folder.join(MANIFEST);
    certificate.check()?;
    let mut manifest = super::read_manifest(&Files::folder(folder))?;
    manifest.calibration = Some(certificate.clone());
    let text = fs::read_to_string(&path).map_err(|e| io_error("read", &path, e))?;
    let edited = format!("{}\n{}", without_certificate(&text).trim_end(), certificate.to_toml()?.trim_end());
    // Lines are no parser: where a text of several lines looks like a heading, the file is written anew.
    let text = match Manifest::parse(&edited) {
        Ok(parsed) if parsed == manifest => edited + "\n",
        _ => manifest.to_toml()?,
    };
    files::write_atomic(&path, text.as_bytes())
}

/// The manifest's `text` without `[calibration]` and its tables; what is left ends with one empty line.
fn without_certificate(text: &str) -> String {
    let mut inside = false;
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        if line.trim_start().starts_with('[') {
            let name = line.trim_start().trim_start_matches('[');
            inside = name.starts_with("calibration]") || name.starts_with("calibration.");
        }
        if !inside {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept.truncate(kept.trim_end().len());
    kept + "\n"
}

/// Copies what the user has put into the package that is replaced; what an import or a build wrote is not taken along.
fn keep_foreign_files(old: &Path, new: &Path) -> Result<()> {
    for entry in fs::read_dir(old).map_err(|e| io_error("read", old, e))? {
        let entry = entry.map_err(|e| io_error("read", old, e))?;
        let (from, to) = (entry.path(), new.join(entry.file_name()));
        let built = from.extension().is_some_and(|e| BUILT.iter().any(|b| e == *b))
            || entry.file_name().as_encoded_bytes().starts_with(SCRATCH.as_bytes());
        if built || to.exists() {
            continue;
        }
        if !from.is_file() {
            let shown = from.display();
            return Err(Error::new(Kind::Usage, format!("{shown} is no plain file: move it away before --force")));
        }
        fs::copy(&from, &to).map_err(|e| io_error("copy", &from, e))?;
        sync(&to)?;
    }
    Ok(())
}

/// Moves the finished folder to its place, in one step where the file system can.
fn put_in_place(staged: &Path, out: &Path, replaces: bool) -> Result<()> {
    let flags = if replaces { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
    match renameat_with(CWD, staged, CWD, out, flags) {
        // The old package, if there was one, now lies in the temporary folder and goes with it.
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => put_in_place_plainly(staged, out, replaces),
        Err(e) => Err(io_error("move the finished package to", out, e.into())),
    }
}

/// For file systems that cannot exchange: the old package is put aside, and back again should the new one not take its place.
fn put_in_place_plainly(staged: &Path, out: &Path, replaces: bool) -> Result<()> {
    let aside = staged.with_file_name("replaced");
    if replaces {
        fs::rename(out, &aside).map_err(|e| io_error("put aside", out, e))?;
    }
    let moved = fs::rename(staged, out).map_err(|e| io_error("move the finished package to", out, e));
    if moved.is_err() && replaces {
        fs::rename(&aside, out).map_err(|e| io_error("put back", out, e))?;
    }
    moved
}

fn write_file(path: &Path, content: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    written.map_err(|e| io_error("write", path, e))
}

/// Makes a file or the entries of a folder last.
fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| io_error("write", path, e))
}

fn io_error(action: &str, path: &Path, cause: std::io::Error) -> Error {
    Error::caused(Kind::Io, format!("cannot {action} {}", path.display()), cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_exchange_the_old_package_comes_back_when_the_new_one_cannot_be_moved() {
        let folder = tempfile::tempdir().unwrap();
        let (out, staged) = (folder.path().join("out"), folder.path().join("staging/package"));
        fs::create_dir_all(&out).unwrap();
        fs::create_dir_all(folder.path().join("staging")).unwrap();
        fs::write(out.join("old"), "old").unwrap();
        assert!(put_in_place_plainly(&staged, &out, true).is_err(), "nothing was staged");
        assert_eq!(fs::read(out.join("old")).unwrap(), b"old");
        fs::create_dir_all(&staged).unwrap();
        put_in_place_plainly(&staged, &out, true).unwrap();
        assert!(!out.join("old").exists());
    }
}
