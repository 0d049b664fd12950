//! What a model is: its geometry, its tensors by name, its labels and its preprocessing; and how it is read from a
//! checkpoint or an engine package. No pixels, no threads.

pub(crate) mod batch_norm;
mod bundled;
mod dtype;
mod geometry;
mod limits;
pub mod onnx;
mod open;
pub mod package;
mod pickle;
mod random;
mod shapes;
mod state;
mod strided;
mod tensor_file;
mod torch;
mod weights;

use std::collections::BTreeMap;

pub use dtype::DType;
pub use geometry::*;
pub use open::{Details, open, open_with_details};
pub use random::write_random;
pub use weights::{expected_tensors, parameters};

/// A tensor in row-major order, always 32-bit floats in memory whatever the file held.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tensor {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// `shape.iter().product()` values.
    pub data: Vec<f32>,
}

/// The tensors of a model by the authors' names (`blocks.0.attn.qkv.weight`, …), without a `module.` prefix.
pub type Tensors = BTreeMap<String, Tensor>;

/// The results that the authors store in their checkpoints (what their eval mode 3 prints). Each may be missing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredResults {
    /// GFLOPs (multiply-accumulates, as the paper counts) at each exit: coarse, both stages.
    pub flop: Option<Vec<f64>>,
    /// Top-1 in percent of each stage.
    pub anytime: Option<Vec<f64>>,
    /// Mean GFLOPs and top-1 over the thresholds, as pairs.
    pub budgeted: Option<Vec<(f64, f64)>>,
}

/// A class: its id (a WordNet id in the published models) and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// What dataset folders may be called.
    pub id: String,
    /// What people read.
    pub name: String,
}

/// A model, ready for an engine.
#[derive(Clone, Debug)]
pub struct Model {
    /// What it is called: the package's name or the file's stem.
    pub name: String,
    /// Its shape.
    pub geometry: Geometry,
    /// Its weights.
    pub tensors: Tensors,
    /// One per class, in class order; made up (`class 17`) when the checkpoint brings none.
    pub labels: Vec<Label>,
    /// The evaluation crop ratio: the shorter side is resized to `int(fine_side / crop)`.
    pub crop: f64,
    /// The threshold η that the package asks for.
    pub threshold: Option<f32>,
    /// The authors' results, if the checkpoint has them.
    pub results: StoredResults,
    /// The package's threshold with a guarantee; it holds for one engine only, see [`crate::calibrate::Keys`].
    pub certificate: Option<package::Certificate>,
}

/// Text from a file, made fit for a message: hidden characters escaped, cut after 120 characters.
fn shown(text: &str) -> String {
    let escape = |c: char| if is_hidden(c) { c.escape_unicode().to_string() } else { c.to_string() };
    let mut escaped: String = text.chars().take(120).map(escape).collect();
    if text.chars().nth(120).is_some() {
        escaped.push('…');
    }
    escaped
}

/// Characters that change how a terminal shows what stands around them.
fn is_hidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
