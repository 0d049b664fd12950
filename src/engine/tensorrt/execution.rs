//! A plan that is loaded and can run: a runtime of the library, the engine in it, one context.

use std::ffi::{CStr, CString, c_void};
use std::ptr::{self, NonNull};

use super::library::Library;
use super::sys;
use crate::error::{Error, Kind, Result};
use crate::model::onnx::Element;

/// An input or output of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tensor {
    /// Its name in the graph.
    pub name: String,
    /// Whether the plan reads it.
    pub is_input: bool,
    /// The number format; `None` for one that cfvit's graphs do not use.
    pub element: Option<Element>,
    /// Dimensions, outermost first.
    pub shape: Vec<i64>,
}

/// A loaded plan. One inference at a time.
pub struct Execution {
    // Dropped in this order: each was made by the next.
    context: Handle<sys::Context>,
    engine: Handle<sys::Engine>,
    _runtime: Handle<sys::Runtime>,
    library: &'static Library,
    tensors: Vec<Tensor>,
    /// [`Execution::set_address`] needs names that end with a zero.
    names: Vec<CString>,
}

// SAFETY: TensorRT's objects may be used from any thread, one at a time; `&mut self` sees to that.
unsafe impl Send for Execution {}

/// An object of the library, and how it is destroyed.
struct Handle<T> {
    pointer: NonNull<T>,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Handle<T> {
    /// What `make` writes, if it succeeds.
    fn made(make: impl FnOnce(*mut *mut T) -> i32, destroy: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        let mut pointer = ptr::null_mut();
        let status = make(&raw mut pointer);
        let pointer = NonNull::new(pointer).filter(|_| status == sys::OK)?;
        Some(Self { pointer, destroy })
    }

    fn get(&self) -> *mut T {
        self.pointer.as_ptr()
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        // SAFETY: made by the shim, destroyed once, after whatever was made by it.
        unsafe { (self.destroy)(self.pointer.as_ptr()) }
    }
}

impl Execution {
    /// Loads a plan on this machine's GPU. The CUDA context that is current on this thread is the one that it will run in.
    ///
    /// # Errors
    /// [`Kind::Engine`] when there is no driver, [`Kind::Model`] when TensorRT refuses the plan.
    pub fn load(library: &'static Library, plan: &[u8]) -> Result<Self> {
        let entries = library.runtime_entries()?;
        let api = library.api();
        // SAFETY: the entries are this library's, and the driver has started.
        let runtime = Handle::made(|out| unsafe { (api.runtime_create)(&raw const entries, out) }, api.runtime_destroy)
            .ok_or_else(|| library.failure(Kind::Engine, "cannot make a runtime"))?;
        // SAFETY: the runtime is valid; the plan is that many bytes and is not needed afterwards.
        let load = |out| unsafe { (api.engine_load)(runtime.get(), plan.as_ptr().cast(), plan.len(), out) };
        let engine = Handle::made(load, api.engine_destroy)
            .ok_or_else(|| library.failure(Kind::Model, "cannot load the plan"))?;
        // SAFETY: the engine is valid.
        let context = Handle::made(|out| unsafe { (api.context_create)(engine.get(), out) }, api.context_destroy)
            .ok_or_else(|| library.failure(Kind::Engine, "cannot make a context"))?;
        let (tensors, names) = tensors(library, &engine)?;
        Ok(Self { context, engine, _runtime: runtime, library, tensors, names })
    }

    /// Inputs and outputs.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Bytes of GPU memory that it takes for what lies between the layers.
    pub fn device_memory_bytes(&self) -> u64 {
        // SAFETY: the engine is valid.
        let bytes = unsafe { (self.library.api().engine_device_memory)(self.engine.get()) };
        u64::try_from(bytes).unwrap_or(0)
    }

