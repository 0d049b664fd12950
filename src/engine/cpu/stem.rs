//! LV-ViT's convolution stem: three convolutions with folded batch norms, then non-overlapping patches of their output.
//!
//! Activations lie as rows of pixels with their channels together and a border of zeros, so that a window's row is one run
//! of floats and every convolution is a plain product over overlapping windows, without im2col.

use super::exec::Exec;
use super::kernels::WIDEST_PANEL;
use super::linear::{ImageRows, ImageTarget, Linear, Packed, Part};
use super::memory::{Buffer, ViewMut};
use super::weights::Packer;
use crate::error::Result;
use crate::model::{Geometry, batch_norm};

/// Window of the first convolution (stride 2, zero border of half a window).
const FIRST: usize = 7;
/// Window of the second and third convolution (stride 1, zero border of 1).
const NEXT: usize = 3;

/// The stem's weights.
pub struct Stem {
    convolutions: [Packed; 3],
    /// The last convolution: `[C, (P/2)²·channels]`, a product over patches.
    pub proj: Linear,
    /// Channels inside, padded.
    channels: usize,
}

/// One stage's activations inside the stem.
pub struct StemBuffers {
    /// Side of the image.
    side: usize,
    /// `[side + 6, side + 6, 3]`
    image: Buffer,
    /// `[side/2 + 2, side/2 + 2, channels]`, two of them in turn.
    maps: [Buffer; 2],
}

impl Stem {
    /// Packs `patch_embed.*`.
    ///
    /// # Errors
    /// When a tensor is missing or has another size.
    pub fn new(packer: &mut Packer<'_>, geometry: &Geometry) -> Result<Self> {
        let &Geometry { stem, width, patch, .. } = geometry;
        let convolutions = [
            convolution(packer, 1, stem, 3, 3, FIRST)?,
            convolution(packer, 2, stem, stem, padded(stem), NEXT)?,
            convolution(packer, 3, stem, stem, padded(stem), NEXT)?,
        ];
        let half = patch / 2;
        let weight = packer.take("patch_embed.proj.weight", width * stem * half * half)?;
        let bias = packer.take("patch_embed.proj.bias", width)?;
        let weight = channels_last(&weight.data, stem, padded(stem), half);
        let part = Part { weight: &weight, bias: Some(&bias.data), scale: 1.0 };
        let proj = packer.layer("patch_embed.proj", half * half * padded(stem), &[part])?;
        Ok(Self { convolutions, proj, channels: padded(stem) })
    }

    /// Activations for images of `side`.
    pub fn buffers(&self, side: usize) -> StemBuffers {
        let map = || Buffer::new((side / 2 + 2).pow(2) * self.channels);
        StemBuffers { side, image: Buffer::new((side + FIRST - 1).pow(2) * 3), maps: [map(), map()] }
    }

    /// Runs the three convolutions over `image` (`[3, side, side]`).
    pub fn run(&self, exec: &mut Exec, image: &[f32], buffers: &mut StemBuffers) {
        let StemBuffers { side, image: padded, maps: [a, b] } = buffers;
        let (side, half, channels) = (*side, *side / 2, self.channels);
        interleave(exec, image, side, padded);
        let line = 3 * (side + FIRST - 1);
        let row = (half + 2) * channels;
        let target = ImageTarget { rows: half, start: row + channels, row_stride: row, stride: channels };
        let first = ImageRows { data: padded, windows: half, step: 2 * line, stride: 6, block: line };
        exec.convolution(&self.convolutions[0], &first, a, &target);
        let next = ImageRows { data: a, windows: half, step: row, stride: channels, block: row };
        exec.convolution(&self.convolutions[1], &next, b, &target);
        let next = ImageRows { data: b, ..next };
        exec.convolution(&self.convolutions[2], &next, a, &target);
    }

    /// Gathers `patches` (indices into the grid of `P × P` patches) of the last map into rows of `out`.
    pub fn gather(&self, exec: &mut Exec, buffers: &StemBuffers, patch: usize, patches: &[u32], out: ViewMut<'_>) {
        let half = patch / 2;
        let (run, row) = (half * self.channels, (buffers.side / 2 + 2) * self.channels);
        let grid = buffers.side / patch;
        let map = &buffers.maps[0];
        exec.for_rows(out, |i, out| {
            let (y, x) = (patches[i] as usize / grid, patches[i] as usize % grid);
            let start = (y * half + 1) * row + (x * half + 1) * self.channels;
            for (dy, out) in out.chunks_exact_mut(run).take(half).enumerate() {
                out.copy_from_slice(&map[start + dy * row..][..run]);
            }
        });
    }
}

fn padded(channels: usize) -> usize {
    channels.next_multiple_of(WIDEST_PANEL)
}

/// Planes to pixels: `[3, side, side]` into the inside of `[side + 6, side + 6, 3]`.
fn interleave(exec: &mut Exec, image: &[f32], side: usize, out: &mut [f32]) {
    let (border, line) = (FIRST / 2, 3 * (side + FIRST - 1));
    let rows = ViewMut { data: &mut out[border * line..(border + side) * line], stride: line };
    exec.for_rows(rows, |y, row| {
        for (x, pixel) in row[3 * border..].chunks_exact_mut(3).take(side).enumerate() {
            for (channel, value) in pixel.iter_mut().enumerate() {
                *value = image[(channel * side + y) * side + x];
            }
        }
    });
}

/// `conv{i}` and `bn{i}` as one layer.
fn convolution(
    packer: &mut Packer<'_>,
    i: usize,
    out: usize,
    channels: usize,
    padded: usize,
    window: usize,
) -> Result<Packed> {
    let weight = packer.take(&format!("patch_embed.conv{i}.weight"), out * channels * window * window)?.data;
    let mut statistics = |name: &str| packer.take(&format!("patch_embed.bn{i}.{name}"), out).map(|t| t.data);
    let (gamma, beta) = (statistics("weight")?, statistics("bias")?);
    let (mean, variance) = (statistics("running_mean")?, statistics("running_var")?);
    let (weight, bias) = batch_norm::fold(&weight, [&gamma, &beta, &mean, &variance]);
    let weight = channels_last(&weight, channels, padded, window);
    let part = Part { weight: &weight, bias: Some(&bias), scale: 1.0 };
    Ok(Packed::in_blocks(&mut packer.arena, packer.kernels, window * window * padded, window, &[part]))
}

/// `[n, channels, window, window]` to `[n, window, window, padded]`.
fn channels_last(weight: &[f32], channels: usize, padded: usize, window: usize) -> Vec<f32> {
    let area = window * window;
    let mut out = vec![0.0; weight.len() / channels * padded];
    for (filter, out) in weight.chunks_exact(channels * area).zip(out.chunks_exact_mut(padded * area)) {
        for (channel, plane) in filter.chunks_exact(area).enumerate() {
            for (at, &w) in plane.iter().enumerate() {
                out[at * padded + channel] = w;
            }
        }
    }
    out
}
