//! Memory that both sides of an engine use, allocated once: pinned host memory that the device reads and writes in place, and device
//! memory that the host never sees.
//!
//! Nothing here waits for the device. [`Device::run`] returns only when the stream is idle, so between two runs the memory is the
//! host's alone.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;

use cudarc::driver::{CudaContext, result, sys};

use super::device::{Device, failed};
use crate::error::{Error, Kind, Result};

/// Types for which any bit pattern is a value.
///
/// # Safety
/// Every bit pattern, all zeros among them, is a valid value of the type.
pub unsafe trait Plain: Copy {}
// SAFETY: numbers without invalid bit patterns.
unsafe impl Plain for f32 {}
// SAFETY: as above.
unsafe impl Plain for i32 {}

/// Who touches pinned memory on the host side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostUse {
    /// The host only writes it: write-combined, so that writes do not go through its caches. Reading it would be very slow.
    Writes,
    /// The host reads it.
    Reads,
}

/// `[len]` values in page-locked host memory, mapped into the device's address space.
pub struct Pinned<T: Plain> {
    host: NonNull<T>,
    device: sys::CUdeviceptr,
    len: usize,
    context: Arc<CudaContext>,
    owns: PhantomData<T>,
}

// SAFETY: the memory is owned like a Box's; CUDA may free it from any thread.
unsafe impl<T: Plain + Send> Send for Pinned<T> {}

impl<T: Plain> Pinned<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// [`Kind::Device`] when the driver has no memory that can be pinned or mapped.
    pub fn zeroed(device: &Device, len: usize, host_use: HostUse) -> Result<Self> {
        let bytes = len.checked_mul(size_of::<T>()).filter(|&bytes| bytes > 0 && bytes <= isize::MAX as usize);
        let bytes = bytes.ok_or_else(|| Error::new(Kind::Engine, format!("{len} values cannot be pinned")))?;
        device.bind()?;
        let combined = if host_use == HostUse::Writes { sys::CU_MEMHOSTALLOC_WRITECOMBINED } else { 0 };
        let flags = sys::CU_MEMHOSTALLOC_DEVICEMAP | sys::CU_MEMHOSTALLOC_PORTABLE | combined;
        // SAFETY: a context is current; the memory is owned by the value made below.
        let host = unsafe { result::malloc_host(bytes, flags) };
        let host = host.map_err(|e| failed(&format!("cuMemHostAlloc of {bytes} bytes"), e))?;
        let host = NonNull::new(host.cast::<T>());
        let host = host.ok_or_else(|| Error::new(Kind::Device, "CUDA: cuMemHostAlloc gave no memory"))?;
        let mut pinned = Self { host, device: 0, len, context: Arc::clone(device.context()), owns: PhantomData };
        // SAFETY: page-locked memory of `bytes` bytes that nothing else uses yet; zeros are valid values of a `Plain` type.
        unsafe { host.as_ptr().write_bytes(0, len) };
        // SAFETY: `host` was allocated with DEVICEMAP.
        let mapped = unsafe { sys::cuMemHostGetDevicePointer_v2(&raw mut pinned.device, host.as_ptr().cast(), 0) };
        mapped.result().map_err(|e| failed("cuMemHostGetDevicePointer", e))?;
        Ok(pinned)
    }

    /// The values, as the device left them.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: `len` initialised values that live as long as `self`; the device does not write between two runs.
        unsafe { std::slice::from_raw_parts(self.host.as_ptr(), self.len) }
    }

    /// The values, to be changed before the next run.
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as in `as_slice`, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.host.as_ptr(), self.len) }
    }

    /// The address that the device knows it by.
    pub fn address(&self) -> *mut c_void {
        self.device as *mut c_void
    }
}

impl<T: Plain> Drop for Pinned<T> {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        // SAFETY: allocated by `malloc_host`, freed only here; nothing runs between two runs.
        self.context.record_err(unsafe { result::free_host(self.host.as_ptr().cast()) });
    }
}

/// Device memory.
pub struct DeviceBuffer {
    address: sys::CUdeviceptr,
    bytes: usize,
    context: Arc<CudaContext>,
}

impl DeviceBuffer {
    /// `bytes` zeros.
    ///
    /// # Errors
    /// [`Kind::Device`] when the driver has not that much memory.
    pub fn zeroed(device: &Device, bytes: usize) -> Result<Self> {
        device.bind()?;
        // SAFETY: a context is current; the memory is owned by the value made below.
        let address = unsafe { result::malloc_sync(bytes) };
        let address = address.map_err(|e| failed(&format!("cuMemAlloc of {bytes} bytes"), e))?;
        let mut buffer = Self { address, bytes, context: Arc::clone(device.context()) };
        buffer.fill(0)?;
        Ok(buffer)
    }

    /// Sets every byte, and waits until that is done.
    ///
    /// # Errors
    /// [`Kind::Device`].
    pub fn fill(&mut self, byte: u8) -> Result<()> {
        self.bind()?;
        // SAFETY: `bytes` bytes of device memory that nothing else uses between two runs.
        unsafe { result::memset_d8_sync(self.address, byte, self.bytes) }.map_err(|e| failed("cuMemsetD8", e))?;
        // A memset of device memory may return before it is done.
        result::ctx::synchronize().map_err(|e| failed("cuCtxSynchronize", e))
    }

    /// A copy of the bytes on the host.
    ///
    /// # Errors
    /// [`Kind::Device`].
    pub fn read(&self) -> Result<Vec<u8>> {
        self.bind()?;
        let mut bytes = vec![0; self.bytes];
        // SAFETY: `bytes` bytes of device memory into as many of the host's.
        unsafe { result::memcpy_dtoh_sync(&mut bytes, self.address) }.map_err(|e| failed("cuMemcpyDtoH", e))?;
        Ok(bytes)
    }

    /// Its address on the device.
    pub fn address(&self) -> *mut c_void {
        self.address as *mut c_void
    }

    fn bind(&self) -> Result<()> {
        self.context.bind_to_thread().map_err(|e| failed("cuCtxSetCurrent", e))
    }
}

impl Drop for DeviceBuffer {
    fn drop(&mut self) {
        self.context.record_err(self.context.bind_to_thread());
        // SAFETY: allocated by `malloc_sync`, freed only here; nothing runs between two runs.
        self.context.record_err(unsafe { result::free_sync(self.address) });
    }
}
