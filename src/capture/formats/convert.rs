//! From a frame's bytes to RGB.

use yuv::{
    BufferStoreMut, YuvBiPlanarImage, YuvConversionMode, YuvError, YuvPackedImage, YuvPlanarImage, YuvPlanarImageMut,
    uyvy422_to_yuv422, yuv_nv12_to_rgb, yuv_nv21_to_rgb, yuv420_to_rgb, yuv422_to_rgb, yuyv422_to_yuv422,
};

use super::{Layout, PixelFormat, Range};
use crate::error::{Error, Kind, Result};
use crate::frame::Picture;
use crate::preprocess::decode::decode_frame;

/// Turns the frames of one layout into RGB pictures. Keeps its memory from frame to frame.
pub struct Converter {
    layout: Layout,
    /// The shorter side that a picture must keep where it can be decoded smaller.
    side: usize,
    /// Packed 4:2:2, taken apart: Y, Cb, Cr.
    planes: [Vec<u8>; 3],
    /// The last plane with its last gap, which a frame need not have.
    padded: Vec<u8>,
    /// What a byte of brightness means in full range.
    levels: [u8; 256],
}

impl Converter {
    /// For frames laid out as `layout`, for a model that needs `side` pixels on the shorter side: compressed frames are decoded at a
    /// half, a quarter or an eighth of their sides where that leaves enough.
    pub fn new(layout: Layout, side: usize) -> Self {
        let levels = std::array::from_fn(|byte| match layout.colours().range {
            Range::Full => byte as u8,
            Range::Limited => ((byte as f32 - 16.0) * 255.0 / 219.0).round().clamp(0.0, 255.0) as u8,
        });
        Self { layout, side, planes: Default::default(), padded: Vec::new(), levels }
    }

    /// The frames' layout.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Turns the frame `data` into `picture`, whose memory is reused.
    ///
    /// # Errors
    /// [`Kind::Image`] when `data` is shorter than the format takes, or a compressed frame is damaged.
    pub fn convert(&mut self, data: &[u8], picture: &mut Picture) -> Result<()> {
        use PixelFormat::*;
        let layout = self.layout;
        let (width, height, needed) = (layout.width(), layout.height(), layout.needed_bytes());
        if data.len() < needed {
            return Err(Error::new(Kind::Image, format!("the frame has {} bytes, expected {needed}", data.len())));
        }
        if layout.format().is_compressed() {
            return decode_frame(data, (width, height), self.side, picture);
        }
        (picture.width, picture.height) = (width, height);
        picture.rgb.resize(width * height * 3, 0);
        let rgb = picture.rgb.as_mut_slice();
        let converted = match layout.format() {
            Yuyv | Uyvy => self.packed(data, rgb),
            Nv12 | Nv21 => self.two_planes(data, rgb),
            I420 | Yv12 => self.three_planes(data, rgb),
            Rgb24 if layout.colours().range == Range::Full => {
                let rows = data.chunks(layout.stride()).zip(rgb.chunks_exact_mut(3 * width));
                rows.for_each(|(row, target)| target.copy_from_slice(&row[..3 * width]));
                Ok(())
            }
            Rgb24 => self.each_pixel(data, rgb, 3, |pixel| [pixel[0], pixel[1], pixel[2]]),
            Bgr24 => self.each_pixel(data, rgb, 3, |pixel| [pixel[2], pixel[1], pixel[0]]),
            Grey => self.each_pixel(data, rgb, 1, |pixel| [pixel[0]; 3]),
            // Returned above.
            Mjpeg | Jpeg => Ok(()),
        };
        converted.map_err(|e| Error::caused(Kind::Image, format!("cannot convert {}", layout.format().name()), e))
    }

    /// 4:2:2. Taking it apart first is faster than the library's direct way, and exact where that one is not.
    fn packed(&mut self, data: &[u8], rgb: &mut [u8]) -> std::result::Result<(), YuvError> {
        let Sizes { width, height, stride, chroma, .. } = sizes(&self.layout);
        let [y, u, v] = &mut self.planes;
        y.resize(width * height, 0);
        u.resize(chroma * height, 0);
        v.resize(chroma * height, 0);
        let take_apart = match self.layout.format() {
            PixelFormat::Uyvy => uyvy422_to_yuv422,
            _ => yuyv422_to_yuv422,
        };
        // The library wants the gap after every row; the last one's need not be there.
        for (first, rows, stride) in [(0, height - 1, stride), (height - 1, 1, chroma * 4)] {
            if rows == 0 {
                continue;
            }
            let packed = YuvPackedImage {
                yuy: &data[first * self.layout.stride()..][..rows * stride],
                yuy_stride: stride as u32,
                width: width as u32,
                height: rows as u32,
            };
            let mut planar = YuvPlanarImageMut {
                y_plane: BufferStoreMut::Borrowed(&mut y[first * width..][..rows * width]),
                y_stride: width as u32,
                u_plane: BufferStoreMut::Borrowed(&mut u[first * chroma..][..rows * chroma]),
                u_stride: chroma as u32,
                v_plane: BufferStoreMut::Borrowed(&mut v[first * chroma..][..rows * chroma]),
                v_stride: chroma as u32,
                width: width as u32,
                height: rows as u32,
            };
            take_apart(&mut planar, &packed)?;
        }
        let planar = YuvPlanarImage {
            y_plane: y,
            y_stride: width as u32,
            u_plane: u,
            u_stride: chroma as u32,
            v_plane: v,
            v_stride: chroma as u32,
            width: width as u32,
            height: height as u32,
        };
        let colours = self.layout.colours();
        yuv422_to_rgb(&planar, rgb, 3 * width as u32, colours.library_range(), colours.library_matrix())
    }

