//! Where the pixels of a frame lie.

use super::{Colours, PixelFormat};
use crate::error::{Error, Kind, Result};
use crate::preprocess::decode::check_size;

/// No compressed picture is shorter.
const LEAST_COMPRESSED: usize = 64;

/// Where the pixels of a frame lie, and how they are meant. Every layout that exists fits its frame into memory: what a driver says is
/// checked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    format: PixelFormat,
    width: usize,
    height: usize,
    stride: usize,
    colours: Colours,
}

impl Layout {
    /// `width × height` pixels in rows that begin `stride` bytes after each other (of the first plane, where there are several; planes of
    /// half the width have half of it). 0 means without gaps.
    ///
    /// # Errors
    /// [`Kind::Source`] when the picture is empty or too large, or its rows overlap.
    pub fn new(format: PixelFormat, (width, height): (usize, usize), stride: usize, colours: Colours) -> Result<Self> {
        let wrong = |message: String| Error::new(Kind::Source, message);
        let named = format.name();
        check_size(width, height).map_err(|e| wrong(format!("the driver gives {named} {width}×{height}: {e}")))?;
        // No overflow: the sides are bounded.
        let tight = row_bytes(format, width);
        let stride = if stride == 0 { tight } else { stride };
        // Bounded too, so that products with it cannot overflow: no driver pads a row by more than the longest row there is.
        const MOST: usize = 1 << 20;
        if !format.is_compressed() && !(tight..=MOST).contains(&stride) {
            let message = format!(
                "the driver gives {named} {width}×{height} in rows of {stride} bytes, expected {tight} to {MOST}"
            );
            return Err(wrong(message));
        }
        Ok(Self { format, width, height, stride, colours })
    }

    /// The format of the pixels.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Bytes from one row to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// How the numbers are meant.
    pub fn colours(&self) -> Colours {
        self.colours
    }

    /// Colour samples in a row, where they are at half the resolution.
    pub(super) fn chroma_width(&self) -> usize {
        self.width.div_ceil(2)
    }

    /// Rows of colour samples in 4:2:0.
    pub(super) fn chroma_height(&self) -> usize {
        self.height.div_ceil(2)
    }

    /// Bytes that a whole frame has at least; gaps after the last row need not be there.
    pub fn needed_bytes(&self) -> usize {
        use PixelFormat::*;
        let last = row_bytes(self.format, self.width);
        let luma = self.stride * self.height;
        match self.format {
            Yuyv | Uyvy | Rgb24 | Bgr24 | Grey => luma - self.stride + last,
            Nv12 | Nv21 => luma + self.stride * (self.chroma_height() - 1) + 2 * self.chroma_width(),
            I420 | Yv12 => luma + self.stride / 2 * (2 * self.chroma_height() - 1) + self.chroma_width(),
            Mjpeg | Jpeg => LEAST_COMPRESSED,
        }
    }

    /// What is said about the colours, for a person.
    pub fn describe_colours(&self) -> String {
        use PixelFormat::*;
        match self.format {
            Mjpeg | Jpeg => "colours as in JPEG files".to_owned(),
            Rgb24 | Bgr24 | Grey => self.colours.range.to_string(),
            _ => format!("{}, {}", self.colours.matrix, self.colours.range),
        }
    }
}

/// Bytes of a row of the first plane without gaps. Rows of half as many colour samples fit into it too.
fn row_bytes(format: PixelFormat, width: usize) -> usize {
    use PixelFormat::*;
    match format {
        Yuyv | Uyvy => width.div_ceil(2) * 4,
        Nv12 | Nv21 | I420 | Yv12 => width.div_ceil(2) * 2,
        Rgb24 | Bgr24 => width * 3,
        Grey => width,
        Mjpeg | Jpeg => 0,
    }
}
