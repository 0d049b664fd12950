//! From a picture to the network's two tensors, exactly as the model was evaluated in training:
//!
//! 1. the shorter side is resized to `int(S / crop)` with Pillow's bicubic filter, `S` being the fine side;
//! 2. the central `S × S` pixels are kept;
//! 3. samples are scaled to `[0, 1]` and normalised: the fine tensor `[3, S, S]`;
//! 4. the fine tensor is resampled bilinearly with aligned corners: the coarse tensor `[3, S/2, S/2]`.
//!
//! A model is only as good as its preprocessing is like its training's, so every picture, whatever its source, goes this way.

mod bands;
pub mod decode;
mod jpeg;
pub mod resize;
pub mod tensors;

pub use bands::ForEach;

use crate::error::{Error, Kind, Result};
use crate::frame::{Inputs, Picture};
use crate::model::Geometry;

use bands::{Band, Tables};
use decode::MAX_SIDE;
use resize::CropBox;
use tensors::{Halver, Normalizer};

/// The smallest crop ratio that is accepted: below, a crop shows next to nothing.
pub const MIN_CROP: f64 = 0.01;

/// Makes the two tensors of one model. Keeps its tables and memory from one picture to the next.
pub struct Preprocess {
    short: usize,
    bands: Vec<Band>,
    tables: Tables,
    cropped: Vec<u8>,
}

impl Preprocess {
    /// For the model `geometry`, with the evaluation crop ratio `crop`: the shorter side is resized to `int(fine_side / crop)`.
    ///
    /// # Errors
    /// [`Kind::Usage`] when `crop` isn't in [`MIN_CROP`]`..=1`; [`Kind::Model`] when the model's fine side can't be that of a picture.
    pub fn new(geometry: &Geometry, crop: f64) -> Result<Self> {
        let side = geometry.fine_side();
        if !(2..=MAX_SIDE).contains(&side) || !side.is_multiple_of(2) {
            let message =
                format!("the model reads pictures of {side}×{side} pixels, expected an even side up to {MAX_SIDE}");
            return Err(Error::new(Kind::Model, message));
        }
        if !(MIN_CROP..=1.0).contains(&crop) {
            let message =
                format!("the crop ratio is {crop}, expected {MIN_CROP} to 1 (the published models use 0.875 and 0.9)");
            return Err(Error::new(Kind::Usage, message));
        }
        Ok(Self {
            short: (side as f64 / crop) as usize,
            bands: Band::of(side),
            tables: Tables { side, normalizer: Normalizer::default(), halver: Halver::new(side) },
            cropped: vec![0; side * side * 3],
        })
    }

    /// `S`: pixels on a side of the fine image.
    pub fn side(&self) -> usize {
        self.tables.side
    }

    /// Resizes, crops and normalises `picture` into `inputs`, whose memory is reused.
    ///
    /// # Errors
    /// [`Kind::Image`] when `picture` is empty or its bytes do not fit its sides.
    pub fn run(&mut self, picture: &Picture, inputs: &mut Inputs) -> Result<()> {
        self.run_on(picture, inputs, &mut |jobs, job| (0..jobs).for_each(job))
    }

    /// The same, its parts done by `for_each`.
    ///
    /// # Errors
    /// As [`Preprocess::run`].
    pub fn run_on(&mut self, picture: &Picture, inputs: &mut Inputs, for_each: ForEach<'_>) -> Result<()> {
        check(picture)?;
        let Self { short, bands, tables, cropped } = self;
        let pixels = tables.side * tables.side;
        inputs.fine.resize(3 * pixels, 0.0);
        inputs.coarse.resize(3 * pixels / 4, 0.0);
        let part = CropBox::centred(picture.width, picture.height, *short, tables.side);
        bands::make(bands, tables, (picture, part), (cropped, inputs), for_each)
    }

    /// Makes only the fine tensor of `picture`: what a single pass over all patches needs. The coarse one is left as it is.
    ///
    /// # Errors
    /// As [`Preprocess::run`].
    pub fn run_fine(&mut self, picture: &Picture, inputs: &mut Inputs) -> Result<()> {
        self.crop(picture)?;
        self.fill_fine(inputs);
        Ok(())
    }

    /// Normalises a `picture` that already has the fine size, without resizing or cropping.
    ///
    /// # Errors
    /// [`Kind::Image`] when it has another size.
    pub fn run_exact(&mut self, picture: &Picture, inputs: &mut Inputs) -> Result<()> {
        check(picture)?;
        let side = self.side();
        if (picture.width, picture.height) != (side, side) {
            let message = format!(
                "the picture is {}×{} pixels, the model reads {side}×{side}: crop it to that size, or let the program resize it",
                picture.width, picture.height
            );
            return Err(Error::new(Kind::Image, message));
        }
        self.cropped.copy_from_slice(&picture.rgb);
        self.fill(inputs);
        Ok(())
    }

    /// The pixels that the last run gave to the network: `[S, S, 3]` bytes.
    pub fn cropped(&self) -> &[u8] {
        &self.cropped
    }

    /// Resizes and crops `picture`.
    fn crop(&mut self, picture: &Picture) -> Result<()> {
        check(picture)?;
        let side = self.side();
        let part = CropBox::centred(picture.width, picture.height, self.short, side);
        let mut cropped = &mut self.cropped[..];
        self.bands.iter_mut().try_for_each(|band| {
            let (rows, rest) = std::mem::take(&mut cropped).split_at_mut(band.height() * side * 3);
            cropped = rest;
            band.crop(side, picture, part, rows)
        })
    }

    /// The fine tensor from the cropped pixels.
    fn fill_fine(&mut self, inputs: &mut Inputs) {
        inputs.fine.resize(3 * self.side() * self.side(), 0.0);
        self.tables.normalizer.apply(&self.cropped, &mut inputs.fine);
    }

    /// Both tensors from the cropped pixels.
    fn fill(&mut self, inputs: &mut Inputs) {
        self.fill_fine(inputs);
        inputs.coarse.resize(3 * self.side() * self.side() / 4, 0.0);
        self.tables.halver.apply(&inputs.fine, &mut inputs.coarse);
    }
}

/// Refuses a picture that is too large, empty, or inconsistent.
fn check(picture: &Picture) -> Result<()> {
    decode::check_size(picture.width, picture.height)?;
    let (found, expected) = (picture.rgb.len(), picture.width * picture.height * 3);
    if found != expected {
        let message = format!("a {}×{} picture has {found} bytes, expected {expected}", picture.width, picture.height);
        return Err(Error::new(Kind::Image, message));
    }
    Ok(())
}
