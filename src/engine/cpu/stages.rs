//! The two stages of CF-ViT, step by step as in section 3 of the paper (arXiv 2203.03821), with the savings that do not change
//! the result: in DeiT's last block only the rows that somebody reads, patches and reused features only for informative cells.

use super::cost;
use super::exec::{Exec, Heads};
use super::kernels::{Kernels, WIDEST_PANEL};
use super::linear::{Epilogue, Linear};
use super::memory::{Matrix, View};
use super::pool::Pool;
use super::stem::StemBuffers;
use super::weights::{BlockWeights, Embedding, Weights};
use crate::engine::{Engine, check_choice, check_image};
use crate::error::{Error, Kind, Result};
use crate::frame::{Choice, CoarseOutput};
use crate::gather::fine_patches;
use crate::model::{
    ATTENTION_DECAY, AUX_HEAD_WEIGHT, FIRST_ATTENTION_BLOCK, Family, Geometry, LVVIT_COARSE_DIVISOR, Macs, Model,
};

/// Both stages on the CPU.
pub struct CpuEngine {
    geometry: Geometry,
    weights: Weights,
    trunk: Trunk,
    coarse: Stage,
    fine: Stage,
    /// The static baseline's, once it has been asked for.
    full: Option<Stage>,
    /// `E1`, `[1 + g², C]`: the coarse tokens before any block.
    embedding: Matrix,
    /// `F` of patch rows: LV-ViT all of them, `[g², C]`; DeiT the informative ones, `[k, C]`, in the fine stage.
    features: Matrix,
    /// Normed rows of the reuse block, its hidden layer, and its result, `[k, C]`.
    reuse: [Matrix; 3],
    logits: Matrix,
    /// Patches to embed, in row order.
    patches: Vec<u32>,
    /// Whether a coarse pass has left its features here.
    ready: bool,
}

/// What runs blocks: threads, kernels and the class attention's memory.
struct Trunk {
    exec: Exec,
    heads: Heads,
    /// `[heads, tokens]`: the cls row of one block's attention.
    cls_rows: Matrix,
    /// `[1 + g²]`: the moving average of the cls row over blocks, mean over heads.
    class_attention: Vec<f32>,
}

/// One stage's activations; rows are tokens.
struct Stage {
    tokens: usize,
    /// The residual stream.
    x: Matrix,
    normed: Matrix,
    qkv: Matrix,
    /// The attention's output.
    mixed: Matrix,
    hidden: Matrix,
    /// Flattened patches, the embedding's input.
    flat: Matrix,
    stem: Option<StemBuffers>,
    /// LV-ViT: `[tokens, classes]`.
    aux: Option<Matrix>,
}

impl CpuEngine {
    /// Packs `model` for the best instruction set of this CPU; `threads` compute.
    ///
    /// # Errors
    /// When a tensor is missing or has the wrong size, or the system refuses a thread.
    pub fn new(model: Model, threads: usize) -> Result<Self> {
        Self::with_kernels(model, threads, super::kernels::supported()[0])
    }

    /// The same for a given instruction set, which the CPU must have.
    pub(super) fn with_kernels(model: Model, threads: usize, kernels: &'static Kernels) -> Result<Self> {
        let geometry = model.geometry;
        let weights = Weights::new(model.tensors, &geometry, kernels)?;
        let pool = Pool::new(threads);
        let pool = pool.map_err(|e| Error::caused(Kind::Engine, format!("cannot start {threads} threads"), e))?;
        let exec = Exec::new(pool, kernels, geometry.full_tokens(), geometry.head_dim());
        let padded = |n: usize| n.next_multiple_of(WIDEST_PANEL);
        let (cells, chosen, width) = (geometry.cells(), geometry.informative(), padded(geometry.width));
        let heads = Heads { count: geometry.heads, dim: geometry.head_dim(), third: width };
        let trunk = Trunk {
            exec,
            heads,
            cls_rows: Matrix::new(geometry.heads, padded(geometry.coarse_tokens())),
            class_attention: vec![0.0; geometry.coarse_tokens()],
        };
        Ok(Self {
            trunk,
            coarse: Stage::new(&geometry, &weights, geometry.coarse_tokens(), geometry.coarse_side(), cells),
            fine: Stage::new(&geometry, &weights, geometry.fine_tokens(), geometry.fine_side(), 4 * chosen),
            full: None,
            embedding: Matrix::new(geometry.coarse_tokens(), width),
            features: Matrix::new(cells, width),
            reuse: [width, padded(geometry.hidden), width].map(|columns| Matrix::new(chosen, columns)),
            logits: Matrix::new(1, padded(geometry.classes)),
            patches: Vec::with_capacity(4 * cells),
            ready: false,
            geometry,
            weights,
        })
    }

