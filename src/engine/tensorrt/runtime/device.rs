//! The CUDA device: its context, the one stream that all work goes through, and the events that time it.

use std::sync::Arc;

use cudarc::driver::sys::{self, CUresult};
use cudarc::driver::{CudaContext, CudaEvent, CudaGraph, CudaStream, DriverError};

use crate::engine::tensorrt::cuda;
use crate::error::{Error, Kind, Result};

/// The first CUDA device, with one non-default stream. All calls bind the context to the calling thread, so that an engine may be
/// opened by one thread and run by another.
#[derive(Clone)]
pub struct Device {
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    start: Arc<CudaEvent>,
    end: Arc<CudaEvent>,
}

impl Device {
    /// Opens device 0.
    ///
    /// # Errors
    /// [`Kind::Engine`] when there is no driver or no device, or it does not answer; the message says which call failed.
    pub fn open() -> Result<Self> {
        cuda::start()?;
        let starts = |call: &'static str| move |e| opening(failed(call, e));
        let context = CudaContext::new(0).map_err(starts("cuDevicePrimaryCtxRetain"))?;
        // SAFETY: there is one stream, so nothing needs cudarc's ordering events, and they must not get into a captured graph.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(starts("cuStreamCreate"))?;
        // With timing; whoever waits sleeps instead of spinning, which would cost a core and its energy.
        let flags = sys::CUevent_flags::CU_EVENT_BLOCKING_SYNC;
        let event = || context.new_event(Some(flags)).map(Arc::new).map_err(starts("cuEventCreate"));
        let (start, end) = (event()?, event()?);
        Ok(Self { context, stream, start, end })
    }

    /// The device's name, as the driver tells it.
    pub fn name(&self) -> String {
        self.context.name().unwrap_or_else(|_| "unnamed CUDA device".to_owned())
    }

    /// The stream as TensorRT takes it: a `cudaStream_t`.
    pub fn stream(&self) -> *mut std::ffi::c_void {
        self.stream.cu_stream().cast()
    }

    /// Makes the context current on this thread, for calls that go past cudarc.
    ///
    /// # Errors
    /// [`Kind::Device`].
    pub fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|e| failed("cuCtxSetCurrent", e))
    }

    /// Bytes of memory that the device has left.
    ///
    /// # Errors
    /// [`Kind::Device`].
    pub fn free_memory_bytes(&self) -> Result<u64> {
        self.context.mem_get_info().map(|(free, _)| free as u64).map_err(|e| failed("cuMemGetInfo", e))
    }

    /// Runs what `enqueue` puts on the stream and waits for it. Gives the milliseconds between the first and the last of it on the
    /// device. However it ends, nothing of it runs any more.
    ///
    /// # Errors
    /// [`Kind::Device`], or what `enqueue` says.
    pub fn run(&self, enqueue: impl FnOnce() -> Result<()>) -> Result<f32> {
        self.bind()?;
        let queued = self.record(&self.start).and_then(|()| enqueue()).and_then(|()| self.record(&self.end));
        if let Err(error) = queued {
            // A part may be under way and would go on using the buffers. The first error is the one that matters.
            let _ = self.stream.synchronize();
            return Err(error);
        }
        if let Err(e) = self.end.synchronize() {
            let _ = self.stream.synchronize();
            return Err(failed("cuEventSynchronize", e));
        }
        self.start.elapsed_ms(&self.end).map_err(|e| failed("cuEventElapsedTime", e))
    }

    fn record(&self, event: &CudaEvent) -> Result<()> {
        event.record(&self.stream).map_err(|e| failed("cuEventRecord", e))
    }

    /// Captures what `enqueue` puts on the stream into a graph, without running it.
    ///
    /// # Errors
    /// [`Kind::Device`] when something in it cannot be captured; the stream is as before.
    pub fn capture(&self, enqueue: impl FnOnce() -> Result<()>) -> Result<Captured> {
        // Thread-local: other threads of this process may allocate meanwhile.
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(|e| failed("cuStreamBeginCapture", e))?;
        let queued = enqueue();
        // The capture must be ended whatever happened in it.
        let graph = self.stream.end_capture(sys::CUgraphInstantiate_flags(0));
        queued?;
        let graph = graph.map_err(|e| failed("cuStreamEndCapture and cuGraphInstantiate", e))?;
        let graph = graph.ok_or_else(|| Error::new(Kind::Device, "cuStreamEndCapture gave no graph"))?;
        graph.upload().map_err(|e| failed("cuGraphUpload", e))?;
        self.stream.synchronize().map_err(|e| failed("cuStreamSynchronize", e))?;
        Ok(Captured(graph))
    }

    /// The context, for what owns memory in it.
    pub(super) fn context(&self) -> &Arc<CudaContext> {
        &self.context
    }
}

/// A captured CUDA graph.
pub struct Captured(CudaGraph);

// SAFETY: CUDA's graphs may be used from any thread, by one at a time; their owner is not `Sync`.
unsafe impl Send for Captured {}

impl Captured {
    /// Puts the graph on the stream that it was captured from.
    ///
    /// # Errors
    /// [`Kind::Device`].
    pub fn launch(&self) -> Result<()> {
        self.0.launch().map_err(|e| failed("cuGraphLaunch", e))
    }
}

/// The failure of the CUDA `call`: its name and words for the error, and what to do.
pub fn failed(call: &str, error: DriverError) -> Error {
    let name = error.error_name().map_or_else(|_| format!("{:?}", error.0), |name| name.to_string_lossy().into_owned());
    let words = error.error_string().map_or_else(|_| String::new(), |words| format!(" ({})", words.to_string_lossy()));
    let advice = match error.0 {
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
            "end other programs that use the GPU; on a Jetson, where its memory is the system's, a reboot also mends fragmentation"
        }
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            "the driver's library and the kernel's module are of different releases: upgrade both, reboot"
        }
        _ => {
            "open the engine anew; where that fails too, restart the program, and look into the kernel's log (`dmesg`)"
        }
    };
    Error::new(Kind::Device, format!("CUDA: {call} failed: {name}{words}; {advice}"))
}

/// `error` of a call that opens the device: no engine runs on it yet.
fn opening(error: Error) -> Error {
    Error::caused(Kind::Engine, "the CUDA device cannot be opened", error)
}
