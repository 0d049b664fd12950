//! The one way in: what kind of file is it, and the model in it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::limits::MAX_CLASSES;
use super::package::{self, Files};
use super::shapes::Heads;
use super::tensor_file::TensorFile;
use super::torch::Torch;
use super::weights::{self, Loaded};
use super::{DType, Label, Model, StoredResults, bundled, shown};
use crate::error::{Error, Kind, Result};

/// What a model was read from, for people: see `cfvit inspect`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Details {
    /// The kind of file: `engine package`, `torch checkpoint` or `safetensors`.
    pub format: &'static str,
    /// How many of the model's tensors are stored in each number format.
    pub dtypes: BTreeMap<DType, usize>,
    /// Tensors of the file that the model does not have.
    pub ignored: Vec<String>,
    /// Remarks: entries that were left out.
    pub notes: Vec<String>,
    /// Whether the labels come with the file; else they are made up.
    pub has_labels: bool,
    /// The manifest's note: where the model comes from, whom to credit.
    pub about: Option<String>,
}

/// Opens a model: a checkpoint (`.pth`, `.safetensors`) or an engine package folder, recognised by content; `None` is the bundled
/// default. `heads` overrides what the file says about the number of attention heads.
///
/// # Errors
/// [`Kind::Model`] when the file is damaged, foreign or inconsistent, [`Kind::Io`] when it cannot be read, [`Kind::Usage`] when
/// `heads` does not divide the width.
pub fn open(path: Option<&Path>, heads: Option<usize>) -> Result<Model> {
    open_with_details(path, heads).map(|(model, _)| model)
}

/// The same as [`open`], and what the model was read from.
///
/// # Errors
/// As [`open`].
pub fn open_with_details(path: Option<&Path>, heads: Option<usize>) -> Result<(Model, Details)> {
    let Some(path) = path else {
        return package::open(&bundled::files(), heads).map_err(|e| e.within("cannot read the bundled model"));
    };
    let opened = if path.is_dir() { package::open(&Files::folder(path), heads) } else { open_file(path, heads) };
    opened.map_err(|e| e.within(format!("cannot read {}", path.display())))
}

/// What the first bytes of a file tell.
#[derive(Debug, PartialEq, Eq)]
enum Format {
    Zip,
    SafeTensors,
    /// Something else, and what to do about it.
    Foreign(&'static str),
}

fn open_file(path: &Path, heads: Option<usize>) -> Result<(Model, Details)> {
    let (file, len) = open_regular(path)?;
    let mut reader = BufReader::new(file);
    let mut start = Vec::new();
    reader.by_ref().take(64).read_to_end(&mut start).and_then(|_| reader.rewind()).map_err(io_error)?;
    let named_safetensors = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("safetensors"));
    let name = path.file_stem().map_or("model".into(), |stem| shown(&stem.to_string_lossy()));
    match recognise(&start, len) {
        Format::Zip => open_torch(reader, len, name, heads),
        Format::SafeTensors => open_tensor_file(reader, len, name, heads),
        Format::Foreign(_) if named_safetensors => open_tensor_file(reader, len, name, heads),
        Format::Foreign(what) => Err(Error::new(Kind::Model, what)),
    }
}

/// Opens a file that is neither a device nor a pipe, which could go on for ever; gives its length too.
pub(super) fn open_regular(path: &Path) -> Result<(File, u64)> {
    let metadata = path.metadata().map_err(io_error)?;
    if !metadata.is_file() {
        return Err(Error::new(Kind::Model, "neither a file nor a folder, expected a checkpoint or an engine package"));
    }
    let file = File::open(path).map_err(io_error)?;
    Ok((file, metadata.len()))
}

fn io_error(cause: std::io::Error) -> Error {
    Error::caused(Kind::Io, "the system says", cause)
}

/// Recognises a file of `len` bytes by its `start` (up to 64 bytes).
fn recognise(start: &[u8], len: u64) -> Format {
    const KNOWN: [(&[u8], &str); 9] = [
        (b"version https://git-lfs", "a Git LFS pointer, not the file itself: fetch it with `git lfs pull`"),
        (b"<", "a web page, not a checkpoint: the download went wrong"),
        (b"GGUF", "a GGUF file, expected a .pth checkpoint, a .safetensors file or an engine package folder"),
        (b"\x89HDF", "an HDF5 file, expected a .pth checkpoint, a .safetensors file or an engine package folder"),
        (b"\x1f\x8b", "a gzip file: unpack it first"),
        (b"\x28\xb5\x2f\xfd", "a zstd file: unpack it first"),
        (b"\x7fELF", "a program, expected a .pth checkpoint, a .safetensors file or an engine package folder"),
        (b"\x93NUMPY", "a numpy array, expected a .pth checkpoint, a .safetensors file or an engine package folder"),
        (b"schema", "a manifest: give the folder that it lies in"),
    ];
    const PICKLE: &str = "a bare pickle, as torch.save wrote before PyTorch 1.6. Load it with torch and save it again: \
                          torch.save(torch.load(\"old.pth\", map_location=\"cpu\"), \"new.pth\")";
    if start.is_empty() {
        return Format::Foreign("the file is empty");
    }
    if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
        return Format::Zip;
    }
    if let [0x80, 1..=5, ..] = start {
        return Format::Foreign(PICKLE);
    }
    if let Some((_, what)) = KNOWN.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Format::Foreign(what);
    }
    match start.first_chunk::<8>().map(|n| u64::from_le_bytes(*n)) {
        Some(header) if start.get(8) == Some(&b'{') && header <= len => Format::SafeTensors,
        _ => Format::Foreign(
            "no kind of file that is known here, expected a .pth checkpoint (torch.save), a .safetensors file or an engine package folder",
        ),
    }
}