    /// 4:2:0 with its colour samples in pairs.
    fn two_planes(&mut self, data: &[u8], rgb: &mut [u8]) -> std::result::Result<(), YuvError> {
        let Sizes { width, height, stride, chroma_height, .. } = sizes(&self.layout);
        let (luma, pairs) = data.split_at(stride * height);
        let image = YuvBiPlanarImage {
            y_plane: luma,
            y_stride: stride as u32,
            uv_plane: with_last_gap(pairs, stride * chroma_height, &mut self.padded),
            uv_stride: stride as u32,
            width: width as u32,
            height: height as u32,
        };
        let convert = match self.layout.format() {
            PixelFormat::Nv21 => yuv_nv21_to_rgb,
            _ => yuv_nv12_to_rgb,
        };
        let colours = self.layout.colours();
        let (range, matrix) = (colours.library_range(), colours.library_matrix());
        convert(&image, rgb, 3 * width as u32, range, matrix, YuvConversionMode::Balanced)
    }

    /// 4:2:0 with a plane for each kind of sample.
    fn three_planes(&mut self, data: &[u8], rgb: &mut [u8]) -> std::result::Result<(), YuvError> {
        let Sizes { width, height, stride, chroma_height, .. } = sizes(&self.layout);
        let half = stride / 2;
        let (luma, rest) = data.split_at(stride * height);
        let (second, third) = rest.split_at(half * chroma_height);
        let third = with_last_gap(third, half * chroma_height, &mut self.padded);
        let (u_plane, v_plane) = match self.layout.format() {
            PixelFormat::Yv12 => (third, second),
            _ => (second, third),
        };
        let image = YuvPlanarImage {
            y_plane: luma,
            y_stride: stride as u32,
            u_plane,
            u_stride: half as u32,
            v_plane,
            v_stride: half as u32,
            width: width as u32,
            height: height as u32,
        };
        let colours = self.layout.colours();
        yuv420_to_rgb(&image, rgb, 3 * width as u32, colours.library_range(), colours.library_matrix())
    }

    /// Formats with all of a pixel in the `bytes` it has.
    fn each_pixel(
        &self,
        data: &[u8],
        rgb: &mut [u8],
        bytes: usize,
        of: impl Fn(&[u8]) -> [u8; 3],
    ) -> std::result::Result<(), YuvError> {
        let full = self.layout.colours().range == Range::Full;
        let width = self.layout.width();
        for (row, target) in data.chunks(self.layout.stride()).zip(rgb.chunks_exact_mut(3 * width)) {
            for (pixel, target) in row[..bytes * width].chunks_exact(bytes).zip(target.chunks_exact_mut(3)) {
                let samples = of(pixel);
                let levels = if full { samples } else { samples.map(|sample| self.levels[usize::from(sample)]) };
                target.copy_from_slice(&levels);
            }
        }
        Ok(())
    }
}

/// The sizes that conversions need.
struct Sizes {
    width: usize,
    height: usize,
    stride: usize,
    chroma: usize,
    chroma_height: usize,
}

fn sizes(layout: &Layout) -> Sizes {
    Sizes {
        width: layout.width(),
        height: layout.height(),
        stride: layout.stride(),
        chroma: layout.chroma_width(),
        chroma_height: layout.chroma_height(),
    }
}

/// The `whole` bytes of `plane`; where its end is missing, a copy with zeros there. Only the gap after the last row can be missing.
fn with_last_gap<'a>(plane: &'a [u8], whole: usize, padded: &'a mut Vec<u8>) -> &'a [u8] {
    if plane.len() >= whole {
        return &plane[..whole];
    }
    padded.clear();
    padded.extend_from_slice(plane);
    padded.resize(whole, 0);
    padded
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
