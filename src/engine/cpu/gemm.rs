//! The matrix product with constant weights: register tile, depth blocks, epilogue.
//!
//! Weights lie in *panels*: `panel width` columns, all of the depth, row by row (`pack`). One call of [`panel`] multiplies some
//! rows of activations with one panel. Its rows are cut into tiles of nearly equal height, at most as high as the registers
//! allow; a tile keeps its sums in registers over a block of the depth, so that a block of the panel stays in the L1
//! cache while all tiles pass over it. The last block applies the epilogue: bias, activation, residual sum. What the tile will write
//! was read by other cores in the step before: it is asked for at the start, so that it is here when the sums are.

use super::math::gelu;
use super::simd::{Simd, prefetch, prefetch_to_write};

/// What is applied to a sum after the bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    None,
    /// The exact GELU.
    Gelu,
    /// `max(x, 0)`.
    Relu,
}

/// One panel's work, as raw as a kernel needs it. `linear.rs` makes these from checked views.
pub struct PanelTask {
    /// First row of the activations.
    pub a: *const f32,
    /// Floats from a row to the next.
    pub a_stride: usize,
    /// Floats from a row's depth block to its next one (equal to `depth` for plain matrices; a convolution jumps to the next image row).
    pub a_block: usize,
    /// Rows.
    pub rows: usize,
    /// The panel: `[blocks · depth, panel width]`.
    pub b: *const f32,
    /// Depth of one block.
    pub depth: usize,
    /// Depth blocks.
    pub blocks: usize,
    /// `[panel width]`.
    pub bias: *const f32,
    /// First output row, at the panel's first column.
    pub out: *mut f32,
    /// Floats from an output row to the next.
    pub out_stride: usize,
    /// Whether the output's old content is added (residual connection).
    pub accumulate: bool,
    /// What is applied at the end.
    pub activation: Activation,
    /// What the thread will need next: this many floats from here are prefetched meanwhile.
    pub next: *const f32,
    /// See `next`.
    pub next_len: usize,
}

/// Floats in a cache line.
const LINE: usize = 16;
/// Depth steps between two groups of prefetches, and the unrolling of the inner loop.
const UNROLL: usize = 8;

/// `out = activation(a · b + bias [+ out])` for one panel of `NV` registers' width, in tiles of at most `MAX` rows.
///
/// # Safety
/// As [`Simd`]; `task`'s pointers are valid for what their comments say, and nobody else touches the output meanwhile.
#[inline(always)]
pub unsafe fn panel<S: Simd, const NV: usize, const MAX: usize>(task: &PanelTask) {
    let tiles = task.rows.div_ceil(MAX).max(1);
    let (height, higher) = (task.rows / tiles, task.rows % tiles);
    let steps = tiles * task.blocks * (task.depth / UNROLL);
    let mut ahead = Ahead::new(task.next, task.next_len, steps);
    for block in 0..task.blocks {
        let mut row = 0;
        for tile in 0..tiles {
            let rows = height + usize::from(tile < higher);
            // SAFETY: forwarded to the caller; `row + rows ≤ task.rows` and `block < task.blocks`.
            unsafe { tile_of::<S, NV, MAX>(task, row, rows, block, &mut ahead) };
            row += rows;
        }
    }
}

/// Cache lines still to be prefetched.
pub struct Ahead {
    at: *const f32,
    lines: usize,
    per_step: usize,
}

impl Ahead {
    /// `len` floats from `next` on, spread over `steps` calls of [`Ahead::step`].
    #[inline(always)]
    pub fn new(next: *const f32, len: usize, steps: usize) -> Self {
        let lines = len.div_ceil(LINE);
        Self { at: next, lines, per_step: lines.div_ceil(steps.max(1)) }
    }

    /// Asks for the next few.
    #[inline(always)]
    pub fn step(&mut self) {
        for _ in 0..self.per_step.min(self.lines) {
            prefetch(self.at);
            self.at = self.at.wrapping_add(LINE);
            self.lines -= 1;
        }
    }
}

/// Picks the tile function for `rows`; the arms above `MAX` vanish at compile time.
#[inline(always)]
unsafe fn tile_of<S: Simd, const NV: usize, const MAX: usize>(
    task: &PanelTask,
    row: usize,
    rows: usize,
    block: usize,
    ahead: &mut Ahead,
) {
    macro_rules! pick {
        ($($n:literal)*) => {
            match rows {
                // SAFETY: forwarded to the caller.
                $($n if $n <= MAX => unsafe { tile::<S, NV, $n>(task, row, block, ahead) },)*
                _ => {}
            }
        };
    }
    pick!(1 2 3 4 5 6 7 8 9 10 11 12 13 14)
}

