//! Choosing the engine that runs a model.

use std::path::Path;

use super::Engine;
use crate::error::{Error, Kind, Result};
use crate::model::{Geometry, Model};

/// What computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// TensorRT where that works, else the CPU, with a warning that says why.
    Auto,
    /// TensorRT, or an error.
    TensorRt,
    /// The CPU.
    Cpu,
}

impl Backend {
    /// All of them.
    pub const ALL: [Backend; 3] = [Backend::Auto, Backend::TensorRt, Backend::Cpu];

    /// `"auto"`, `"tensorrt"` or `"cpu"`: the word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Backend::Auto => "auto",
            Backend::TensorRt => "tensorrt",
            Backend::Cpu => "cpu",
        }
    }
}

/// [`Backend::Auto`] where TensorRT is built in; a program without it need not tell at every start that it has none.
impl Default for Backend {
    fn default() -> Self {
        if cfg!(feature = "tensorrt") { Backend::Auto } else { Backend::Cpu }
    }
}

/// How to open an engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// What computes.
    pub backend: Backend,
    /// Threads of the CPU engine, by default one for each physical core.
    pub threads: Option<usize>,
    /// The engine package that the model is from: its folder holds the plans.
    pub package: Option<&'a Path>,
}

/// Opens the engine that `options` ask for. A plan is loaded only if it was built for this model, this device and these libraries.
///
/// # Errors
/// [`Kind::Usage`] where TensorRT is asked for and not built in; what [`super::open`] says, and with [`Backend::TensorRt`] whatever keeps
/// its engines from being opened: no library, no driver, no plans, plans for something else.
pub fn open_on(model: Model, options: &Options<'_>) -> Result<Box<dyn Engine>> {
    match options.backend {
        Backend::Cpu => {}
        Backend::TensorRt => return tensorrt(&model.geometry, options.package),
        Backend::Auto => match tensorrt(&model.geometry, options.package) {
            Ok(engine) => return Ok(engine),
            Err(error) => log::warn!("running on the CPU, because TensorRT cannot be used: {error}"),
        },
    }
    super::open(model, options.threads)
}

#[cfg(feature = "tensorrt")]
fn tensorrt(geometry: &Geometry, package: Option<&Path>) -> Result<Box<dyn Engine>> {
    let no_package = || {
        let message =
            "plans lie in an engine package, and this model is none: `cfvit build --model CHECKPOINT` makes one";
        Error::new(Kind::Model, message)
    };
    Ok(Box::new(super::tensorrt::open(package.ok_or_else(no_package)?, geometry)?))
}

#[cfg(not(feature = "tensorrt"))]
fn tensorrt(_: &Geometry, _: Option<&Path>) -> Result<Box<dyn Engine>> {
    let message = "this program was built without TensorRT: build it with `cargo build --release --features tensorrt`";
    Err(Error::new(Kind::Usage, message))
}
