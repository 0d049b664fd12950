//! A model's tensors, turned once into what the stages read: packed layers in the order of execution.

use half::f16;

use super::exec::Norm;
use super::fp16::HalfKernels;
use super::kernels::{Kernels, WIDEST_PANEL};
use super::linear::{Linear, Packed, PackedHalf, Part};
use super::memory::{Arena, Block, Matrix};
use super::stem::Stem;
use crate::error::{Error, Kind, Result};
use crate::model::{Family, Geometry, Tensor, Tensors};

/// One transformer block.
pub struct BlockWeights {
    /// Before the attention.
    pub norm1: Norm,
    /// Queries (the scale `head_dim^-½` folded in), keys, values: three parts of equal width.
    pub qkv: Linear,
    /// After the attention; LV-ViT: divided by `skip_lam`.
    pub proj: Linear,
    /// Before the MLP.
    pub norm2: Norm,
    /// The MLP's first layer.
    pub fc1: Linear,
    /// The MLP's second layer; LV-ViT: divided by `skip_lam`.
    pub fc2: Linear,
}

/// How patches become tokens.
pub enum Embedding {
    /// DeiT: one convolution over non-overlapping patches, as a product over `[patches, 3·P²]`.
    Patch(Linear),
    /// LV-ViT: a convolution stem.
    Stem(Box<Stem>),
}

/// Everything constant.
pub struct Weights {
    /// `cls_token`
    pub cls: Block,
    /// `pos_embed_list.0` and `.1`: `[1 + g², C]` and `[1 + 4g², C]`.
    pub positions: [Matrix; 2],
    /// `patch_embed`
    pub embedding: Embedding,
    /// `blocks`
    pub blocks: Vec<BlockWeights>,
    /// `norm`
    pub norm: Norm,
    /// `head`
    pub head: Linear,
    /// LV-ViT's `aux_head`.
    pub aux_head: Option<Linear>,
    /// `reuse_block`: norm, first and second layer.
    pub reuse: (Norm, Linear, Linear),
}

/// Takes tensors out of the model and packs them, so that at no time both copies of all weights exist.
pub struct Packer<'a> {
    tensors: Tensors,
    /// Where packed weights go.
    pub arena: Arena,
    /// For which kernels.
    pub kernels: &'a Kernels,
    /// What computes the products of the large layers, where not `kernels`.
    half: Option<&'static HalfKernels>,
}

impl Weights {
    /// Packs `tensors` for `kernels`; with `half` the layers of the blocks, of the reuse block and the projection of patches for that. The
    /// heads stay in 32 bits: they decide the answer and cost next to nothing.
    ///
    /// # Errors
    /// [`Kind::Model`] when a tensor is missing or has another size than the geometry asks for, or does not fit 16 bits where it must.
    pub fn new(
        tensors: Tensors,
        geometry: &Geometry,
        kernels: &Kernels,
        half: Option<&'static HalfKernels>,
    ) -> Result<Self> {
        let mut packer = Packer { tensors, arena: Arena::default(), kernels, half };
        let p = &mut packer;
        let &Geometry { family, width, hidden, classes, .. } = geometry;
        let eps = family.layer_norm_eps();
        let embedding = match family {
            Family::Deit => Embedding::Patch(p.linear("patch_embed.proj", 3 * geometry.patch.pow(2), width, 1.0)?),
            Family::Lvvit => Embedding::Stem(Box::new(Stem::new(p, geometry)?)),
        };
        let cls = p.block("cls_token", width)?;
        let positions = [
            p.matrix("pos_embed_list.0", geometry.coarse_tokens(), width)?,
            p.matrix("pos_embed_list.1", 1 + 4 * geometry.cells(), width)?,
        ];
        let blocks = (0..geometry.depth).map(|i| p.transformer_block(i, geometry)).collect::<Result<_>>()?;
        let norm = p.norm("norm", width, eps)?;
        let head = p.head("head", width, classes)?;
        let aux_head = match family {
            Family::Deit => None,
            Family::Lvvit => Some(p.head("aux_head", width, classes)?),
        };
        let reuse = (
            p.norm("reuse_block.0", width, eps)?,
            p.linear("reuse_block.1.fc1", width, hidden, 1.0)?,
            p.linear("reuse_block.1.fc2", hidden, width, 1.0)?,
        );
        Ok(Self { cls, positions, embedding, blocks, norm, head, aux_head, reuse })
    }
}

