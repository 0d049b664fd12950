//! The model's layers as nodes. Names of weights are the authors'; `B` is the batch, `N` the tokens, `C` the width, `H` heads of `D` channels.

use std::borrow::Cow;
use std::ops::Range;

use super::builder::{Builder, Value};
use super::{Element, Options};
use crate::error::{Error, Kind, Result};
use crate::model::{ATTENTION_DECAY, Family, Geometry, Model, Tensors};

/// A graph under construction and the model that it is made of.
pub struct Network<'a> {
    /// The graph.
    pub builder: Builder<'a>,
    /// The model's shape.
    pub geometry: Geometry,
    /// What lies between layers.
    pub element: Element,
    /// Pictures at a time.
    pub batch: usize,
    tensors: &'a Tensors,
}

/// Some outputs of a linear layer.
struct Linear<'n> {
    /// Without `.weight` and `.bias`.
    name: &'n str,
    /// Of the whole layer.
    outputs: usize,
    /// Those that are computed.
    range: Range<usize>,
    /// Outputs that are multiplied by a factor, which goes into the weights.
    scaled: (Range<usize>, f32),
    bias: bool,
}

impl<'n> Linear<'n> {
    /// The whole layer, multiplied by `scale`.
    fn whole(name: &'n str, outputs: usize, scale: f32) -> Self {
        Self { name, outputs, range: 0..outputs, scaled: (0..outputs, scale), bias: true }
    }

    /// The name of a tensor of these outputs.
    fn part(&self, tensor: &str) -> String {
        let Range { start, end } = self.range;
        if end - start == self.outputs { tensor.into() } else { format!("{tensor}[{start}:{end}]") }
    }

    fn factor(&self, output: usize) -> f32 {
        if self.scaled.0.contains(&output) { self.scaled.1 } else { 1.0 }
    }
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

