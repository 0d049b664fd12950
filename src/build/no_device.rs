//! What takes the place of `device.rs` in a program without TensorRT.

use std::path::Path;

use super::child::Order;
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::model::Geometry;
use crate::model::onnx::Graph;
use crate::plan::DeviceKey;

/// This program can build engines.
///
/// # Errors
/// [`Kind::Usage`]: it was built without TensorRT.
pub fn check_built_in() -> Result<()> {
    Err(not_built_in())
}

/// The plans of a package are for this device.
///
/// # Errors
/// As [`check_built_in`].
pub fn check_plans(_: &Path) -> Result<()> {
    Err(not_built_in())
}

fn not_built_in() -> Error {
    let message = "this program was built without TensorRT: build it with `cargo build --release --features tensorrt`";
    Error::new(Kind::Usage, message)
}

pub(super) fn build_one(_: &Order) -> Result<DeviceKey> {
    Err(not_built_in())
}

pub(super) fn open(_: &[(Graph, &[u8])], _: &Geometry) -> Result<Box<dyn Engine>> {
    Err(not_built_in())
}
