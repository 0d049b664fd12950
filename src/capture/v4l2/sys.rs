//! The kernel's side of V4L2: its structures, its calls, and all `unsafe` of this module.
//!
//! Layouts and numbers are those of `linux/videodev2.h` on 64-bit Linux. Only what single-planar capture needs is here.

use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::time::{Duration, Instant};

/// `V4L2_BUF_TYPE_VIDEO_CAPTURE`
pub const VIDEO_CAPTURE: u32 = 1;
/// `V4L2_MEMORY_MMAP`
pub const MEMORY_MMAP: u32 = 1;
/// `V4L2_FIELD_NONE`: whole pictures, not every other line.
pub const FIELD_NONE: u32 = 1;
/// `V4L2_PIX_FMT_PRIV_MAGIC`: the fields after `private` hold something.
pub const PRIVATE_MAGIC: u32 = 0xfeed_cafe;

/// Bits of [`Capability::device`].
pub mod capability {
    /// `V4L2_CAP_VIDEO_CAPTURE`
    pub const VIDEO_CAPTURE: u32 = 0x1;
    /// `V4L2_CAP_VIDEO_OUTPUT`
    pub const VIDEO_OUTPUT: u32 = 0x2;
    /// `V4L2_CAP_VIDEO_CAPTURE_MPLANE`
    pub const VIDEO_CAPTURE_MPLANE: u32 = 0x1000;
    /// `V4L2_CAP_VIDEO_M2M_MPLANE | V4L2_CAP_VIDEO_M2M`
    pub const VIDEO_M2M: u32 = 0xc000;
    /// `V4L2_CAP_META_CAPTURE`
    pub const META_CAPTURE: u32 = 0x80_0000;
    /// `V4L2_CAP_STREAMING`
    pub const STREAMING: u32 = 0x400_0000;
    /// `V4L2_CAP_DEVICE_CAPS`: [`super::Capability::node`] holds something.
    pub const DEVICE_CAPS: u32 = 0x8000_0000;
    /// `V4L2_CAP_TIMEPERFRAME`, in [`super::StreamParameters::capability`].
    pub const TIME_PER_FRAME: u32 = 0x1000;
}

/// Bits of [`Buffer::flags`].
pub mod flag {
    /// `V4L2_BUF_FLAG_ERROR`: the data may be damaged.
    pub const ERROR: u32 = 0x40;
    /// `V4L2_BUF_FLAG_TIMESTAMP_MASK`
    pub const TIMESTAMP_MASK: u32 = 0xe000;
    /// `V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC`
    pub const TIMESTAMP_MONOTONIC: u32 = 0x2000;
}

/// What calls read and write: plain numbers, of the size that the kernel expects.
///
/// # Safety
/// `repr(C)`, valid with any bytes, laid out as the kernel's structure.
pub unsafe trait Argument: Sized {
    /// All zero, which is what the kernel wants in everything that is not used.
    fn zeroed() -> Self {
        // SAFETY: implementors are valid with any bytes.
        unsafe { std::mem::zeroed() }
    }
}

macro_rules! argument {
    ($type:ty, $size:expr) => {
        const _: () = assert!(size_of::<$type>() == $size, "not the kernel's layout");
        // SAFETY: repr(C), integers and arrays of integers only, of the kernel's size.
        unsafe impl Argument for $type {}
    };
}

/// `v4l2_capability`
#[repr(C)]
pub struct Capability {
    pub driver: [u8; 16],
    pub card: [u8; 32],
    pub bus: [u8; 32],
    pub version: u32,
    /// Of the whole device.
    pub device: u32,
    /// Of this node.
    pub node: u32,
    reserved: [u32; 3],
}
argument!(Capability, 104);

/// `v4l2_fmtdesc`
#[repr(C)]
pub struct FormatDescription {
    pub index: u32,
    pub kind: u32,
    pub flags: u32,
    pub description: [u8; 32],
    pub fourcc: u32,
    mbus_code: u32,
    reserved: [u32; 3],
}
argument!(FormatDescription, 64);

