//! The model as ONNX graphs for a GPU compiler: the coarse stage, the fine stage, and the static baseline. Opset 17, static shapes,
//! deterministic bytes.
//!
//! What the graphs compute is what [`crate::engine::cpu`] computes, in a form that TensorRT from 8.5 on parses and fuses well:
//! - LayerNorm and GELU are spelled out: 8.5 has neither as one operator.
//! - `head_dim^-½` is folded into the queries' weights (exact where `head_dim` is a power of four, as in the published models), LV-ViT's
//!   `1 / skip_lam` into the layers before the residual sums (a power of two), its batch norms into the convolutions, and every LayerNorm's γ and
//!   β into the linear layer after it.
//! - The class attention has its own branch beside each block's attention: a second reader of the softmax would keep TensorRT from fusing
//!   `MatMul → Softmax → MatMul` into one kernel.
//! - Exact savings: patches are gathered before their projection, features are reused for informative cells only, and in the last block of
//!   DeiT's fine and static graphs only the cls row is computed after keys and values.
//! - FP16 graphs keep the residual stream, normalisation, GELU, softmax, the class attention and the head in FP32, and so the layers whose
//!   rounding weighs most: the projection of patches, and those around the first block's attention (4 % of the multiply-accumulates, half of the
//!   variance of the logits' error). What the other matrix products and convolutions read and give is FP16, and so are their weights. TensorRT
//!   may compute FP32 products in TF32, which rounds what they read as FP16 does: `cfvit build` compares with the CPU engine in its own bounds.

mod builder;
mod file;
mod graphs;
mod layers;
mod linear;
mod patches;
mod proto;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use super::{Geometry, Model};
use crate::error::{Error, Kind, Result};
use crate::files;

/// Input: `[batch, 3, gP, gP]`, normalised, FP32.
pub const COARSE_IMAGE: &str = "coarse_image";
/// Output: `[batch, classes]`, FP32, as the gate uses them (LV-ViT: divided by 1.25).
pub const COARSE_LOGITS: &str = "coarse_logits";
/// Output: `[batch, g²]`, FP32, row-major over the coarse grid.
pub const CLASS_ATTENTION: &str = "class_attention";
/// Output of the coarse graph and input of the fine one: `[batch, g², C]`, the normed features `F` of the cells (no cls row), in the
/// graphs' precision.
pub const COARSE_FEATURES: &str = "coarse_features";
/// Output of the coarse graph and input of the fine one: `[batch, g², C]`, the cells' tokens `E1` before any block (no cls row), FP32.
pub const COARSE_EMBEDDING: &str = "coarse_embedding";
/// Input of the fine and the static graph: `[batch, 3, 2gP, 2gP]`, normalised, FP32.
pub const FINE_IMAGE: &str = "fine_image";
/// Input: `[batch, k]`, INT32, each in `0 .. g²`: [`Choice::informative`](crate::frame::Choice::informative).
pub const INFORMATIVE: &str = "informative";
/// Input: `[batch, g² − k]`, INT32, each in `0 .. g²`: [`Choice::kept`](crate::frame::Choice::kept).
pub const KEPT: &str = "kept";
/// Output: `[batch, classes]`, FP32.
pub const FINE_LOGITS: &str = "fine_logits";
/// Output: `[batch, classes]`, FP32.
pub const STATIC_LOGITS: &str = "static_logits";

/// The most pictures at a time that a graph is made for.
pub const MAX_BATCH: usize = 256;

/// How a graph stores its weights and what lies between its layers, and in what an engine multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 16-bit floats, with islands of 32-bit ones where 16 would lose too much.
    Fp16,
    /// 32-bit floats.
    Fp32,
}

impl Precision {
    /// Both of them.
    pub const ALL: [Precision; 2] = [Precision::Fp16, Precision::Fp32];

    /// `"fp16"` or `"fp32"`: the word on the command line and in keys.
    pub fn as_str(self) -> &'static str {
        match self {
            Precision::Fp16 => "fp16",
            Precision::Fp32 => "fp32",
        }
    }

    /// What lies between the layers.
    fn element(self) -> Element {
        match self {
            Precision::Fp16 => Element::F16,
            Precision::Fp32 => Element::F32,
        }
    }
}

/// Which graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Graph {
    /// The coarse stage.
    Coarse,
    /// The fine stage.
    Fine,
    /// The baseline: the same weights over all `1 + 4g²` fine tokens in one pass.
    Static,
}

impl Graph {
    /// `"coarse"`, `"fine"` or `"static"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Graph::Coarse => "coarse",
            Graph::Fine => "fine",
            Graph::Static => "static",
        }
    }

    /// `"coarse.onnx"` and so on.
    pub fn file_name(self) -> &'static str {
        match self {
            Graph::Coarse => "coarse.onnx",
            Graph::Fine => "fine.onnx",
            Graph::Static => "static.onnx",
        }
    }
}

/// What graphs are made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Options {
    /// Of weights and activations.
    pub precision: Precision,
    /// Pictures at a time, 1 to [`MAX_BATCH`].
    pub batch: usize,
}

