//! Placeholder.

use std::path::Path;

use crate::error::{Error, Kind, Result};
use crate::frame::{Inputs, Picture};
use crate::model::Geometry;

/// Placeholder.
pub struct Preprocess;

impl Preprocess {
    /// Placeholder.
    ///
    /// # Errors
    /// Placeholder.
    pub fn new(_geometry: &Geometry, _crop: f64) -> Result<Self> {
        Err(Error::new(Kind::Image, "placeholder"))
    }

    /// Placeholder.
    ///
    /// # Errors
    /// Placeholder.
    pub fn run(&mut self, _picture: &Picture, _inputs: &mut Inputs) -> Result<()> {
        Err(Error::new(Kind::Image, "placeholder"))
    }
}

/// Placeholder.
///
/// # Errors
/// Placeholder.
pub fn decode_file(_path: &Path) -> Result<Picture> {
    Err(Error::new(Kind::Image, "placeholder"))
}
