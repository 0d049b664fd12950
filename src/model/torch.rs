//! The zip that `torch.save` writes: `<root>/data.pkl` says what there is, `<root>/data/<key>` hold the storages.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::rc::Rc;

use zip::read::{ArchiveOffset, Config};
use zip::{CompressionMethod, ZipArchive};

use super::limits::{MAX_PICKLE_BYTES, MAX_ZIP_DIRECTORY_BYTES};
use super::pickle::{Pickle, TensorRef};
use super::state::{find_state, results, state_tensors};
use super::weights::{Entry, Listing, Source};
use super::{StoredResults, Tensor, Tensors, shown};
use crate::error::{Error, Kind, Result};

/// A checkpoint that `torch.save` wrote.
pub(super) struct Torch<R> {
    archive: ZipArchive<Budget<R>>,
    /// The folder inside the zip, with its slash.
    root: String,
    pickle: Pickle,
    listing: Listing,
    /// The tensors of `listing`.
    tensors: BTreeMap<String, TensorRef>,
    file_len: u64,
    /// The authors' results.
    pub results: StoredResults,
    /// What a reader of the file should know: which entries were used and which were left out.
    pub notes: Vec<String>,
}

impl<R: Read + Seek> Torch<R> {
    /// Reads the directory of the zip and the pickle, and lists the tensors of the state dict; no weights yet.
    ///
    /// # Errors
    /// [`Kind::Model`] when it is damaged, not written by `torch.save`, or holds no state dict.
    pub fn open(reader: R, file_len: u64) -> Result<Self> {
        let (mut archive, root) = open_zip(reader)?;
        check_byte_order(&mut archive, &root)?;
        let pickle = Pickle::read(read_entry(&mut archive, &format!("{root}data.pkl"), MAX_PICKLE_BYTES)?)?;
        let mut notes = Vec::new();
        let state = find_state(&pickle, &mut notes)?;
        let results = results(&pickle, &mut notes);
        let tensors = state_tensors(&pickle, state)?;
        let listing = tensors.iter().map(|(name, tensor)| (name.clone(), entry(tensor))).collect();
        Ok(Self { archive, root, pickle, listing, tensors, file_len, results, notes })
    }

    /// Reads one tensor out of its `storage`'s bytes.
    fn view(name: &str, tensor: &TensorRef, storage: &[u8]) -> Result<Tensor> {
        let TensorRef { storage: claim, view } = tensor;
        let inside = view.extent().is_some_and(|extent| extent <= claim.numel);
        let data = if inside { view.read(storage, claim.dtype) } else { None };
        let data = data.ok_or_else(|| {
            let (numel, offset, bytes) = (claim.numel, view.offset, storage.len());
            let (shape, stride) = (&view.shape, &view.stride);
            let claims = format!("offset {offset}, shape {shape:?}, stride {stride:?}");
            Error::new(
                Kind::Model,
                format!("tensor `{name}` ({claims}) lies outside its storage of {numel} values, {bytes} bytes"),
            )
        })?;
        Ok(Tensor { shape: view.shape.clone(), data })
    }
}

impl<R: Read + Seek> Source for Torch<R> {
    fn listing(&self) -> &Listing {
        &self.listing
    }

    fn file_len(&self) -> u64 {
        self.file_len
    }

    /// Each storage is read once, and only one is in memory at a time.
    fn read(&mut self, names: &[&str]) -> Result<Tensors> {
        let mut by_storage: BTreeMap<&str, Vec<(&str, &TensorRef)>> = BTreeMap::new();
        for &name in names {
            if let Some(tensor) = self.tensors.get(name) {
                by_storage.entry(self.pickle.text(&tensor.storage.key)).or_default().push((name, tensor));
            }
        }
        let mut tensors = Tensors::new();
        for (key, users) in by_storage {
            let path = format!("{}data/{key}", self.root);
            let storage = read_entry(&mut self.archive, &path, self.file_len)
                .map_err(|e| e.within(format!("tensor `{}`", users[0].0)))?;
            for (name, tensor) in users {
                tensors.insert(name.to_string(), Self::view(name, tensor, &storage)?);
            }
        }
        Ok(tensors)
    }
}

fn entry(tensor: &TensorRef) -> Entry {
    Entry { shape: tensor.view.shape.clone(), dtype: tensor.storage.dtype }
}

