//! The steps that need TensorRT.

use std::fs;
use std::path::Path;

use super::child::Order;
use super::fusion;
use crate::engine::Engine;
use crate::engine::tensorrt::build::{BuildOptions, build};
use crate::engine::tensorrt::library::Library;
use crate::engine::tensorrt::{Flavour, cuda, device_key, open_plans, target_key};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::model::Geometry;
use crate::model::onnx::Graph;
use crate::plan::{self, DeviceKey};

/// This program can build engines.
///
/// # Errors
/// Never here; see `no_device.rs`.
pub fn check_built_in() -> Result<()> {
    Ok(())
}

/// The plans in `package` are there, whole, and for this device, libraries and weights. Nothing is put aside.
///
/// # Errors
/// Why not; or that there is no TensorRT or GPU here.
pub fn check_plans(package: &Path) -> Result<()> {
    let library = Library::open(None)?;
    plan::state(package, &device_key(library, &cuda::gpu()?)).map(|_| ())
}

/// Builds one plan in this process and writes it. Gives what it was built for.
pub(super) fn build_one(order: &Order) -> Result<DeviceKey> {
    let library = Library::open(order.target.map(|_| Flavour::Rtx))?;
    let device = match order.target {
        Some(target) => target_key(library, target),
        None => device_key(library, &cuda::gpu()?),
    };
    let read =
        |path: &Path| fs::read(path).map_err(|e| Error::caused(Kind::Io, format!("cannot read {}", path.display()), e));
    let onnx = read(&order.onnx)?;
    // A timing cache is a device's: without one there is nothing to time.
    let cache = order.target.is_none().then(|| order.caches.join(cache_name(&device)));
    let options = BuildOptions {
        precision: order.precision,
        workspace_bytes: order.workspace_mib << 20,
        optimisation_level: order.optimisation_level,
        compute_capability: order.target,
    };
    let timings = cache.as_ref().and_then(|cache| fs::read(cache).ok());
    let built = build(library, &onnx, &options, timings.as_deref())?;
    files::write_atomic(&order.plan, &built.plan)?;
    if let (Some(cache), Some(bytes)) = (cache, built.timing_cache)
        && let Err(error) = files::write_atomic(&cache, &bytes)
    {
        log::warn!("{error}; the next build will take as long as this one");
    }
    Ok(device)
}

/// An engine of plans that are not in a package yet.
pub(super) fn open(plans: &[(Graph, &[u8])], geometry: &Geometry) -> Result<Box<dyn Engine>> {
    let engine = open_plans(plans, geometry)?;
    for (graph, layers) in engine.layers() {
        if let Some(fused) = fusion::in_inspection(&layers) {
            log::info!("{}: {fused} fused attention kernels", graph.as_str());
        }
    }
    Ok(Box::new(engine))
}

/// One for each device and library, as none may use another's.
fn cache_name(device: &DeviceKey) -> String {
    let all = toml::to_string(device).unwrap_or_default();
    format!("timing-{:.12}.cache", files::sha256(all.as_bytes()))
}
