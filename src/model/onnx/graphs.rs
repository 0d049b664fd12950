//! The three graphs, step by step as in section 3 of the paper (arXiv 2203.03821).

use super::builder::Value;
use super::file::OnnxFile;
use super::layers::Network;
use super::linear::Linear;
use super::{
    Bindings, CLASS_ATTENTION, COARSE_EMBEDDING, COARSE_FEATURES, COARSE_LOGITS, Element, FINE_LOGITS, Graph, Options,
    STATIC_LOGITS, bindings,
};
use crate::error::{Error, Kind, Result};
use crate::model::{AUX_HEAD_WEIGHT, FIRST_ATTENTION_BLOCK, Family, LVVIT_COARSE_DIVISOR, Model};

/// `graph` of `model`, ready to be written.
///
/// # Errors
/// [`Kind::Model`] when a tensor is missing or has another size than the geometry asks for.
pub fn build(model: &Model, options: Options, graph: Graph) -> Result<OnnxFile<'_>> {
    let mut network = Network::new(model, options);
    let Bindings { inputs, .. } = bindings(&model.geometry, options, graph);
    let inputs: Vec<Value> = inputs.iter().map(|binding| network.builder.input(binding)).collect();
    match (graph, inputs.as_slice()) {
        (Graph::Coarse, [image]) => network.coarse(image)?,
        (Graph::Fine, [image, features, embedding, informative, kept]) => {
            network.fine(image, features, embedding, [informative, kept])?;
        }
        (Graph::Static, [image]) => network.all_patches(image)?,
        _ => return Err(Error::new(Kind::Model, format!("the {} graph has other inputs", graph.as_str()))),
    }
    let about = format!("{}, {}, batch {}", model.geometry, options.precision.as_str(), options.batch);
    Ok(network.builder.finish(graph.as_str(), about))
}

impl Network<'_> {
    fn coarse(&mut self, image: &Value) -> Result<()> {
        let cells = self.geometry.cells();
        let patches = self.embed_all(image)?;
        let (cls, positions) = self.positions(0, cells)?;
        let embedding = self.builder.binary("Add", &patches, &positions);
        let mut x = self.builder.concat([&cls, &embedding], 1);
        let mut average = None;
        for i in 0..self.geometry.depth {
            x = self.block(i, &x, (i >= FIRST_ATTENTION_BLOCK).then_some(&mut average))?;
        }
        self.builder.scope = "norm".into();
        let normed = self.layer_norm(&x, "norm")?;
        let features = self.patch_rows(&normed);
        let logits = match self.geometry.family {
            Family::Deit => self.head(&normed)?,
            Family::Lvvit => {
                let sum = self.both_heads(&normed, &features)?;
                self.builder.with_scalar("Div", &sum, LVVIT_COARSE_DIVISOR)
            }
        };
        self.builder.output(COARSE_LOGITS, logits);
        let Some(average) = average else {
            let message = format!(
                "{} blocks: the class attention starts in block {}",
                self.geometry.depth,
                FIRST_ATTENTION_BLOCK + 1
            );
            return Err(Error::new(Kind::Model, message));
        };
        let attention = self.builder.slice(&average, 1, 1..1 + cells);
        self.builder.output(CLASS_ATTENTION, attention);
        self.builder.output(COARSE_FEATURES, features);
        self.builder.output(COARSE_EMBEDDING, embedding);
        Ok(())
    }

    fn fine(&mut self, image: &Value, features: &Value, embedding: &Value, choice: [&Value; 2]) -> Result<()> {
        let [informative, kept] = choice;
        let (batch, k, width) = (self.batch, self.geometry.informative(), self.geometry.width);
        self.builder.scope = "gather".into();
        let table = self.patches_of_cells();
        let chosen = self.builder.gather(&table, informative);
        let chosen = self.builder.reshape(&chosen, &[batch, 4 * k]);
        let features = self.gather_rows(features, informative);
        let kept = self.gather_rows(embedding, kept);
        let (cls, positions) = self.positions(1, 4 * self.geometry.cells())?;
        let positions = self.builder.gather(&positions, &chosen);

        let patches = self.embed_chosen(image, &chosen)?;
        let patches = self.builder.binary("Add", &patches, &positions);
        // Each of a cell's four patches gets the cell's feature.
        let patches = self.builder.reshape(&patches, &[batch, k, 4, width]);
        let reused = self.reuse(&features)?;
        let reused = self.builder.reshape(&reused, &[batch, k, 1, width]);
        let patches = self.builder.binary("Add", &patches, &reused);
        let patches = self.builder.reshape(&patches, &[batch, 4 * k, width]);
        let x = self.builder.concat([&cls, &patches, &kept], 1);
        let logits = self.trunk(x)?;
        self.builder.output(FINE_LOGITS, logits);
        Ok(())
    }

    fn all_patches(&mut self, image: &Value) -> Result<()> {
        let patches = self.embed_all(image)?;
        let (cls, positions) = self.positions(1, 4 * self.geometry.cells())?;
        let patches = self.builder.binary("Add", &patches, &positions);
        let x = self.builder.concat([&cls, &patches], 1);
        let logits = self.trunk(x)?;
        self.builder.output(STATIC_LOGITS, logits);
        Ok(())
    }

    /// From tokens to logits, where nobody needs more: all blocks, DeiT's last one of the cls row only.
    fn trunk(&mut self, mut x: Value) -> Result<Value> {
        let (depth, family) = (self.geometry.depth, self.geometry.family);
        for i in 0..depth {
            x = match family {
                Family::Deit if i + 1 == depth => self.cls_block(i, &x)?,
                _ => self.block(i, &x, None)?,
            };
        }
        self.builder.scope = "norm".into();
        let normed = self.layer_norm(&x, "norm")?;
        match family {
            Family::Deit => self.head(&normed),
            Family::Lvvit => {
                let features = self.patch_rows(&normed);
                self.both_heads(&normed, &features)
            }
        }
    }

    /// All rows of `normed` (`[B, N, C]`, FP32) but the cls row, in the precision of activations.
    fn patch_rows(&mut self, normed: &Value) -> Value {
        let rows = self.builder.slice(normed, 1, 1..normed.shape[1]);
        self.builder.cast(&rows, self.element)
    }

    /// The head over the cls row of `normed` (`[B, N, C]`, FP32): `[B, classes]`, FP32.
    fn head(&mut self, normed: &Value) -> Result<Value> {
        self.builder.scope = "head".into();
        let cls = self.builder.slice(normed, 1, 0..1);
        let cls = self.builder.reshape(&cls, &[self.batch, self.geometry.width]);
        self.linear(&cls, &Linear::whole("head", self.geometry.classes), Element::F32)
    }

    /// LV-ViT's logits: the head and the auxiliary head over `features` (`[B, patches, C]`).
    fn both_heads(&mut self, normed: &Value, features: &Value) -> Result<Value> {
        let logits = self.head(normed)?;
        self.builder.scope = "aux_head".into();
        let layer = Linear::whole("aux_head", self.geometry.classes);
        let aux = self.product(features, &layer)?;
        let largest = self.builder.reduce_max(&aux, 1);
        let largest = self.builder.cast(&largest, Element::F32);
        // The bias is every patch's: the largest sum is the largest product plus the bias.
        let largest = self.add_bias(&largest, &layer, self.geometry.width)?;
        let weighted = self.builder.with_scalar("Mul", &largest, AUX_HEAD_WEIGHT);
        Ok(self.builder.binary("Add", &logits, &weighted))
    }
}
