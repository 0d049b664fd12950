//! Attention of one head: `softmax(q·kᵀ)·v`, with the scale already inside q. Keys and values are packed into panels in the
//! thread's scratch memory, so both products run on the same tile as the linear layers.

use super::gemm::{Activation, PanelTask, panel};
use super::math::exp;
use super::simd::Simd;

/// One head's work, as raw as a kernel needs it.
pub struct HeadTask {
    /// `[queries, head_dim]`, rows `q_stride` apart.
    pub q: *const f32,
    /// Floats from a query to the next.
    pub q_stride: usize,
    /// `[tokens, head_dim]`, rows `kv_stride` apart.
    pub k: *const f32,
    /// `[tokens, head_dim]`, rows `kv_stride` apart.
    pub v: *const f32,
    /// Floats from a key (or value) to the next.
    pub kv_stride: usize,
    /// Query rows.
    pub queries: usize,
    /// Keys and values.
    pub tokens: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// `[queries, head_dim]`, rows `out_stride` apart.
    pub out: *mut f32,
    /// Floats from an output row to the next.
    pub out_stride: usize,
    /// `[tokens]`: where the first query's attention goes, if it is wanted.
    pub first_row: Option<*mut f32>,
    /// [`scratch_len`] floats of the thread's own.
    pub scratch: *mut f32,
}

/// Query rows that are worked on together: their scores stay in the L1 cache. A multiple of what the register tiles prefer.
const QUERIES: usize = 24;

/// Rows whose softmax is computed at once.
const GROUP: usize = 4;

/// Floats of scratch memory that a head of `tokens × head_dim` needs with panels of `width`.
pub fn scratch_len(tokens: usize, head_dim: usize, width: usize) -> usize {
    let (keys, channels) = (tokens.next_multiple_of(width), head_dim.next_multiple_of(width));
    head_dim * keys + tokens * channels + QUERIES * (keys + channels) + width
}

/// Runs one head.
///
/// # Safety
/// As [`Simd`]; `task`'s pointers are valid for what their comments say, and nobody else touches output and scratch.
#[inline(always)]
pub unsafe fn head<S: Simd, const NV: usize, const MAX: usize>(task: &HeadTask) {
    let width = NV * S::LANES;
    let &HeadTask { tokens, head_dim, .. } = task;
    let (keys, channels) = (tokens.next_multiple_of(width), head_dim.next_multiple_of(width));
    // SAFETY: the parts add up to `scratch_len`; every other access is described at its place.
    unsafe {
        let k_panels = task.scratch;
        let v_panels = k_panels.add(head_dim * keys);
        let scores = v_panels.add(tokens * channels);
        let mixed = scores.add(QUERIES * keys);
        let zeros = mixed.add(QUERIES * channels);
        std::slice::from_raw_parts_mut(zeros, width).fill(0.0);
        pack_keys(task, k_panels, width);
        pack_values(task, v_panels, width);
        for first in (0..task.queries).step_by(QUERIES) {
            let rows = QUERIES.min(task.queries - first);
            let product = |a, a_stride, depth, b: *const f32, out: *mut f32, out_stride| PanelTask {
                a,
                a_stride,
                a_block: depth,
                rows,
                b,
                depth,
                blocks: 1,
                bias: zeros,
                out,
                out_stride,
                accumulate: false,
                activation: Activation::None,
                next: std::ptr::null(),
                next_len: 0,
            };
            let q = task.q.add(first * task.q_stride);
            for p in 0..keys / width {
                let b = k_panels.add(p * head_dim * width);
                panel::<S, NV, MAX>(&product(q, task.q_stride, head_dim, b, scores.add(p * width), keys));
            }
            let mut scales = [0.0; QUERIES];
            let whole = rows / GROUP * GROUP;
            for r in (0..whole).step_by(GROUP) {
                exponentials::<S, GROUP>(scores.add(r * keys), keys, tokens, scales.as_mut_ptr().add(r));
            }
            for r in whole..rows {
                exponentials::<S, 1>(scores.add(r * keys), keys, tokens, scales.as_mut_ptr().add(r));
            }
            if let (0, Some(row)) = (first, task.first_row) {
                scaled::<S>(scores, row, tokens, scales[0]);
            }
            for p in 0..channels / width {
                let b = v_panels.add(p * tokens * width);
                panel::<S, NV, MAX>(&product(scores, keys, tokens, b, mixed.add(p * width), channels));
            }
            for (r, scale) in scales.into_iter().take(rows).enumerate() {
                let out = task.out.add((first + r) * task.out_stride);
                scaled::<S>(mixed.add(r * channels), out, head_dim, scale);
            }
        }
    }
}

