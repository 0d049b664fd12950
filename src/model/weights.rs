//! The tensors that a model of a given geometry has, and how they are found in and read from any kind of file: list first,
//! check every name, shape and size, then read.

use std::collections::BTreeMap;

use super::limits::{MAX_VALUES, MEMORY_PER_FILE_BYTE, MEMORY_SLACK};
use super::{DType, Family, Geometry, Tensor, Tensors, shapes, shown};
use crate::error::{Error, Kind, Result};

/// A tensor that a file offers; nothing of it has been read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// How its values are stored.
    pub dtype: DType,
}

/// What a file offers, by the authors' names.
pub(super) type Listing = BTreeMap<String, Entry>;

/// What data-parallel training puts before each name.
const PARALLEL_PREFIX: &str = "module.";

/// A counter that PyTorch's batch norms keep for training; it is part of every LV-ViT and nobody's loss.
const BATCH_COUNTER: &str = ".num_batches_tracked";

/// The name of a tensor without the `module.` that data-parallel training puts before it.
pub(super) fn plain_name(key: &str) -> &str {
    key.strip_prefix(PARALLEL_PREFIX).unwrap_or(key)
}

/// The error for a file that has the tensor `name` both with and without the prefix.
pub(super) fn two_of(name: &str) -> Error {
    let name = shown(name);
    Error::new(Kind::Model, format!("both `{name}` and `{PARALLEL_PREFIX}{name}` are there, expected one of them"))
}

/// A file with tensors in it.
pub(super) trait Source {
    /// All tensors of the file.
    fn listing(&self) -> &Listing;

    /// The file's length in bytes: what its claims are measured against.
    fn file_len(&self) -> u64;

    /// Reads the tensors `names`, which [`Source::listing`] has.
    ///
    /// # Errors
    /// [`Kind::Model`], with the tensor's name, when the file does not hold what it lists.
    fn read(&mut self, names: &[&str]) -> Result<Tensors>;
}

/// What [`load`] found.
pub(super) struct Loaded {
    pub geometry: Geometry,
    pub tensors: Tensors,
    /// How many of the model's tensors are stored in each format.
    pub dtypes: BTreeMap<DType, usize>,
    /// Tensors of the file that the model does not have.
    pub ignored: Vec<String>,
}

/// Every tensor of a model of this geometry: the authors' name and the shape, in PyTorch's layout (linear weights
/// `[out, in]`, convolutions `[out, in, rows, columns]`).
pub fn expected_tensors(geometry: &Geometry) -> Vec<(String, Vec<usize>)> {
    let Geometry { width: c, hidden, classes, .. } = *geometry;
    let mut list = TensorList::default();
    list.add("cls_token", &[1, 1, c]);
    list.add("pos_embed_list.0", &[1, 1 + geometry.cells(), c]);
    list.add("pos_embed_list.1", &[1, 1 + 4 * geometry.cells(), c]);
    list.patch_embed(geometry);
    for block in 0..geometry.depth {
        list.block(&format!("blocks.{block}"), geometry);
    }
    list.pair("norm", &[c]);
    list.pair("head", &[classes, c]);
    if geometry.family == Family::Lvvit {
        list.pair("aux_head", &[classes, c]);
    }
    list.pair("reuse_block.0", &[c]);
    list.pair("reuse_block.1.fc1", &[hidden, c]);
    list.pair("reuse_block.1.fc2", &[c, hidden]);
    list.0
}

/// Number of learned values: every tensor but the running statistics of the batch norms, as PyTorch counts parameters.
pub fn parameters(geometry: &Geometry) -> u64 {
    let learned = expected_tensors(geometry).into_iter().filter(|(name, _)| !name.contains(".running_"));
    learned.map(|(_, shape)| shape.iter().map(|&d| d as u64).product::<u64>()).sum()
}

#[derive(Default)]
struct TensorList(Vec<(String, Vec<usize>)>);

impl TensorList {
    fn add(&mut self, name: impl Into<String>, shape: &[usize]) {
        self.0.push((name.into(), shape.to_vec()));
    }

    /// A weight and its bias, which has the weight's first dimension.
    fn pair(&mut self, name: &str, weight: &[usize]) {
        self.add(format!("{name}.weight"), weight);
        self.add(format!("{name}.bias"), &weight[..1]);
    }

