//! The engines: what runs the two stages. One trait, one implementation per backend.

pub mod cpu;
mod select;
pub mod swap;
#[cfg(feature = "tensorrt")]
pub mod tensorrt;

pub use select::{Backend, Options, open_on};

use crate::error::{Error, Kind, Result};
use crate::frame::{Choice, CoarseOutput};
use crate::model::onnx::Precision;
use crate::model::{Geometry, Macs, Model};

/// The most threads that `--threads` takes.
const MOST_THREADS: usize = 256;

/// Runs the two stages of one model. The features and embeddings of the last coarse pass stay inside, so a fine pass
/// always belongs to the coarse pass before it.
pub trait Engine: Send {
    /// The shape of the model.
    fn geometry(&self) -> &Geometry;

    /// One coarse pass over `image` (`[3, gP, gP]`, normalised). Reuses the memory of `output`.
    ///
    /// # Errors
    /// When `image` has another length, or the backend fails. After [`Kind::Device`] every further call fails alike.
    fn coarse(&mut self, image: &[f32], output: &mut CoarseOutput) -> Result<()>;

    /// One fine pass over `image` (`[3, 2gP, 2gP]`, normalised) with the cells of `choice`, reusing the last coarse pass.
    /// `logits` becomes `[classes]`; its memory is reused.
    ///
    /// # Errors
    /// When `image` or `choice` do not fit the geometry, no coarse pass came before, or the backend fails.
    fn fine(&mut self, image: &[f32], choice: &Choice, logits: &mut Vec<f32>) -> Result<()>;

    /// The most images that [`Engine::coarse_batch`] takes.
    fn max_batch(&self) -> usize {
        1
    }

    /// [`Engine::coarse`] for several images at once, from 1 to [`Engine::max_batch`]; `outputs` holds as many results. What the fine
    /// stage needs of the `i`-th image stays inside the engine as slot `i`, until the next coarse pass. Memory for a batch is allocated by
    /// the first one of its size.
    ///
    /// # Errors
    /// As [`Engine::coarse`], or when the numbers do not fit.
    fn coarse_batch(&mut self, images: &[&[f32]], outputs: &mut [CoarseOutput]) -> Result<()> {
        match (images, outputs) {
            ([image], [output]) => self.coarse(image, output),
            _ => Err(Error::new(Kind::Engine, format!("{} takes one image at a time", self.describe()))),
        }
    }

    /// [`Engine::fine`] for some of the images of the last coarse batch; `logits` holds as many results.
    ///
    /// # Errors
    /// As [`Engine::fine`], or when the numbers do not fit.
    fn fine_batch(&mut self, frames: &[FineFrame<'_>], logits: &mut [Vec<f32>]) -> Result<()> {
        match (frames, logits) {
            ([FineFrame { slot: 0, image, choice }], [logits]) => self.fine(image, choice, logits),
            _ => Err(Error::new(Kind::Engine, format!("{} takes one image at a time", self.describe()))),
        }
    }

    /// The static baseline that the cascade must beat: one pass of the same weights over all `1 + 4g²` fine tokens of `image`
    /// (`[3, 2gP, 2gP]`, normalised), without a coarse pass, a choice or reused features. `logits` becomes `[classes]`. Memory for it is
    /// allocated by the first call. The features of the last coarse pass are left as they are.
    ///
    /// # Errors
    /// When `image` has another length, or the backend fails.
    fn full(&mut self, image: &[f32], logits: &mut Vec<f32>) -> Result<()>;

    /// Multiply-accumulates that each pass really executes: what [`Geometry::macs`] counts, less what the backend saves without changing the
    /// result. The fine pass includes what the coarse one left to it.
    fn executed_macs(&self) -> Macs {
        self.geometry().macs()
    }

    /// Does nothing but multiply and add as fast as the backend's units can, `rounds` times over on each thread, and gives the number of
    /// floating-point operations; the caller times it. `None` where the backend has no such measure.
    fn peak_flops(&mut self, rounds: u64) -> Option<u64> {
        let _ = rounds;
        None
    }

    /// Does `job` once for each number below `jobs`, on the threads that the passes are computed on where there are any, and comes back when all
    /// are done: for work before and after a pass, while those threads would only wait.
    fn for_each(&mut self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        (0..jobs).for_each(job);
    }

    /// Milliseconds that the last pass took by the device's own clock; `None` where the device has none, and before the first pass.
    fn device_ms(&self) -> Option<f32> {
        None
    }

    /// What the stages compute in: `fp32`, or `fp16` where 16-bit floats are used.
    fn precision(&self) -> &'static str {
        "fp32"
    }

