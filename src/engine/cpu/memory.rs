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
        let layout = layout(len, ALIGN);
        // SAFETY: the layout's size is not zero.
        let data = unsafe { alloc::alloc_zeroed(layout) };
        let Some(data) = NonNull::new(data.cast()) else { alloc::handle_alloc_error(layout) };
        Self { data, len, layout }
    }
}

/// Room for `len` floats (at least one), a whole number of `align`.
fn layout(len: usize, align: usize) -> Layout {
    let size = (len.max(1) * size_of::<f32>()).next_multiple_of(align);
    match Layout::from_size_align(size, align) {
        Ok(layout) => layout,
        Err(_) => unreachable!("align is a power of two and a model's buffers are far smaller than isize::MAX"),
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

/// Memory for many blocks of weights, on huge pages: a model's weights exceed what the TLB covers with small ones, and a prefetch
/// that misses it comes late.
struct Chunk {
    data: NonNull<f32>,
    layout: Layout,
}

// SAFETY: a `Chunk` owns its memory; who may touch which part of it is the arena's to say.
unsafe impl Send for Chunk {}
// SAFETY: as above.
unsafe impl Sync for Chunk {}

impl Chunk {
    /// Room for `len` floats, not yet initialised and not yet backed by memory: the advice must come before the first write, because
    /// a page that exists already stays small.
    fn new(len: usize) -> Self {
        let layout = layout(len, HUGE_PAGE);
        // SAFETY: the layout's size is not zero.
        let data = unsafe { alloc::alloc(layout) };
        let Some(data) = NonNull::new(data.cast::<f32>()) else { alloc::handle_alloc_error(layout) };
        // SAFETY: the range is page aligned and owned by the chunk; the advice changes no content and its failure is harmless.
        #[cfg(target_os = "linux")]
        unsafe {
            libc::madvise(data.as_ptr().cast(), layout.size(), libc::MADV_HUGEPAGE);
        }
        Self { data, layout }
    }

    fn len(&self) -> usize {
        self.layout.size() / size_of::<f32>()
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and freed only here.
        unsafe { alloc::dealloc(self.data.as_ptr().cast(), self.layout) }
    }
}

/// Hands out blocks of weights, one after the other in the order of execution, from large chunks.
#[derive(Default)]
pub struct Arena {
    chunk: Option<Arc<Chunk>>,
    used: usize,
}

/// Constant floats in an [`Arena`]; aligned to a cache line.
#[derive(Clone)]
pub struct Block {
    chunk: Arc<Chunk>,
    range: Range<usize>,
}

impl Deref for Block {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        // SAFETY: `Arena::store` initialised the range before it made the block, and nobody writes it afterwards.
        unsafe { std::slice::from_raw_parts(self.chunk.data.as_ptr().add(self.range.start), self.range.len()) }
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
                self.chunk.insert(Arc::new(Chunk::new(padded.max(CHUNK))))
            }
        };
        let range = self.used..self.used + len;
        self.used += padded;
        // SAFETY: the range lies inside the chunk, and no block handed out before overlaps it, so nobody else reads or writes these
        // floats while they are zeroed and `fill` writes them.
        unsafe {
            let start = chunk.data.as_ptr().add(range.start);
            start.write_bytes(0, len);
            fill(std::slice::from_raw_parts_mut(start, len));
        }
        Block { chunk: Arc::clone(chunk), range }
    }
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

    /// The first row of each of the first `n` groups of `group` rows.
    pub fn every(&self, group: usize, n: usize) -> View<'_> {
        let stride = group * self.stride;
        View { data: &self.data[..n * stride], stride }
    }

    /// The same, to be written.
    pub fn every_mut(&mut self, group: usize, n: usize) -> ViewMut<'_> {
        let stride = group * self.stride;
        ViewMut { data: &mut self.data[..n * stride], stride }
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
        let blocks: Vec<Block> = (0..5).map(|i| arena.store(CHUNK / 3 + 7 * i, |block| block.fill(i as f32))).collect();
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
