//! This machine, as the key of a plan names it.

use std::path::Path;

use super::library::Library;
use super::{cuda, sys};
use crate::error::Result;
use crate::plan::{DeviceKey, l4t_release};

/// What a plan must have been built for to run here.
///
/// # Errors
/// [`Kind::Engine`](crate::error::Kind::Engine) when there is no driver or no GPU.
pub fn device_key(library: &Library) -> Result<DeviceKey> {
    let gpu = cuda::gpu()?;
    let (major, minor) = gpu.compute_capability;
    Ok(DeviceKey {
        tensorrt: library.identity(),
        driver: cuda::cuda_version(gpu.driver),
        l4t: l4t_release(Path::new("/")).unwrap_or_else(|| "none".into()),
        gpu: gpu.name,
        compute_capability: format!("{major}.{minor}"),
        sm_count: u32::try_from(gpu.sm_count).unwrap_or(0),
        shim_abi: sys::ABI,
    })
}

/// What a plan is tied to that is built here for a GPU that is not: `target` 86 is SM 8.6.
pub fn target_key(library: &Library, target: u32) -> DeviceKey {
    DeviceKey {
        tensorrt: library.identity(),
        driver: "none".into(),
        l4t: "none".into(),
        gpu: "any".into(),
        compute_capability: format!("{}.{}", target / 10, target % 10),
        sm_count: 0,
        shim_abi: sys::ABI,
    }
}