    /// One line for a person: backend, instruction set, threads.
    fn describe(&self) -> String;

    /// Everything but the weights and the geometry that decides the numbers which the engine gives: backend, precision, instruction set, or what
    /// its plans were built from. Two engines that share it and the weights give the same answers.
    fn identity(&self) -> String {
        self.describe()
    }
}

/// One image for [`Engine::fine_batch`].
#[derive(Clone, Copy, Debug)]
pub struct FineFrame<'a> {
    /// Which image of the last coarse batch it is.
    pub slot: usize,
    /// `[3, 2gP, 2gP]`, normalised.
    pub image: &'a [f32],
    /// The cells chosen from its class attention.
    pub choice: &'a Choice,
}

/// The threads that [`open`] takes by default.
pub fn default_threads() -> usize {
    cpu::physical_cores().min(MOST_THREADS)
}

/// Opens the CPU engine for `model` on `threads` threads, by default one for each physical core.
///
/// # Errors
/// [`Kind::Usage`] for a thread count out of 1 ..= 256; [`Kind::Model`] when a tensor does not fit the geometry.
pub fn open(model: Model, threads: Option<usize>) -> Result<Box<dyn Engine>> {
    open_in(model, threads, Precision::Fp32)
}

/// The same, multiplying in `precision`.
///
/// # Errors
/// As [`open`]; with [`Precision::Fp16`] also [`Kind::Usage`] on a processor without 16-bit arithmetic and [`Kind::Model`] where a weight
/// does not fit 16 bits.
pub fn open_in(model: Model, threads: Option<usize>, precision: Precision) -> Result<Box<dyn Engine>> {
    let threads = threads.unwrap_or_else(default_threads);
    if !(1..=MOST_THREADS).contains(&threads) {
        let message = format!("--threads {threads}: expected 1 to {MOST_THREADS}");
        return Err(Error::new(Kind::Usage, message));
    }
    Ok(Box::new(match precision {
        Precision::Fp16 => cpu::CpuEngine::new_half(model, threads)?,
        Precision::Fp32 => cpu::CpuEngine::new(model, threads)?,
    }))
}

/// Checks that `image` is `[3, side, side]`.
fn check_image(image: &[f32], side: usize) -> Result<()> {
    if image.len() == 3 * side * side {
        return Ok(());
    }
    let found = image.len();
    Err(Error::new(Kind::Engine, format!("the image has {found} values, expected 3×{side}×{side}")))
}

/// Checks that `choice` has as many cells as `geometry` says, all of its grid.
fn check_choice(choice: &Choice, geometry: &Geometry) -> Result<()> {
    let (cells, k) = (geometry.cells(), geometry.informative());
    let mut all = choice.informative.iter().chain(&choice.kept);
    if choice.informative.len() == k && choice.kept.len() == cells - k && all.all(|&cell| (cell as usize) < cells) {
        return Ok(());
    }
    let found = (choice.informative.len(), choice.kept.len());
    let expected = (k, cells - k);
    let message = format!("the choice holds {found:?} cells, expected {expected:?}, all below {cells}");
    Err(Error::new(Kind::Engine, message))
}
