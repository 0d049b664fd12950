//! Linear layers: weights packed once at load, in 32 or 16 bits, and the parallel product with them.

use std::ops::Range;

use half::f16;

use super::exec::{Exec, Shared, share};
use super::fp16::{HalfKernels, HalfTask, STEPS};
use super::gemm::{self, Activation, PanelTask};
use super::kernels::{Kernels, Tile, WIDEST_PANEL};
use super::memory::{Arena, Block, View, ViewMut};
use super::pool::Item;

/// Columns of one layer that lie together: a whole weight matrix, or the queries', keys' or values' third of one.
pub struct Part<'a> {
    /// `[n, k]`, as in the checkpoint.
    pub weight: &'a [f32],
    /// `[n]`, or none.
    pub bias: Option<&'a [f32]>,
    /// Both are multiplied by this while they are packed; 1 leaves them as they are.
    pub scale: f32,
}

impl Part<'_> {
    /// Its columns, padding included.
    fn columns(&self, k: usize) -> usize {
        (self.weight.len() / k).next_multiple_of(WIDEST_PANEL)
    }
}

/// `y = x · Wᵀ + b` with constant W, in panels. Each part's columns are padded to a multiple of [`WIDEST_PANEL`].
pub enum Linear {
    /// Computed in 32-bit floats.
    Single(Packed),
    /// Products in 16-bit floats, everything else in 32.
    Half(PackedHalf),
}

/// A layer in panels of 32-bit floats, for [`gemm::panel`].
pub struct Packed {
    panels: Block,
    bias: Block,
    depth: usize,
    blocks: usize,
    tile: &'static Tile,
    columns: usize,
}

/// A layer in panels of 16-bit floats, for [`super::fp16::panel`].
pub struct PackedHalf {
    /// Two weights in the bits of a float.
    panels: Block,
    bias: Block,
    /// Inputs; the panels are [`PackedHalf::depth`] deep.
    k: usize,
    kernels: &'static HalfKernels,
    columns: usize,
}

/// What a product reads: rows of a matrix, or windows of an image that overlap.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    /// All floats.
    pub data: &'a [f32],
    /// Rows.
    pub rows: usize,
    /// Floats from a row to the next.
    pub stride: usize,
    /// Floats from a row's depth block to its next one.
    pub block: usize,
}

/// What happens to the product.
#[derive(Clone, Copy)]
pub struct Epilogue {
    /// Add the output's old content.
    pub accumulate: bool,
    /// Applied last.
    pub activation: Activation,
}

impl Epilogue {
    /// The product and the bias.
    pub const STORE: Self = Self { accumulate: false, activation: Activation::None };
    /// Added to what is there: a residual connection.
    pub const ADD: Self = Self { accumulate: true, activation: Activation::None };
    /// The exact GELU of the product and the bias.
    pub const GELU: Self = Self { accumulate: false, activation: Activation::Gelu };
    /// `max(product + bias, 0)`.
    pub const RELU: Self = Self { accumulate: false, activation: Activation::Relu };
}

impl Linear {
    /// Output columns, padding included.
    pub fn columns(&self) -> usize {
        match self {
            Linear::Single(w) => w.columns,
            Linear::Half(w) => w.columns,
        }
    }

    /// The panel that `thread` of so many will probably take first.
    fn first_panel(&self, thread: usize, threads: usize) -> &[f32] {
        match self {
            Linear::Single(w) => w.panel(w.columns / w.tile.panel_width * thread / threads),
            Linear::Half(w) => w.panel(w.columns / w.kernels.panel_width * thread / threads),
        }
    }
}

