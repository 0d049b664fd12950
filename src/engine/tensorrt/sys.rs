//! The shim's C ABI, as `shim/shim.h` declares it and documents it: field by field the same, in the same order.

use std::ffi::{c_char, c_void};

/// `CFVIT_TRT_ABI`: the number of this interface.
pub const ABI: u32 = 1;
/// `CFVIT_TRT_OK`
pub const OK: i32 = 0;

/// `CFVIT_TRT_FLOAT`
pub const FLOAT: i32 = 0;
/// `CFVIT_TRT_HALF`
pub const HALF: i32 = 1;
/// `CFVIT_TRT_INT32`
pub const INT32: i32 = 2;
/// `CFVIT_TRT_INT64`
pub const INT64: i32 = 3;

/// `CFVIT_TRT_MAX_DIMS`
pub const MAX_DIMS: usize = 8;

/// A runtime of the library.
#[repr(C)]
pub struct Runtime {
    _opaque: [u8; 0],
}

/// A deserialised plan.
#[repr(C)]
pub struct Engine {
    _opaque: [u8; 0],
}

/// An engine's state for one inference at a time.
#[repr(C)]
pub struct Context {
    _opaque: [u8; 0],
}

/// Bytes that belong to the library.
#[repr(C)]
pub struct Blob {
    _opaque: [u8; 0],
}

/// `CfvitTrtLog`
pub type Log = extern "C" fn(severity: i32, message: *const c_char);
/// `CfvitTrtProgress`
pub type Progress = extern "C" fn(phase: *const c_char, step: i32, steps: i32) -> i32;

/// `CfvitTrtEntries`
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Entries {
    /// What `getInferLibVersion` gave.
    pub version: i32,
    /// `createInferBuilder_INTERNAL`
    pub create_builder: *mut c_void,
    /// `createInferRuntime_INTERNAL`
    pub create_runtime: *mut c_void,
    /// `createNvOnnxParser_INTERNAL`, or null where nothing is built.
    pub create_parser: *mut c_void,
}

/// `CfvitTrtBuild`
#[repr(C)]
pub struct Build {
    /// A whole ONNX file.
    pub onnx: *const c_void,
    /// Its bytes.
    pub onnx_size: usize,
    /// 1: FP16 may be used.
    pub half: i32,
    /// 0 to 5; -1: TensorRT's default.
    pub optimisation_level: i32,
    /// 0: this machine's GPU; 86 for SM 8.6.
    pub compute_capability: i32,
    /// Bytes of scratch space for one layer.
    pub workspace: u64,
    /// Of an earlier build, or null.
    pub timing_cache: *const c_void,
    /// Its bytes.
    pub timing_cache_size: usize,
    /// Where progress is told.
    pub progress: Option<Progress>,
}

/// `CfvitTrtBuilt`
#[repr(C)]
pub struct Built {
    /// The plan.
    pub plan: *mut Blob,
    /// The timing cache after the build, or null.
    pub timing_cache: *mut Blob,
}

/// `CfvitTrtTensor`
#[repr(C)]
pub struct Tensor {
    /// Its name, as long as the engine lives.
    pub name: *const c_char,
    /// [`FLOAT`] and so on.
    pub element: i32,
    /// 1: an input.
    pub is_input: i32,
    /// Number of dimensions.
    pub rank: i32,
    /// The first `rank` count.
    pub dims: [i64; MAX_DIMS],
}

