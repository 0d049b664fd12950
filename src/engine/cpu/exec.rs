//! The executor: the pool, the kernels, and the parallel operations that the stages are written in. Borrows are ordinary Rust
//! borrows outside; inside an operation the items write disjoint parts of one output.

use std::ops::Range;

use super::attention::{self, HeadTask};
use super::kernels::Kernels;
use super::memory::{Block, Buffer, Matrix, View, ViewMut};
use super::pool::Pool;

/// Runs operations.
pub struct Exec {
    /// The threads.
    pub pool: Pool,
    /// The instruction set's operations.
    pub kernels: &'static Kernels,
    /// A row of scratch memory a thread.
    scratch: Matrix,
    /// The 16-bit products' activations: see [`Exec::halves`].
    halves: Buffer,
    /// Multiply-accumulates of the products run so far, padding included: what `cost.rs` is tested against.
    #[cfg(test)]
    pub macs: usize,
}

/// A pointer that the items of one step share. What keeps them apart is said where it is used.
#[derive(Clone, Copy)]
pub struct Shared(pub *mut f32);

// SAFETY: only a pointer; each use states why its accesses are disjoint.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The pointer. A method, so that a closure captures the whole wrapper.
    pub fn get(self) -> *mut f32 {
        self.0
    }
}

/// A LayerNorm's parameters.
pub struct Norm {
    /// `[n]`
    pub gamma: Block,
    /// `[n]`
    pub beta: Block,
    /// Added to the variance.
    pub eps: f32,
}

/// Attention over the columns of one qkv layer: where each third starts, and how it is cut into heads.
#[derive(Clone, Copy)]
pub struct Heads {
    /// Heads.
    pub count: usize,
    /// Channels of a head.
    pub dim: usize,
    /// Columns from the queries to the keys, and from the keys to the values.
    pub third: usize,
}

impl Exec {
    /// An executor for attention over at most `tokens` tokens with heads of `head_dim`.
    pub fn new(pool: Pool, kernels: &'static Kernels, tokens: usize, head_dim: usize) -> Self {
        let scratch = attention::scratch_len(tokens, head_dim, kernels.head_panel);
        let scratch = Matrix::new(pool.threads(), scratch.next_multiple_of(64));
        Self {
            pool,
            kernels,
            scratch,
            halves: Buffer::new(0),
            #[cfg(test)]
            macs: 0,
        }
    }

    /// Room for `n` 16-bit floats, two in a float. Allocated by the first pass that needs so many.
    pub fn halves(&mut self, n: usize) -> &mut [f32] {
        if self.halves.len() < n.div_ceil(2) {
            self.halves = Buffer::new(n.div_ceil(2));
        }
        &mut self.halves
    }

    /// Calls `job(i, row i)` for every row of `out`, in parallel.
    pub fn for_rows(&mut self, out: ViewMut<'_>, job: impl Fn(usize, &mut [f32]) + Sync) {
        let (rows, stride) = (out.data.len() / out.stride, out.stride);
        let data = Shared(out.data.as_mut_ptr());
        let groups = (4 * self.pool.threads()).min(rows);
        self.pool.run(groups, |item| {
            for i in share(rows, item.index, groups) {
                // SAFETY: row `i` lies inside `out`, and belongs to this item alone.
                job(i, unsafe { std::slice::from_raw_parts_mut(data.get().add(i * stride), stride) });
            }
        });
    }

    /// The LayerNorm of every row of `input` into `out`.
    pub fn layer_norm(&mut self, norm: &Norm, input: View<'_>, out: ViewMut<'_>) {
        let kernel = self.kernels.layer_norm;
        let n = norm.gamma.len();
        assert!(n <= input.stride && n <= out.stride && norm.beta.len() == n, "layer norm out of bounds");
        self.for_rows(out, |i, row| {
            let x = input.row(i);
            // SAFETY: all four hold `n` floats, and the CPU has the kernel's set.
            unsafe { kernel(x.as_ptr(), row.as_mut_ptr(), norm.gamma.as_ptr(), norm.beta.as_ptr(), n, norm.eps) }
        });
    }

    /// Attention of the rows of `q` over the rows of `kv` (both with the columns of one qkv layer), into `out`. `first_rows`
    /// receives the first query's attention, a row of it for each head.
    pub fn attention(
        &mut self,
        heads: Heads,
        q: View<'_>,
        kv: View<'_>,
        out: ViewMut<'_>,
        mut first_rows: Option<&mut Matrix>,
    ) {
        let (queries, tokens) = (out.data.len() / out.stride, kv.data.len() / kv.stride);
        let Heads { count, dim, third } = heads;
        assert!(
            count * dim <= third.min(out.stride)
                && 3 * third <= q.stride.min(kv.stride)
                && queries * q.stride <= q.data.len()
                && attention::scratch_len(tokens, dim, self.kernels.head_panel) <= self.scratch.row(0).len(),
            "attention out of bounds"
        );
        #[cfg(test)]
        (self.macs += 2 * queries * tokens * dim * count);
        let splits = self.pool.threads().div_ceil(count).min(queries);
        let kernel = self.kernels.head;
        let scratch_len = self.scratch.row(0).len();
        let scratch = Shared(self.scratch.row_mut(0).as_mut_ptr());
        let (data, stride) = (Shared(out.data.as_mut_ptr()), out.stride);
        let first = first_rows.as_mut().map(|rows| {
            assert!(rows.row(0).len() >= tokens && rows.row(count - 1).len() >= tokens, "attention out of bounds");
            (Shared(rows.row_mut(0).as_mut_ptr()), rows.row(0).len())
        });
        self.pool.run(count * splits, |item| {
            let (head, split) = (item.index / splits, item.index % splits);
            let rows = share(queries, split, splits);
            let column = head * dim;
            // SAFETY: rows and columns lie inside their views, as asserted; each item writes its own rows of its own head's columns
            // and its own head's attention row; the scratch row is the thread's; the CPU has the kernel's set.
            unsafe {
                kernel(&HeadTask {
                    q: q.row(rows.start).as_ptr().add(column),
                    q_stride: q.stride,
                    k: kv.data.as_ptr().add(third + column),
                    v: kv.data.as_ptr().add(2 * third + column),
                    kv_stride: kv.stride,
                    queries: rows.len(),
                    tokens,
                    head_dim: dim,
                    out: data.get().add(rows.start * stride + column),
                    out_stride: stride,
                    first_row: first.filter(|_| split == 0).map(|(row, len)| row.get().add(head * len)),
                    scratch: scratch.get().add(item.thread * scratch_len),
                });
            }
        });
    }
}

/// The `part`-th of `parts` nearly equal shares of `0..n`.
pub fn share(n: usize, part: usize, parts: usize) -> Range<usize> {
    n * part / parts..n * (part + 1) / parts
}
