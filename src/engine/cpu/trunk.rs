//! What both stages share: the embedding of patches and the transformer blocks, for one image or several at once. Rows are tokens; the
//! tokens of image `i` are rows `i · tokens ..`, so the linear layers see all images as one matrix.

use std::ops::Range;

use super::exec::{Exec, Heads};
use super::kernels::WIDEST_PANEL;
use super::linear::{Epilogue, Linear};
use super::memory::{Matrix, View, ViewMut};
use super::stem::StemBuffers;
use super::weights::{BlockWeights, Embedding, Weights};
use crate::model::{ATTENTION_DECAY, FIRST_ATTENTION_BLOCK, Family, Geometry};

/// What runs blocks: threads, kernels and the class attention's memory.
pub(super) struct Trunk {
    pub(super) exec: Exec,
    pub(super) heads: Heads,
    /// `[heads, tokens]`: the cls row of one block's attention.
    cls_rows: Matrix,
    /// For each image `[1 + g²]`: the moving average of the cls row over blocks, mean over heads.
    pub(super) class_attention: Vec<Vec<f32>>,
}

/// One stage's activations for up to `images` images.
pub(super) struct Stage {
    /// Tokens of an image.
    pub(super) tokens: usize,
    /// Images that there is room for.
    pub(super) images: usize,
    /// The residual stream.
    pub(super) x: Matrix,
    pub(super) normed: Matrix,
    pub(super) qkv: Matrix,
    /// The attention's output.
    mixed: Matrix,
    hidden: Matrix,
    /// Flattened patches, the embedding's input.
    flat: Matrix,
    stem: Option<StemBuffers>,
    /// LV-ViT: `[tokens, classes]`, of one image after the other.
    pub(super) aux: Option<Matrix>,
}

/// What a stage has room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) images: usize,
    /// Tokens of an image.
    pub(super) tokens: usize,
    /// Pixels of an image's side.
    pub(super) side: usize,
    /// Patches embedded of an image.
    pub(super) patches: usize,
}

/// Which rows of a stage a block computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// The first so many: all tokens of some images, or rows of no image in particular.
    First(usize),
    /// The first row of each of so many images: its cls token.
    Cls(usize),
}

impl Trunk {
    pub(super) fn new(exec: Exec, geometry: &Geometry) -> Self {
        let padded = |n: usize| n.next_multiple_of(WIDEST_PANEL);
        let tokens = geometry.coarse_tokens();
        let heads = Heads { count: geometry.heads, dim: geometry.head_dim(), third: padded(geometry.width) };
        Self {
            exec,
            heads,
            cls_rows: Matrix::new(geometry.heads, padded(tokens)),
            class_attention: vec![vec![0.0; tokens]],
        }
    }
}

impl Stage {
    pub(super) fn new(geometry: &Geometry, weights: &Weights, size: Size) -> Self {
        let Size { images, tokens, side, patches } = size;
        let padded = |n: usize| n.next_multiple_of(WIDEST_PANEL);
        let (rows, width) = (images * tokens, padded(geometry.width));
        let (flat, stem) = match &weights.embedding {
            Embedding::Patch(_) => (3 * geometry.patch.pow(2), None),
            Embedding::Stem(stem) => ((geometry.patch / 2).pow(2) * padded(geometry.stem), Some(stem.buffers(side))),
        };
        Self {
            tokens,
            images,
            x: Matrix::new(rows, width),
            normed: Matrix::new(rows, width),
            qkv: Matrix::new(rows, 3 * width),
            mixed: Matrix::new(rows, width),
            hidden: Matrix::new(rows, padded(geometry.hidden)),
            flat: Matrix::new(patches, flat),
            stem,
            aux: weights.aux_head.as_ref().map(|head| Matrix::new(tokens, head.columns())),
        }
    }
}

impl Rows {
    /// These rows of a matrix in which each image has `tokens`.
    pub(super) fn of(self, matrix: &Matrix, tokens: usize) -> View<'_> {
        match self {
            Rows::First(n) => matrix.rows(0..n),
            Rows::Cls(images) => matrix.every(tokens, images),
        }
    }

    /// The same, to be written.
    pub(super) fn of_mut(self, matrix: &mut Matrix, tokens: usize) -> ViewMut<'_> {
        match self {
            Rows::First(n) => matrix.rows_mut(0..n),
            Rows::Cls(images) => matrix.every_mut(tokens, images),
        }
    }
}

impl Embedding {
    /// The layer that makes tokens of flattened patches.
    pub(super) fn layer(&self) -> &Linear {
        match self {
            Embedding::Patch(layer) => layer,
            Embedding::Stem(stem) => &stem.proj,
        }
    }
}

