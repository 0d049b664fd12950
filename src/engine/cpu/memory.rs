//! Memory for weights and activations: cache-line aligned, allocated once at load, never on the frame path.

use std::alloc::{self, Layout};
use std::ops::{Deref, DerefMut, Range};
use std::ptr::NonNull;
use std::sync::Arc;

/// Alignment of every block: a cache line, and the widest vector register.
const ALIGN: usize = 64;
/// Weights are laid out in chunks of this many floats (32 MiB), so that huge pages can hold them.
const CHUNK: usize = 8 << 20;
/// Size and alignment of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// Zeroed, aligned floats on the heap, of a fixed length.
pub struct Buffer {
    data: NonNull<f32>,
    len: usize,
    layout: Layout,
}

// SAFETY: a `Buffer` owns its memory exclusively, as a `Box<[f32]>` does.
unsafe impl Send for Buffer {}
// SAFETY: shared access only reads.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        Self::aligned(len, ALIGN)
    }

    fn aligned(len: usize, align: usize) -> Self {
        let size = (len.max(1) * size_of::<f32>()).next_multiple_of(align);
        let Ok(layout) = Layout::from_size_align(size, align) else {
            unreachable!("align is a power of two and a model's buffers are far smaller than isize::MAX")
        };
        // SAFETY: the layout's size is not zero.
        let data = unsafe { alloc::alloc_zeroed(layout) };
        let Some(data) = NonNull::new(data.cast()) else { alloc::handle_alloc_error(layout) };
        Self { data, len, layout }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `aligned` with this layout, and freed only here.
        unsafe { alloc::dealloc(self.data.as_ptr().cast(), self.layout) }
    }
}

impl Deref for Buffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `len` initialised floats, owned by self.
        unsafe { std::slice::from_raw_parts(self.data.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: as above, and borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_ptr(), self.len) }
    }
}

/// Hands out blocks of weights, one after the other in the order of execution, from large chunks on huge pages.
#[derive(Default)]
pub struct Arena {
    chunk: Option<Arc<Buffer>>,
    used: usize,
}

/// Constant floats in an [`Arena`]; aligned to a cache line.
#[derive(Clone)]
pub struct Block {
    chunk: Arc<Buffer>,
    range: Range<usize>,
}

impl Deref for Block {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.chunk[self.range.clone()]
    }
}

impl Arena {
    /// A block of `len` floats that `fill` writes (it starts as zeros).
    pub fn store(&mut self, len: usize, fill: impl FnOnce(&mut [f32])) -> Block {
        let padded = len.next_multiple_of(ALIGN / size_of::<f32>());
        let chunk = match &self.chunk {
            Some(chunk) if self.used + padded <= chunk.len() => chunk,
            _ => {
                self.used = 0;
                self.chunk.insert(Arc::new(huge(padded.max(CHUNK))))
            }
        };
        let range = self.used..self.used + len;
        self.used += padded;
        // SAFETY: the range lies inside the chunk, and no block handed out before overlaps it, so nobody else reads or
        // writes these floats while `fill` does.
        fill(unsafe { std::slice::from_raw_parts_mut(chunk.data.as_ptr().add(range.start), len) });
        Block { chunk: Arc::clone(chunk), range }
    }
}

/// A buffer for which the kernel is asked to use huge pages: a model's weights exceed what the TLB covers with small ones.
/// Its pages are backed by memory only once they are written.
fn huge(len: usize) -> Buffer {
    let buffer = Buffer::aligned(len, HUGE_PAGE);
    // SAFETY: the range is page aligned and owned by `buffer`; the advice changes no content and its failure is harmless.
    #[cfg(target_os = "linux")]
    unsafe {
        libc::madvise(buffer.data.as_ptr().cast(), buffer.layout.size(), libc::MADV_HUGEPAGE);
    }
    buffer
}

/// A matrix of activations. Rows are `stride` floats apart; the columns past the logical width stay zero.
pub struct Matrix {
    data: Buffer,
    stride: usize,
}

impl Matrix {
    /// `rows × stride` zeros.
    pub fn new(rows: usize, stride: usize) -> Self {
        Self { data: Buffer::new(rows * stride), stride }
    }

    /// Row `i`, padding included.
    pub fn row(&self, i: usize) -> &[f32] {
        &self.data[i * self.stride..][..self.stride]
    }

    /// Row `i`, padding included.
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        &mut self.data[i * self.stride..][..self.stride]
    }

    /// The rows of `range`.
    pub fn rows(&self, range: Range<usize>) -> View<'_> {
        View { data: &self.data[range.start * self.stride..range.end * self.stride], stride: self.stride }
    }

    /// The rows of `range`, to be written.
    pub fn rows_mut(&mut self, range: Range<usize>) -> ViewMut<'_> {
        ViewMut { data: &mut self.data[range.start * self.stride..range.end * self.stride], stride: self.stride }
    }
}

/// Rows to read.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The floats of all rows.
    pub data: &'a [f32],
    /// Floats from one row's start to the next one's.
    pub stride: usize,
}

impl<'a> View<'a> {
    /// Row `i`.
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.stride..][..self.stride]
    }
}

/// Rows to write.
pub struct ViewMut<'a> {
    /// The floats of all rows.
    pub data: &'a mut [f32],
    /// Floats from one row's start to the next one's.
    pub stride: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_do_not_overlap_and_are_aligned_across_chunks() {
        let mut arena = Arena::default();
        let blocks: Vec<Block> = (0..5)
            .map(|i| arena.store(CHUNK / 3 + 7 * i, |block| block.fill(i as f32)))
            .collect();
        for (i, block) in blocks.iter().enumerate() {
            assert!(block.iter().all(|&x| x == i as f32));
            assert_eq!(block.as_ptr() as usize % ALIGN, 0);
        }
    }

    #[test]
    fn an_empty_buffer_is_empty() {
        assert!(Buffer::new(0).is_empty());
    }
}