    /// Multiply-accumulates since the last call.
    #[cfg(test)]
    pub(super) fn counted_macs(&mut self) -> u64 {
        std::mem::take(&mut self.trunk.exec.macs) as u64
    }

    /// DeiT's last block and the final norm for the informative rows of the coarse pass, which stopped at the cls row:
    /// their features, in the order of `cells`.
    fn finish_coarse(&mut self, cells: &[u32]) {
        let Some(block) = self.weights.blocks.last() else { return };
        let (trunk, coarse, fine) = (&mut self.trunk, &self.coarse, &mut self.fine);
        let k = cells.len();
        trunk.exec.for_rows(fine.x.rows_mut(0..k), |i, row| row.copy_from_slice(coarse.x.row(1 + cells[i] as usize)));
        trunk.exec.for_rows(fine.normed.rows_mut(0..k), |i, row| {
            row.copy_from_slice(coarse.normed.row(1 + cells[i] as usize))
        });
        let kv = coarse.qkv.rows(0..coarse.tokens);
        trunk.queries(block, fine, k);
        trunk.attend_and_mlp(block, fine, k, Keys::Of(kv), false, Some(&self.weights.reuse.1));
        trunk.exec.layer_norm(&self.weights.norm, fine.x.rows(0..k), self.features.rows_mut(0..k));
    }

    /// `R = reuse_block(F)` for the informative cells, into `reuse[2]`.
    fn reuse_features(&mut self, cells: &[u32]) {
        let k = cells.len();
        let (norm, fc1, fc2) = &self.weights.reuse;
        let [normed, hidden, reused] = &mut self.reuse;
        let exec = &mut self.trunk.exec;
        match self.geometry.family {
            Family::Deit => exec.layer_norm(norm, self.features.rows(0..k), normed.rows_mut(0..k)),
            Family::Lvvit => {
                // Every row's feature is there; take the informative ones.
                let features = &self.features;
                exec.for_rows(reused.rows_mut(0..k), |i, row| row.copy_from_slice(features.row(cells[i] as usize)));
                exec.layer_norm(norm, reused.rows(0..k), normed.rows_mut(0..k));
            }
        }
        exec.linear(fc1, normed.rows(0..k), hidden.rows_mut(0..k), Epilogue::GELU, Some(fc2));
        let next = self.weights.embedding.layer();
        exec.linear(fc2, hidden.rows(0..k), reused.rows_mut(0..k), Epilogue::STORE, Some(next));
    }

    /// The fine sequence before the patch embedding is added: positions and reused features for the fine tokens, the kept
    /// coarse tokens as they were.
    fn lay_out_fine_tokens(&mut self, choice: &Choice) {
        let positions = &self.weights.positions[1];
        let (patches, reused, embedding) = (&self.patches, &self.reuse[2], &self.embedding);
        let cls = &self.weights.cls;
        let fine_tokens = patches.len();
        self.trunk.exec.for_rows(self.fine.x.rows_mut(0..self.fine.tokens), |i, row| match i {
            0 => sum(row, positions.row(0), cls),
            _ if i <= fine_tokens => {
                sum(row, positions.row(1 + patches[i - 1] as usize), reused.row((i - 1) / 4));
            }
            _ => row.copy_from_slice(embedding.row(1 + choice.kept[i - 1 - fine_tokens] as usize)),
        });
    }

