//! Opening the TensorRT engine of a package: library, GPU, plans, in the order in which what is missing is said best.

use std::path::Path;

use super::cuda::{self, Gpu};
use super::execution::Execution;
use super::library::Library;
use super::runtime::{Device, Executions, TensorRtEngine};
use super::sys;
use crate::error::{Error, Kind, Result};
use crate::model::Geometry;
use crate::model::onnx::Graph;
use crate::plan::{self, DeviceKey, Plan};

/// With so much free memory for each byte of a plan, a plan that TensorRT refuses is taken for bad.
const MEMORY_PER_PLAN_BYTE: u64 = 4;

/// Opens the engine whose plans lie in the folder `package`, for a model of this `geometry`. A plan that TensorRT refuses is put aside.
///
/// # Errors
/// [`Kind::Engine`] when there is no library, driver or GPU; [`Kind::Model`] when a plan is missing, damaged or was built for something
/// else; [`Kind::Device`] when the GPU fails.
pub fn open(package: &Path, geometry: &Geometry) -> Result<TensorRtEngine> {
    let library = Library::open(None)?;
    let plans = plan::load_all(package, &device_key(library, &cuda::gpu()?))?;
    let device = Device::open()?;
    let load = |plan: &Plan, graph| load(library, &device, package, plan, graph);
    let executions = Executions {
        coarse: load(&plans.coarse, Graph::Coarse)?,
        fine: load(&plans.fine, Graph::Fine)?,
        full: plans.full.as_ref().map(|plan| load(plan, Graph::Static)).transpose()?,
    };
    let about = format!("{}, {}", library.version(), plans.coarse.key.precision);
    let key = |plan: &Plan| serde_json::to_string(&plan.key).unwrap_or_default();
    let identity = format!("tensorrt {} {}", key(&plans.coarse), key(&plans.fine));
    Ok(TensorRtEngine::new(device, executions, *geometry, about)?.identified_by(identity))
}

/// Opens the engine of plans that are not in a package yet, to prove them.
///
/// # Errors
/// As [`open`].
pub fn open_plans(plans: &[(Graph, &[u8])], geometry: &Geometry) -> Result<TensorRtEngine> {
    let library = Library::open(None)?;
    let device = Device::open()?;
    let load = |wanted: Graph| {
        let found = plans.iter().find(|(graph, _)| *graph == wanted);
        let loaded = found.map(|(_, plan)| Execution::load(library, plan));
        loaded.transpose().map_err(|e| e.within(format!("the {} plan", wanted.as_str())))
    };
    let missing = || Error::new(Kind::Model, "a coarse and a fine plan are needed");
    let executions = Executions {
        coarse: load(Graph::Coarse)?.ok_or_else(missing)?,
        fine: load(Graph::Fine)?.ok_or_else(missing)?,
        full: load(Graph::Static)?,
    };
    TensorRtEngine::new(device, executions, *geometry, library.version().to_string())
}

/// What plans are tied to that `library` builds here for a GPU that is not here: `target` 86 is SM 8.6.
pub fn target_key(library: &Library, target: u32) -> DeviceKey {
    let none = || "none".to_owned();
    DeviceKey {
        tensorrt: library.identity(),
        driver: none(),
        l4t: none(),
        gpu: "any".to_owned(),
        compute_capability: format!("{}.{}", target / 10, target % 10),
        sm_count: 0,
        shim_abi: sys::ABI,
    }
}

/// What plans that `library` builds on this machine's `gpu` are tied to.
pub fn device_key(library: &Library, gpu: &Gpu) -> DeviceKey {
    let (major, minor) = gpu.compute_capability;
    DeviceKey {
        tensorrt: library.identity(),
        driver: cuda::cuda_version(gpu.driver),
        l4t: plan::l4t_release(Path::new("/")).unwrap_or_else(|| "none".to_owned()),
        gpu: gpu.name.clone(),
        compute_capability: format!("{major}.{minor}"),
        sm_count: u32::try_from(gpu.sm_count).unwrap_or(0),
        shim_abi: sys::ABI,
    }
}

/// Has TensorRT load `plan`, in the context of `device`. A plan that it refuses is put aside, unless that may be for want of memory: the plan's
/// own key and sum were right.
fn load(library: &'static Library, device: &Device, package: &Path, plan: &Plan, graph: Graph) -> Result<Execution> {
    device.bind()?;
    Execution::load(library, plan.bytes()).map_err(|error| {
        let error = error.within(format!("the {} plan", graph.as_str()));
        if error.kind() != Kind::Model {
            return error;
        }
        let needed = MEMORY_PER_PLAN_BYTE * plan.bytes().len() as u64;
        match device.free_memory_bytes() {
            Ok(free) if free > needed => match plan::quarantine(package, graph) {
                Ok(aside) => error.within(format!("put aside as {}; `cfvit build` builds it anew", aside.display())),
                Err(_) => error,
            },
            Ok(free) => {
                let message =
                    format!("perhaps for want of memory: the GPU has {} MiB left; end other programs", free >> 20);
                Error::caused(Kind::Engine, message, error)
            }
            Err(failure) => Error::caused(Kind::Device, failure.to_string(), error),
        }
    })
}