    fn patch_embed(&mut self, geometry: &Geometry) {
        let Geometry { patch, width, stem, .. } = *geometry;
        if geometry.family == Family::Deit {
            return self.pair("patch_embed.proj", &[width, 3, patch, patch]);
        }
        for (i, inputs, side) in [(1, 3, 7), (2, stem, 3), (3, stem, 3)] {
            self.add(format!("patch_embed.conv{i}.weight"), &[stem, inputs, side, side]);
            for part in ["weight", "bias", "running_mean", "running_var"] {
                self.add(format!("patch_embed.bn{i}.{part}"), &[stem]);
            }
        }
        self.pair("patch_embed.proj", &[width, stem, patch / 2, patch / 2]);
    }

    fn block(&mut self, block: &str, geometry: &Geometry) {
        let Geometry { width: c, hidden, .. } = *geometry;
        self.pair(&format!("{block}.norm1"), &[c]);
        match geometry.family {
            Family::Deit => self.pair(&format!("{block}.attn.qkv"), &[3 * c, c]),
            Family::Lvvit => self.add(format!("{block}.attn.qkv.weight"), &[3 * c, c]),
        }
        self.pair(&format!("{block}.attn.proj"), &[c, c]);
        self.pair(&format!("{block}.norm2"), &[c]);
        self.pair(&format!("{block}.mlp.fc1"), &[hidden, c]);
        self.pair(&format!("{block}.mlp.fc2"), &[c, hidden]);
    }
}

/// Derives the geometry from the shapes, checks every tensor of the model and reads them.
///
/// # Errors
/// [`Kind::Model`] naming the tensor that is missing, of another shape or type, or not finite; what
/// [`shapes::geometry`] refuses; and a file that claims more than it can hold.
pub(super) fn load(source: &mut dyn Source, heads: shapes::Heads) -> Result<Loaded> {
    let geometry = shapes::geometry(source.listing(), heads)?;
    let expected = expected_tensors(&geometry);
    check_size(&expected, source.file_len())?;
    let mut dtypes = BTreeMap::new();
    for (name, shape) in &expected {
        let dtype = check_entry(source.listing(), name, shape)?;
        *dtypes.entry(dtype).or_insert(0) += 1;
    }
    let names: Vec<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    let tensors = source.read(&names)?;
    for (name, shape) in &expected {
        check_tensor(&tensors, name, shape)?;
    }
    let ignored = source.listing().keys().filter(|name| !tensors.contains_key(*name) && !name.ends_with(BATCH_COUNTER));
    let ignored = ignored.map(|name| shown(name)).collect();
    Ok(Loaded { geometry, tensors, dtypes, ignored })
}

/// The memory for all tensors must be in proportion to the file, whatever its header claims.
fn check_size(expected: &[(String, Vec<usize>)], file_len: u64) -> Result<()> {
    let values = expected.iter().try_fold(0u64, |sum, (_, shape)| {
        let count = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d as u64))?;
        sum.checked_add(count)
    });
    let values = values.filter(|&v| v <= MAX_VALUES).ok_or_else(|| {
        Error::new(Kind::Model, format!("the shapes make more than {MAX_VALUES} values, the most that is read"))
    })?;
    let allowed = file_len.saturating_mul(MEMORY_PER_FILE_BYTE).saturating_add(MEMORY_SLACK);
    if values * 4 > allowed {
        return Err(Error::new(
            Kind::Model,
            format!("the shapes ask for {values} values, far more than a file of {file_len} bytes holds"),
        ));
    }
    Ok(())
}

fn check_entry(listing: &Listing, name: &str, expected: &[usize]) -> Result<DType> {
    let Some(entry) = listing.get(name) else {
        return Err(Error::new(Kind::Model, format!("tensor `{name}` is missing, expected one of shape {expected:?}")));
    };
    if entry.shape != expected {
        let found = &entry.shape;
        return Err(Error::new(Kind::Model, format!("tensor `{name}`: expected shape {expected:?}, found {found:?}")));
    }
    match entry.dtype {
        DType::Other => Err(Error::new(
            Kind::Model,
            format!("tensor `{name}` holds no floats, expected f16, bf16, f32 or f64: save the model unquantised"),
        )),
        dtype => Ok(dtype),
    }
}

/// The tensor was read whole and every value is finite.
fn check_tensor(tensors: &Tensors, name: &str, expected: &[usize]) -> Result<()> {
    let len: usize = expected.iter().product();
    let found = tensors.get(name).filter(|t| t.shape == expected && t.data.len() == len);
    let Some(Tensor { data, .. }) = found else {
        return Err(Error::new(Kind::Model, format!("tensor `{name}` could not be read whole")));
    };
    match data.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(Error::new(
            Kind::Model,
            format!(
                "tensor `{name}`: value {at} is {}, expected finite numbers: the training diverged or the file is damaged",
                data[at]
            ),
        )),
    }
}