    /// A linear layer over the last axis of `x`, in the precision of `x`.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn linear(&mut self, x: &Value, name: &str, outputs: usize) -> Result<Value> {
        self.some_outputs(x, &Linear::whole(name, outputs, 1.0))
    }

    fn some_outputs(&mut self, x: &Value, layer: &Linear<'_>) -> Result<Value> {
        let product = self.product(x, layer)?;
        if !layer.bias {
            return Ok(product);
        }
        let name = format!("{}.bias", layer.name);
        let bias = self.tensor(&name, layer.outputs)?;
        let scaled: Vec<f32> = layer.range.clone().map(|output| bias[output] * layer.factor(output)).collect();
        let shape = [scaled.len()];
        let bias = self.builder.constant(&layer.part(&name), x.element, &shape, move || Cow::Owned(scaled.clone()));
        Ok(self.builder.binary("Add", &product, &bias))
    }

    /// A linear layer without its bias.
    fn product(&mut self, x: &Value, layer: &Linear<'_>) -> Result<Value> {
        let inputs = x.shape.last().copied().unwrap_or_default();
        let name = format!("{}.weight", layer.name);
        let weight = self.tensor(&name, layer.outputs * inputs)?;
        let factors: Vec<f32> = layer.range.clone().map(|output| layer.factor(output)).collect();
        let rows = &weight[layer.range.start * inputs..layer.range.end * inputs];
        let shape = [inputs, layer.range.len()];
        let values = move || Cow::Owned(transposed(rows, inputs, &factors));
        let weight = self.builder.constant(&layer.part(&name), x.element, &shape, values);
        Ok(self.builder.matmul(x, &weight))
    }

    /// LayerNorm over the last axis, computed in FP32 and left in it.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn layer_norm(&mut self, x: &Value, name: &str) -> Result<Value> {
        let (width, axis) = (self.geometry.width, x.shape.len() - 1);
        let [gamma, beta] = ["weight", "bias"].map(|part| format!("{name}.{part}"));
        let values = [self.tensor(&gamma, width)?, self.tensor(&beta, width)?];
        let b = &mut self.builder;
        let gamma = b.constant(&gamma, Element::F32, &[width], move || Cow::Borrowed(values[0]));
        let beta = b.constant(&beta, Element::F32, &[width], move || Cow::Borrowed(values[1]));
        let x = b.cast(x, Element::F32);
        let mean = b.reduce_mean(&x, axis, true);
        let centred = b.binary("Sub", &x, &mean);
        let squares = b.binary("Mul", &centred, &centred);
        let variance = b.reduce_mean(&squares, axis, true);
        let variance = b.with_scalar("Add", &variance, self.geometry.family.layer_norm_eps());
        let deviation = b.unary("Sqrt", &variance);
        let normed = b.binary("Div", &centred, &deviation);
        let scaled = b.binary("Mul", &normed, &gamma);
        Ok(b.binary("Add", &scaled, &beta))
    }

    /// [`Network::layer_norm`], then in the precision of activations.
    fn normed(&mut self, x: &Value, name: &str) -> Result<Value> {
        let normed = self.layer_norm(x, name)?;
        Ok(self.builder.cast(&normed, self.element))
    }

    /// The exact GELU, `x/2 · (1 + erf(x/√2))`, computed in FP32.
    fn gelu(&mut self, x: &Value) -> Value {
        let b = &mut self.builder;
        let wide = b.cast(x, Element::F32);
        let scaled = b.with_scalar("Div", &wide, std::f32::consts::SQRT_2);
        let erf = b.unary("Erf", &scaled);
        let gate = b.with_scalar("Add", &erf, 1.0);
        let product = b.binary("Mul", &wide, &gate);
        let half = b.with_scalar("Mul", &product, 0.5);
        b.cast(&half, x.element)
    }

    /// `fc2(gelu(fc1(x))) · scale`, of the layers below `name`.
    fn mlp(&mut self, x: &Value, name: &str, scale: f32) -> Result<Value> {
        let hidden = self.linear(x, &format!("{name}.fc1"), self.geometry.hidden)?;
        let hidden = self.gelu(&hidden);
        self.some_outputs(&hidden, &Linear::whole(&format!("{name}.fc2"), self.geometry.width, scale))
    }

    /// The reuse block over features of any shape `[.., C]`.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn reuse(&mut self, features: &Value) -> Result<Value> {
        self.builder.scope = "reuse_block".into();
        let normed = self.normed(features, "reuse_block.0")?;
        self.mlp(&normed, "reuse_block.1", 1.0)
    }

    /// Block `i` of all rows of `x`, `[B, N, C]`. Where `average` is given, the cls row of the attention enters it.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn block(&mut self, i: usize, x: &Value, average: Option<&mut Option<Value>>) -> Result<Value> {
        let width = self.geometry.width;
        self.builder.scope = format!("blocks.{i}.attn");
        let normed = self.normed(x, &format!("blocks.{i}.norm1"))?;
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
        let normed = self.normed(x, &format!("blocks.{i}.norm1"))?;
        let cls = self.builder.slice(&normed, 1, 0..1);
        let q = self.qkv(&cls, i, 0..width)?;
        let q = self.heads(&q);
        let kv = self.qkv(&normed, i, width..3 * width)?;
        let [k, v] = self.builder.split(&kv).map(|part| self.heads(&part));
        let mixed = self.attention(&q, &k, &v);
        let x = self.builder.slice(x, 1, 0..1);
        self.after_attention(i, &x, &mixed)
    }

    /// Some of block `i`'s queries, keys and values, with the attention's scale in the queries.
    fn qkv(&mut self, x: &Value, i: usize, range: Range<usize>) -> Result<Value> {
        let width = self.geometry.width;
        let scale = (self.geometry.head_dim() as f32).sqrt().recip();
        self.some_outputs(
            x,
            &Linear {
                name: &format!("blocks.{i}.attn.qkv"),
                outputs: 3 * width,
                range,
                scaled: (0..width, scale),
                bias: self.geometry.family == Family::Deit,
            },
        )
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
        let added = self.some_outputs(mixed, &Linear::whole(&proj, self.geometry.width, scale))?;
        let x = self.builder.binary("Add", x, &added);
        self.builder.scope = format!("blocks.{i}.mlp");
        let normed = self.normed(&x, &format!("blocks.{i}.norm2"))?;
        let added = self.mlp(&normed, &format!("blocks.{i}.mlp"), scale)?;
        Ok(self.builder.binary("Add", &x, &added))
    }
}

/// `[outputs, inputs]` to `[inputs, outputs]`, each output multiplied by its factor.
fn transposed(rows: &[f32], inputs: usize, factors: &[f32]) -> Vec<f32> {
    /// Inputs whose rows of the result are filled together, so that a line of the cache is used whole.
    const TILE: usize = 16;
    let outputs = factors.len();
    let mut out = vec![0.0; rows.len()];
    for first in (0..inputs).step_by(TILE) {
        for (output, (row, factor)) in rows.chunks_exact(inputs).zip(factors).enumerate() {
            for input in first..inputs.min(first + TILE) {
                out[input * outputs + output] = row[input] * factor;
            }
        }
    }
    out
}
