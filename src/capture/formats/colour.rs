//! What a driver says about the colours of its pixels. Numbers and defaults are those of V4L2's documentation ("Colorspaces").

use std::fmt;

use yuv::{YuvRange, YuvStandardMatrix};

/// How brightness and colour differences follow from red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matrix {
    /// ITU-R BT.601: most cameras, and JPEG.
    Bt601,
    /// ITU-R BT.709: high definition.
    Bt709,
    /// ITU-R BT.2020: ultra-high definition.
    Bt2020,
    /// SMPTE 240M: early high definition.
    Smpte240m,
}

/// Which values mean black and white.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// 16 and 235; colour differences 16 to 240.
    Limited,
    /// 0 and 255.
    Full,
}

/// How the numbers of a picture are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colours {
    /// Without meaning in RGB and grey.
    pub matrix: Matrix,
    /// Which values mean black and white.
    pub range: Range,
}

impl Colours {
    /// From the fields `colorspace`, `ycbcr_enc` and `quantization` of `v4l2_pix_format`, with V4L2's defaults for what is 0 or unknown.
    pub fn of_v4l2(is_rgb: bool, colorspace: u32, encoding: u32, quantization: u32) -> Self {
        /// `V4L2_COLORSPACE_…`
        const SMPTE240M: u32 = 2;
        const REC709: u32 = 3;
        const JPEG: u32 = 7;
        const BT2020: u32 = 10;
        const DCI_P3: u32 = 12;
        // V4L2_YCBCR_ENC_601, 709, XV601, XV709, SYCC, BT2020, BT2020_CONST_LUM, SMPTE240M
        let matrix = match (encoding, colorspace) {
            (1 | 3 | 5, _) => Matrix::Bt601,
            (2 | 4, _) | (_, REC709 | DCI_P3) => Matrix::Bt709,
            (6 | 7, _) | (_, BT2020) => Matrix::Bt2020,
            (8, _) | (_, SMPTE240M) => Matrix::Smpte240m,
            _ => Matrix::Bt601,
        };
        // V4L2_QUANTIZATION_FULL_RANGE, LIM_RANGE
        let range = match quantization {
            1 => Range::Full,
            2 => Range::Limited,
            _ if is_rgb || colorspace == JPEG => Range::Full,
            _ => Range::Limited,
        };
        Self { matrix, range }
    }

    pub(super) fn library_matrix(self) -> YuvStandardMatrix {
        match self.matrix {
            Matrix::Bt601 => YuvStandardMatrix::Bt601,
            Matrix::Bt709 => YuvStandardMatrix::Bt709,
            Matrix::Bt2020 => YuvStandardMatrix::Bt2020,
            // The library's own constants for it (0.8.20) are off by up to 9 levels.
            Matrix::Smpte240m => YuvStandardMatrix::Custom(0.212, 0.087),
        }
    }

    pub(super) fn library_range(self) -> YuvRange {
        match self.range {
            Range::Limited => YuvRange::Limited,
            Range::Full => YuvRange::Full,
        }
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bt601 => "BT.601",
            Self::Bt709 => "BT.709",
            Self::Bt2020 => "BT.2020",
            Self::Smpte240m => "SMPTE 240M",
        })
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Limited => "limited range",
            Self::Full => "full range",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_leaves_open_is_v4l2s_default() {
        let of = |is_rgb, colorspace, encoding, quantization| {
            let colours = Colours::of_v4l2(is_rgb, colorspace, encoding, quantization);
            (colours.matrix, colours.range)
        };
        // sRGB (8), as most UVC cameras say.
        assert_eq!(of(false, 8, 0, 0), (Matrix::Bt601, Range::Limited));
        assert_eq!(of(true, 8, 0, 0), (Matrix::Bt601, Range::Full));
        assert_eq!(of(false, 0, 0, 0), (Matrix::Bt601, Range::Limited));
        assert_eq!(of(false, 7, 0, 0), (Matrix::Bt601, Range::Full));
        assert_eq!(of(false, 3, 0, 0), (Matrix::Bt709, Range::Limited));
        assert_eq!(of(false, 10, 0, 0).0, Matrix::Bt2020);
        assert_eq!(of(false, 2, 0, 0).0, Matrix::Smpte240m);
        assert_eq!(of(false, 3, 1, 1), (Matrix::Bt601, Range::Full), "what is said counts");
        assert_eq!(of(true, 8, 0, 2).1, Range::Limited);
        assert_eq!(of(false, u32::MAX, u32::MAX, u32::MAX), (Matrix::Bt601, Range::Limited));
    }
}