    /// From the laid-out fine sequence to logits: the patches of `image` are added, all blocks and the head(s) run.
    fn fine_logits(&mut self, image: &[f32], logits: &mut Vec<f32>) {
        self.trunk.embed(&self.weights, &self.geometry, &mut self.fine, image, &self.patches);
        self.trunk.blocks(&self.weights, self.geometry.family, &mut self.fine, false);
        if self.geometry.family == Family::Lvvit {
            let Stage { tokens, x, normed, .. } = &mut self.fine;
            self.trunk.exec.layer_norm(&self.weights.norm, x.rows(0..*tokens), normed.rows_mut(0..*tokens));
        }
        self.logits(false, logits);
    }

    /// The head(s) over a stage's last rows into `logits`; `F` of the patch rows is in `features` or `fine.normed` already.
    fn logits(&mut self, coarse: bool, logits: &mut Vec<f32>) {
        let classes = self.geometry.classes;
        let stage = if coarse { &mut self.coarse } else { &mut self.fine };
        let exec = &mut self.trunk.exec;
        exec.layer_norm(&self.weights.norm, stage.x.rows(0..1), stage.normed.rows_mut(0..1));
        let cls = stage.normed.rows(0..1);
        exec.linear(&self.weights.head, cls, self.logits.rows_mut(0..1), Epilogue::STORE, None);
        logits.clear();
        logits.extend_from_slice(&self.logits.row(0)[..classes]);
        let (Some(head), Some(aux)) = (&self.weights.aux_head, &mut stage.aux) else { return };
        let patches = stage.tokens - 1;
        let features = if coarse { self.features.rows(0..patches) } else { stage.normed.rows(1..stage.tokens) };
        exec.linear(head, features, aux.rows_mut(0..patches), Epilogue::STORE, None);
        add_largest(logits, aux.rows(0..patches));
        if coarse {
            logits.iter_mut().for_each(|x| *x /= LVVIT_COARSE_DIVISOR);
        }
    }
}

impl Engine for CpuEngine {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn coarse(&mut self, image: &[f32], output: &mut CoarseOutput) -> Result<()> {
        check_image(image, self.geometry.coarse_side())?;
        let cells = self.geometry.cells();
        self.patches.clear();
        self.patches.extend(0..cells as u32);
        let (positions, cls) = (&self.weights.positions[0], &self.weights.cls);
        self.trunk.exec.for_rows(self.coarse.x.rows_mut(0..cells + 1), |i, row| match i {
            0 => sum(row, positions.row(0), cls),
            _ => row.copy_from_slice(positions.row(i)),
        });
        self.trunk.embed(&self.weights, &self.geometry, &mut self.coarse, image, &self.patches);
        let x = &self.coarse.x;
        self.trunk.exec.for_rows(self.embedding.rows_mut(0..cells + 1), |i, row| row.copy_from_slice(x.row(i)));

        self.trunk.class_attention.fill(0.0);
        self.trunk.blocks(&self.weights, self.geometry.family, &mut self.coarse, true);
        if self.geometry.family == Family::Lvvit {
            let rows = self.coarse.x.rows(1..cells + 1);
            self.trunk.exec.layer_norm(&self.weights.norm, rows, self.features.rows_mut(0..cells));
        }
        self.logits(true, &mut output.logits);
        output.class_attention.clear();
        output.class_attention.extend_from_slice(&self.trunk.class_attention[1..]);
        self.ready = true;
        Ok(())
    }

    fn fine(&mut self, image: &[f32], choice: &Choice, logits: &mut Vec<f32>) -> Result<()> {
        check_image(image, self.geometry.fine_side())?;
        check_choice(choice, &self.geometry)?;
        if !self.ready {
            return Err(Error::new(Kind::Engine, "a fine pass needs the coarse pass of the same frame before it"));
        }
        if self.geometry.family == Family::Deit {
            self.finish_coarse(&choice.informative);
        }
        self.reuse_features(&choice.informative);
        self.patches.clear();
        let grid = self.geometry.grid as u32;
        self.patches.extend(choice.informative.iter().flat_map(|&cell| fine_patches(cell, grid)));
        self.lay_out_fine_tokens(choice);
        self.fine_logits(image, logits);
        Ok(())
    }

