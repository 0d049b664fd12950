//! Streaming through mapped buffers. Each buffer is either the kernel's or ours, and this file is where that is kept.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::device::Device;
use super::sys::{self, Argument, Mapping, Ready, flag};

/// Buffers to ask for: one that is read, three for the driver to fill meanwhile.
const BUFFERS: u32 = 4;
/// With fewer the driver would have none while one is read.
const FEWEST: u32 = 2;
/// A timestamp older than this is no timestamp of a frame that just arrived.
const OLDEST: Duration = Duration::from_secs(10);

/// A running stream. Dropping it stops the stream and gives everything back to the driver, whatever fails on the way.
#[derive(Debug)]
pub struct Stream {
    device: Device,
    buffers: Vec<Buffer>,
}

#[derive(Debug)]
struct Buffer {
    mapping: Mapping,
    owner: Owner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// We may read it, the kernel does not touch it.
    Us,
    /// It is queued: the device may write there at any time.
    Kernel,
}

/// A buffer that the driver filled and handed over. Whoever has this may read the buffer; [`Stream::queue`] takes it back. There is never
/// more than one of a buffer.
#[derive(Debug)]
pub struct Filled {
    index: usize,
    /// Bytes of the frame.
    pub bytes_used: usize,
    /// The driver says that the data may be damaged.
    pub damaged: bool,
    /// The driver's number of the frame.
    pub sequence: u32,
    /// When the frame was taken.
    pub captured: Instant,
}

impl Stream {
    /// Makes the buffers, queues them and starts the stream.
    ///
    /// # Errors
    /// The kernel's, with what was being done.
    pub fn start(device: Device) -> Result<Self, (&'static str, io::Error)> {
        let mut stream = Self { device, buffers: Vec::new() };
        let granted = stream.request(BUFFERS).map_err(|e| ("it gives no buffers", e))?;
        if granted < FEWEST {
            let message = format!("it gives {granted} buffers, expected at least {FEWEST}");
            return Err(("it gives too few buffers", io::Error::other(message)));
        }
        for index in 0..granted {
            let mapping = stream.map(index).map_err(|e| ("its buffers cannot be mapped", e))?;
            stream.buffers.push(Buffer { mapping, owner: Owner::Us });
        }
        for index in 0..stream.buffers.len() {
            stream.queue_index(index).map_err(|e| ("it does not take its buffers", e))?;
        }
        let kind = &mut sys::BufferKind(sys::VIDEO_CAPTURE);
        sys::call(stream.device.fd.as_fd(), &sys::STREAM_ON, kind).map_err(|e| ("it does not start", e))?;
        Ok(stream)
    }

    /// Buffers in the stream.
    pub fn buffers(&self) -> usize {
        self.buffers.len()
    }

    /// Waits until a frame can be taken, `until` at the latest.
    ///
    /// # Errors
    /// The kernel's.
    pub fn wait(&self, until: Instant) -> io::Result<Ready> {
        sys::poll(self.device.fd.as_fd(), until)
    }

    /// Takes the oldest filled buffer; `None` while there is none. Does not wait.
    ///
    /// # Errors
    /// The kernel's, and a driver that hands over what it does not have.
    pub fn dequeue(&mut self) -> io::Result<Option<Filled>> {
        let mut found = request();
        match sys::call(self.device.fd.as_fd(), &sys::DEQUEUE, &mut found) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
        let index = found.index as usize;
        match self.buffers.get_mut(index) {
            Some(buffer) if buffer.owner == Owner::Kernel => buffer.owner = Owner::Us,
            _ => {
                return Err(io::Error::other(format!("the driver handed over buffer {index}, which it does not have")));
            }
        }
        Ok(Some(Filled {
            index,
            bytes_used: found.bytes_used as usize,
            damaged: found.flags & flag::ERROR != 0,
            sequence: found.sequence,
            captured: captured(&found),
        }))
    }

    /// The frame in `filled`: as many bytes as the driver says, at most the buffer.
    pub fn bytes(&self, filled: &Filled) -> &[u8] {
        // `filled` exists, so the buffer is ours.
        let whole = self.buffers.get(filled.index).map_or(&[][..], |buffer| buffer.mapping.bytes());
        &whole[..filled.bytes_used.min(whole.len())]
    }