fn open_torch<R: Read + Seek>(reader: R, len: u64, name: String, heads: Option<usize>) -> Result<(Model, Details)> {
    let mut torch = Torch::open(reader, len)?;
    let loaded = weights::load(&mut torch, Heads { asked: heads, stored: None })?;
    let details = Details { format: "torch checkpoint", notes: torch.notes, ..Details::default() };
    Ok(assemble(loaded, name, None, torch.results, details))
}

fn open_tensor_file<R: Read + Seek>(
    reader: R,
    len: u64,
    name: String,
    heads: Option<usize>,
) -> Result<(Model, Details)> {
    let mut file = TensorFile::open(reader, len)?;
    let heads = Heads { asked: heads, stored: file.heads()? };
    let crop = file.crop()?.map(check_crop).transpose()?;
    let loaded = weights::load(&mut file, heads)?;
    let details = Details { format: "safetensors", ..Details::default() };
    Ok(assemble(loaded, name, crop, StoredResults::default(), details))
}

/// A model from a bare checkpoint: made-up labels, the family's crop unless the file says another.
fn assemble(
    loaded: Loaded,
    name: String,
    crop: Option<f64>,
    results: StoredResults,
    details: Details,
) -> (Model, Details) {
    let Loaded { geometry, tensors, dtypes, ignored } = loaded;
    let label = |class: usize| Label { id: class.to_string(), name: format!("class {class}") };
    let labels = (0..geometry.classes.min(MAX_CLASSES)).map(label).collect();
    let crop = crop.unwrap_or(geometry.family.default_crop());
    let model = Model { name, geometry, tensors, labels, crop, threshold: None, results, certificate: None };
    (model, Details { dtypes, ignored, ..details })
}

/// A crop ratio that makes sense.
///
/// # Errors
/// [`Kind::Model`] for one outside 0.1 to 1.
pub(super) fn check_crop(crop: f64) -> Result<f64> {
    if (0.1..=1.0).contains(&crop) {
        return Ok(crop);
    }
    Err(Error::new(
        Kind::Model,
        format!("a crop ratio of {crop}, expected 0.1 to 1 (0.875 and 0.9 are the published ones)"),
    ))
}

/// A threshold that makes sense.
///
/// # Errors
/// [`Kind::Model`] for one that is negative or not a number.
pub(super) fn check_threshold(threshold: f32) -> Result<f32> {
    if threshold.is_finite() && threshold >= 0.0 {
        return Ok(threshold);
    }
    Err(Error::new(
        Kind::Model,
        format!("a threshold of {threshold}, expected a number of 0 (never refine) or more (1.1: always)"),
    ))
}

/// Reads all of a reader from its start, for text files with a limit.
pub(super) fn read_text<R: Read + Seek>(reader: &mut R, limit: u64) -> Result<String> {
    let mut bytes = Vec::new();
    reader.seek(SeekFrom::Start(0)).map_err(io_error)?;
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(io_error)?;
    if bytes.len() as u64 > limit {
        return Err(Error::new(Kind::Model, format!("longer than {limit} bytes")));
    }
    String::from_utf8(bytes).map_err(|e| Error::caused(Kind::Model, "not UTF-8 text", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_recognised_by_their_first_bytes() {
        assert_eq!(recognise(b"PK\x03\x04....", 100), Format::Zip);
        assert_eq!(recognise(b"\x10\0\0\0\0\0\0\0{\"", 100), Format::SafeTensors);
        for (start, says) in [
            (&b""[..], "empty"),
            (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", "torch.save"),
            (b"<!DOCTYPE html>", "web page"),
            (b"version https://git-lfs.github.com/spec/v1", "git lfs pull"),
            (b"\xff\xff\xff\xff\0\0\0\0{", "no kind of file"),
        ] {
            let Format::Foreign(what) = recognise(start, 100) else { panic!("{start:?}") };
            assert!(what.contains(says), "{what}");
        }
    }
}
