//! Choosing the engine that runs a model.

use std::path::Path;

use super::Engine;
use crate::error::{Error, Kind, Result};
use crate::model::onnx::Precision;
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
    /// What it must multiply in; by default fp32 on the CPU, with TensorRT what its plans were built in.
    pub precision: Option<Precision>,
    /// The engine package that the model is from: its folder holds the plans.
    pub package: Option<&'a Path>,
}

/// Opens the engine that `options` ask for. A plan is loaded only if it was built for this model, this device and these libraries.
///
/// # Errors
/// [`Kind::Usage`] where TensorRT is asked for and not built in; what [`super::open`] says, and with [`Backend::TensorRt`] whatever keeps
/// its engines from being opened: no library, no driver, no plans, plans for something else or of another precision.
pub fn open_on(model: Model, options: &Options<'_>) -> Result<Box<dyn Engine>> {
    match options.backend {
        Backend::Cpu => {}
        Backend::TensorRt => return checked(tensorrt(&model.geometry, options.package)?, options.precision),
        Backend::Auto => {
            match tensorrt(&model.geometry, options.package).and_then(|engine| checked(engine, options.precision)) {
                Ok(engine) => return Ok(engine),
                Err(error) => log::warn!("running on the CPU, because TensorRT cannot be used: {error}"),
            }
        }
    }
    super::open_in(model, options.threads, options.precision.unwrap_or(Precision::Fp32))
}

/// `engine`, if its plans have the precision that is asked for.
fn checked(engine: Box<dyn Engine>, precision: Option<Precision>) -> Result<Box<dyn Engine>> {
    match precision.map(Precision::as_str) {
        Some(asked) if asked != engine.precision() => {
            let message = format!(
                "precision {asked}: expected plans of that precision, found {} ones: `cfvit build --precision {asked}` builds others",
                engine.precision()
            );
            Err(Error::new(Kind::Usage, message))
        }
        _ => Ok(engine),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;

    #[test]
    fn plans_of_another_precision_than_asked_for_are_refused() {
        let plans = || crate::engine::open(model::open(None, None).unwrap(), Some(1)).unwrap();
        assert!(checked(plans(), None).is_ok() && checked(plans(), Some(Precision::Fp32)).is_ok());
        let error = checked(plans(), Some(Precision::Fp16)).err().unwrap();
        assert_eq!(error.kind(), Kind::Usage);
        for part in ["precision fp16: expected", "found fp32", "cfvit build --precision fp16"] {
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
