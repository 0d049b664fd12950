//! What the subcommands that decide pictures share: the model, its preprocessing and its cascade, opened from the command line.

use std::path::Path;

use super::{DecisionArgs, ModelArgs};
use crate::calibrate::{self, InForce, Keys};
use crate::cascade::{Cascade, Lap, Verdict};
use crate::doctor;
use crate::engine::{self, Backend};
use crate::error::{Error, Kind, Result};
use crate::frame::{Inputs, Picture, Timing};
use crate::model::package::Certificate;
use crate::model::{self, Geometry, Label, StoredResults};
use crate::preprocess::{Preprocess, decode};
use crate::report::text::printable;

/// The threshold η where neither the command line nor the model says one.
pub const DEFAULT_THRESHOLD: f32 = 0.5;

/// A model that is ready to decide pictures, one after the other. Its memory is reused from picture to picture.
pub struct Session {
    /// What the model is called.
    pub name: String,
    /// One per class, in class order.
    pub labels: Vec<Label>,
    /// The crop ratio in force.
    pub crop: f64,
    /// Makes the two tensors.
    pub preprocess: Preprocess,
    /// The engine, with the threshold in force.
    pub cascade: Cascade,
    /// What the model's makers measured of it, if they tell.
    pub results: StoredResults,
    /// The certificate that the command line names, else the model's.
    pub certificate: Option<Certificate>,
    /// What a certificate must be made for to hold here; known where there is one, and where it was asked for.
    pub keys: Option<Keys>,
    /// The threshold in force and what it rests on.
    pub in_force: InForce,
    /// The tensors of the picture prepared last.
    pub inputs: Inputs,
    picture: Picture,
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
    /// Opens the model that `args` name; the certificate's threshold, else the model's own, and the model's crop ratio stand where `decision`
    /// says nothing. A certificate that does not hold here is warned of, and every frame refined.
    ///
    /// # Errors
    /// When the model or the certificate cannot be opened, or a value does not fit the model.
    pub fn open(args: &ModelArgs, decision: &DecisionArgs) -> Result<Self> {
        Self::open_keyed(args, decision, false)
    }

    /// The same; with `keyed` also where there is no certificate, the keys for one are found, which reads all weights.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open_keyed(args: &ModelArgs, decision: &DecisionArgs, keyed: bool) -> Result<Self> {
        let mut model = model::open(args.model.as_deref(), args.heads)?;
        let crop = decision.crop.unwrap_or(model.crop);
        let preprocess = Preprocess::new(&model.geometry, crop)?;
        let own = model.certificate.take();
        let certificate = decision.certificate.as_deref().map(Certificate::read).transpose()?.or(own);
        let weights = (keyed || certificate.is_some()).then(|| calibrate::weights_sha256(&model));
        let threshold = model.threshold.unwrap_or(DEFAULT_THRESHOLD);
        let (name, labels) = (std::mem::take(&mut model.name), std::mem::take(&mut model.labels));
        let results = std::mem::take(&mut model.results);
        let package = args.model.as_deref().filter(|path| path.is_dir());
        let options =
            engine::Options { backend: backend(args)?, threads: args.threads, precision: args.precision, package };
        let engine = engine::open_on(model, &options)?;
        let mode = || doctor::power_mode_name(Path::new("/"));
        let keys = weights.map(|weights| Keys::new(&weights, engine.as_ref(), crop, mode()));
        let promised = certificate.as_ref().zip(keys.as_ref());
        let in_force = calibrate::in_force(decision.threshold, promised, threshold, decision.allow_uncertified);
        if let Some(warning) = in_force.warning() {
            log::warn!("{warning}");
        }
        let cascade = Cascade::new(engine, in_force.threshold);
        let (picture, inputs) = Default::default();
        Ok(Self { name, labels, crop, preprocess, cascade, results, certificate, keys, in_force, inputs, picture })
    }

    /// The threshold η in force.
    pub fn threshold(&self) -> f32 {
        self.cascade.threshold()
    }

    /// The shape of the model.
    pub fn geometry(&self) -> &Geometry {
        self.cascade.engine().geometry()
    }

    /// Reads the picture at `path` and makes its two tensors. With `exact` it must have the model's size and is only normalised.
    /// Gives the milliseconds that the preprocessing took, without reading and decoding.
    ///
    /// # Errors
    /// When the picture cannot be read or has the wrong size, naming the file.
    pub fn prepare(&mut self, path: &Path, exact: bool) -> Result<f64> {
        decode::read(path, &mut self.picture)?;
        let mut clock = Lap::start();
        let prepared = match exact {
            true => self.preprocess.run_exact(&self.picture, &mut self.inputs),
            false => self.preprocess.run(&self.picture, &mut self.inputs),
        };
        prepared.map_err(|e| e.within(format!("cannot use the picture {}", path.display())))?;
        Ok(clock.lap_ms())
    }

    /// Prepares the picture at `path` and decides it.
    ///
    /// # Errors
    /// As [`Session::prepare`], or when the engine fails.
    pub fn decide(&mut self, path: &Path, exact: bool) -> Result<Decision<'_>> {
        let preprocess_ms = self.prepare(path, exact)?;
        let verdict = self.cascade.decide(&self.inputs)?;
        Ok(Decision {
            verdict,
            timing: Timing { preprocess_ms, ..verdict.timing },
            labels: &self.labels,
            cropped: self.preprocess.cropped(),
        })
    }
}

/// The backend that `args` ask for, which `--heads` can rule out.
fn backend(args: &ModelArgs) -> Result<Backend> {
    let message = "--heads has no effect on plans, which are built with the package's own: `cfvit import --heads N` puts it there";
    match (args.backend.unwrap_or_default(), args.heads) {
        (Backend::TensorRt, Some(_)) => Err(Error::new(Kind::Usage, message)),
        (Backend::Auto, Some(_)) => {
            log::warn!("running on the CPU: {message}");
            Ok(Backend::Cpu)
        }
        (backend, _) => Ok(backend),
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
