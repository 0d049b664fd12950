//! Pixel formats of cameras, and turning them into RGB.
//!
//! Colour pictures of cameras are brightness and two colour differences, the latter at half the resolution. Which matrix makes RGB of them and
//! which values mean black and white is the driver's to say ([`Colours`]). The conversions are the library `yuv`'s: within one level of the
//! exact formula, each colour sample used for all pixels it belongs to. In limited range what is darker than black counts as black.

mod colour;
mod convert;
mod layout;

pub use colour::{Colours, Matrix, Range};
pub use convert::Converter;
pub use layout::Layout;

/// How a camera stores pixels. Names and layouts are those of Linux's V4L2 documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PixelFormat {
    /// 4:2:2, packed Y₀ Cb Y₁ Cr.
    Yuyv,
    /// 4:2:2, packed Cb Y₀ Cr Y₁.
    Uyvy,
    /// 4:2:0, a plane of Y, then one of Cb Cr pairs.
    Nv12,
    /// 4:2:0, a plane of Y, then one of Cr Cb pairs.
    Nv21,
    /// 4:2:0, planes of Y, Cb, Cr.
    I420,
    /// 4:2:0, planes of Y, Cr, Cb.
    Yv12,
    /// Red, green, blue, a byte each.
    Rgb24,
    /// Blue, green, red, a byte each.
    Bgr24,
    /// Brightness only, a byte each.
    Grey,
    /// A JPEG picture per frame, with or without its Huffman tables.
    Mjpeg,
    /// A complete JPEG picture per frame.
    Jpeg,
}

impl PixelFormat {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Yuyv,
        Self::Uyvy,
        Self::Nv12,
        Self::Nv21,
        Self::I420,
        Self::Yv12,
        Self::Rgb24,
        Self::Bgr24,
        Self::Grey,
        Self::Mjpeg,
        Self::Jpeg,
    ];

    /// What V4L2 calls it: four characters, the first in the lowest byte.
    pub const fn fourcc(self) -> u32 {
        u32::from_le_bytes(*match self {
            Self::Yuyv => b"YUYV",
            Self::Uyvy => b"UYVY",
            Self::Nv12 => b"NV12",
            Self::Nv21 => b"NV21",
            Self::I420 => b"YU12",
            Self::Yv12 => b"YV12",
            Self::Rgb24 => b"RGB3",
            Self::Bgr24 => b"BGR3",
            Self::Grey => b"GREY",
            Self::Mjpeg => b"MJPG",
            Self::Jpeg => b"JPEG",
        })
    }

    /// The format that V4L2 calls `fourcc`, if it is one of these.
    pub fn of_fourcc(fourcc: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.fourcc() == fourcc)
    }

    /// Whether frames are compressed, of any length.
    pub const fn is_compressed(self) -> bool {
        matches!(self, Self::Mjpeg | Self::Jpeg)
    }

    /// What people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Yuyv => "YUYV",
            Self::Uyvy => "UYVY",
            Self::Nv12 => "NV12",
            Self::Nv21 => "NV21",
            Self::I420 => "I420",
            Self::Yv12 => "YV12",
            Self::Rgb24 => "RGB24",
            Self::Bgr24 => "BGR24",
            Self::Grey => "GREY",
            Self::Mjpeg => "MJPEG",
            Self::Jpeg => "JPEG",
        }
    }

    /// The format of this name, in any case; V4L2's four characters are names too.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| {
            format.name().eq_ignore_ascii_case(name)
                || name.as_bytes().eq_ignore_ascii_case(&format.fourcc().to_le_bytes())
        })
    }
}
