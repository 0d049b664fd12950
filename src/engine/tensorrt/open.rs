//! Opening the TensorRT engine of a package: library, device, plans, in the order in which what is missing is said best.

use std::path::Path;

use super::execution::Execution;
use super::library::Library;
use super::plan;
use super::runtime::{Device, Executions, TensorRtEngine};
use crate::error::{Error, Kind, Result};
use crate::model::Geometry;
use crate::model::onnx::Graph;

/// Opens the engine whose plans lie in the folder `package`, for a model of this `geometry`.
///
/// # Errors
/// [`Kind::Engine`] when there is no library, driver or device; [`Kind::Model`] when a plan is missing, damaged or was built for something else;
/// [`Kind::Device`] when the device fails.
pub fn open(package: &Path, geometry: &Geometry) -> Result<TensorRtEngine> {
    let library = Library::open(None)?;
    let device = Device::open()?;
    let load = |graph: Graph| -> Result<Execution> {
        let bytes = plan::load(package, graph)?;
        Execution::load(library, &bytes).map_err(|e| e.within(format!("the {} plan", graph.as_str())))
    };
    let full = match package.join("static.plan").exists() {
        true => Some(load(Graph::Static)?),
        false => None,
    };
    let executions = Executions { coarse: load(Graph::Coarse)?, fine: load(Graph::Fine)?, full };
    TensorRtEngine::new(device, executions, *geometry, library.version().to_string())
}