    fn full(&mut self, image: &[f32], logits: &mut Vec<f32>) -> Result<()> {
        check_image(image, self.geometry.fine_side())?;
        let (tokens, patches) = (self.geometry.full_tokens(), 4 * self.geometry.cells());
        let new = || Stage::new(&self.geometry, &self.weights, tokens, self.geometry.fine_side(), patches);
        let full = self.full.take().unwrap_or_else(new);
        self.patches.clear();
        self.patches.extend(0..patches as u32);
        // The same steps as the fine stage's, on a longer sequence: its activations take the fine stage's place meanwhile.
        let fine = std::mem::replace(&mut self.fine, full);
        let (positions, cls) = (&self.weights.positions[1], &self.weights.cls);
        self.trunk.exec.for_rows(self.fine.x.rows_mut(0..tokens), |i, row| match i {
            0 => sum(row, positions.row(0), cls),
            _ => row.copy_from_slice(positions.row(i)),
        });
        self.fine_logits(image, logits);
        self.full = Some(std::mem::replace(&mut self.fine, fine));
        Ok(())
    }

    fn executed_macs(&self) -> Macs {
        cost::executed_macs(&self.geometry)
    }

    fn peak_flops(&mut self, rounds: u64) -> Option<u64> {
        Some(self.trunk.exec.peak_flops(rounds))
    }

    fn describe(&self) -> String {
        format!("CPU, {}, {} threads, f32", self.trunk.exec.kernels.name, self.trunk.exec.pool.threads())
    }
}

impl Stage {
    fn new(geometry: &Geometry, weights: &Weights, tokens: usize, side: usize, patches: usize) -> Self {
        let padded = |n: usize| n.next_multiple_of(WIDEST_PANEL);
        let width = padded(geometry.width);
        let (flat, stem) = match &weights.embedding {
            Embedding::Patch(_) => (3 * geometry.patch.pow(2), None),
            Embedding::Stem(stem) => ((geometry.patch / 2).pow(2) * padded(geometry.stem), Some(stem.buffers(side))),
        };
        Self {
            tokens,
            x: Matrix::new(tokens, width),
            normed: Matrix::new(tokens, width),
            qkv: Matrix::new(tokens, 3 * width),
            mixed: Matrix::new(tokens, width),
            hidden: Matrix::new(tokens, padded(geometry.hidden)),
            flat: Matrix::new(patches, flat),
            stem,
            aux: weights.aux_head.as_ref().map(|head| Matrix::new(tokens, head.columns())),
        }
    }
}

impl Embedding {
    /// The layer that makes tokens of flattened patches.
    fn layer(&self) -> &Linear {
        match self {
            Embedding::Patch(layer) => layer,
            Embedding::Stem(stem) => &stem.proj,
        }
    }
}

/// Where a block's keys and values come from.
enum Keys<'a> {
    /// The stage's own qkv rows.
    Own,
    /// Those of another stage.
    Of(View<'a>),
}

impl Trunk {
    /// Adds the embedding of `patches` (indices in the image's patch grid) to rows `1 ..` of the residual stream.
    fn embed(&mut self, weights: &Weights, geometry: &Geometry, stage: &mut Stage, image: &[f32], patches: &[u32]) {
        let n = patches.len();
        match (&weights.embedding, &mut stage.stem) {
            (Embedding::Stem(stem), Some(buffers)) => {
                stem.run(&mut self.exec, image, buffers);
                stem.gather(&mut self.exec, buffers, geometry.patch, patches, stage.flat.rows_mut(0..n));
            }
            _ => flatten(&mut self.exec, image, geometry.patch, patches, &mut stage.flat),
        }
        let next = weights.blocks.first().map(|block| &block.qkv);
        let (flat, x) = (stage.flat.rows(0..n), stage.x.rows_mut(1..n + 1));
        self.exec.linear(weights.embedding.layer(), flat, x, Epilogue::ADD, next);
    }