impl Trunk {
    /// Adds the embedding of `patches` (indices in the image's patch grid) to the residual stream of the `at`-th image, from its row 1 on.
    pub(super) fn embed(
        &mut self,
        weights: &Weights,
        patch: usize,
        stage: &mut Stage,
        at: usize,
        image: &[f32],
        patches: &[u32],
    ) {
        let (n, first) = (patches.len(), at * stage.tokens + 1);
        match (&weights.embedding, &mut stage.stem) {
            (Embedding::Stem(stem), Some(buffers)) => {
                stem.run(&mut self.exec, image, buffers);
                stem.gather(&mut self.exec, buffers, patch, patches, stage.flat.rows_mut(0..n));
            }
            _ => flatten(&mut self.exec, image, patch, patches, &mut stage.flat),
        }
        let next = weights.blocks.first().map(|block| &block.qkv);
        let (flat, x) = (stage.flat.rows(0..n), stage.x.rows_mut(first..first + n));
        self.exec.linear(weights.embedding.layer(), flat, x, Epilogue::ADD, next);
    }

    /// All blocks for the first `images` images. In DeiT's last one only the cls rows are computed after keys and values; `normed` keeps
    /// the norm of all rows. `observe` makes the class attention.
    pub(super) fn blocks(
        &mut self,
        weights: &Weights,
        family: Family,
        stage: &mut Stage,
        images: usize,
        observe: bool,
    ) {
        let (tokens, all) = (stage.tokens, Rows::First(images * stage.tokens));
        if observe {
            self.class_attention.iter_mut().take(images).for_each(|average| average.fill(0.0));
        }
        for (i, block) in weights.blocks.iter().enumerate() {
            let last = i + 1 == weights.blocks.len();
            let next = weights.blocks.get(i + 1).map_or(&weights.head, |block| &block.qkv);
            let Stage { x, normed, qkv, .. } = stage;
            self.exec.layer_norm(&block.norm1, all.of(x, tokens), all.of_mut(normed, tokens));
            let rows = if last && family == Family::Deit { Rows::Cls(images) } else { all };
            let (input, out) = (all.of(normed, tokens), all.of_mut(qkv, tokens));
            if rows == all {
                self.exec.linear(&block.qkv, input, out, Epilogue::STORE, Some(&block.proj));
            } else {
                let kv = self.heads.third..3 * self.heads.third;
                self.exec.linear_columns(&block.qkv, kv, input, out, Epilogue::STORE, None);
                self.queries(block, stage, rows);
            }
            let queries = if rows == all { tokens } else { 1 };
            let Stage { qkv, mixed, .. } = stage;
            for image in 0..images {
                let (first, observe) = (image * tokens, observe && i >= FIRST_ATTENTION_BLOCK);
                let (q, kv) = (qkv.rows(first..first + queries), qkv.rows(first..first + tokens));
                let cls_rows = observe.then_some(&mut self.cls_rows);
                self.exec.attention(self.heads, q, kv, mixed.rows_mut(first..first + queries), cls_rows);
                if observe {
                    self.average_class_attention(image);
                }
            }
            self.project_and_mlp(block, stage, rows, Some(next));
        }
    }

    /// The queries of normed rows.
    pub(super) fn queries(&mut self, block: &BlockWeights, stage: &mut Stage, rows: Rows) {
        let Stage { tokens, normed, qkv, .. } = stage;
        let (columns, input, out) = (0..self.heads.third, rows.of(normed, *tokens), rows.of_mut(qkv, *tokens));
        self.exec.linear_columns(&block.qkv, columns, input, out, Epilogue::STORE, Some(&block.proj));
    }

    /// Attention of rows `at` of a stage's queries over the keys and values of another one.
    pub(super) fn attend_to(&mut self, stage: &mut Stage, at: Range<usize>, kv: View<'_>) {
        self.exec.attention(self.heads, stage.qkv.rows(at.clone()), kv, stage.mixed.rows_mut(at), None);
    }

    /// What follows a block's attention: projection and MLP, each added to the residual stream. `normed` stays as it is.
    pub(super) fn project_and_mlp(
        &mut self,
        block: &BlockWeights,
        stage: &mut Stage,
        rows: Rows,
        next: Option<&Linear>,
    ) {
        let Stage { tokens, x, mixed, hidden, .. } = stage;
        let tokens = *tokens;
        self.exec.linear(&block.proj, rows.of(mixed, tokens), rows.of_mut(x, tokens), Epilogue::ADD, Some(&block.fc1));
        // The attention's output is spent: its memory takes the second norm.
        self.exec.layer_norm(&block.norm2, rows.of(x, tokens), rows.of_mut(mixed, tokens));
        let hidden_rows = rows.of_mut(hidden, tokens);
        self.exec.linear(&block.fc1, rows.of(mixed, tokens), hidden_rows, Epilogue::GELU, Some(&block.fc2));
        self.exec.linear(&block.fc2, rows.of(hidden, tokens), rows.of_mut(x, tokens), Epilogue::ADD, next);
    }

    /// `A ← β·A + (1 − β)·attn`, for the cls row's mean over heads.
    fn average_class_attention(&mut self, image: usize) {
        let heads = self.heads.count;
        for (token, average) in self.class_attention[image].iter_mut().enumerate() {
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