/// A number format of tensors in a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// 32-bit integers: indices.
    I32,
    /// 64-bit integers: shapes, inside the graphs only.
    I64,
}

impl Element {
    /// Bytes of one value.
    pub fn size(self) -> usize {
        match self {
            Element::F16 => 2,
            Element::F32 | Element::I32 => 4,
            Element::I64 => 8,
        }
    }

    /// `"fp32"`, `"fp16"`, `"int32"` or `"int64"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Element::F32 => "fp32",
            Element::F16 => "fp16",
            Element::I32 => "int32",
            Element::I64 => "int64",
        }
    }

    /// Bytes of a tensor of this `shape`.
    fn bytes(self, shape: &[usize]) -> u64 {
        (shape.iter().product::<usize>() * self.size()) as u64
    }

    /// `TensorProto.DataType`
    fn data_type(self) -> i32 {
        match self {
            Element::F32 => proto::FLOAT,
            Element::F16 => proto::FLOAT16,
            Element::I32 => proto::INT32,
            Element::I64 => proto::INT64,
        }
    }
}

/// An input or output of a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Its name in the graph, one of this module's constants.
    pub name: &'static str,
    /// The number format.
    pub element: Element,
    /// Dimensions, outermost first; the first is the batch. Row-major without gaps.
    pub shape: Vec<usize>,
}

impl Binding {
    /// Number of values.
    pub fn values(&self) -> usize {
        self.shape.iter().product()
    }

    /// Bytes of the whole tensor.
    pub fn bytes(&self) -> usize {
        self.values() * self.element.size()
    }
}

/// The inputs and outputs of a graph, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bindings {
    /// What it reads.
    pub inputs: Vec<Binding>,
    /// What it gives.
    pub outputs: Vec<Binding>,
}

/// The inputs and outputs that `graph` of a model of this `geometry` has.
pub fn bindings(geometry: &Geometry, options: Options, graph: Graph) -> Bindings {
    let Geometry { width, classes, .. } = *geometry;
    let (cells, informative) = (geometry.cells(), geometry.informative());
    let of = |name, element, shape: &[usize]| {
        let shape = [&[options.batch], shape].concat();
        Binding { name, element, shape }
    };
    let image = |name, side| of(name, Element::F32, &[3, side, side]);
    let logits = |name| of(name, Element::F32, &[classes]);
    let features = || of(COARSE_FEATURES, options.precision.element(), &[cells, width]);
    // It enters the residual stream as it is, which is FP32: half the bytes would only add a rounding.
    let embedding = || of(COARSE_EMBEDDING, Element::F32, &[cells, width]);
    let indices = |name, count| of(name, Element::I32, &[count]);
    match graph {
        Graph::Coarse => Bindings {
            inputs: vec![image(COARSE_IMAGE, geometry.coarse_side())],
            outputs: vec![logits(COARSE_LOGITS), of(CLASS_ATTENTION, Element::F32, &[cells]), features(), embedding()],
        },
        Graph::Fine => Bindings {
            inputs: vec![
                image(FINE_IMAGE, geometry.fine_side()),
                features(),
                embedding(),
                indices(INFORMATIVE, informative),
                indices(KEPT, cells - informative),
            ],
            outputs: vec![logits(FINE_LOGITS)],
        },
        Graph::Static => {
            Bindings { inputs: vec![image(FINE_IMAGE, geometry.fine_side())], outputs: vec![logits(STATIC_LOGITS)] }
        }
    }
}

/// Writes `graph` of `model` to `out` and gives the number of bytes. Beside the model one tensor at a time is in memory; the bytes depend on
/// the arguments and this program's version only.
///
/// # Errors
/// [`Kind::Usage`] for a batch out of range, [`Kind::Model`] for a model whose tensors do not fit its geometry or FP16, [`Kind::Io`] when
/// `out` fails.
pub fn export(model: &Model, options: Options, graph: Graph, out: &mut dyn Write) -> Result<u64> {
    if !(1..=MAX_BATCH).contains(&options.batch) {
        let message = format!("--batch {}: expected 1 to {MAX_BATCH}", options.batch);
        return Err(Error::new(Kind::Usage, message));
    }
    graphs::build(model, options, graph)?.write(out)
}

/// The same into a file at `path`, which appears whole or not at all.
///
/// # Errors
/// As [`export`]; the old file is untouched then.
pub fn export_to_file(model: &Model, options: Options, graph: Graph, path: &Path) -> Result<u64> {
    let mut exported = Ok(0);
    let replaced = files::replace(path, |temporary| {
        let mut out = BufWriter::new(File::create(temporary)?);
        exported = export(model, options, graph, &mut out);
        // The error itself is in `exported`; this only stops the replacement.
        if exported.is_ok() { Ok(()) } else { Err(std::io::Error::other("the export failed")) }
    });
    let bytes = exported.map_err(|e| e.within(format!("cannot export {}", path.display())))?;
    replaced.map(|()| bytes)
}