    /// All blocks. In DeiT's last one only the cls row is computed after keys and values; `normed` keeps the norm of all rows.
    fn blocks(&mut self, weights: &Weights, family: Family, stage: &mut Stage, coarse: bool) {
        let tokens = stage.tokens;
        for (i, block) in weights.blocks.iter().enumerate() {
            let last = i + 1 == weights.blocks.len();
            let next = weights.blocks.get(i + 1).map_or(&weights.head, |block| &block.qkv);
            let observe = coarse && i >= FIRST_ATTENTION_BLOCK;
            self.exec.layer_norm(&block.norm1, stage.x.rows(0..tokens), stage.normed.rows_mut(0..tokens));
            let rows = if last && family == Family::Deit { 1 } else { tokens };
            let Stage { normed, qkv, .. } = stage;
            if rows == tokens {
                let input = normed.rows(0..tokens);
                self.exec.linear(&block.qkv, input, qkv.rows_mut(0..tokens), Epilogue::STORE, Some(&block.proj));
            } else {
                let (kv, input) = (self.heads.third..3 * self.heads.third, normed.rows(0..tokens));
                self.exec.linear_columns(&block.qkv, kv, input, qkv.rows_mut(0..tokens), Epilogue::STORE, None);
                self.queries(block, stage, rows);
            }
            self.attend_and_mlp(block, stage, rows, Keys::Own, observe, Some(next));
        }
    }

    /// The queries of the first `rows` normed rows.
    fn queries(&mut self, block: &BlockWeights, stage: &mut Stage, rows: usize) {
        let (columns, input) = (0..self.heads.third, stage.normed.rows(0..rows));
        let out = stage.qkv.rows_mut(0..rows);
        self.exec.linear_columns(&block.qkv, columns, input, out, Epilogue::STORE, Some(&block.proj));
    }

    /// The rest of a block for the first `rows` rows: attention, projection, MLP. `observe` adds the attention's cls row to the class
    /// attention. `normed` stays as it is.
    fn attend_and_mlp(
        &mut self,
        block: &BlockWeights,
        stage: &mut Stage,
        rows: usize,
        keys: Keys<'_>,
        observe: bool,
        next: Option<&Linear>,
    ) {
        let Stage { tokens, x, qkv, mixed, hidden, .. } = stage;
        let kv = match keys {
            Keys::Own => qkv.rows(0..*tokens),
            Keys::Of(view) => view,
        };
        let cls_rows = observe.then_some(&mut self.cls_rows);
        self.exec.attention(self.heads, qkv.rows(0..rows), kv, mixed.rows_mut(0..rows), cls_rows);
        if observe {
            self.average_class_attention();
        }
        self.exec.linear(&block.proj, mixed.rows(0..rows), x.rows_mut(0..rows), Epilogue::ADD, Some(&block.fc1));
        // The attention's output is spent: its memory takes the second norm.
        self.exec.layer_norm(&block.norm2, x.rows(0..rows), mixed.rows_mut(0..rows));
        let normed = mixed.rows(0..rows);
        self.exec.linear(&block.fc1, normed, hidden.rows_mut(0..rows), Epilogue::GELU, Some(&block.fc2));
        self.exec.linear(&block.fc2, hidden.rows(0..rows), x.rows_mut(0..rows), Epilogue::ADD, next);
    }

    /// `A ← β·A + (1 − β)·attn`, for the cls row's mean over heads.
    fn average_class_attention(&mut self) {
        let heads = self.heads.count;
        for (token, average) in self.class_attention.iter_mut().enumerate() {
            let mean = (0..heads).map(|head| self.cls_rows.row(head)[token]).sum::<f32>() / heads as f32;
            *average = ATTENTION_DECAY * *average + (1.0 - ATTENTION_DECAY) * mean;
        }
    }
}

/// DeiT's patches as rows of `[3·P²]`, channel by channel, from a planar square image.
fn flatten(exec: &mut Exec, image: &[f32], patch: usize, patches: &[u32], out: &mut Matrix) {
    let side = (image.len() / 3).isqrt();
    let grid = side / patch;
    exec.for_rows(out.rows_mut(0..patches.len()), |i, row| {
        let (y, x) = (patches[i] as usize / grid * patch, patches[i] as usize % grid * patch);
        for (run, out) in row.chunks_exact_mut(patch).enumerate() {
            let (channel, dy) = (run / patch, run % patch);
            out.copy_from_slice(&image[(channel * side + y + dy) * side + x..][..patch]);
        }
    });
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
