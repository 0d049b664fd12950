//! The two stages of CF-ViT, step by step as in section 3 of the paper (arXiv 2203.03821), with the savings that do not change
//! the result: in DeiT's last block only the rows that somebody reads, patches and reused features only for informative cells.
//! Each step is taken for several images at once: the weights then pass through the caches once for all of them.

use half::f16;

use super::cost;
use super::exec::Exec;
use super::fp16::{self, HalfKernels, SUM};
use super::kernels::{Kernels, WIDEST_PANEL};
use super::linear::Epilogue;
use super::memory::{Matrix, View};
use super::pool::Pool;
use super::trunk::{Rows, Size, Stage, Trunk};
use super::weights::Weights;
use crate::engine::{Engine, FineFrame, check_choice, check_image};
use crate::error::{Error, Kind, Result};
use crate::frame::{Choice, CoarseOutput};
use crate::gather::fine_patches;
use crate::model::onnx::Precision;
use crate::model::{AUX_HEAD_WEIGHT, Family, Geometry, LVVIT_COARSE_DIVISOR, Macs, Model};

/// The most images of one pass. More gain nothing: at 8 times 50 rows the arithmetic hides the loads of the weights.
const MAX_IMAGES: usize = 8;
/// The fine stage takes so many of them at a time: beyond 250 rows what a layer leaves no longer stays in the L2 cache until the next one
/// reads it, and 8 images at once took 9 % longer than one by one.
const FINE_IMAGES: usize = 2;

/// Both stages on the CPU.
pub struct CpuEngine {
    geometry: Geometry,
    weights: Weights,
    trunk: Trunk,
    memory: Memory,
    /// What computes the large layers' products, where that is not 32-bit floats.
    half: Option<&'static HalfKernels>,
    /// The static baseline's, once it has been asked for.
    full: Option<Stage>,
    /// Patches to embed, image after image, in row order.
    patches: Vec<u32>,
    /// How many images the last coarse pass has left its features of.
    ready: usize,
}

/// The activations, for up to `coarse.images` images.
struct Memory {
    coarse: Stage,
    fine: Stage,
    /// `E1`, `[1 + g², C]` an image: the coarse tokens before any block.
    embedding: Matrix,
    /// `F` of patch rows: LV-ViT all of an image, `[g², C]`; DeiT the informative ones, `[k, C]`, in the fine stage.
    features: Matrix,
    /// Normed rows of the reuse block, its hidden layer, and its result, `[k, C]` an image.
    reuse: [Matrix; 3],
    /// `[classes]` an image.
    logits: Matrix,
}

impl Memory {
    fn new(geometry: &Geometry, weights: &Weights, images: usize) -> Self {
        let padded = |n: usize| n.next_multiple_of(WIDEST_PANEL);
        let (cells, chosen, width) = (geometry.cells(), geometry.informative(), padded(geometry.width));
        let coarse = Size { images, tokens: geometry.coarse_tokens(), side: geometry.coarse_side(), patches: cells };
        let fine_images = images.min(FINE_IMAGES);
        let fine = Size {
            images: fine_images,
            tokens: geometry.fine_tokens(),
            side: geometry.fine_side(),
            patches: 4 * chosen,
        };
        Self {
            coarse: Stage::new(geometry, weights, coarse),
            fine: Stage::new(geometry, weights, fine),
            embedding: Matrix::new(images * geometry.coarse_tokens(), width),
            features: Matrix::new(images * cells, width),
            reuse: [width, padded(geometry.hidden), width].map(|columns| Matrix::new(fine_images * chosen, columns)),
            logits: Matrix::new(images, padded(geometry.classes)),
        }
    }
}

impl CpuEngine {
    /// Packs `model` for the best instruction set of this CPU; `threads` compute.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong size, or the system refuses a thread.
    pub fn new(model: Model, threads: usize) -> Result<Self> {
        Self::with_kernels(model, threads, super::kernels::supported()[0], None)
    }