/// Keys, transposed into panels `[ceil(tokens / width), head_dim, width]`; missing keys are zero (and their scores ignored).
#[inline(always)]
unsafe fn pack_keys(task: &HeadTask, panels: *mut f32, width: usize) {
    for token in 0..task.tokens.next_multiple_of(width) {
        // SAFETY: `panels` has a place for each key of the rounded-up count; reads stay below `tokens`.
        unsafe {
            let panel = panels.add(token / width * task.head_dim * width + token % width);
            for d in 0..task.head_dim {
                let key = if token < task.tokens { *task.k.add(token * task.kv_stride + d) } else { 0.0 };
                *panel.add(d * width) = key;
            }
        }
    }
}

/// Values in panels `[ceil(head_dim / width), tokens, width]`; missing channels are zero.
#[inline(always)]
unsafe fn pack_values(task: &HeadTask, panels: *mut f32, width: usize) {
    for (p, first) in (0..task.head_dim).step_by(width).enumerate() {
        let channels = width.min(task.head_dim - first);
        for token in 0..task.tokens {
            // SAFETY: `panels` holds `tokens × width` floats for each `p`; reads stay below `head_dim`.
            unsafe {
                let to = panels.add((p * task.tokens + token) * width);
                std::ptr::copy_nonoverlapping(task.v.add(token * task.kv_stride + first), to, channels);
                std::slice::from_raw_parts_mut(to.add(channels), width - channels).fill(0.0);
            }
        }
    }
}

/// What is under the softmax of `R` rows, `stride` floats apart: each of the first `n` floats of a row becomes `e^(x − largest)`, and `scales`
/// receives the reciprocal of each row's sum. Several rows at once, because one row's chain of reductions leaves the units idle. A row
/// holds `n` rounded up to whole registers.
#[inline(always)]
unsafe fn exponentials<S: Simd, const R: usize>(rows: *mut f32, stride: usize, n: usize, scales: *mut f32) {
    let wide = n.next_multiple_of(S::LANES);
    // SAFETY: the rows hold `wide` floats each, `scales` holds `R`.
    unsafe {
        let mut largest = [S::splat(f32::MIN); R];
        for (r, largest) in largest.iter_mut().enumerate() {
            std::slice::from_raw_parts_mut(rows.add(r * stride + n), wide - n).fill(f32::MIN);
            for i in (0..wide).step_by(S::LANES) {
                *largest = largest.max(S::load(rows.add(r * stride + i)));
            }
        }
        let shifts = largest.map(|largest| S::splat(largest.largest()));
        let mut sums = [S::splat(0.0); R];
        for i in (0..wide).step_by(S::LANES) {
            for (r, (sum, shift)) in sums.iter_mut().zip(shifts).enumerate() {
                let at = rows.add(r * stride + i);
                let e = exp(S::load(at).sub(shift));
                *sum = sum.add(e);
                e.store(at);
            }
        }
        for (r, sum) in sums.into_iter().enumerate() {
            *scales.add(r) = 1.0 / sum.sum();
        }
    }
}

/// `to = from · scale`, `n` floats of any length.
#[inline(always)]
unsafe fn scaled<S: Simd>(from: *const f32, to: *mut f32, n: usize, scale: f32) {
    let whole = n / S::LANES * S::LANES;
    // SAFETY: both hold `n` floats.
    unsafe {
        for i in (0..whole).step_by(S::LANES) {
            S::load(from.add(i)).mul(S::splat(scale)).store(to.add(i));
        }
        for i in whole..n {
            *to.add(i) = *from.add(i) * scale;
        }
    }
}