/// `CfvitTrtApi`: all calls of one shim.
#[repr(C)]
#[allow(missing_docs, reason = "shim.h documents the calls")]
pub struct Api {
    pub abi: u32,
    pub flavour: i32,
    pub header_version: [i32; 4],
    pub last_message: unsafe extern "C" fn() -> *const c_char,
    pub set_log: unsafe extern "C" fn(Option<Log>),
    pub error_count: unsafe extern "C" fn() -> u64,
    pub build: unsafe extern "C" fn(*const Entries, *const Build, *mut Built) -> i32,
    pub blob_data: unsafe extern "C" fn(*const Blob) -> *const c_void,
    pub blob_size: unsafe extern "C" fn(*const Blob) -> usize,
    pub blob_destroy: unsafe extern "C" fn(*mut Blob),
    pub runtime_create: unsafe extern "C" fn(*const Entries, *mut *mut Runtime) -> i32,
    pub runtime_destroy: unsafe extern "C" fn(*mut Runtime),
    pub engine_load: unsafe extern "C" fn(*mut Runtime, *const c_void, usize, *mut *mut Engine) -> i32,
    pub engine_destroy: unsafe extern "C" fn(*mut Engine),
    pub engine_tensor_count: unsafe extern "C" fn(*const Engine) -> i32,
    pub engine_tensor: unsafe extern "C" fn(*const Engine, i32, *mut Tensor) -> i32,
    pub engine_device_memory: unsafe extern "C" fn(*const Engine) -> i64,
    pub engine_inspect: unsafe extern "C" fn(*const Engine, *mut *mut Blob) -> i32,
    pub context_create: unsafe extern "C" fn(*mut Engine, *mut *mut Context) -> i32,
    pub context_destroy: unsafe extern "C" fn(*mut Context),
    pub context_bind: unsafe extern "C" fn(*mut Context, *const c_char, *mut c_void) -> i32,
    pub context_enqueue: unsafe extern "C" fn(*mut Context, *mut c_void) -> i32,
}

unsafe extern "C" {
    #[cfg(shim = "8")]
    fn cfvit_trt_shim_8() -> *const Api;
    #[cfg(shim = "10")]
    fn cfvit_trt_shim_10() -> *const Api;
    #[cfg(shim = "11")]
    fn cfvit_trt_shim_11() -> *const Api;
    #[cfg(shim = "rtx")]
    fn cfvit_trt_shim_rtx() -> *const Api;
}

/// The shims that this program was built with, the newest TensorRT first, TensorRT-RTX last.
#[allow(clippy::vec_init_then_push, reason = "which shims there are is decided when the program is built")]
pub fn shims() -> Vec<&'static Api> {
    #[allow(unused_mut, reason = "without headers there is no shim")]
    let mut all: Vec<&'static Api> = Vec::new();
    #[cfg(shim = "11")]
    // SAFETY: the call only gives the address of a constant table of this layout.
    all.push(unsafe { &*cfvit_trt_shim_11() });
    #[cfg(shim = "10")]
    // SAFETY: as above.
    all.push(unsafe { &*cfvit_trt_shim_10() });
    #[cfg(shim = "8")]
    // SAFETY: as above.
    all.push(unsafe { &*cfvit_trt_shim_8() });
    #[cfg(shim = "rtx")]
    // SAFETY: as above.
    all.push(unsafe { &*cfvit_trt_shim_rtx() });
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What TensorRT 11 was seen to return for a runtime that it could not make without a driver.
    extern "C" fn bogus(_logger: *mut c_void, _version: i32) -> *mut c_void {
        std::ptr::without_provenance_mut(0x228)
    }

    extern "C" fn null(_logger: *mut c_void, _version: i32) -> *mut c_void {
        std::ptr::null_mut()
    }

    #[test]
    fn pointers_that_point_nowhere_are_refused_by_every_shim() {
        if shims().is_empty() {
            println!("skipped: built without TensorRT's headers");
        }
        for api in shims() {
            assert_eq!(api.abi, ABI);
            for create in [bogus as *const () as *mut c_void, null as *const () as *mut c_void] {
                let entries =
                    Entries { version: 0, create_builder: create, create_runtime: create, create_parser: create };
                let mut runtime = std::ptr::null_mut();
                // SAFETY: the entries are functions of the right type, and the outputs are valid.
                let status = unsafe { (api.runtime_create)(&raw const entries, &raw mut runtime) };
                assert!(status != OK && runtime.is_null());
                // SAFETY: the text ends with a zero and lives until the next failing call.
                let message = unsafe { std::ffi::CStr::from_ptr((api.last_message)()) };
                assert_eq!(message, c"createInferRuntime");

                let mut built = Built { plan: std::ptr::null_mut(), timing_cache: std::ptr::null_mut() };
                let request = Build {
                    onnx: c"".as_ptr().cast(),
                    onnx_size: 0,
                    half: 0,
                    optimisation_level: -1,
                    compute_capability: 0,
                    workspace: 0,
                    timing_cache: std::ptr::null(),
                    timing_cache_size: 0,
                    progress: None,
                };
                // SAFETY: as above.
                let status = unsafe { (api.build)(&raw const entries, &raw const request, &raw mut built) };
                assert!(status != OK && built.plan.is_null());
            }
        }
    }
}
