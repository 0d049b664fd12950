//! Engine packages: a folder with `manifest.toml`, the weights, the labels, and later what a build adds for one device.

mod certificate;
mod labels;
mod manifest;
mod write;

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::limits::MAX_TEXT_BYTES;
use super::open::{Details, check_crop, check_threshold, open_regular, read_text};
use super::shapes::Heads;
use super::tensor_file::TensorFile;
use super::weights;
use super::{Geometry, Model, shown};
use crate::error::{Error, Kind, Result};
#[cfg(test)]
pub(crate) use certificate::tests::sample as certificate_sample;
pub use certificate::{BudgetTerms, Certificate, Target, bits};
pub use labels::{parse as parse_labels, read as read_labels};
pub use manifest::MANIFEST;
pub(super) use manifest::Manifest;
pub use write::{ImportOptions, SCRATCH, certify, import};

/// Where the files of a package come from.
pub(super) enum Files {
    /// A folder on disk.
    Folder(PathBuf),
    /// Files inside this program: name and content.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

/// An open file of a package and its length.
enum PackageFile {
    Disk(BufReader<File>, u64),
    Memory(Cursor<&'static [u8]>),
}

impl Files {
    /// The files of the folder `path`.
    pub fn folder(path: &Path) -> Self {
        Files::Folder(path.to_path_buf())
    }

    /// What a model is called that has no name: the folder's.
    fn default_name(&self) -> String {
        match self {
            Files::Folder(path) => {
                let full = path.canonicalize().unwrap_or_else(|_| path.clone());
                full.file_name().map_or("model".into(), |name| shown(&name.to_string_lossy()))
            }
            Files::Embedded(_) => "bundled".into(),
        }
    }

    fn open(&self, name: &str) -> Result<PackageFile> {
        match self {
            Files::Folder(folder) => {
                let (file, len) = open_regular(&folder.join(name)).map_err(|e| e.within(format!("`{name}`")))?;
                Ok(PackageFile::Disk(BufReader::new(file), len))
            }
            Files::Embedded(files) => {
                let found = files.iter().find(|(known, _)| *known == name);
                let (_, bytes) = found.ok_or_else(|| Error::new(Kind::Model, format!("`{name}` is missing")))?;
                Ok(PackageFile::Memory(Cursor::new(bytes)))
            }
        }
    }
}

impl PackageFile {
    fn len(&self) -> u64 {
        match self {
            PackageFile::Disk(_, len) => *len,
            PackageFile::Memory(cursor) => cursor.get_ref().len() as u64,
        }
    }
}

impl Read for PackageFile {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self {
            PackageFile::Disk(file, _) => file.read(buffer),
            PackageFile::Memory(cursor) => cursor.read(buffer),
        }
    }
}

impl Seek for PackageFile {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        match self {
            PackageFile::Disk(file, _) => file.seek(to),
            PackageFile::Memory(cursor) => cursor.seek(to),
        }
    }
}

/// Opens a package: its manifest, every file that the manifest lists, checked against its sum, and the model in them.
///
/// # Errors
/// [`Kind::Model`] naming the file that is missing, changed or inconsistent with the manifest; what [`super::open`] says else.
pub(super) fn open(files: &Files, heads: Option<usize>) -> Result<(Model, Details)> {
    let manifest = read_manifest(files)?;
    for (name, sum) in &manifest.sha256 {
        // The two that are read below are checked when they are open, so that nobody can swap them in between.
        if *name != manifest.weights && *name != manifest.labels {
            verify(&mut files.open(name)?, name, sum)?;
        }
    }
    let mut file = open_verified(files, &manifest, &manifest.labels)?;
    let labels = read_text(&mut file, MAX_TEXT_BYTES)
        .and_then(|text| labels::parse(&text))
        .map_err(|e| e.within(format!("`{}`", manifest.labels)))?;
    let file = open_verified(files, &manifest, &manifest.weights)?;
    let len = file.len();
    let loaded = TensorFile::open(file, len)
        .and_then(|mut file| weights::load(&mut file, Heads { asked: heads, stored: Some(manifest.geometry.heads) }))
        .map_err(|e| e.within(format!("`{}`", manifest.weights)))?;
    let geometry = loaded.geometry;
    check_geometry(&manifest, &geometry)?;
    labels::check_count(labels.len(), geometry.classes).map_err(|e| e.within(format!("`{}`", manifest.labels)))?;
    let model = Model {
        name: manifest.name.clone().unwrap_or_else(|| files.default_name()),
        geometry,
        tensors: loaded.tensors,
        labels,
        crop: check_crop(manifest.crop)?,
        threshold: manifest.threshold().map(check_threshold).transpose()?,
        results: manifest.results(),
        certificate: manifest.calibration.clone(),
    };
    let details = Details {
        format: "engine package",
        dtypes: loaded.dtypes,
        ignored: loaded.ignored,
        notes: Vec::new(),
        has_labels: true,
        about: manifest.about,
    };
    Ok((model, details))
}