/// `ROWS × NV` registers of sums over one depth block.
#[inline(always)]
unsafe fn tile<S: Simd, const NV: usize, const ROWS: usize>(
    task: &PanelTask,
    row: usize,
    block: usize,
    ahead: &mut Ahead,
) {
    let width = NV * S::LANES;
    // SAFETY: the caller vouches for the task's pointers: rows `row .. row + ROWS`, this block's depth, the panel's width.
    unsafe {
        let mut a = task.a.add(row * task.a_stride + block * task.a_block);
        let mut b = task.b.add(block * task.depth * width);
        if block == 0 {
            for (row, line) in (row..row + ROWS).flat_map(|row| (0..width).step_by(LINE).map(move |line| (row, line))) {
                prefetch_to_write(task.out.wrapping_add(row * task.out_stride + line));
            }
        }
        let mut sums = [[S::splat(0.0); NV]; ROWS];
        // One step of the depth. The rows are written out here and below: LLVM keeps the sums in registers only if no loop
        // indexes them, and it does not unroll such loops for the higher tiles.
        macro_rules! step {
            ($u:expr, $($row:literal)*) => {{
                let mut weights = [S::splat(0.0); NV];
                for (v, w) in weights.iter_mut().enumerate() {
                    *w = S::load(b.add($u * width + v * S::LANES));
                }
                $(if $row < ROWS {
                    let x = S::splat(*a.add($row * task.a_stride + $u));
                    for (sum, w) in sums[$row].iter_mut().zip(weights) {
                        *sum = x.mul_add(w, *sum);
                    }
                })*
            }};
        }
        for _ in 0..task.depth / UNROLL {
            ahead.step();
            for u in 0..UNROLL {
                step!(u, 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
            }
            a = a.add(UNROLL);
            b = b.add(UNROLL * width);
        }
        for u in 0..task.depth % UNROLL {
            step!(u, 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
        }
        let (out, first) = (task.out.add(row * task.out_stride), block == 0);
        let bias = task.bias;
        macro_rules! write {
            ($($row:literal)*) => {
                $(if $row < ROWS {
                    for (v, sum) in sums[$row].iter().enumerate() {
                        let to = out.add($row * task.out_stride + v * S::LANES);
                        let mut x = *sum;
                        if first {
                            x = x.add(S::load(bias.add(v * S::LANES)));
                        }
                        if !first || task.accumulate {
                            x = x.add(S::load(to));
                        }
                        x.store(to);
                    }
                })*
            };
        }
        write!(0 1 2 3 4 5 6 7 8 9 10 11 12 13);
        if block + 1 == task.blocks {
            activate::<S>(task.activation, out, task.out_stride, ROWS, width);
        }
    }
}

/// Applies `activation` to `rows` rows of `width` floats, which the tile has just written.
///
/// # Safety
/// As [`Simd`]; `out` is valid for the rows, `stride` apart.
#[inline(always)]
pub unsafe fn activate<S: Simd>(activation: Activation, out: *mut f32, stride: usize, rows: usize, width: usize) {
    if activation == Activation::None {
        return;
    }
    for (row, column) in (0..rows).flat_map(|row| (0..width).step_by(S::LANES).map(move |column| (row, column))) {
        // SAFETY: the rows and columns are the tile's own, valid for the caller.
        unsafe {
            let at = out.add(row * stride + column);
            let x = S::load(at);
            let y = if activation == Activation::Gelu { gelu(x) } else { x.max(S::splat(0.0)) };
            y.store(at);
        }
    }
}

/// Lays `weight` (`[n, k]`, as in a checkpoint: one row a column of the product) out in panels of `width` columns: `panel`
/// becomes `[ceil(n / width), k, width]`, missing columns zero.
pub fn pack(weight: &[f32], n: usize, k: usize, width: usize, panels: &mut [f32]) {
    for (p, panel) in panels.chunks_exact_mut(k * width).enumerate() {
        for (column, row) in weight.chunks_exact(k).enumerate().take(n).skip(p * width).take(width) {
            for (depth, &w) in row.iter().enumerate() {
                panel[depth * width + column - p * width] = w;
            }
        }
    }
}
