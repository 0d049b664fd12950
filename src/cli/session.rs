//! What every subcommand that decides pictures opens first: model, preprocessing, engine, threshold.

use std::path::Path;

use super::{DecisionArgs, ModelArgs};
use crate::cascade::{Cascade, Lap, Verdict};
use crate::error::{Error, Kind, Result};
use crate::frame::{Inputs, Picture, Timing};
use crate::model::Label;
use crate::preprocess::{Preprocess, decode};
use crate::report::text::printable;
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
    picture: Picture,
    inputs: Inputs,
}

/// One decided picture.
pub struct Decision<'a> {
    /// The answer.
    pub verdict: &'a Verdict,
    /// All steps, the preprocessing included.
    pub timing: Timing,
    /// One per class, in class order.
    pub labels: &'a [Label],
    /// The pixels that the network saw: `[S, S, 3]` bytes, `S` being the fine side.
    pub cropped: &'a [u8],
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
        let (picture, inputs) = (Picture::default(), Inputs::default());
        Ok(Self { name, labels, crop, preprocess, cascade, picture, inputs })
    }

    /// Reads the picture at `path` into `picture` and makes the two tensors of it; the memory of both is reused.
    ///
    /// # Errors
    /// When it cannot be read, naming the file.
    pub fn prepare(&mut self, path: &Path, picture: &mut Picture, inputs: &mut Inputs) -> Result<()> {
        decode::read(path, picture)?;
        self.preprocess.run(picture, inputs).map_err(|e| e.within(format!("cannot use {}", path.display())))
    }
    /// Reads the picture at `path` and decides it. With `exact` it must have the model's size and is only normalised.
    ///
    /// # Errors
    /// [`Kind::Image`], naming the file, when it cannot be read or has the wrong size; what the engine reports.
    pub fn decide(&mut self, path: &Path, exact: bool) -> Result<Decision<'_>> {
        decode::read(path, &mut self.picture)?;
        let mut clock = Lap::start();
        let prepared = match exact {
            true => self.preprocess.run_exact(&self.picture, &mut self.inputs),
            false => self.preprocess.run(&self.picture, &mut self.inputs),
        };
        prepared.map_err(|e| e.within(format!("cannot use {}", path.display())))?;
        let preprocess_ms = clock.lap_ms();
        let verdict = self.cascade.decide(&self.inputs)?;
        Ok(Decision {
            verdict,
            timing: Timing { preprocess_ms, ..verdict.timing },
            labels: &self.labels,
            cropped: self.preprocess.cropped(),
        })
    }
}

/// The pictures that could not be read: each is named at once, the others go on, and the command fails at its end.
#[derive(Default)]
pub struct Failures {
    count: usize,
}

impl Failures {
    /// The value of `result`; `None` for a bad picture, which is printed to standard error and counted.
    ///
    /// # Errors
    /// Every error that is not about one picture.
    pub fn note<T>(&mut self, result: Result<T>) -> Result<Option<T>> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.kind() == Kind::Image => {
                eprintln!("error: {}", printable(&error.to_string()));
                self.count += 1;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The command's result after `total` pictures.
    ///
    /// # Errors
    /// [`Kind::Image`] when a picture could not be read.
    pub fn finish(self, total: usize) -> Result<()> {
        match self.count {
            0 => Ok(()),
            count => Err(Error::new(Kind::Image, format!("{count} of {total} pictures could not be read, see above"))),
        }
    }
}
