//! What every subcommand that decides pictures opens first: model, preprocessing, engine, threshold.

use std::path::Path;

use super::{DecisionArgs, ModelArgs};
use crate::cascade::Cascade;
use crate::error::Result;
use crate::frame::{Inputs, Picture};
use crate::model::Label;
use crate::preprocess::{Preprocess, decode};
use crate::{engine, model};

/// The threshold η where neither the command line nor the model says one.
const DEFAULT_THRESHOLD: f32 = 0.5;

/// A model, ready to decide.
pub struct Session {
    /// What the model is called.
    pub name: String,
    /// One per class, in class order.
    pub labels: Vec<Label>,
    /// The crop ratio in force.
    pub crop: f64,
    /// Makes the two tensors.
    pub preprocess: Preprocess,
    /// The engine with the threshold in force.
    pub cascade: Cascade,
}

impl Session {
    /// Opens what the arguments name; the model's own threshold and crop ratio stand where they say nothing.
    ///
    /// # Errors
    /// When the model cannot be read or does not fit the engine, or an argument is out of range.
    pub fn open(model: &ModelArgs, decision: &DecisionArgs) -> Result<Self> {
        let threads = model.threads;
        let model = model::open(model.model.as_deref(), model.heads)?;
        let threshold = decision.threshold.or(model.threshold).unwrap_or(DEFAULT_THRESHOLD);
        let crop = decision.crop.unwrap_or(model.crop);
        let preprocess = Preprocess::new(&model.geometry, crop)?;
        let (name, labels) = (model.name.clone(), model.labels.clone());
        let cascade = Cascade::new(engine::open(model, threads)?, threshold);
        Ok(Self { name, labels, crop, preprocess, cascade })
    }

    /// Reads the picture at `path` into `picture` and makes the two tensors of it; the memory of both is reused.
    ///
    /// # Errors
    /// When it cannot be read, naming the file.
    pub fn prepare(&mut self, path: &Path, picture: &mut Picture, inputs: &mut Inputs) -> Result<()> {
        decode::read(path, picture)?;
        self.preprocess.run(picture, inputs).map_err(|e| e.within(format!("cannot use {}", path.display())))
    }
}