    /// The same with the products of the blocks' layers, the reuse block's and the projection of patches in 16-bit floats: see `fp16.rs`.
    /// Everything between them stays in 32 bits.
    ///
    /// # Errors
    /// [`Kind::Usage`] on a CPU without 16-bit arithmetic; [`Kind::Model`] also where a weight does not fit 16 bits.
    pub fn new_half(model: Model, threads: usize) -> Result<Self> {
        let kernels = super::kernels::supported()[0];
        let Some(half) = fp16::supported() else {
            let message = format!(
                "precision fp16: expected a processor that computes in 16-bit floats (aarch64 with FEAT_FP16, such as those of Jetson Xavier and Orin), \
                 found {} with {} only: leave --precision (or model.precision) at fp32",
                std::env::consts::ARCH,
                kernels.name
            );
            return Err(Error::new(Kind::Usage, message));
        };
        Self::with_kernels(model, threads, kernels, Some(half))
    }

    /// The same for given instruction sets, which the CPU must have.
    pub(super) fn with_kernels(
        model: Model,
        threads: usize,
        kernels: &'static Kernels,
        half: Option<&'static HalfKernels>,
    ) -> Result<Self> {
        let geometry = model.geometry;
        let weights = Weights::new(model.tensors, &geometry, kernels, half)?;
        let pool = Pool::new(threads);
        let pool = pool.map_err(|e| Error::caused(Kind::Engine, format!("cannot start {threads} threads"), e))?;
        let exec = Exec::new(pool, kernels, geometry.full_tokens(), geometry.head_dim());
        Ok(Self {
            trunk: Trunk::new(exec, &geometry),
            memory: Memory::new(&geometry, &weights, 1),
            half,
            full: None,
            patches: Vec::with_capacity(4 * geometry.cells()),
            ready: 0,
            geometry,
            weights,
        })
    }

    /// That no 16-bit number left its range on the way to `logits`: infinities and what follows from them reach every logit.
    fn check_range(&self, logits: &[f32]) -> Result<()> {
        if self.half.is_none() || logits.iter().all(|x| x.is_finite()) {
            return Ok(());
        }
        let message = format!(
            "an activation or a sum left the range of 16-bit floats, ±{}: run this model with --precision fp32",
            f16::MAX
        );
        Err(Error::new(Kind::Engine, message))
    }

    /// Multiply-accumulates since the last call.
    #[cfg(test)]
    pub(super) fn counted_macs(&mut self) -> u64 {
        std::mem::take(&mut self.trunk.exec.macs) as u64
    }