    /// The layers as TensorRT's inspector tells them: JSON, with the kernels' names.
    ///
    /// # Errors
    /// [`Kind::Engine`] when there is no inspector.
    pub fn inspect(&self) -> Result<String> {
        let api = self.library.api();
        // SAFETY: the engine is valid.
        let text = Handle::made(|out| unsafe { (api.engine_inspect)(self.engine.get(), out) }, api.blob_destroy)
            .ok_or_else(|| self.library.failure(Kind::Engine, "cannot inspect the engine"))?;
        // SAFETY: the blob is valid until it is dropped at the end, and holds that many bytes.
        let bytes = unsafe {
            std::slice::from_raw_parts((api.blob_data)(text.get()).cast::<u8>(), (api.blob_size)(text.get()))
        };
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Binds the tensor called `name` to `address` on the GPU. All tensors must be bound before the first [`Execution::enqueue`].
    ///
    /// # Errors
    /// [`Kind::Model`] when there is no such tensor, [`Kind::Engine`] when TensorRT refuses the address.
    ///
    /// # Safety
    /// `address` must be memory that the GPU can reach, with room for the whole tensor, and stay so as long as this runs.
    pub unsafe fn set_address(&mut self, name: &str, address: *mut c_void) -> Result<()> {
        let known = self.names.iter().find(|known| known.as_bytes() == name.as_bytes());
        let known = known.ok_or_else(|| Error::new(Kind::Model, format!("the plan has no tensor `{name}`")))?;
        // SAFETY: the context is valid; the caller answers for the address.
        let status = unsafe { (self.library.api().context_bind)(self.context.get(), known.as_ptr(), address) };
        self.checked(status, "cannot bind a tensor")
    }

    /// Puts one inference on `stream`, a `CUstream`, and does not wait for it.
    ///
    /// # Errors
    /// [`Kind::Engine`] when TensorRT refuses.
    ///
    /// # Safety
    /// All tensors must be bound, the stream must belong to the current context, and nothing else may use the tensors until it is done.
    pub unsafe fn enqueue(&mut self, stream: *mut c_void) -> Result<()> {
        // SAFETY: the context is valid; the caller answers for the rest.
        let status = unsafe { (self.library.api().context_enqueue)(self.context.get(), stream) };
        self.checked(status, "cannot run")
    }

    fn checked(&self, status: i32, what: &str) -> Result<()> {
        if status == sys::OK { Ok(()) } else { Err(self.library.failure(Kind::Engine, what)) }
    }
}

/// The engine's inputs and outputs, and their names as C wants them.
fn tensors(library: &'static Library, engine: &Handle<sys::Engine>) -> Result<(Vec<Tensor>, Vec<CString>)> {
    let api = library.api();
    // SAFETY: the engine is valid.
    let count = unsafe { (api.engine_tensor_count)(engine.get()) };
    let mut tensors = Vec::new();
    let mut names = Vec::new();
    for index in 0..count {
        let mut raw = sys::Tensor { name: ptr::null(), element: -1, is_input: 0, rank: 0, dims: [0; sys::MAX_DIMS] };
        // SAFETY: the engine is valid, and `raw` is what the call fills.
        if unsafe { (api.engine_tensor)(engine.get(), index, &raw mut raw) } != sys::OK {
            return Err(library.failure(Kind::Model, "cannot read the plan's inputs and outputs"));
        }
        // SAFETY: after success the name ends with a zero and lives as long as the engine.
        let name = unsafe { CStr::from_ptr(raw.name) }.to_owned();
        let rank = usize::try_from(raw.rank).unwrap_or(0).min(sys::MAX_DIMS);
        tensors.push(Tensor {
            name: name.to_string_lossy().into_owned(),
            is_input: raw.is_input != 0,
            element: element(raw.element),
            shape: raw.dims[..rank].to_vec(),
        });
        names.push(name);
    }
    Ok((tensors, names))
}

fn element(code: i32) -> Option<Element> {
    match code {
        sys::FLOAT => Some(Element::F32),
        sys::HALF => Some(Element::F16),
        sys::INT32 => Some(Element::I32),
        sys::INT64 => Some(Element::I64),
        _ => None,
    }
}