/// The certificate of the package in `folder`, if it has one. Only the manifest is read.
///
/// # Errors
/// [`Kind::Model`] when the folder is no package or its manifest is damaged.
pub fn certificate(folder: &Path) -> Result<Option<Certificate>> {
    let manifest = read_manifest(&Files::folder(folder));
    manifest.map(|manifest| manifest.calibration).map_err(|e| e.within(format!("cannot read {}", folder.display())))
}

/// What decides the answers of a package's model. The rest of its geometry can be read from the weights' shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// SHA-256 of the weights' file.
    pub sha256: String,
    /// Attention heads.
    pub heads: usize,
}

/// The weights of the package in `folder`, as its manifest says. The file itself is not read.
///
/// # Errors
/// [`Kind::Model`] when the folder is no package or its manifest is damaged.
pub fn weights(folder: &Path) -> Result<Weights> {
    let read = read_manifest(&Files::folder(folder)).and_then(|manifest| {
        let sum = manifest.sha256.get(&manifest.weights).map(|sum| sum.to_ascii_lowercase());
        let sum =
            sum.ok_or_else(|| Error::new(Kind::Model, format!("{MANIFEST}: `[sha256]` lacks `{}`", manifest.weights)));
        Ok(Weights { sha256: sum?, heads: manifest.geometry.heads })
    });
    read.map_err(|e| e.within(format!("cannot read {}", folder.display())))
}

fn read_manifest(files: &Files) -> Result<Manifest> {
    if let Files::Folder(folder) = files
        && !folder.join(MANIFEST).exists()
    {
        return Err(Error::new(
            Kind::Model,
            format!("a folder without {MANIFEST}, so no engine package: `cfvit import` makes one from a checkpoint"),
        ));
    }
    let mut file = files.open(MANIFEST)?;
    read_text(&mut file, MAX_TEXT_BYTES).and_then(|text| Manifest::parse(&text)).map_err(|e| e.within(MANIFEST))
}

/// Opens the file `name` and checks it against its sum in the manifest.
fn open_verified(files: &Files, manifest: &Manifest, name: &str) -> Result<PackageFile> {
    let mut file = files.open(name)?;
    let sum = manifest.sha256.get(name);
    let sum = sum.ok_or_else(|| Error::new(Kind::Model, format!("{MANIFEST}: `[sha256]` lacks `{name}`")))?;
    verify(&mut file, name, sum)?;
    Ok(file)
}

/// Compares the sum of `file` with the manifest's, and goes back to the file's start.
fn verify(file: &mut PackageFile, name: &str, expected: &str) -> Result<()> {
    let found = sha256(file).map_err(|e| Error::caused(Kind::Io, format!("cannot read `{name}`"), e))?;
    if !found.eq_ignore_ascii_case(expected) {
        return Err(Error::new(
            Kind::Model,
            format!(
                "`{name}` is not the file that was packed: sha256 {found}, the manifest says {expected}. Copy the package again, \
                 or import the checkpoint anew"
            ),
        ));
    }
    file.rewind().map_err(|e| Error::caused(Kind::Io, format!("cannot read `{name}`"), e))
}

/// The SHA-256 sum of what `reader` still gives, in lower-case hexadecimal digits.
fn sha256(reader: &mut impl Read) -> std::io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// The manifest and the weights agree; the head count may be overridden.
fn check_geometry(manifest: &Manifest, found: &Geometry) -> Result<()> {
    let said = Geometry { heads: found.heads, ..manifest.geometry()? };
    if said == *found {
        return Ok(());
    }
    Err(Error::new(
        Kind::Model,
        format!("{MANIFEST} says `{said}`, the weights in `{}` are `{found}`", manifest.weights),
    ))
}
