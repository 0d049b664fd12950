//! Linear layers, and what is folded into their weights.

use std::borrow::Cow;
use std::ops::Range;

use super::Element;
use super::builder::Value;
use super::layers::Network;
use crate::error::Result;

/// Some outputs of a linear layer.
pub struct Linear<'n> {
    /// Without `.weight` and `.bias`.
    pub name: &'n str,
    /// Of the whole layer.
    pub outputs: usize,
    /// Those that are computed.
    pub range: Range<usize>,
    /// Outputs that are multiplied by a factor.
    pub scaled: (Range<usize>, f32),
    /// Whether the model has a bias for it.
    pub bias: bool,
    /// The LayerNorm before it, of which the graph computes the normalisation only: `W·(γn + β) + b = (Wγ)·n + (Wβ + b)`. That is exact,
    /// and in FP16 more precise: of a product of two numbers one rounding is left, of `Wβ` none.
    pub norm: Option<&'n str>,
}

impl<'n> Linear<'n> {
    /// The whole layer.
    pub fn whole(name: &'n str, outputs: usize) -> Self {
        Self { name, outputs, range: 0..outputs, scaled: (0..0, 1.0), bias: true, norm: None }
    }

    /// The whole layer, multiplied by `scale`.
    pub fn times(self, scale: f32) -> Self {
        Self { scaled: (0..self.outputs, scale), ..self }
    }

    /// With the LayerNorm `norm` folded in.
    pub fn after(self, norm: &'n str) -> Self {
        Self { norm: Some(norm), ..self }
    }

    /// The name of a tensor of these outputs.
    fn part(&self, tensor: &str) -> String {
        let Range { start, end } = self.range;
        if end - start == self.outputs { tensor.into() } else { format!("{tensor}[{start}:{end}]") }
    }

    fn factors(&self) -> Vec<f32> {
        let (scaled, factor) = &self.scaled;
        self.range.clone().map(|output| if scaled.contains(&output) { *factor } else { 1.0 }).collect()
    }
}

impl<'a> Network<'a> {
    /// A linear layer over the last axis of `x`. The product is in the precision of `x`; the bias is added in that of the result, `element`.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn linear(&mut self, x: &Value, layer: &Linear<'_>, element: Element) -> Result<Value> {
        let product = self.product(x, layer)?;
        let product = self.builder.cast(&product, element);
        if !layer.bias && layer.norm.is_none() {
            return Ok(product);
        }
        self.add_bias(&product, layer, x.shape.last().copied().unwrap_or_default())
    }

    /// A linear layer over the last axis of `x` without its bias.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn product(&mut self, x: &Value, layer: &Linear<'_>) -> Result<Value> {
        let inputs = x.shape.last().copied().unwrap_or_default();
        let (rows, factors) = (self.rows(layer, inputs)?, layer.factors());
        let gamma = layer.norm.map(|norm| self.tensor(&format!("{norm}.weight"), inputs)).transpose()?;
        let shape = [inputs, factors.len()];
        let values = move || Cow::Owned(transposed(rows, inputs, &factors, gamma));
        let name = layer.part(&format!("{}.weight", layer.name));
        let weight = self.builder.constant(&name, x.element, &shape, values);
        Ok(self.builder.matmul(x, &weight))
    }

    /// The bias of a layer of so many `inputs`, added to `x` in its precision.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn add_bias(&mut self, x: &Value, layer: &Linear<'_>, inputs: usize) -> Result<Value> {
        let name = format!("{}.bias", layer.name);
        let mut bias = match layer.bias {
            true => self.tensor(&name, layer.outputs)?[layer.range.clone()].to_vec(),
            false => vec![0.0; layer.range.len()],
        };
        if let Some(norm) = layer.norm {
            let beta = self.tensor(&format!("{norm}.bias"), inputs)?;
            for (bias, row) in bias.iter_mut().zip(self.rows(layer, inputs)?.chunks_exact(inputs)) {
                let sum: f64 = row.iter().zip(beta).map(|(&w, &beta)| f64::from(w) * f64::from(beta)).sum();
                *bias = (f64::from(*bias) + sum) as f32;
            }
        }
        bias.iter_mut().zip(layer.factors()).for_each(|(bias, factor)| *bias *= factor);
        let shape = [bias.len()];
        let bias = self.builder.constant(&layer.part(&name), x.element, &shape, move || Cow::Owned(bias.clone()));
        Ok(self.builder.binary("Add", x, &bias))
    }

    /// The weights of the outputs that are computed, `[outputs, inputs]`.
    fn rows(&self, layer: &Linear<'_>, inputs: usize) -> Result<&'a [f32]> {
        let weight = self.tensor(&format!("{}.weight", layer.name), layer.outputs * inputs)?;
        Ok(&weight[layer.range.start * inputs..layer.range.end * inputs])
    }
}

/// `[outputs, inputs]` to `[inputs, outputs]`, each output multiplied by its factor, each input by its `gamma`.
fn transposed(rows: &[f32], inputs: usize, factors: &[f32], gamma: Option<&[f32]>) -> Vec<f32> {
    /// Inputs whose rows of the result are filled together, so that a line of the cache is used whole.
    const TILE: usize = 16;
    let outputs = factors.len();
    let mut out = vec![0.0; rows.len()];
    for first in (0..inputs).step_by(TILE) {
        for (output, (row, factor)) in rows.chunks_exact(inputs).zip(factors).enumerate() {
            for input in first..inputs.min(first + TILE) {
                out[input * outputs + output] = row[input] * factor * gamma.map_or(1.0, |gamma| gamma[input]);
            }
        }
    }
    out
}