/// Opens the zip, refuses one with tricks in its directory, and finds the folder that `torch.save` wrote (with its slash).
fn open_zip<R: Read + Seek>(reader: R) -> Result<(ZipArchive<Budget<R>>, String)> {
    let left = Rc::new(Cell::new(MAX_ZIP_DIRECTORY_BYTES));
    let budget = Budget { inner: reader, left: left.clone() };
    let damaged = |cause| Error::caused(Kind::Model, "the zip's directory is damaged or the file was cut off", cause);
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let mut archive = ZipArchive::with_config(config, budget).map_err(damaged)?;
    if archive.has_duplicate_names() {
        return Err(Error::new(Kind::Model, "the zip has two entries of the same name"));
    }
    if archive.has_overlapping_entries().map_err(damaged)? {
        return Err(Error::new(Kind::Model, "entries of the zip overlap or lie outside the file"));
    }
    // From here on each read is bounded by the size of its entry.
    left.set(u64::MAX);
    let root = find_root(&archive)?;
    Ok((archive, root))
}

/// The one folder of the zip that has a `data.pkl`.
fn find_root<R: Read + Seek>(archive: &ZipArchive<R>) -> Result<String> {
    let names: Vec<_> = archive.file_names_raw().map(String::from_utf8_lossy).collect();
    let is_folder = |root: &&str| root.strip_suffix('/').is_some_and(|name| !name.is_empty() && !name.contains('/'));
    let Some(root) = names.iter().filter_map(|name| name.strip_suffix("data.pkl")).find(is_folder) else {
        let first = names.first().map_or("nothing".into(), |name| format!("`{}`", shown(name)));
        let message =
            format!("a zip without <folder>/data.pkl (it begins with {first}), so torch.save did not write it");
        return Err(Error::new(Kind::Model, message));
    };
    if names.iter().any(|name| name.strip_prefix(root) == Some("constants.pkl")) {
        return Err(Error::new(
            Kind::Model,
            "a TorchScript archive, expected a checkpoint: torch.save({\"model\": model.state_dict()}, path)",
        ));
    }
    Ok(root.to_string())
}

/// The whole entry `path`, at most `limit` bytes. Its size is believed no further than the file is long.
fn read_entry<R: Read + Seek>(archive: &mut ZipArchive<R>, path: &str, limit: u64) -> Result<Vec<u8>> {
    let error = |what: &str| Error::new(Kind::Model, format!("`{}` in the zip {what}", shown(path)));
    let Some(index) = archive.index_for_name(path) else { return Err(error("is missing")) };
    let damaged = |cause: zip::result::ZipError| {
        let hint = "is damaged (or was saved without checksums: save it again with torch.save's defaults)";
        Error::caused(Kind::Model, format!("`{}` in the zip {hint}", shown(path)), cause)
    };
    let entry = archive.by_index_data(index).map_err(damaged)?;
    let (stored, size) = (entry.compression() == CompressionMethod::Stored, entry.size());
    if !stored || entry.encrypted() || entry.compressed_size() != size {
        return Err(error("is compressed or encrypted; torch.save writes plain entries: save it again with torch"));
    }
    if size > limit {
        return Err(error(&format!("has {size} bytes, at most {limit} are read")));
    }
    let entry = archive.by_index(index).map_err(damaged)?;
    // The entries were checked not to overlap and to end before the directory, so `size` is no longer than the file.
    let mut bytes = Vec::with_capacity(size as usize);
    // One byte more than expected: the checksum is verified only when the end has been seen.
    entry.take(size + 1).read_to_end(&mut bytes).map_err(|cause| damaged(cause.into()))?;
    if bytes.len() as u64 != size {
        return Err(error(&format!("has {} bytes, its directory says {size}", bytes.len())));
    }
    Ok(bytes)
}

/// A reader that gives at most `left` bytes, then fails: bounds what listing a zip's directory may cost in time and memory.
struct Budget<R> {
    inner: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Budget<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let Some(left) = self.left.get().checked_sub(count as u64) else {
            return Err(std::io::Error::other(format!("the directory is larger than {MAX_ZIP_DIRECTORY_BYTES} bytes")));
        };
        self.left.set(left);
        Ok(count)
    }
}

impl<R: Seek> Seek for Budget<R> {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.inner.seek(to)
    }
}

/// Values are read as little-endian; a checkpoint of another machine says so in its own file.
fn check_byte_order<R: Read + Seek>(archive: &mut ZipArchive<R>, root: &str) -> Result<()> {
    let path = format!("{root}byteorder");
    if archive.index_for_name(&path).is_none() {
        return Ok(());
    }
    let order = read_entry(archive, &path, 64)?;
    match order.trim_ascii() {
        b"little" => Ok(()),
        other => Err(Error::new(
            Kind::Model,
            format!(
                "the byte order is `{}`, expected `little`: load the file with torch on that machine and save it on a \
                 little-endian one",
                shown(&String::from_utf8_lossy(other))
            ),
        )),
    }
}