/// `v4l2_frmsizeenum`: `range` is width, height, or least, most and step of the width, then of the height.
#[repr(C)]
pub struct FrameSize {
    pub index: u32,
    pub fourcc: u32,
    pub kind: u32,
    pub range: [u32; 6],
    reserved: [u32; 2],
}
argument!(FrameSize, 44);

/// `v4l2_frmivalenum`: `range` is one fraction of a second, or the shortest, the longest and the step.
#[repr(C)]
pub struct FrameInterval {
    pub index: u32,
    pub fourcc: u32,
    pub width: u32,
    pub height: u32,
    pub kind: u32,
    pub range: [[u32; 2]; 3],
    reserved: [u32; 2],
}
argument!(FrameInterval, 52);

/// `v4l2_frmsizetypes` and `v4l2_frmivaltypes`: one value; others are ranges.
pub const DISCRETE: u32 = 1;

/// `v4l2_pix_format`
#[repr(C)]
pub struct PixelLayout {
    pub width: u32,
    pub height: u32,
    pub fourcc: u32,
    pub field: u32,
    pub bytes_per_line: u32,
    pub size_image: u32,
    pub colorspace: u32,
    pub private: u32,
    pub flags: u32,
    pub ycbcr_encoding: u32,
    pub quantization: u32,
    pub transfer: u32,
}

/// `v4l2_format`
#[repr(C)]
pub struct Format {
    pub kind: u32,
    union_alignment: u32,
    pub pixels: PixelLayout,
    rest: [u64; 19],
}
argument!(Format, 208);

/// `v4l2_streamparm` with `v4l2_captureparm`
#[repr(C)]
pub struct StreamParameters {
    pub kind: u32,
    pub capability: u32,
    mode: u32,
    /// Seconds: numerator, denominator.
    pub time_per_frame: [u32; 2],
    extended_mode: u32,
    read_buffers: u32,
    rest: [u32; 44],
}
argument!(StreamParameters, 204);

/// `v4l2_requestbuffers`
#[repr(C)]
pub struct RequestBuffers {
    pub count: u32,
    pub kind: u32,
    pub memory: u32,
    capabilities: u32,
    flags_and_reserved: u32,
}
argument!(RequestBuffers, 20);

/// `v4l2_buffer`
#[repr(C)]
pub struct Buffer {
    pub index: u32,
    pub kind: u32,
    pub bytes_used: u32,
    pub flags: u32,
    field: u32,
    time_alignment: u32,
    /// Seconds, microseconds.
    pub timestamp: [i64; 2],
    timecode: [u32; 4],
    pub sequence: u32,
    pub memory: u32,
    /// Where the buffer is mapped from (the low half of a union).
    pub offset: u32,
    offset_rest: u32,
    pub length: u32,
    reserved: u32,
    request: i32,
    end_alignment: u32,
}
argument!(Buffer, 88);

/// `enum v4l2_buf_type`, as the stream is switched with.
#[repr(C)]
pub struct BufferKind(pub u32);
argument!(BufferKind, 4);

/// A call and what it takes.
pub struct Request<T> {
    number: u32,
    argument: PhantomData<fn(&mut T)>,
}

impl<T: Argument> Request<T> {
    /// The number of call `index`: `direction` 1 the kernel reads, 2 it writes, 3 both; `V` is V4L2's letter.
    const fn new(direction: u32, index: u8) -> Self {
        let number = direction << 30 | (size_of::<T>() as u32) << 16 | (b'V' as u32) << 8 | index as u32;
        Self { number, argument: PhantomData }
    }
}

