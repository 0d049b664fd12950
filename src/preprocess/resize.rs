//! Resize and centre crop in one step: only the part of the picture that survives the crop is resampled.

use std::ops::Range;

use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

use crate::error::{Error, Kind, Result};
use crate::frame::Picture;

/// The part of a picture that a crop shows, in source pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CropBox {
    /// Distance from the left edge.
    pub left: f64,
    /// Distance from the upper edge.
    pub top: f64,
    /// Pixels across.
    pub width: f64,
    /// Pixels down.
    pub height: f64,
}

impl CropBox {
    /// Where the centred `side × side` crop lies in a `width × height` picture whose shorter side is resized to `short` (torchvision's
    /// `Resize` and `CenterCrop`, with their roundings). `0 < side ≤ short`; the box lies inside the picture.
    pub fn centred(width: usize, height: usize, short: usize, side: usize) -> Self {
        let shorter = width.min(height);
        let along = |length: usize| {
            // Both products are exact in 64 bits: sides are bounded by the decoder, `short` by `Preprocess::new`.
            let resized = if length == shorter { short } else { (short * length) / shorter };
            let offset = ((resized - side) as f64 / 2.0).round_ties_even();
            let scale = |x: f64| x * length as f64 / resized as f64;
            (scale(offset), scale(side as f64))
        };
        let (left, width) = along(width);
        let (top, height) = along(height);
        Self { left, top, width, height }
    }

    /// The part that shows the `rows` of a crop of `all` rows.
    pub fn rows(self, rows: Range<usize>, all: usize) -> Self {
        // A fraction first: for halves the products are exact then.
        let share = |rows: usize| self.height * (rows as f64 / all as f64);
        Self { top: self.top + share(rows.start), height: share(rows.len()), ..self }
    }
}

/// Pillow's bicubic filter: a = −0.5 (Catmull-Rom), widened where the picture shrinks, first along the rows and then along the
/// columns, 8-bit results of both. Keeps its memory from one picture to the next; the resampling library's filter tables (a few kB)
/// are all that is allocated per call.
#[derive(Default)]
pub struct Bicubic {
    resizer: Resizer,
    /// What is between the two passes.
    rows: Vec<u8>,
}

impl Bicubic {
    /// Resamples the part `from` of `picture` to `width × height` pixels, into `rgb` (`[height, width, 3]`).
    ///
    /// # Errors
    /// [`Kind::Image`] when the lengths of `picture.rgb` or `rgb` do not fit their sides or `from` isn't inside the picture.
    pub fn resample(
        &mut self,
        picture: &Picture,
        from: CropBox,
        rgb: &mut [u8],
        (width, height): (usize, usize),
    ) -> Result<()> {
        // In one call the library would go along the columns first; clipping to 8 bits in between, that differs from Pillow by up
        // to a dozen levels at sharp edges.
        let needed = needed_rows(from, picture.height, height);
        let between = Size { width, height: needed.len() };
        let source = Size { width: picture.width, height: picture.height };
        self.rows.resize(width * needed.len() * 3, 0);
        let horizontal = CropBox { top: needed.start as f64, height: needed.len() as f64, ..from };
        pass(&mut self.resizer, (&picture.rgb, source), horizontal, (&mut self.rows, between))?;
        let top = from.top - needed.start as f64;
        // What rounding adds beyond the last row would be refused.
        let down = from.height.min(between.height as f64 - top);
        let vertical = CropBox { left: 0.0, width: width as f64, top, height: down };
        pass(&mut self.resizer, (&self.rows, between), vertical, (rgb, Size { width, height }))
    }
}

/// The sides of a buffer.
#[derive(Clone, Copy)]
struct Size {
    width: usize,
    height: usize,
}

/// The source rows that the filter reads for `height` rows of the part `from`.
fn needed_rows(from: CropBox, source_height: usize, height: usize) -> Range<usize> {
    let scale = from.height / height as f64;
    let radius = 2.0 * scale.max(1.0);
    // A row more on both sides costs nothing and saves reasoning about rounding. Negative values become 0.
    let first = (from.top - radius - 1.0).floor() as usize;
    let end = (from.top + from.height + radius + 1.0).ceil() as usize;
    first.min(source_height)..end.min(source_height)
}

