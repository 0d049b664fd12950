//! What the subcommands that decide pictures share: the model, its preprocessing and its cascade, opened from the command line.

use std::path::Path;

use super::ModelArgs;
use crate::cascade::{Cascade, Lap, Verdict};
use crate::engine;
use crate::error::{Error, Kind, Result};
use crate::frame::{Inputs, Picture, Timing};
use crate::model::{self, Geometry, Label};
use crate::preprocess::{MIN_CROP, Preprocess, decode};
use crate::report::text::printable;

/// The threshold η where neither the command line nor the model says one.
pub const DEFAULT_THRESHOLD: f32 = 0.5;

/// A model that is ready to decide pictures, one after the other. Its memory is reused from picture to picture.
pub struct Session {
    labels: Vec<Label>,
    preprocess: Preprocess,
    cascade: Cascade,
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
    /// Opens the model that `args` name; `threshold` and `crop` override what it brings.
    ///
    /// # Errors
    /// When the model cannot be opened, or a value does not fit it.
    pub fn open(args: &ModelArgs, threshold: Option<f32>, crop: Option<f64>) -> Result<Self> {
        let mut model = model::open(args.model.as_deref(), args.heads)?;
        let preprocess = Preprocess::new(&model.geometry, crop.unwrap_or(model.crop))?;
        let threshold = threshold.or(model.threshold).unwrap_or(DEFAULT_THRESHOLD);
        let labels = std::mem::take(&mut model.labels);
        let cascade = Cascade::new(engine::open(model, args.threads)?, threshold);
        Ok(Self { labels, preprocess, cascade, picture: Picture::default(), inputs: Inputs::default() })
    }

    /// The threshold η in force.
    pub fn threshold(&self) -> f32 {
        self.cascade.threshold()
    }

    /// The shape of the model.
    pub fn geometry(&self) -> &Geometry {
        self.cascade.engine().geometry()
    }

    /// Reads the picture at `path` and decides it. With `exact` it must have the model's size and is only normalised.
    ///
    /// # Errors
    /// When the picture cannot be read or has the wrong size, or the engine fails.
    pub fn decide(&mut self, path: &Path, exact: bool) -> Result<Decision<'_>> {
        decode::read(path, &mut self.picture)?;
        let mut clock = Lap::start();
        if exact {
            let named = |e: Error| e.within(path.display().to_string());
            self.preprocess.run_exact(&self.picture, &mut self.inputs).map_err(named)?;
        } else {
            self.preprocess.run(&self.picture, &mut self.inputs)?;
        }
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

/// A threshold on the command line: finite and not negative.
pub fn parse_threshold(text: &str) -> std::result::Result<f32, String> {
    let valid = |eta: &f32| eta.is_finite() && *eta >= 0.0;
    text.parse().ok().filter(valid).ok_or_else(|| "expected a number from 0 upward".to_owned())
}

/// A crop ratio on the command line.
pub fn parse_crop(text: &str) -> std::result::Result<f64, String> {
    let valid = |ratio: &f64| (MIN_CROP..=1.0).contains(ratio);
    text.parse().ok().filter(valid).ok_or_else(|| format!("expected a number from {MIN_CROP} to 1"))
}
