//! What the CUDA driver tells about the GPU. Reached through libcuda, which is loaded when it is first asked for.

use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::{DriverError, result, sys};

use crate::error::{Error, Kind, Result};

/// The GPU that engines run on: the first one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// As the driver calls it: `Orin`.
    pub name: String,
    /// As in 8.7: major and minor.
    pub compute_capability: (i32, i32),
    /// Streaming multiprocessors that are on; a power mode can switch some off.
    pub sm_count: i32,
    /// The newest CUDA that the driver knows: 12060 is 12.6.
    pub driver: i32,
}

/// Loads libcuda and starts it. Nothing happens when it runs already.
///
/// # Errors
/// [`Kind::Engine`] when there is no driver, or it cannot start.
pub fn start() -> Result<()> {
    // SAFETY: loads libcuda, which any CUDA program is linked with.
    if !unsafe { sys::is_culib_present() } {
        let message = "no CUDA driver: libcuda.so.1 cannot be loaded. On a Jetson it is part of L4T; check `ldconfig -p | grep libcuda`";
        return Err(Error::new(Kind::Engine, message));
    }
    result::init().map_err(|e| failed("cuInit", e))
}

/// The GPU.
///
/// # Errors
/// As [`start`], or when the driver has no GPU.
pub fn gpu() -> Result<Gpu> {
    start()?;
    let driver = driver_version()?;
    if result::device::get_count().map_err(|e| failed("cuDeviceGetCount", e))? < 1 {
        return Err(Error::new(Kind::Engine, "the CUDA driver sees no GPU"));
    }
    let device = result::device::get(0).map_err(|e| failed("cuDeviceGet", e))?;
    let name = result::device::get_name(device).map_err(|e| failed("cuDeviceGetName", e))?;
    let attribute = |attribute| {
        // SAFETY: `device` comes from `cuDeviceGet`.
        unsafe { result::device::get_attribute(device, attribute) }.map_err(|e| failed("cuDeviceGetAttribute", e))
    };
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
    let sm_count = attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    Ok(Gpu { name, compute_capability: (major, minor), sm_count, driver })
}

fn driver_version() -> Result<i32> {
    let mut version = 0;
    // SAFETY: `start` has loaded the library; the call writes one number.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result().map_err(|e| failed("cuDriverGetVersion", e))?;
    Ok(version)
}

/// `12.6` for 12060.
pub fn cuda_version(number: i32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

fn failed(call: &str, error: DriverError) -> Error {
    Error::new(Kind::Engine, format!("{call}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_written_as_nvidia_does() {
        assert_eq!(cuda_version(12060), "12.6");
        assert_eq!(cuda_version(11040), "11.4");
        assert_eq!(cuda_version(13000), "13.0");
    }
}