    /// The fine stage of at most [`FINE_IMAGES`] checked frames.
    fn fine_pass(&mut self, frames: &[FineFrame<'_>], logits: &mut [Vec<f32>]) {
        if self.geometry.family == Family::Deit {
            self.finish_coarse(frames);
        }
        self.reuse_features(frames);
        let (grid, per_frame) = (self.geometry.grid as u32, 4 * self.geometry.informative());
        let informative = frames.iter().flat_map(|frame| &frame.choice.informative);
        self.patches.clear();
        self.patches.extend(informative.flat_map(|&cell| fine_patches(cell, grid)));
        self.lay_out_fine_tokens(frames);
        for (at, frame) in frames.iter().enumerate() {
            let patches = &self.patches[at * per_frame..][..per_frame];
            let (weights, patch) = (&self.weights, self.geometry.patch);
            self.trunk.embed(weights, patch, &mut self.memory.fine, at, frame.image, patches);
        }
        self.fine_logits(logits);
    }

    /// DeiT's last block and the final norm for the informative rows of the coarse pass, which stopped at the cls rows: their
    /// features, frame after frame, in the order of the cells.
    fn finish_coarse(&mut self, frames: &[FineFrame<'_>]) {
        let Some(block) = self.weights.blocks.last() else { return };
        let (trunk, Memory { coarse, fine, features, .. }) = (&mut self.trunk, &mut self.memory);
        let (k, tokens) = (self.geometry.informative(), coarse.tokens);
        let rows = frames.len() * k;
        let source = |i: usize| {
            let FineFrame { slot, choice, .. } = frames[i / k];
            slot * tokens + 1 + choice.informative[i % k] as usize
        };
        trunk.exec.for_rows(fine.x.rows_mut(0..rows), |i, row| row.copy_from_slice(coarse.x.row(source(i))));
        trunk.exec.for_rows(fine.normed.rows_mut(0..rows), |i, row| row.copy_from_slice(coarse.normed.row(source(i))));
        trunk.queries(block, fine, Rows::First(rows));
        for (i, frame) in frames.iter().enumerate() {
            let first = frame.slot * tokens;
            trunk.attend_to(fine, i * k..(i + 1) * k, coarse.qkv.rows(first..first + tokens));
        }
        trunk.project_and_mlp(block, fine, Rows::First(rows), Some(&self.weights.reuse.1));
        trunk.exec.layer_norm(&self.weights.norm, fine.x.rows(0..rows), features.rows_mut(0..rows));
    }

    /// `R = reuse_block(F)` for the informative cells of each frame, into `reuse[2]`.
    fn reuse_features(&mut self, frames: &[FineFrame<'_>]) {
        let (k, cells) = (self.geometry.informative(), self.geometry.cells());
        let rows = frames.len() * k;
        let (norm, fc1, fc2) = &self.weights.reuse;
        let Memory { features, reuse: [normed, hidden, reused], .. } = &mut self.memory;
        let exec = &mut self.trunk.exec;
        match self.geometry.family {
            Family::Deit => exec.layer_norm(norm, features.rows(0..rows), normed.rows_mut(0..rows)),
            Family::Lvvit => {
                // Every row's feature is there; take the informative ones.
                exec.for_rows(reused.rows_mut(0..rows), |i, row| {
                    let FineFrame { slot, choice, .. } = frames[i / k];
                    row.copy_from_slice(features.row(slot * cells + choice.informative[i % k] as usize));
                });
                exec.layer_norm(norm, reused.rows(0..rows), normed.rows_mut(0..rows));
            }
        }
        exec.linear(fc1, normed.rows(0..rows), hidden.rows_mut(0..rows), Epilogue::GELU, Some(fc2));
        let next = self.weights.embedding.layer();
        exec.linear(fc2, hidden.rows(0..rows), reused.rows_mut(0..rows), Epilogue::STORE, Some(next));
    }

    /// The fine sequences before the patch embedding is added: positions and reused features for the fine tokens, the kept coarse
    /// tokens as they were.
    fn lay_out_fine_tokens(&mut self, frames: &[FineFrame<'_>]) {
        let (positions, cls, patches) = (&self.weights.positions[1], &self.weights.cls, &self.patches);
        let Memory { coarse, fine, embedding, reuse: [.., reused], .. } = &mut self.memory;
        let (tokens, fine_tokens) = (fine.tokens, 4 * self.geometry.informative());
        self.trunk.exec.for_rows(fine.x.rows_mut(0..frames.len() * tokens), |i, row| match (i / tokens, i % tokens) {
            (_, 0) => sum(row, positions.row(0), cls),
            (at, i) if i <= fine_tokens => {
                let fine = at * fine_tokens + i - 1;
                sum(row, positions.row(1 + patches[fine] as usize), reused.row(fine / 4));
            }
            (at, i) => {
                let FineFrame { slot, choice, .. } = frames[at];
                row.copy_from_slice(
                    embedding.row(slot * coarse.tokens + 1 + choice.kept[i - 1 - fine_tokens] as usize),
                );
            }
        });
    }

    /// The head(s) over the cls rows of the first images of a stage; `F` of LV-ViT's patch rows is in `features` or `fine.normed` already.
    fn logits(&mut self, coarse: bool, at: usize, logits: &mut Vec<f32>) {
        let classes = self.geometry.classes;
        let Memory { coarse: first, fine, features, logits: heads, .. } = &mut self.memory;
        logits.clear();
        logits.extend_from_slice(&heads.row(at)[..classes]);
        let stage = if coarse { first } else { fine };
        let (Some(head), Some(aux)) = (&self.weights.aux_head, &mut stage.aux) else { return };
        let (patches, tokens) = (stage.tokens - 1, stage.tokens);
        let features = match coarse {
            true => features.rows(at * patches..(at + 1) * patches),
            false => stage.normed.rows(at * tokens + 1..(at + 1) * tokens),
        };
        self.trunk.exec.linear(head, features, aux.rows_mut(0..patches), Epilogue::STORE, None);
        if self.half.is_some() && !aux.rows(0..patches).data.iter().all(|x| x.is_finite()) {
            // The largest of a class would pass over what is no number; `check_range` must see it.
            return logits.fill(f32::NAN);
        }
        add_largest(logits, aux.rows(0..patches));
        if coarse {
            logits.iter_mut().for_each(|x| *x /= LVVIT_COARSE_DIVISOR);
        }
    }

    /// The final norm and the head over the cls rows of a stage's first images, into `memory.logits`.
    fn cls_logits(&mut self, coarse: bool, images: usize) {
        let Memory { coarse: first, fine, logits, .. } = &mut self.memory;
        let (Stage { tokens, x, normed, .. }, rows) = (if coarse { first } else { fine }, Rows::Cls(images));
        let exec = &mut self.trunk.exec;
        exec.layer_norm(&self.weights.norm, rows.of(x, *tokens), rows.of_mut(normed, *tokens));
        exec.linear(&self.weights.head, rows.of(normed, *tokens), logits.rows_mut(0..images), Epilogue::STORE, None);
    }

    /// All blocks and the heads over the laid-out sequences of the fine stage (or of the static one in its place).
    fn fine_logits(&mut self, logits: &mut [Vec<f32>]) {
        let (images, family) = (logits.len(), self.geometry.family);
        self.trunk.blocks(&self.weights, family, &mut self.memory.fine, images, false);
        if family == Family::Lvvit {
            let Stage { tokens, x, normed, .. } = &mut self.memory.fine;
            let rows = 0..images * *tokens;
            self.trunk.exec.layer_norm(&self.weights.norm, x.rows(rows.clone()), normed.rows_mut(rows));
        }
        self.cls_logits(false, images);
        for (at, logits) in logits.iter_mut().enumerate() {
            self.logits(false, at, logits);
        }
    }
}

/// That a pass is asked for as many results as images, and for no more than there is room for.
fn check_batch(images: usize, results: usize, most: usize) -> Result<()> {
    if (1..=most).contains(&images) && results == images {
        return Ok(());
    }
    let message = format!("a batch of {images} images with {results} results, expected equally many, from 1 to {most}");
    Err(Error::new(Kind::Engine, message))
}

impl Engine for CpuEngine {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn coarse(&mut self, image: &[f32], output: &mut CoarseOutput) -> Result<()> {
        self.coarse_batch(&[image], std::slice::from_mut(output))
    }

    fn fine(&mut self, image: &[f32], choice: &Choice, logits: &mut Vec<f32>) -> Result<()> {
        self.fine_batch(&[FineFrame { slot: 0, image, choice }], std::slice::from_mut(logits))
    }

    fn max_batch(&self) -> usize {
        MAX_IMAGES
    }

    fn for_each(&mut self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        self.trunk.exec.pool.run(jobs, |item| job(item.index));
    }

    fn coarse_batch(&mut self, images: &[&[f32]], outputs: &mut [CoarseOutput]) -> Result<()> {
        check_batch(images.len(), outputs.len(), MAX_IMAGES)?;
        images.iter().try_for_each(|image| check_image(image, self.geometry.coarse_side()))?;
        let (n, cells, tokens) = (images.len(), self.geometry.cells(), self.geometry.coarse_tokens());
        self.ready = 0;
        if n > self.memory.coarse.images {
            self.memory = Memory::new(&self.geometry, &self.weights, n);
            self.trunk.class_attention.resize(n, vec![0.0; tokens]);
        }
        self.patches.clear();
        self.patches.extend(0..cells as u32);
        let Memory { coarse, embedding, .. } = &mut self.memory;
        let (positions, cls) = (&self.weights.positions[0], &self.weights.cls);
        self.trunk.exec.for_rows(coarse.x.rows_mut(0..n * tokens), |i, row| match i % tokens {
            0 => sum(row, positions.row(0), cls),
            i => row.copy_from_slice(positions.row(i)),
        });
        for (at, image) in images.iter().enumerate() {
            self.trunk.embed(&self.weights, self.geometry.patch, coarse, at, image, &self.patches);
        }
        let x = &coarse.x;
        self.trunk.exec.for_rows(embedding.rows_mut(0..n * tokens), |i, row| row.copy_from_slice(x.row(i)));
        self.trunk.blocks(&self.weights, self.geometry.family, coarse, n, true);
        if self.geometry.family == Family::Lvvit {
            let Memory { coarse, features, .. } = &mut self.memory;
            for at in 0..n {
                let rows = coarse.x.rows(at * tokens + 1..(at + 1) * tokens);
                self.trunk.exec.layer_norm(&self.weights.norm, rows, features.rows_mut(at * cells..(at + 1) * cells));
            }
        }
        self.cls_logits(true, n);
        for (at, output) in outputs.iter_mut().enumerate() {
            self.logits(true, at, &mut output.logits);
            output.class_attention.clear();
            output.class_attention.extend_from_slice(&self.trunk.class_attention[at][1..]);
        }
        outputs.iter().try_for_each(|output| self.check_range(&output.logits))?;
        self.ready = n;
        Ok(())
    }

    fn fine_batch(&mut self, frames: &[FineFrame<'_>], logits: &mut [Vec<f32>]) -> Result<()> {
        for frame in frames {
            check_image(frame.image, self.geometry.fine_side())?;
            check_choice(frame.choice, &self.geometry)?;
        }
        if frames.iter().any(|frame| frame.slot >= self.ready) {
            return Err(Error::new(Kind::Engine, "a fine pass needs the coarse pass of the same frame before it"));
        }
        check_batch(frames.len(), logits.len(), self.ready)?;
        for (frames, logits) in frames.chunks(FINE_IMAGES).zip(logits.chunks_mut(FINE_IMAGES)) {
            self.fine_pass(frames, logits);
        }
        logits.iter().try_for_each(|logits| self.check_range(logits))
    }

    fn full(&mut self, image: &[f32], logits: &mut Vec<f32>) -> Result<()> {
        check_image(image, self.geometry.fine_side())?;
        let (tokens, patches) = (self.geometry.full_tokens(), 4 * self.geometry.cells());
        let size = Size { images: 1, tokens, side: self.geometry.fine_side(), patches };
        let full = self.full.take().unwrap_or_else(|| Stage::new(&self.geometry, &self.weights, size));
        self.patches.clear();
        self.patches.extend(0..patches as u32);
        // The same steps as the fine stage's, on a longer sequence: its activations take the fine stage's place meanwhile.
        let fine = std::mem::replace(&mut self.memory.fine, full);
        let (positions, cls) = (&self.weights.positions[1], &self.weights.cls);
        self.trunk.exec.for_rows(self.memory.fine.x.rows_mut(0..tokens), |i, row| match i {
            0 => sum(row, positions.row(0), cls),
            _ => row.copy_from_slice(positions.row(i)),
        });
        self.trunk.embed(&self.weights, self.geometry.patch, &mut self.memory.fine, 0, image, &self.patches);
        self.fine_logits(std::slice::from_mut(logits));
        self.full = Some(std::mem::replace(&mut self.memory.fine, fine));
        self.check_range(logits)
    }

    fn executed_macs(&self) -> Macs {
        cost::executed_macs(&self.geometry)
    }

    fn peak_flops(&mut self, rounds: u64) -> Option<u64> {
        let peak = self.half.map_or(&self.trunk.exec.kernels.peak, |half| &half.peak);
        Some(self.trunk.exec.peak_flops(peak, rounds))
    }

    fn precision(&self) -> &'static str {
        self.half.map_or(Precision::Fp32, |_| Precision::Fp16).as_str()
    }

    fn describe(&self) -> String {
        let (name, threads) = (self.trunk.exec.kernels.name, self.trunk.exec.pool.threads());
        match self.half {
            None => format!("CPU, {name}, {threads} threads, f32"),
            Some(half) => format!("CPU, {name}, {threads} threads, products in f16 ({}), else f32", half.name),
        }
    }

    // The number of threads changes who computes what, not the order of any sum.
    fn identity(&self) -> String {
        let name = self.trunk.exec.kernels.name;
        match self.half {
            None => format!("cpu f32 {name}"),
            Some(half) => format!("cpu f16 in sums of {SUM} {}, f32 {name}", half.name),
        }
    }
}

/// `out = a + b`; what `b` lacks counts as zero.
fn sum(out: &mut [f32], a: &[f32], b: &[f32]) {
    out.copy_from_slice(a);
    out.iter_mut().zip(b).for_each(|(out, b)| *out += b);
}

/// LV-ViT's auxiliary term: `logits += 0.25 · max over rows`, per class.
fn add_largest(logits: &mut [f32], aux: View<'_>) {
    let rows = aux.data.chunks_exact(aux.stride);
    for (class, logit) in logits.iter_mut().enumerate() {
        let largest = rows.clone().map(|row| row[class]).fold(f32::NEG_INFINITY, f32::max);
        *logit += AUX_HEAD_WEIGHT * largest;
    }
}