impl Packer<'_> {
    /// Takes the tensor `name` of `len` values.
    ///
    /// # Errors
    /// [`Kind::Model`] when it is missing or has another size.
    pub fn take(&mut self, name: &str, len: usize) -> Result<Tensor> {
        let tensor = self.tensors.remove(name);
        let tensor = tensor.ok_or_else(|| Error::new(Kind::Model, format!("tensor {name} is missing")))?;
        if tensor.data.len() != len {
            let found = tensor.data.len();
            return Err(Error::new(Kind::Model, format!("tensor {name} has {found} values, expected {len}")));
        }
        Ok(tensor)
    }

    fn block(&mut self, name: &str, len: usize) -> Result<Block> {
        let tensor = self.take(name, len)?;
        Ok(self.arena.store(len, |block| block.copy_from_slice(&tensor.data)))
    }

    fn matrix(&mut self, name: &str, rows: usize, columns: usize) -> Result<Matrix> {
        let tensor = self.take(name, rows * columns)?;
        let mut matrix = Matrix::new(rows, columns.next_multiple_of(WIDEST_PANEL));
        for (i, row) in tensor.data.chunks_exact(columns).enumerate() {
            matrix.row_mut(i)[..columns].copy_from_slice(row);
        }
        Ok(matrix)
    }

    fn norm(&mut self, name: &str, n: usize, eps: f32) -> Result<Norm> {
        let gamma = self.block(&format!("{name}.weight"), n)?;
        Ok(Norm { gamma, beta: self.block(&format!("{name}.bias"), n)?, eps })
    }

    fn linear(&mut self, name: &str, k: usize, n: usize, scale: f32) -> Result<Linear> {
        let weight = self.take(&format!("{name}.weight"), n * k)?;
        let bias = self.take(&format!("{name}.bias"), n)?;
        self.layer(name, k, &[Part { weight: &weight.data, bias: Some(&bias.data), scale }])
    }

    /// The layer `name` of `k` inputs, in the precision of the large layers.
    ///
    /// # Errors
    /// [`Kind::Model`] when a weight does not fit 16 bits where it must.
    pub fn layer(&mut self, name: &str, k: usize, parts: &[Part<'_>]) -> Result<Linear> {
        let Some(half) = self.half else {
            return Ok(Linear::Single(Packed::new(&mut self.arena, self.kernels, k, parts)));
        };
        let packed = PackedHalf::new(&mut self.arena, half, k, parts).map_err(|weight| {
            let message = format!(
                "tensor {name}.weight: the value {weight} (with what is folded in) does not fit FP16, which ends at {}: run with --precision fp32",
                f16::MAX
            );
            Error::new(Kind::Model, message)
        })?;
        Ok(Linear::Half(packed))
    }

    fn head(&mut self, name: &str, k: usize, n: usize) -> Result<Linear> {
        let weight = self.take(&format!("{name}.weight"), n * k)?;
        let bias = self.take(&format!("{name}.bias"), n)?;
        let part = Part { weight: &weight.data, bias: Some(&bias.data), scale: 1.0 };
        Ok(Linear::Single(Packed::new(&mut self.arena, self.kernels, k, &[part])))
    }

    fn transformer_block(&mut self, i: usize, geometry: &Geometry) -> Result<BlockWeights> {
        let &Geometry { family, width, hidden, .. } = geometry;
        let (eps, residual) = (family.layer_norm_eps(), 1.0 / family.residual_divisor());
        let name = |part: &str| format!("blocks.{i}.{part}");
        Ok(BlockWeights {
            norm1: self.norm(&name("norm1"), width, eps)?,
            qkv: self.qkv(&name("attn.qkv"), geometry)?,
            proj: self.linear(&name("attn.proj"), width, width, residual)?,
            norm2: self.norm(&name("norm2"), width, eps)?,
            fc1: self.linear(&name("mlp.fc1"), width, hidden, 1.0)?,
            fc2: self.linear(&name("mlp.fc2"), hidden, width, residual)?,
        })
    }

    /// The qkv layer in three parts, so that each starts at a panel, with the attention's scale in the queries (exact where
    /// `head_dim` is a power of four).
    fn qkv(&mut self, name: &str, geometry: &Geometry) -> Result<Linear> {
        let width = geometry.width;
        let weight = self.take(&format!("{name}.weight"), 3 * width * width)?;
        let bias = match geometry.family {
            Family::Deit => Some(self.take(&format!("{name}.bias"), 3 * width)?),
            Family::Lvvit => None,
        };
        let scale = (geometry.head_dim() as f32).sqrt().recip();
        let part = |third: usize| Part {
            weight: &weight.data[third * width * width..][..width * width],
            bias: bias.as_ref().map(|b| &b.data[third * width..][..width]),
            scale: if third == 0 { scale } else { 1.0 },
        };
        self.layer(name, width, &[part(0), part(1), part(2)])
    }
}