pub const QUERY_CAPABILITY: Request<Capability> = Request::new(2, 0);
pub const ENUM_FORMAT: Request<FormatDescription> = Request::new(3, 2);
pub const GET_FORMAT: Request<Format> = Request::new(3, 4);
pub const SET_FORMAT: Request<Format> = Request::new(3, 5);
pub const REQUEST_BUFFERS: Request<RequestBuffers> = Request::new(3, 8);
pub const QUERY_BUFFER: Request<Buffer> = Request::new(3, 9);
pub const QUEUE: Request<Buffer> = Request::new(3, 15);
pub const DEQUEUE: Request<Buffer> = Request::new(3, 17);
pub const STREAM_ON: Request<BufferKind> = Request::new(1, 18);
pub const STREAM_OFF: Request<BufferKind> = Request::new(1, 19);
pub const SET_PARAMETERS: Request<StreamParameters> = Request::new(3, 22);
pub const ENUM_FRAME_SIZES: Request<FrameSize> = Request::new(3, 74);
pub const ENUM_FRAME_INTERVALS: Request<FrameInterval> = Request::new(3, 75);

/// Makes a call; starts it again when a signal came between.
///
/// # Errors
/// The kernel's.
pub fn call<T: Argument>(fd: BorrowedFd<'_>, request: &Request<T>, argument: &mut T) -> io::Result<()> {
    loop {
        let argument: *mut T = argument;
        // SAFETY: the request's number says `T`'s size and direction, so the kernel stays within `argument`, which is exclusively ours.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), request.number as libc::Ioctl, argument) };
        if result != -1 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Opens a device node for reading and writing. Neither this nor reading from it waits for the device.
///
/// # Errors
/// The kernel's.
pub fn open(node: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(node.as_os_str().as_bytes())?;
    let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_CLOEXEC;
    // SAFETY: `path` ends with a zero byte and lives through the call.
    let fd = unsafe { libc::open(path.as_ptr(), flags) };
    match fd {
        -1 => Err(io::Error::last_os_error()),
        // SAFETY: the kernel just made it for us alone.
        fd => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
    }
}

/// Whether `fd` is a character device, as cameras are.
///
/// # Errors
/// The kernel's.
pub fn is_character_device(fd: BorrowedFd<'_>) -> io::Result<bool> {
    // SAFETY: `stat` is valid with any bytes.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `stat`, which is exclusively ours.
    match unsafe { libc::fstat(fd.as_raw_fd(), &raw mut stat) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(stat.st_mode & libc::S_IFMT == libc::S_IFCHR),
    }
}

/// What [`poll`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// There is something to read.
    Readable,
    /// The time is over, or a signal came.
    NotYet,
    /// The device reports an error or is gone.
    Broken,
}

/// Waits until `fd` can be read, `until` at the latest.
///
/// # Errors
/// The kernel's.
pub fn poll(fd: BorrowedFd<'_>, until: Instant) -> io::Result<Ready> {
    let left = until.saturating_duration_since(Instant::now());
    // Rounded up: a wait of 0 ms until the time is over would be a busy one.
    let left_ms = left.saturating_add(Duration::from_micros(999)).as_millis().min(i32::MAX as u128) as i32;
    let mut entry = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN | libc::POLLRDNORM, revents: 0 };
    // SAFETY: one entry, exclusively ours.
    match unsafe { libc::poll(&raw mut entry, 1, left_ms) } {
        -1 => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => Ok(Ready::NotYet),
            error => Err(error),
        },
        0 => Ok(Ready::NotYet),
        // Frames that were finished before the error are taken first.
        _ if entry.revents & (libc::POLLIN | libc::POLLRDNORM) != 0 && entry.revents & libc::POLLNVAL == 0 => {
            Ok(Ready::Readable)
        }
        _ => Ok(Ready::Broken),
    }
}

