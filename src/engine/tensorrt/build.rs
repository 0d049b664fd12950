//! Building a plan from an ONNX file, in this process. It needs a lot of memory, so `cfvit build` does it in one that ends afterwards.

use std::ffi::{CStr, c_char};
use std::ptr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::library::Library;
use super::sys;
use crate::error::{Kind, Result};
use crate::model::onnx::Precision;

/// How to build.
#[derive(Clone, Debug)]
pub struct BuildOptions {
    /// What the graph was exported in.
    pub precision: Precision,
    /// Bytes of GPU memory that one layer may use as scratch space.
    pub workspace_bytes: u64,
    /// 0 (fast build) to 5 (slow build, fastest engine); TensorRT's own default when `None`.
    pub optimisation_level: Option<u8>,
    /// The GPU to build for, 86 for SM 8.6; this machine's when `None`. Only TensorRT-RTX builds for others.
    pub compute_capability: Option<u32>,
}

/// What a build gives.
#[derive(Debug)]
pub struct Built {
    /// The plan.
    pub plan: Vec<u8>,
    /// What makes the next build faster, where TensorRT gives it.
    pub timing_cache: Option<Vec<u8>>,
}

/// Builds the plan of the ONNX file `onnx`, with the help of an earlier build's `timing_cache`. Progress goes to the log.
///
/// # Errors
/// [`Kind::Engine`] when there is no parser or no driver (which only a build for another machine's GPU can do without), or TensorRT cannot
/// build it: the message has the first error that it logged.
pub fn build(
    library: &'static Library,
    onnx: &[u8],
    options: &BuildOptions,
    timing_cache: Option<&[u8]>,
) -> Result<Built> {
    if options.compute_capability.is_none() {
        super::cuda::start()?;
    }
    let entries = library.builder_entries()?;
    let api = library.api();
    let request = sys::Build {
        onnx: onnx.as_ptr().cast(),
        onnx_size: onnx.len(),
        half: i32::from(options.precision == Precision::Fp16),
        optimisation_level: options.optimisation_level.map_or(-1, i32::from),
        compute_capability: options.compute_capability.unwrap_or(0) as i32,
        workspace: options.workspace_bytes,
        timing_cache: timing_cache.map_or(ptr::null(), |cache| cache.as_ptr().cast()),
        timing_cache_size: timing_cache.map_or(0, <[u8]>::len),
        progress: Some(progress),
    };
    let mut built = sys::Built { plan: ptr::null_mut(), timing_cache: ptr::null_mut() };
    // SAFETY: the entries are this library's; all that the request points to lives until the call is over.
    let status = unsafe { (api.build)(&raw const entries, &raw const request, &raw mut built) };
    let taken = |blob| take(api, blob);
    let (plan, timing_cache) = (taken(built.plan), taken(built.timing_cache));
    match plan {
        Some(plan) if status == sys::OK => Ok(Built { plan, timing_cache }),
        _ => Err(library.failure(Kind::Engine, "cannot build the plan")),
    }
}

/// The bytes of a blob, which is destroyed.
fn take(api: &sys::Api, blob: *mut sys::Blob) -> Option<Vec<u8>> {
    if blob.is_null() {
        return None;
    }
    // SAFETY: the blob is valid until it is destroyed below, once, and holds that many bytes.
    unsafe {
        let bytes = std::slice::from_raw_parts((api.blob_data)(blob).cast::<u8>(), (api.blob_size)(blob)).to_vec();
        (api.blob_destroy)(blob);
        Some(bytes)
    }
}

/// Least time between two lines about progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Logs where a build is, now and then.
extern "C" fn progress(phase: *const c_char, step: i32, steps: i32) -> i32 {
    static LAST: Mutex<Option<Instant>> = Mutex::new(None);
    if phase.is_null() || steps <= 0 {
        return 1;
    }
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    if last.get_or_insert_with(Instant::now).elapsed() >= PROGRESS_INTERVAL {
        *last = Some(Instant::now());
        // SAFETY: not null; TensorRT passes text that ends with a zero and lives during the call.
        let phase = unsafe { CStr::from_ptr(phase) }.to_string_lossy();
        // A logger that panics must not unwind into C++.
        let _ = std::panic::catch_unwind(|| log::info!("{phase}: {step} of {steps}"));
    }
    1
}
