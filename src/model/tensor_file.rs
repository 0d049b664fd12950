//! `.safetensors` files: the crate reads and checks the header, the values are read tensor by tensor.

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Seek, SeekFrom};

use safetensors::tensor::{Dtype, Metadata};

use super::limits::MAX_SAFETENSORS_HEADER;
use super::weights::{Entry, Listing, Source, plain_name, two_of};
use super::{DType, Tensor, Tensors, shown};
use crate::error::{Error, Kind, Result};

/// Key of the `__metadata__` that says the number of attention heads; [`serialize`] sets it.
pub(super) const HEADS_KEY: &str = "heads";
/// Key of the `__metadata__` that says the evaluation crop ratio.
const CROP_KEY: &str = "crop";

/// An open `.safetensors` file.
pub(super) struct TensorFile<R> {
    reader: R,
    /// Where the values begin.
    data_at: u64,
    file_len: u64,
    metadata: Metadata,
    listing: Listing,
    /// The names in `listing` as they stand in the file.
    keys: BTreeMap<String, String>,
}

impl<R: Read + Seek> TensorFile<R> {
    /// Reads the header and checks that it describes the whole file.
    ///
    /// # Errors
    /// [`Kind::Model`] when it does not.
    pub fn open(mut reader: R, file_len: u64) -> Result<Self> {
        let damaged = |cause: std::io::Error| Error::caused(Kind::Model, "the header is cut off", cause);
        let mut length = [0; 8];
        reader.read_exact(&mut length).map_err(damaged)?;
        let length = u64::from_le_bytes(length);
        if length > MAX_SAFETENSORS_HEADER || length > file_len.saturating_sub(8) {
            return Err(Error::new(
                Kind::Model,
                format!(
                    "no safetensors file: its header claims {length} bytes, the file has {file_len} and at most \
                     {MAX_SAFETENSORS_HEADER} are read"
                ),
            ));
        }
        let mut header = vec![0; length as usize];
        reader.read_exact(&mut header).map_err(damaged)?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|e| Error::caused(Kind::Model, "the header is damaged", e))?;
        let (data_at, data_len) = (8 + length, metadata.data_len() as u64);
        if data_at.checked_add(data_len) != Some(file_len) {
            return Err(Error::new(
                Kind::Model,
                format!("the header describes {data_len} bytes of values, the file has {}", file_len - data_at),
            ));
        }
        let entry =
            |info: &safetensors::tensor::TensorInfo| Entry { shape: info.shape.clone(), dtype: dtype(info.dtype) };
        let mut listing = Listing::new();
        let mut keys = BTreeMap::new();
        for (key, info) in metadata.tensors() {
            let name = plain_name(&key).to_string();
            if listing.insert(name.clone(), entry(info)).is_some() {
                return Err(two_of(&name));
            }
            keys.insert(name, key);
        }
        Ok(Self { reader, data_at, file_len, metadata, listing, keys })
    }

    /// The number of attention heads in the metadata, if it says one.
    ///
    /// # Errors
    /// [`Kind::Model`] when it is not a number.
    pub fn heads(&self) -> Result<Option<usize>> {
        self.value(HEADS_KEY)
    }

    /// The evaluation crop ratio in the metadata, if it says one.
    ///
    /// # Errors
    /// [`Kind::Model`] when it is not a number.
    pub fn crop(&self) -> Result<Option<f64>> {
        self.value(CROP_KEY)
    }

    fn value<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>> {
        let Some(text) = self.metadata.metadata().as_ref().and_then(|map| map.get(key)) else { return Ok(None) };
        let value = text.trim().parse().map_err(|_| {
            Error::new(Kind::Model, format!("`{key}` in the metadata is `{}`, expected a number", shown(text)))
        })?;
        Ok(Some(value))
    }
}

impl<R: Read + Seek> Source for TensorFile<R> {
    fn listing(&self) -> &Listing {
        &self.listing
    }

    fn file_len(&self) -> u64 {
        self.file_len
    }

    fn read(&mut self, names: &[&str]) -> Result<Tensors> {
        let mut tensors = Tensors::new();
        for &name in names {
            let Some(info) = self.keys.get(name).and_then(|key| self.metadata.info(key)) else { continue };
            // The header was checked against the file's length, so no tensor is longer than the file.
            let (start, end) = info.data_offsets;
            let mut bytes = vec![0; end.saturating_sub(start)];
            let read = self.reader.seek(SeekFrom::Start(self.data_at + start as u64));
            read.and_then(|_| self.reader.read_exact(&mut bytes))
                .map_err(|e| Error::caused(Kind::Model, format!("tensor `{name}`"), e))?;
            tensors
                .insert(name.to_string(), Tensor { shape: info.shape.clone(), data: dtype(info.dtype).decode(&bytes) });
        }
        Ok(tensors)
    }
}

fn dtype(dtype: Dtype) -> DType {
    match dtype {
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::Bf16,
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
        _ => DType::Other,
    }
}

/// `tensors` as the bytes of a `.safetensors` file of [`DType::F16`] or [`DType::F32`], with the head count in the metadata. They
/// depend on nothing else.
///
/// # Errors
/// [`Kind::Usage`] when a value is too large for `f16`, or for another `dtype`.
pub(super) fn serialize(tensors: &Tensors, heads: usize, dtype: DType) -> Result<Vec<u8>> {
    let stored = match dtype {
        DType::F16 => Dtype::F16,
        DType::F32 => Dtype::F32,
        other => {
            let other = other.as_str();
            return Err(Error::new(Kind::Usage, format!("weights stored as {other}, expected f16 or f32")));
        }
    };
    if stored == Dtype::F16 {
        check_half_range(tensors)?;
    }
    let views = tensors.iter().map(|(name, tensor)| (name.as_str(), Encoded { tensor, stored }));
    // One key only: the order of several would differ from run to run.
    let metadata = HashMap::from([(HEADS_KEY.to_string(), heads.to_string())]);
    safetensors::serialize(views, Some(metadata))
        .map_err(|e| Error::caused(Kind::Model, "the tensors do not make a safetensors file", e))
}

fn check_half_range(tensors: &Tensors) -> Result<()> {
    for (name, tensor) in tensors {
        if let Some(value) = tensor.data.iter().find(|&&v| !half::f16::from_f32(v).is_finite()) {
            return Err(Error::new(
                Kind::Usage,
                format!("tensor `{name}` holds {value}, beyond what f16 can hold: use --dtype f32"),
            ));
        }
    }
    Ok(())
}

/// A tensor on its way into a file: encoded when its turn comes.
struct Encoded<'a> {
    tensor: &'a Tensor,
    stored: Dtype,
}

impl safetensors::View for Encoded<'_> {
    fn dtype(&self) -> Dtype {
        self.stored
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        dtype(self.stored).encode(&self.tensor.data).into()
    }

    fn data_len(&self) -> usize {
        self.tensor.data.len() * self.stored.bitsize() / 8
    }
}
