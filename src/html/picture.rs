//! Small pictures that lie inside a page.

use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::codecs::jpeg::JpegEncoder;
use image::{ImageBuffer, Rgb, imageops};

use crate::frame::Picture;
use crate::preprocess::decode;

/// The longest side, in pixels.
const SIDE: u32 = 160;
const QUALITY: u8 = 70;
/// A JPEG of that size and quality that is larger is noise, and left out; twenty of this size and their encoding leave half of a page.
const MAX_JPEG: usize = 18_000;

/// The picture in the file `path`, small, as the URL of an image that lies inside the page. `None` where it cannot be read: a mistake is
/// worth telling without its picture.
pub fn thumbnail(path: &Path) -> Option<String> {
    let mut picture = Picture::default();
    decode::read(path, &mut picture).ok()?;
    let (width, height) = (u32::try_from(picture.width).ok()?, u32::try_from(picture.height).ok()?);
    let large = ImageBuffer::<Rgb<u8>, _>::from_raw(width, height, picture.rgb)?;
    let scale = (f64::from(SIDE) / f64::from(width.max(height).max(1))).min(1.0);
    let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    let small = imageops::thumbnail(&large, side(width), side(height));
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, QUALITY).encode_image(&small).ok()?;
    (jpeg.len() <= MAX_JPEG).then(|| format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(&jpeg)))
}