/// What the clock of the kernel's timestamps says.
pub fn monotonic() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes one `timespec`, which is exclusively ours. This clock always exists.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// A buffer of the driver in our address space. Unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: nothing in a mapping is tied to a thread.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `length` bytes at `offset` of the device.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(fd: BorrowedFd<'_>, offset: u32, length: usize) -> io::Result<Self> {
        let (protection, sharing) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, protection, sharing, fd.as_raw_fd(), libc::off_t::from(offset))
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mapped at address 0"))?;
        Ok(Self { start, length })
    }

    /// The bytes. Only for who owns the buffer: while it is queued the device writes there.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: mapped for `length` bytes until `self` is dropped; the only caller owns the buffer (`Stream::bytes`).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; no slice of it outlives `self`. It cannot fail with these arguments.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers as a C compiler prints them from `linux/videodev2.h`.
    #[test]
    fn calls_have_the_kernels_numbers() {
        assert_eq!(QUERY_CAPABILITY.number, 0x8068_5600);
        assert_eq!(ENUM_FORMAT.number, 0xc040_5602);
        assert_eq!(GET_FORMAT.number, 0xc0d0_5604);
        assert_eq!(SET_FORMAT.number, 0xc0d0_5605);
        assert_eq!(REQUEST_BUFFERS.number, 0xc014_5608);
        assert_eq!(QUERY_BUFFER.number, 0xc058_5609);
        assert_eq!(QUEUE.number, 0xc058_560f);
        assert_eq!(DEQUEUE.number, 0xc058_5611);
        assert_eq!(STREAM_ON.number, 0x4004_5612);
        assert_eq!(STREAM_OFF.number, 0x4004_5613);
        assert_eq!(SET_PARAMETERS.number, 0xc0cc_5616);
        assert_eq!(ENUM_FRAME_SIZES.number, 0xc02c_564a);
        assert_eq!(ENUM_FRAME_INTERVALS.number, 0xc034_564b);
    }

    #[test]
    fn fields_lie_where_the_kernel_looks() {
        use std::mem::offset_of;
        assert_eq!((offset_of!(Format, pixels), offset_of!(StreamParameters, capability)), (8, 4));
        assert_eq!((offset_of!(Buffer, flags), offset_of!(Buffer, timestamp)), (12, 24));
        assert_eq!(
            (offset_of!(Buffer, sequence), offset_of!(Buffer, offset), offset_of!(Buffer, length)),
            (56, 64, 72)
        );
        assert_eq!(offset_of!(PixelLayout, private), 28);
        assert_eq!((offset_of!(PixelLayout, ycbcr_encoding), offset_of!(PixelLayout, quantization)), (36, 40));
        assert_eq!((offset_of!(Capability, device), offset_of!(FormatDescription, fourcc)), (84, 44));
    }

    #[test]
    fn a_file_is_no_device_and_a_device_is() {
        let file = tempfile::NamedTempFile::new().unwrap();
        use std::os::fd::AsFd;
        assert!(!is_character_device(open(file.path()).unwrap().as_fd()).unwrap());
        let null = open(Path::new("/dev/null")).unwrap();
        assert!(is_character_device(null.as_fd()).unwrap());
        let error = call(null.as_fd(), &QUERY_CAPABILITY, &mut Capability::zeroed()).unwrap_err();
        // qemu's user emulation does not know the call and does not ask the kernel.
        let refusals = if cfg!(target_arch = "x86_64") { [libc::ENOTTY; 2] } else { [libc::ENOTTY, libc::ENOSYS] };
        assert!(error.raw_os_error().is_some_and(|code| refusals.contains(&code)), "{error}");
        assert_eq!(open(Path::new("/dev/none/such")).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }

    #[test]
    fn polling_an_empty_pipe_takes_its_time_and_a_closed_one_is_broken() {
        let (reader, writer) = std::io::pipe().unwrap();
        use std::os::fd::AsFd;
        let until = Instant::now() + Duration::from_millis(20);
        assert_eq!(poll(reader.as_fd(), until).unwrap(), Ready::NotYet);
        assert!(Instant::now() >= until);
        drop(writer);
        assert_eq!(poll(reader.as_fd(), Instant::now()).unwrap(), Ready::Broken);
    }
}
