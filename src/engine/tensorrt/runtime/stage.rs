//! One TensorRT engine, bound to its buffers, and the CUDA graph of it.

use super::buffers::Buffers;
use super::device::{Captured, Device};
use crate::engine::tensorrt::execution::Execution;
use crate::error::{Error, Kind, Result};
use crate::model::Geometry;
use crate::model::onnx::{self, Graph};

/// One of the engines, ready to run on its buffers.
pub struct Stage {
    // Dropped first: it refers to the execution's memory.
    captured: Option<Captured>,
    execution: Execution,
    graph: Graph,
    bindings: onnx::Bindings,
}

impl Stage {
    /// Binds `execution`, which must be a plan of `graph` for a model of this `geometry`, to `buffers`. They must outlive it.
    ///
    /// # Errors
    /// [`Kind::Model`] when inputs and outputs are not those of `graph`.
    pub fn new(graph: Graph, mut execution: Execution, buffers: &Buffers, geometry: &Geometry) -> Result<Self> {
        let bindings = onnx::bindings(geometry, buffers.options(), graph);
        check(&execution, &bindings).map_err(|e| {
            let message =
                format!("the {} plan was built for another model or by another version; build it anew", graph.as_str());
            Error::caused(Kind::Model, message, e)
        })?;
        for binding in bindings.inputs.iter().chain(&bindings.outputs) {
            // SAFETY: the buffer holds as many bytes as the tensor, which `check` compared, and outlives the execution.
            unsafe { execution.set_address(binding.name, buffers.address(binding.name)?)? };
        }
        Ok(Self { captured: None, execution, graph, bindings })
    }

    /// Which of the engines.
    pub fn graph(&self) -> Graph {
        self.graph
    }

    /// Its layers as TensorRT's inspector tells them, JSON; `None` where there is no inspector.
    pub fn layers(&self) -> Option<String> {
        self.execution.inspect().ok()
    }

    /// The names of its outputs.
    pub fn outputs(&self) -> impl Iterator<Item = &'static str> + use<'_> {
        self.bindings.outputs.iter().map(|binding| binding.name)
    }

    /// Whether it runs as a CUDA graph.
    pub fn is_captured(&self) -> bool {
        self.captured.is_some()
    }

    /// Runs it once on what is in the buffers, and waits. Gives the milliseconds that it took on the device.
    ///
    /// # Errors
    /// [`Kind::Device`].
    pub fn run(&mut self, device: &Device) -> Result<f32> {
        match &self.captured {
            Some(graph) => device.run(|| graph.launch()).map_err(|e| self.failed(e)),
            None => self.run_plain(device),
        }
    }

    /// The same, kernel by kernel even where there is a graph.
    ///
    /// # Errors
    /// [`Kind::Device`].
    pub fn run_plain(&mut self, device: &Device) -> Result<f32> {
        // SAFETY: all addresses are set, and the stream belongs to the current context.
        device.run(|| unsafe { self.execution.enqueue(device.stream()) }).map_err(|e| self.failed(e))
    }

    /// Captures it as a CUDA graph.
    ///
    /// # Errors
    /// [`Kind::Device`] when that is not possible; then it runs as before.
    pub fn capture(&mut self, device: &Device) -> Result<()> {
        // SAFETY: as in `run_plain`.
        self.captured = Some(device.capture(|| unsafe { self.execution.enqueue(device.stream()) })?);
        Ok(())
    }

    fn failed(&self, cause: Error) -> Error {
        Error::caused(Kind::Device, format!("the {} stage failed on the device", self.graph.as_str()), cause)
    }

    /// Goes on without the graph.
    pub fn forget_capture(&mut self) {
        self.captured = None;
    }
}

/// Compares inputs and outputs of `execution` with what the graph has.
fn check(execution: &Execution, expected: &onnx::Bindings) -> Result<()> {
    let found = execution.tensors();
    let count = expected.inputs.len() + expected.outputs.len();
    if found.len() != count {
        return Err(Error::new(Kind::Model, format!("{} inputs and outputs, expected {count}", found.len())));
    }
    for (binding, is_input) in
        expected.inputs.iter().map(|b| (b, true)).chain(expected.outputs.iter().map(|b| (b, false)))
    {
        let name = binding.name;
        let tensor = found.iter().find(|tensor| tensor.name == name && tensor.is_input == is_input);
        let direction = if is_input { "input" } else { "output" };
        let tensor = tensor.ok_or_else(|| Error::new(Kind::Model, format!("no {direction} is called `{name}`")))?;
        let same_shape = tensor.shape.iter().copied().eq(binding.shape.iter().map(|&size| size as i64));
        if tensor.element != Some(binding.element) || !same_shape {
            let (shape, element) = (&binding.shape, binding.element.as_str());
            let message =
                format!("`{name}` is {:?} of {:?}, expected {shape:?} of {element}", tensor.shape, tensor.element);
            return Err(Error::new(Kind::Model, message));
        }
    }
    Ok(())
}