/// One call of the resampling library.
fn pass(
    resizer: &mut Resizer,
    (source, source_size): (&[u8], Size),
    from: CropBox,
    (target, target_size): (&mut [u8], Size),
) -> Result<()> {
    let failed = |cause: Box<dyn std::error::Error + Send + Sync>| {
        let Size { width, height } = source_size;
        Error::caused(Kind::Image, format!("cannot resize a {width}×{height} picture"), cause)
    };
    // The type of the pixels is said here and not at run time: the program carries the filters of no other (2 MB).
    let source = TypedImageRef::<U8x3>::from_buffer(side(source_size.width)?, side(source_size.height)?, source)
        .map_err(|e| failed(e.into()))?;
    let mut target = TypedImage::<U8x3>::from_buffer(side(target_size.width)?, side(target_size.height)?, target)
        .map_err(|e| failed(e.into()))?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom)).crop(
        from.left,
        from.top,
        from.width,
        from.height,
    );
    resizer.resize_typed(&source, &mut target, &options).map_err(|e| failed(e.into()))
}

/// A side as the resampling library takes it.
fn side(pixels: usize) -> Result<u32> {
    u32::try_from(pixels).map_err(|_| Error::new(Kind::Image, format!("a side of {pixels} pixels is too long")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Numbers from torchvision: 500×375 → Resize(256) gives 341×256, CenterCrop(224) starts at (58, 16): 58.5 rounds to even.
    #[test]
    fn a_landscape_picture_is_cropped_where_torchvision_crops() {
        let found = CropBox::centred(500, 375, 256, 224);
        let (x, y) = (500.0 / 341.0, 375.0 / 256.0);
        assert_eq!(found, CropBox { left: 58.0 * x, top: 16.0 * y, width: 224.0 * x, height: 224.0 * y });
    }

    proptest! {
        #[test]
        fn the_box_lies_inside_the_picture(
            width in 1usize..=16384, height in 1usize..=16384, side in 2usize..1000, more in 0usize..20000,
        ) {
            let found = CropBox::centred(width, height, side + more, side);
            prop_assert!(found.left >= 0.0 && found.top >= 0.0 && found.width > 0.0 && found.height > 0.0);
            prop_assert!(found.left + found.width <= width as f64, "{:?}", found);
            prop_assert!(found.top + found.height <= height as f64, "{:?}", found);
        }

        /// Resampling only what the crop shows gives "resize everything, then crop", up to rounding: the library scales its
        /// fixed-point weights by the largest one of a call, so that each of the two passes may round a sample the other way.
        #[test]
        fn cropping_before_resizing_changes_roundings_only(
            width in 1usize..90, height in 1usize..90, side in 2usize..40, more in 0usize..20, seed in any::<u64>(),
        ) {
            let short = side + more;
            let mut state = seed | 1;
            let rgb = std::iter::repeat_with(|| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            });
            let picture = Picture { width, height, rgb: rgb.take(width * height * 3).collect() };
            let (full_width, full_height) = match width <= height {
                true => (short, short * height / width),
                false => (short * width / height, short),
            };
            let mut full = vec![0; full_width * full_height * 3];
            let whole = CropBox { left: 0.0, top: 0.0, width: width as f64, height: height as f64 };
            Bicubic::default().resample(&picture, whole, &mut full, (full_width, full_height)).unwrap();
            let mut cropped = vec![0; side * side * 3];
            let part = CropBox::centred(width, height, short, side);
            Bicubic::default().resample(&picture, part, &mut cropped, (side, side)).unwrap();

            let left = ((full_width - side) as f64 / 2.0).round_ties_even() as usize;
            let mut different = 0;
            let top = ((full_height - side) as f64 / 2.0).round_ties_even() as usize;
            for (row, found) in cropped.chunks_exact(side * 3).enumerate() {
                let start = ((top + row) * full_width + left) * 3;
                for (&a, &b) in found.iter().zip(&full[start..start + side * 3]) {
                    prop_assert!(a.abs_diff(b) <= 2, "row {}: {} {}", row, a, b);
                    different += usize::from(a != b);
                }
            }
            prop_assert!(different <= 3 + cropped.len() / 10, "{} of {} samples", different, cropped.len());
        }
    }
}