    /// Gives a buffer back to be filled again.
    ///
    /// # Errors
    /// The kernel's; the stream is then short of this buffer.
    pub fn queue(&mut self, filled: Filled) -> io::Result<()> {
        self.queue_index(filled.index)
    }

    fn queue_index(&mut self, index: usize) -> io::Result<()> {
        match self.buffers.get_mut(index) {
            Some(buffer) if buffer.owner == Owner::Us => {
                let mut wanted = request();
                wanted.index = index as u32;
                sys::call(self.device.fd.as_fd(), &sys::QUEUE, &mut wanted)?;
                buffer.owner = Owner::Kernel;
                Ok(())
            }
            _ => Err(io::Error::other(format!("buffer {index} is not ours to give"))),
        }
    }

    fn request(&self, count: u32) -> io::Result<u32> {
        let mut buffers = sys::RequestBuffers::zeroed();
        (buffers.count, buffers.kind, buffers.memory) = (count, sys::VIDEO_CAPTURE, sys::MEMORY_MMAP);
        sys::call(self.device.fd.as_fd(), &sys::REQUEST_BUFFERS, &mut buffers)?;
        Ok(buffers.count)
    }

    fn map(&self, index: u32) -> io::Result<Mapping> {
        let mut buffer = request();
        buffer.index = index;
        sys::call(self.device.fd.as_fd(), &sys::QUERY_BUFFER, &mut buffer)?;
        Mapping::new(self.device.fd.as_fd(), buffer.offset, buffer.length as usize)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A camera that is gone fails in all of this, and none of it may keep the rest from being done. What follows is that the node is
        // opened anew, with new buffers: the old ones must not live on.
        let kind = &mut sys::BufferKind(sys::VIDEO_CAPTURE);
        let stopped = sys::call(self.device.fd.as_fd(), &sys::STREAM_OFF, kind);
        self.buffers.clear();
        let freed = self.request(0).map(|_| ());
        for (what, result) in [("STREAMOFF", stopped), ("REQBUFS 0", freed)] {
            if let Err(error) = result {
                log::debug!("{} of {}: {error}", what, self.device.card());
            }
        }
    }
}

/// A buffer's structure, for the calls that take one.
fn request() -> sys::Buffer {
    let mut buffer = sys::Buffer::zeroed();
    (buffer.kind, buffer.memory) = (sys::VIDEO_CAPTURE, sys::MEMORY_MMAP);
    buffer
}

/// When the frame in `buffer` was taken: the kernel's stamp, if it is one of the clock that [`Instant`] is made of, else now.
fn captured(buffer: &sys::Buffer) -> Instant {
    let now = Instant::now();
    if buffer.flags & flag::TIMESTAMP_MASK != flag::TIMESTAMP_MONOTONIC {
        return now;
    }
    let [seconds, microseconds] = buffer.timestamp.map(|part| u64::try_from(part).unwrap_or(0));
    let stamp = Duration::from_secs(seconds).saturating_add(Duration::from_micros(microseconds));
    let age = sys::monotonic().saturating_sub(stamp);
    // `Instant` cannot be made from a clock's value, only from another one.
    if age > OLDEST { now } else { now.checked_sub(age).unwrap_or(now) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_of_another_clock_or_another_day_are_not_believed() {
        let stamped = |flags: u32, age: Duration| {
            let stamp = sys::monotonic().saturating_sub(age);
            let mut buffer = request();
            buffer.flags = flags;
            buffer.timestamp = [stamp.as_secs() as i64, i64::from(stamp.subsec_micros())];
            captured(&buffer).elapsed()
        };
        let second = Duration::from_secs(1);
        let age = stamped(flag::TIMESTAMP_MONOTONIC, second);
        assert!(age >= second && age < 2 * second, "{age:?}");
        assert!(stamped(0, second) < second, "unknown clock");
        assert!(stamped(0x4000, second) < second, "copied from elsewhere");
        assert!(stamped(flag::TIMESTAMP_MONOTONIC, 11 * second) < second);
        let mut buffer = request();
        (buffer.flags, buffer.timestamp) = (flag::TIMESTAMP_MONOTONIC, [i64::MAX, i64::MAX]);
        assert!(captured(&buffer).elapsed() < second, "from the future");
        buffer.timestamp = [-1, -1];
        assert!(captured(&buffer).elapsed() < second);
    }
}
