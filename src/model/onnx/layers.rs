//! The model's layers as nodes. Names of weights are the authors'; `B` is the batch, `N` the tokens, `C` the width, `H` heads of `D` channels.

use std::borrow::Cow;
use std::ops::Range;

use super::builder::{Builder, Value};
use super::linear::Linear;
use super::{Element, Options};
use crate::error::{Error, Kind, Result};
use crate::model::{ATTENTION_DECAY, Family, Geometry, Model, Tensors};

/// A graph under construction and the model that it is made of.
pub struct Network<'a> {
    /// The graph.
    pub builder: Builder<'a>,
    /// The model's shape.
    pub geometry: Geometry,
    /// What layers read.
    pub element: Element,
    /// Pictures at a time.
    pub batch: usize,
    tensors: &'a Tensors,
}

impl<'a> Network<'a> {
    /// An empty graph for `model`.
    pub fn new(model: &'a Model, options: Options) -> Self {
        Self {
            builder: Builder::default(),
            geometry: model.geometry,
            element: options.precision.element(),
            batch: options.batch,
            tensors: &model.tensors,
        }
    }

    /// The values of the tensor `name`, of which there must be `len`.
    ///
    /// # Errors
    /// [`Kind::Model`] when it is missing or has another size.
    pub fn tensor(&self, name: &str, len: usize) -> Result<&'a [f32]> {
        let tensor = self.tensors.get(name);
        let tensor = tensor.ok_or_else(|| Error::new(Kind::Model, format!("tensor {name} is missing")))?;
        if tensor.data.len() != len {
            let found = tensor.data.len();
            return Err(Error::new(Kind::Model, format!("tensor {name} has {found} values, expected {len}")));
        }
        Ok(&tensor.data)
    }

    /// What LayerNorm does before γ and β, over the last axis of `x`: `(x − mean) / √(variance + eps)`, in FP32.
    fn normalised(&mut self, x: &Value) -> Value {
        let (b, axis) = (&mut self.builder, x.shape.len() - 1);
        let x = b.cast(x, Element::F32);
        let mean = b.reduce_mean(&x, axis, true);
        let centred = b.binary("Sub", &x, &mean);
        let squares = b.binary("Mul", &centred, &centred);
        let variance = b.reduce_mean(&squares, axis, true);
        let variance = b.with_scalar("Add", &variance, self.geometry.family.layer_norm_eps());
        let deviation = b.unary("Sqrt", &variance);
        b.binary("Div", &centred, &deviation)
    }

    /// The same as `element`, for a [`Linear`] layer with γ and β folded in.
    fn normed(&mut self, x: &Value, element: Element) -> Value {
        let normed = self.normalised(x);
        self.builder.cast(&normed, element)
    }

    /// A whole LayerNorm over the last axis of `x`, in FP32.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn layer_norm(&mut self, x: &Value, name: &str) -> Result<Value> {
        let width = self.geometry.width;
        let [gamma, beta] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        let values = [self.tensor(&gamma, width)?, self.tensor(&beta, width)?];
        let normed = self.normalised(x);
        let b = &mut self.builder;
        let gamma = b.constant(&gamma, Element::F32, &[width], move || Cow::Borrowed(values[0]));
        let beta = b.constant(&beta, Element::F32, &[width], move || Cow::Borrowed(values[1]));
        let scaled = b.binary("Mul", &normed, &gamma);
        Ok(b.binary("Add", &scaled, &beta))
    }

    /// The exact GELU of `x` (FP32), `x/2 · (1 + erf(x/√2))`, in the precision of activations.
    fn gelu(&mut self, x: &Value) -> Value {
        let b = &mut self.builder;
        let scaled = b.with_scalar("Div", x, std::f32::consts::SQRT_2);
        let erf = b.unary("Erf", &scaled);
        let gate = b.with_scalar("Add", &erf, 1.0);
        let product = b.binary("Mul", x, &gate);
        let half = b.with_scalar("Mul", &product, 0.5);
        b.cast(&half, self.element)
    }

    /// `fc2(gelu(fc1(norm(x)))) · scale`, of the layers below `name`: FP32 from FP32.
    fn mlp(&mut self, x: &Value, norm: &str, name: &str, scale: f32) -> Result<Value> {
        let &Geometry { width, hidden, .. } = &self.geometry;
        let normed = self.normed(x, self.element);
        let fc1 = format!("{name}.fc1");
        let inner = self.linear(&normed, &Linear::whole(&fc1, hidden).after(norm), Element::F32)?;
        let inner = self.gelu(&inner);
        self.linear(&inner, &Linear::whole(&format!("{name}.fc2"), width).times(scale), Element::F32)
    }

    /// The reuse block over features of any shape `[.., C]`: FP32.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn reuse(&mut self, features: &Value) -> Result<Value> {
        self.builder.scope = "reuse_block".into();
        self.mlp(features, "reuse_block.0", "reuse_block.1", 1.0)
    }

    /// Block `i` of all rows of the residual stream `x`, `[B, N, C]` in FP32. Where `average` is given, the cls row of the attention enters it.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn block(&mut self, i: usize, x: &Value, average: Option<&mut Option<Value>>) -> Result<Value> {
        let width = self.geometry.width;
        self.builder.scope = format!("blocks.{i}.attn");
        let normed = self.normed(x, self.projection_element(i));
        let qkv = self.qkv(&normed, i, 0..3 * width)?;
        let [q, k, v] = self.builder.split(&qkv).map(|part| self.heads(&part));
        if let Some(average) = average {
            *average = Some(self.average_class_row(average.take(), &q, &k));
        }
        let mixed = self.attention(&q, &k, &v);
        self.after_attention(i, x, &mixed)
    }

    /// Block `i` of the cls row only: `[B, N, C]` to `[B, 1, C]`.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn cls_block(&mut self, i: usize, x: &Value) -> Result<Value> {
        let width = self.geometry.width;
        self.builder.scope = format!("blocks.{i}.attn");
        let normed = self.normed(x, self.projection_element(i));
        let cls = self.builder.slice(&normed, 1, 0..1);
        let q = self.qkv(&cls, i, 0..width)?;
        let q = self.heads(&q);
        let kv = self.qkv(&normed, i, width..3 * width)?;
        let [k, v] = self.builder.split(&kv).map(|part| self.heads(&part));
        let mixed = self.attention(&q, &k, &v);
        let x = self.builder.slice(x, 1, 0..1);
        self.after_attention(i, &x, &mixed)
    }

    /// What the projections before and after block `i`'s attention read. The first block's are FP32: the residual stream is still small there, and
    /// of all roundings in the blocks theirs were seen to weigh most in the logits.
    fn projection_element(&self, i: usize) -> Element {
        if i == 0 { Element::F32 } else { self.element }
    }

    /// Some of block `i`'s queries, keys and values of what [`Network::normed`] gives, with the attention's scale in the queries: in the
    /// precision of activations, as fused attention wants them.
    fn qkv(&mut self, x: &Value, i: usize, range: Range<usize>) -> Result<Value> {
        let width = self.geometry.width;
        let scale = (self.geometry.head_dim() as f32).sqrt().recip();
        let (name, norm) = (format!("blocks.{i}.attn.qkv"), format!("blocks.{i}.norm1"));
        let bias = self.geometry.family == Family::Deit;
        let layer = Linear { range, scaled: (0..width, scale), bias, ..Linear::whole(&name, 3 * width).after(&norm) };
        let qkv = self.linear(x, &layer, x.element)?;
        Ok(self.builder.cast(&qkv, self.element))
    }

    /// `[B, N, C]` to `[B, H, N, D]`.
    fn heads(&mut self, x: &Value) -> Value {
        let (heads, dim) = (self.geometry.heads, self.geometry.head_dim());
        let split = self.builder.reshape(x, &[x.shape[0], x.shape[1], heads, dim]);
        self.builder.transpose(&split, &[0, 2, 1, 3])
    }

    /// `softmax(q·kᵀ)·v`, the softmax in FP32: `[B, H, M, D]` and `[B, H, N, D]` to `[B, M, C]`.
    fn attention(&mut self, q: &Value, k: &Value, v: &Value) -> Value {
        let b = &mut self.builder;
        let k = b.transpose(k, &[0, 1, 3, 2]);
        let scores = b.matmul(q, &k);
        let scores = b.cast(&scores, Element::F32);
        let weights = b.softmax(&scores);
        let weights = b.cast(&weights, v.element);
        let mixed = b.matmul(&weights, v);
        let mixed = b.transpose(&mixed, &[0, 2, 1, 3]);
        b.reshape(&mixed, &[q.shape[0], q.shape[2], self.geometry.width])
    }

    /// `A ← β·A + (1 − β)·attn`, `[B, N]`, for the cls row's mean over heads, in FP32. Computed beside the attention, as a product and a sum
    /// instead of a matrix product: the attention's softmax keeps its one reader, and stays fusible.
    fn average_class_row(&mut self, average: Option<Value>, q: &Value, k: &Value) -> Value {
        let b = &mut self.builder;
        let cls = b.slice(q, 2, 0..1);
        let (cls, k) = (b.cast(&cls, Element::F32), b.cast(k, Element::F32));
        let products = b.binary("Mul", &cls, &k);
        let scores = b.reduce_sum(&products, 3);
        let weights = b.softmax(&scores);
        let row = b.reduce_mean(&weights, 1, false);
        let new = b.with_scalar("Mul", &row, 1.0 - ATTENTION_DECAY);
        let Some(average) = average else { return new };
        let old = b.with_scalar("Mul", &average, ATTENTION_DECAY);
        b.binary("Add", &old, &new)
    }

    /// The rest of block `i`: the projection of what the attention `mixed`, the MLP, both residual sums.
    fn after_attention(&mut self, i: usize, x: &Value, mixed: &Value) -> Result<Value> {
        let scale = 1.0 / self.geometry.family.residual_divisor();
        let proj = format!("blocks.{i}.attn.proj");
        let layer = Linear::whole(&proj, self.geometry.width).times(scale);
        let mixed = self.builder.cast(mixed, self.projection_element(i));
        let added = self.linear(&mixed, &layer, Element::F32)?;
        let x = self.builder.binary("Add", x, &added);
        self.builder.scope = format!("blocks.{i}.mlp");
        let added = self.mlp(&x, &format!("blocks.{i}.norm2"), &format!("blocks.{i}.mlp"), scale)?;
        Ok(self.builder.binary("Add", &x, &added))
    }
}
