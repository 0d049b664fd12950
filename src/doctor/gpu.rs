//! The GPU, its driver, TensorRT, and whether a package's engines would load.

use std::path::Path;

use super::{Finding, State};
use crate::plan::{self, DeviceKey};

/// The GPU and its libraries, and what engines must be built for to run here.
#[cfg(feature = "tensorrt")]
pub(super) fn examine() -> (Vec<Finding>, Option<DeviceKey>) {
    use crate::engine::tensorrt::library::{Library, shims};
    use crate::engine::tensorrt::{cuda, device_key};
    let gpu = cuda::gpu();
    let mut findings = match &gpu {
        Ok(gpu) => {
            let (major, minor) = gpu.compute_capability;
            let name = format!("{}, SM {major}.{minor}, {} multiprocessors", gpu.name, gpu.sm_count);
            vec![
                Finding::new("GPU", State::Good, name),
                Finding::new("CUDA driver", State::Good, format!("for CUDA up to {}", cuda::cuda_version(gpu.driver))),
            ]
        }
        Err(error) => {
            vec![Finding::new("GPU", State::Absent, error.to_string()).advice(
                "the CPU engine needs none; on a Jetson install L4T's nvidia-l4t-cuda, on a PC NVIDIA's driver",
            )]
        }
    };
    let shims: Vec<_> = shims().iter().map(|(flavour, headers)| format!("{flavour} (headers {headers})")).collect();
    findings.push(match shims.is_empty() {
        false => Finding::new("built for", State::Good, shims.join(", ")),
        true => Finding::new("built for", State::Bad, "no TensorRT: there were no headers when this program was built")
            .advice("install libnvinfer-dev and libnvonnxparsers-dev, or name the headers' folder in TENSORRT_INCLUDE_DIR, and build anew"),
    });
    let library = Library::open(None);
    findings.push(match &library {
        Ok(library) => {
            Finding::new("TensorRT", State::Good, format!("{} in {}", library.identity(), library.path().display()))
        }
        Err(error) => Finding::new("TensorRT", State::Absent, error.to_string()),
    });
    let device = match (&gpu, &library) {
        (Ok(gpu), Ok(library)) => Some(device_key(library, gpu)),
        _ => None,
    };
    (findings, device)
}

/// The same in a program without TensorRT.
#[cfg(not(feature = "tensorrt"))]
pub(super) fn examine() -> (Vec<Finding>, Option<DeviceKey>) {
    let finding = Finding::new("TensorRT", State::Absent, "this program was built without it, and computes on the CPU")
        .advice("for a GPU: `cargo build --release --features tensorrt`");
    (vec![finding], None)
}

/// Whether the package's engines would load on `device`.
pub(super) fn package(package: &Path, device: Option<&DeviceKey>) -> Finding {
    let what = "engine package";
    let shown = package.display();
    if let Err(error) = crate::model::package::weights(package) {
        return Finding::new(what, State::Bad, error.to_string());
    }
    let Some(device) = device else {
        return Finding::new(what, State::Good, format!("{shown}: runs on the CPU; no GPU to check its plans for"));
    };
    match plan::state(package, device) {
        Ok(key) => Finding::new(what, State::Good, format!("{shown}: {} engines for this GPU", key.precision)),
        Err(error) => Finding::new(what, State::Bad, error.to_string()),
    }
}