impl Packed {
    /// Packs `parts` (each `[n, k]`) side by side for `kernels`.
    pub fn new(arena: &mut Arena, kernels: &Kernels, k: usize, parts: &[Part<'_>]) -> Self {
        let tile = tile_for(kernels, k, parts);
        Self::pack(arena, tile, k, depth_blocks(k, tile.depth_block), parts)
    }

    /// The same with a fixed number of depth blocks, a divisor of `k`: a convolution has one for each row of its window.
    pub fn in_blocks(arena: &mut Arena, kernels: &Kernels, k: usize, blocks: usize, parts: &[Part<'_>]) -> Self {
        Self::pack(arena, tile_for(kernels, k, parts), k, blocks, parts)
    }

    fn pack(arena: &mut Arena, tile: &'static Tile, k: usize, blocks: usize, parts: &[Part<'_>]) -> Self {
        let (width, padded) = (tile.panel_width, |part: &Part<'_>| part.columns(k));
        let columns = parts.iter().map(padded).sum();
        let panels = arena.store(k * columns, |mut rest| {
            for part in parts {
                let (panels, after) = rest.split_at_mut(k * padded(part));
                gemm::pack(part.weight, part.weight.len() / k, k, width, panels);
                scale(panels, part.scale);
                rest = after;
            }
        });
        Self { panels, bias: pack_bias(arena, k, parts), depth: k / blocks, blocks, tile, columns }
    }

    /// The whole depth.
    fn k(&self) -> usize {
        self.depth * self.blocks
    }

    /// The work of panel `p` on `input`, written to `out` (the first row, at the first column of the *layer*).
    ///
    /// # Safety
    /// `out` has `input.rows` rows of `columns` floats, `out_stride` apart.
    unsafe fn task(&self, p: usize, input: Operand<'_>, out: *mut f32, out_stride: usize, how: Epilogue) -> PanelTask {
        let last = (input.rows.max(1) - 1) * input.stride + (self.blocks - 1) * input.block + self.depth;
        assert!(
            last <= input.data.len() && (p + 1) * self.tile.panel_width <= self.columns,
            "linear layer out of bounds"
        );
        PanelTask {
            a: input.data.as_ptr(),
            a_stride: input.stride,
            a_block: input.block,
            rows: input.rows,
            b: self.panel(p).as_ptr(),
            depth: self.depth,
            blocks: self.blocks,
            bias: self.bias[p * self.tile.panel_width..].as_ptr(),
            // SAFETY: the panel's first column lies inside the row, as asserted.
            out: unsafe { out.add(p * self.tile.panel_width) },
            out_stride,
            accumulate: how.accumulate,
            activation: how.activation,
            next: std::ptr::null(),
            next_len: 0,
        }
    }

    fn panel(&self, p: usize) -> &[f32] {
        let len = self.k() * self.tile.panel_width;
        &self.panels[p * len..][..len]
    }

    /// The panels that cover `columns`, which start and end with a part of the layer.
    fn panels_of(&self, columns: Range<usize>) -> Range<usize> {
        columns.start / self.tile.panel_width..columns.end / self.tile.panel_width
    }
}

impl PackedHalf {
    /// Packs `parts` (each `[n, k]`) side by side for `kernels`.
    ///
    /// # Errors
    /// The first weight, as it would have been packed, that 16 bits do not hold.
    pub fn new(arena: &mut Arena, kernels: &'static HalfKernels, k: usize, parts: &[Part<'_>]) -> Result<Self, f32> {
        let (width, depth) = (kernels.panel_width, k.next_multiple_of(STEPS));
        let columns = parts.iter().map(|part| part.columns(k)).sum();
        let mut unfit = None;
        let panels = arena.store(depth * columns / 2, |mut rest| {
            let mut single = Vec::new();
            for part in parts {
                single.clear();
                single.resize(k * part.columns(k), 0.0);
                gemm::pack(part.weight, part.weight.len() / k, k, width, &mut single);
                scale(&mut single, part.scale);
                unfit = unfit.or_else(|| single.iter().copied().find(|&w| !f16::from_f32(w).is_finite()));
                let (panels, after) = rest.split_at_mut(depth * part.columns(k) / 2);
                // The steps from `k` to `depth` stay zero.
                let pairs = single.chunks_exact(k * width).zip(panels.chunks_exact_mut(depth * width / 2));
                for (single, halves) in pairs {
                    single.chunks_exact(2).zip(halves).for_each(|(pair, out)| *out = two_in_one([pair[0], pair[1]]));
                }
                rest = after;
            }
        });
        match unfit {
            Some(weight) => Err(weight),
            None => Ok(Self { panels, bias: pack_bias(arena, k, parts), k, kernels, columns }),
        }
    }

    /// The inputs, and zeros to whole registers.
    fn depth(&self) -> usize {
        self.k.next_multiple_of(STEPS)
    }

    fn panel(&self, p: usize) -> &[f32] {
        let len = self.depth() * self.kernels.panel_width / 2;
        &self.panels[p * len..][..len]
    }
}

/// Two floats, rounded to 16 bits, in the bits of one, in the order of memory.
fn two_in_one(pair: [f32; 2]) -> f32 {
    let [[a, b], [c, d]] = pair.map(|x| f16::from_f32(x).to_ne_bytes());
    f32::from_ne_bytes([a, b, c, d])
}

/// The biases of `parts`, each scaled as its weights; zero where there is none.
fn pack_bias(arena: &mut Arena, k: usize, parts: &[Part<'_>]) -> Block {
    let columns = parts.iter().map(|part| part.columns(k)).sum();
    arena.store(columns, |bias| {
        let mut at = 0;
        for part in parts {
            if let Some(values) = part.bias {
                bias[at..at + values.len()].copy_from_slice(values);
                scale(&mut bias[at..at + values.len()], part.scale);
            }
            at += part.columns(k);
        }
    })
}

fn tile_for(kernels: &Kernels, k: usize, parts: &[Part<'_>]) -> &'static Tile {
    kernels.tile(parts.iter().map(|part| part.columns(k)))
}

fn scale(values: &mut [f32], by: f32) {
    if by != 1.0 {
        values.iter_mut().for_each(|v| *v *= by);
    }
}

/// The smallest number of equal blocks that are not much deeper than `preferred`; 1 where `k` has no such divisor.
fn depth_blocks(k: usize, preferred: usize) -> usize {
    (1..=64).find(|&blocks| k.is_multiple_of(blocks) && k / blocks <= preferred + preferred / 4).unwrap_or(1)
}

/// A product to be run, whatever its weights are held in.
struct Product<'a> {
    columns: Range<usize>,
    input: View<'a>,
    out: ViewMut<'a>,
    how: Epilogue,
    next: Option<&'a Linear>,
}

/// What the thread that runs `item` reads next: one of the layer's own panels, which `own` gives, or the first of the layer after it.
fn ahead<'a>(item: &Item, threads: usize, own: impl Fn(usize) -> &'a [f32], next: Option<&'a Linear>) -> &'a [f32] {
    match (item.next, next) {
        (Some(p), _) => own(p),
        (None, Some(next)) => next.first_panel(item.thread, threads),
        (None, None) => &[],
    }
}

impl Exec {
    /// `out = epilogue(input · w)`, panels in parallel. `next` is the layer after this one: its weights are prefetched.
    pub fn linear(&mut self, w: &Linear, input: View<'_>, out: ViewMut<'_>, how: Epilogue, next: Option<&Linear>) {
        self.linear_columns(w, 0..w.columns(), input, out, how, next);
    }

    /// The same for the columns of one or more parts of the layer; the others are left as they are.
    pub fn linear_columns(
        &mut self,
        w: &Linear,
        columns: Range<usize>,
        input: View<'_>,
        out: ViewMut<'_>,
        how: Epilogue,
        next: Option<&Linear>,
    ) {
        let product = Product { columns, input, out, how, next };
        match w {
            Linear::Single(w) => self.single(w, product),
            Linear::Half(w) => self.half(w, product),
        }
    }

    fn single(&mut self, w: &Packed, Product { columns, input, out, how, next }: Product<'_>) {
        let rows = out.data.len() / out.stride;
        assert!(out.stride >= columns.end && rows * input.stride <= input.data.len(), "linear layer out of bounds");
        #[cfg(test)]
        (self.macs += rows * w.k() * columns.len());
        let operand = Operand { data: input.data, rows, stride: input.stride, block: w.depth };
        let panels = w.panels_of(columns);
        let (threads, kernel) = (self.pool.threads(), w.tile.panel);
        let (out, out_stride) = (Shared(out.data.as_mut_ptr()), out.stride);
        self.pool.run(panels.len(), |item| {
            // SAFETY: `out` holds `rows` rows, each at least `columns.end` wide.
            let mut task = unsafe { w.task(panels.start + item.index, operand, out.get(), out_stride, how) };
            let ahead = ahead(&item, threads, |p| w.panel(panels.start + p), next);
            (task.next, task.next_len) = (ahead.as_ptr(), ahead.len());
            // SAFETY: the pointers are valid as checked; each item writes its own columns; the CPU has the kernel's set.
            unsafe { kernel(&task) }
        });
    }

    /// The same with products in 16 bits: all rows are rounded first, once for all panels.
    fn half(&mut self, w: &PackedHalf, Product { columns, input, out, how, next }: Product<'_>) {
        let rows = out.data.len() / out.stride;
        assert!(columns.end <= w.columns.min(out.stride), "linear layer out of bounds");
        #[cfg(test)]
        (self.macs += rows * w.k * columns.len());
        let (depth, width) = (w.depth(), w.kernels.panel_width);
        let a = self.rounded(w, input, rows);
        let panels = columns.start / width..columns.end / width;
        let (threads, kernel) = (self.pool.threads(), w.kernels.panel);
        let (out, out_stride) = (Shared(out.data.as_mut_ptr()), out.stride);
        self.pool.run(panels.len(), |item| {
            let p = panels.start + item.index;
            let ahead = ahead(&item, threads, |p| w.panel(panels.start + p), next);
            // SAFETY: `out` holds `rows` rows, each at least `columns.end` wide, `a` as many of `depth`; each item writes its own columns;
            // the CPU has the kernel's set.
            unsafe {
                kernel(&HalfTask {
                    a: a.get().cast(),
                    a_stride: depth,
                    rows,
                    b: w.panel(p).as_ptr().cast(),
                    depth,
                    bias: w.bias[p * width..][..width].as_ptr(),
                    out: out.get().add(p * width),
                    out_stride,
                    accumulate: how.accumulate,
                    activation: how.activation,
                    next: ahead.as_ptr(),
                    next_len: ahead.len(),
                });
            }
        });
    }

    /// `rows` rows of `input` in 16 bits, each as deep as the panels of `w`.
    fn rounded(&mut self, w: &PackedHalf, input: View<'_>, rows: usize) -> Shared {
        assert!(w.k <= input.stride && rows * input.stride <= input.data.len(), "linear layer out of bounds");
        let (depth, round) = (w.depth(), w.kernels.round);
        let halves = Shared(self.halves(rows * depth).as_mut_ptr());
        let groups = (4 * self.pool.threads()).min(rows);
        self.pool.run(groups, |item| {
            for i in share(rows, item.index, groups) {
                // SAFETY: the input's row holds at least `k` floats; row `i` of the output lies inside `halves` and belongs to this item
                // alone; the CPU has the kernel's set.
                unsafe { round(input.row(i).as_ptr(), w.k, halves.get().cast::<f16>().add(i * depth), depth) };
            }
        });
        halves
    }

    /// A convolution over an image in rows of pixels, `[height, width, channels]`, as products over overlapping windows: output row
    /// `y` of `out_rows` reads the rows of `image` from `y · step` on, and is written to `out` at `y · out_step + out_start`.
    pub fn convolution(&mut self, w: &Packed, image: &ImageRows<'_>, out: &mut [f32], target: &ImageTarget) {
        let end = (target.rows.max(1) - 1) * target.row_stride + target.start + image.windows * target.stride;
        assert!(end <= out.len() + (target.stride - w.columns), "convolution out of bounds");
        #[cfg(test)]
        (self.macs += target.rows * image.windows * w.k() * w.columns);
        let kernel = w.tile.panel;
        let out = Shared(out.as_mut_ptr());
        self.pool.run(target.rows, |item| {
            let data = &image.data[item.index * image.step..];
            let operand = Operand { data, rows: image.windows, stride: image.stride, block: image.block };
            for p in 0..w.columns / w.tile.panel_width {
                // SAFETY: the output row lies inside `out`, as asserted; each item writes its own row; the CPU has the set.
                unsafe {
                    let row = out.get().add(item.index * target.row_stride + target.start);
                    kernel(&w.task(p, operand, row, target.stride, Epilogue::RELU));
                }
            }
        });
    }
}

/// How a convolution's windows lie in its input.
pub struct ImageRows<'a> {
    /// The padded image.
    pub data: &'a [f32],
    /// Windows in an output row.
    pub windows: usize,
    /// Floats from an output row's first window to the next row's.
    pub step: usize,
    /// Floats from a window to the next one.
    pub stride: usize,
    /// Floats from a window's row to its next row.
    pub block: usize,
}

/// Where a convolution's output goes.
pub struct ImageTarget {
    /// Output rows.
    pub rows: usize,
    /// Floats before the first row's first pixel.
    pub start: usize,
    /// Floats from a row to the next.
    pub row_stride: usize,
    /// Floats from a pixel to the next.
    pub stride: usize,
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
