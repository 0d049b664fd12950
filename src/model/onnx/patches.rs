//! How pictures become tokens.

use std::borrow::Cow;

use super::Element;
use super::builder::Value;
use super::layers::Network;
use super::linear::Linear;
use crate::error::Result;
use crate::model::Family;
use crate::model::batch_norm;

impl<'a> Network<'a> {
    /// The embedding of every patch of `image`, `[B, 3, side, side]` in FP32, row by row, without positions: `[B, patches, C]`, FP32.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn embed_all(&mut self, image: &Value) -> Result<Value> {
        self.builder.scope = "patch_embed".into();
        let (map, window) = self.map(image)?;
        let name = "patch_embed.proj";
        let (channels, width) = (map.shape[1], self.geometry.width);
        let weight = self.tensor(&format!("{name}.weight"), width * channels * window * window)?;
        let bias = self.tensor(&format!("{name}.bias"), width)?;
        let b = &mut self.builder;
        let map = b.cast(&map, Element::F32);
        let shape = [width, channels, window, window];
        let weight = b.constant(&format!("{name}.weight"), Element::F32, &shape, move || Cow::Borrowed(weight));
        let bias = b.constant(&format!("{name}.bias"), Element::F32, &[width], move || Cow::Borrowed(bias));
        let tokens = b.convolution(&map, &weight, &bias, window, 0);
        let patches = tokens.shape[2] * tokens.shape[3];
        let tokens = b.reshape(&tokens, &[self.batch, width, patches]);
        Ok(b.transpose(&tokens, &[0, 2, 1]))
    }

    /// The embedding of some patches of `image`: `chosen` (`[B, n]`, INT32) counts row by row in the grid of patches. `[B, n, C]`, FP32.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn embed_chosen(&mut self, image: &Value, chosen: &Value) -> Result<Value> {
        self.builder.scope = "patch_embed".into();
        let (map, window) = self.map(image)?;
        let (batch, channels, grid) = (self.batch, map.shape[1], map.shape[2] / window);
        let b = &mut self.builder;
        let split = b.reshape(&map, &[batch, channels, grid, window, grid, window]);
        let patches = b.transpose(&split, &[0, 2, 4, 1, 3, 5]);
        let patches = b.reshape(&patches, &[batch, grid * grid, channels * window * window]);
        let patches = self.gather_rows(&patches, chosen);
        let patches = self.builder.cast(&patches, Element::F32);
        self.linear(&patches, &Linear::whole("patch_embed.proj", self.geometry.width), Element::F32)
    }

    /// Rows of `x`, `[B, rows, n]`, that `indices`, `[B, m]`, name in each picture of the batch: `[B, m, n]`.
    pub fn gather_rows(&mut self, x: &Value, indices: &Value) -> Value {
        let (batch, rows) = (x.shape[0], x.shape[1]);
        let b = &mut self.builder;
        let flat = b.reshape(x, &[batch * rows, x.shape[2]]);
        if batch == 1 {
            return b.gather(&flat, indices);
        }
        let starts = (0..batch).map(|picture| (picture * rows) as i64).collect();
        let starts = b.indices(&format!("constant.starts.{rows}"), &[batch, 1], starts);
        let indices = b.binary("Add", indices, &starts);
        b.gather(&flat, &indices)
    }

    /// What patches are cut from, and their window in it: the picture itself (DeiT, FP32), or what the stem makes of it. The stem is a large part
    /// of the work, so it computes in the precision of activations.
    fn map(&mut self, image: &Value) -> Result<(Value, usize)> {
        match self.geometry.family {
            Family::Deit => Ok((image.clone(), self.geometry.patch)),
            Family::Lvvit => {
                let image = self.builder.cast(image, self.element);
                let map = self.stem_layer(&image, 1, 7, 2)?;
                let map = self.stem_layer(&map, 2, 3, 1)?;
                Ok((self.stem_layer(&map, 3, 3, 1)?, self.geometry.patch / 2))
            }
        }
    }

    /// A convolution of the stem with its batch norm, and a ReLU.
    fn stem_layer(&mut self, x: &Value, i: usize, window: usize, stride: usize) -> Result<Value> {
        let (stem, channels) = (self.geometry.stem, x.shape[1]);
        let name = format!("patch_embed.conv{i}");
        let weight = self.tensor(&format!("{name}.weight"), stem * channels * window * window)?;
        let part = |part: &str| self.tensor(&format!("patch_embed.bn{i}.{part}"), stem);
        let statistics = [part("weight")?, part("bias")?, part("running_mean")?, part("running_var")?];
        let (weight, bias) = batch_norm::fold(weight, statistics);
        let shape = [stem, channels, window, window];
        let weight = self.owned(&format!("{name}.weight"), self.element, &shape, weight);
        let bias = self.owned(&format!("{name}.bias"), self.element, &[stem], bias);
        let map = self.builder.convolution(x, &weight, &bias, stride, window / 2);
        Ok(self.builder.unary("Relu", &map))
    }

    /// A small constant that is kept until it is written.
    fn owned(&mut self, name: &str, element: Element, shape: &[usize], values: Vec<f32>) -> Value {
        self.builder.constant(name, element, shape, move || Cow::Owned(values.clone()))
    }

    /// For each coarse cell the four fine patches that it covers, `[g², 4]`.
    pub fn patches_of_cells(&mut self) -> Value {
        let grid = self.geometry.grid;
        let patch = |cell: usize, part: usize| (2 * (cell / grid) + part / 2) * 2 * grid + 2 * (cell % grid) + part % 2;
        let patches = (0..grid * grid).flat_map(|cell| (0..4).map(move |part| patch(cell, part) as i64)).collect();
        self.builder.indices("constant.patches_of_cells", &[grid * grid, 4], patches)
    }

    /// The cls token with its `position` (`[C]`), once for each picture: `[B, 1, C]`.
    fn cls(&mut self, position: &[f32]) -> Result<Value> {
        let width = self.geometry.width;
        let cls = self.tensor("cls_token", width)?;
        let row: Vec<f32> = cls.iter().zip(position).map(|(cls, position)| cls + position).collect();
        let shape = [self.batch, 1, width];
        Ok(self.owned("cls_token", Element::F32, &shape, row.repeat(self.batch)))
    }

    /// `pos_embed_list.{stage}`: the cls token with its row, once for each picture (`[B, 1, C]`), and the patches' rows (`[patches, C]`), FP32.
    ///
    /// # Errors
    /// As [`Network::tensor`].
    pub fn positions(&mut self, stage: usize, patches: usize) -> Result<(Value, Value)> {
        let width = self.geometry.width;
        let name = format!("pos_embed_list.{stage}");
        let (cls, rest) = self.tensor(&name, (1 + patches) * width)?.split_at(width);
        let cls = self.cls(cls)?;
        Ok((cls, self.builder.constant(&name, Element::F32, &[patches, width], move || Cow::Borrowed(rest))))
    }
}
