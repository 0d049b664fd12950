//! JPEG: the format of the training pictures and of most cameras, so it has a decoder of its own, which gives the very bytes of
//! libjpeg-turbo (Pillow's decoder), reuses the picture's memory, and refuses what others fill with grey.

use libjpeg_turbo_rs::{ComponentInfo, DecodeLimits, Decoder, JpegError, PixelFormat, ScalingFactor};

use crate::error::{Error, Kind, Result};
use crate::frame::Picture;
use crate::preprocess::decode::{MAX_PIXELS, MAX_SIDE, check_size, truncated};

/// Memory for the planes, the coefficients of a progressive picture and the result: all of a picture of [`MAX_PIXELS`].
const MAX_MEMORY: u64 = 13 * MAX_PIXELS as u64;
/// A progressive picture has a dozen scans; each more costs a pass over all pixels for a few bytes of file.
const MAX_SCANS: usize = 100;

/// Decodes a JPEG (baseline or progressive, 8 bits; grey, YCbCr, RGB, CMYK or YCCK) into `picture`, whose memory is reused. As with
/// libjpeg, an end mark in the middle of the pixels, which no truncation leaves, ends the picture there.
///
/// # Errors
/// [`Kind::Image`] when it is truncated, damaged, of an unsupported kind, or beyond the limits of [`check_size`].
pub(super) fn decode(bytes: &[u8], picture: &mut Picture) -> Result<()> {
    decode_as(bytes, picture, &|_, _| Ok(1))
}

/// The same for a camera's frame of about `size` pixels, which may lack its Huffman tables. Where half, a quarter or an eighth of the sides
/// still has `side` pixels on the shorter one, it is decoded at that size: less work than throwing pixels away afterwards, and as smooth.
///
/// # Errors
/// As [`decode`], and [`Kind::Image`] when the picture is not of that size.
pub(super) fn decode_frame(bytes: &[u8], size: (usize, usize), side: usize, picture: &mut Picture) -> Result<()> {
    /// Blocks may hang over the edge.
    const PADDING: usize = 16;
    decode_as(bytes, picture, &|width, height| {
        if width.abs_diff(size.0) > PADDING || height.abs_diff(size.1) > PADDING {
            let message = format!("the frame is {width}×{height} pixels, expected {}×{}", size.0, size.1);
            return Err(Error::new(Kind::Image, message));
        }
        let covers = |&denominator: &u32| width.min(height).div_ceil(denominator as usize) >= side;
        Ok([8, 4, 2].into_iter().find(covers).unwrap_or(1))
    })
}

/// Decodes at an n-th of the sides, `reduction` of the picture's width and height saying which.
fn decode_as(bytes: &[u8], picture: &mut Picture, reduction: &dyn Fn(usize, usize) -> Result<u32>) -> Result<()> {
    if !is_whole(bytes) {
        return Err(truncated());
    }
    let limits = DecodeLimits {
        max_width: MAX_SIDE,
        max_height: MAX_SIDE,
        max_pixels: MAX_PIXELS as u64,
        max_scans: MAX_SCANS,
        max_memory: Some(MAX_MEMORY),
    };
    let decoder = Decoder::new_with_limits(bytes, limits).map_err(broken)?.with_stop_on_warning(true);
    let header = decoder.header();
    let (width, height, components) = (header.width(), header.height(), header.components.len());
    check_size(width, height)?;
    if header.precision != 8 || header.is_lossless {
        let kind = if header.is_lossless { "lossless" } else { "not 8-bit" };
        return Err(Error::new(Kind::Image, format!("the JPEG is {kind}: store it as a usual 8-bit JPEG or as PNG")));
    }
    if !is_usual(&header.components) {
        let factors = header.components.iter().map(|c| format!("{}×{}", c.horizontal_sampling, c.vertical_sampling));
        let found = factors.collect::<Vec<_>>().join(", ");
        let message = format!("the JPEG's components are sampled {found}, which no camera writes: store it as PNG");
        return Err(Error::new(Kind::Image, message));
    }
    if bytes.len() < least_bytes(&decoder) {
        return Err(truncated());
    }
    let scale = ScalingFactor::new(1, reduction(width, height)?);
    let decoder = decoder.with_scale(scale);
    let (width, height) = (scale.scale_dim(width), scale.scale_dim(height));
    picture.width = width;
    picture.height = height;
    if components == 4 {
        let decoder = decoder.with_output_format(PixelFormat::Cmyk);
        // The decoder has no way to write these into memory of ours without a copy.
        picture.rgb = decoder.decode_image().map_err(broken)?.data;
        cmyk_to_rgb(&mut picture.rgb);
    } else {
        picture.rgb.resize(width * height * 3, 0);
        let decoder = decoder.with_output_format(PixelFormat::Rgb);
        decoder.decode_image_into(&mut picture.rgb).map_err(broken)?;
    }
    Ok(())
}

/// Whether the components are sampled in one of the ways that are in use: chroma once per unit of the picture, luma (and black, in
/// YCCK) once to four times. Others are rare enough to be damage, and the decoder is little tested with them.
fn is_usual(components: &[ComponentInfo]) -> bool {
    let factors = |c: &ComponentInfo| (c.horizontal_sampling, c.vertical_sampling);
    let Some((luma, rest)) = components.split_first() else { return false };
    let luma = factors(luma);
    let usual = matches!(luma, (1, 1) | (2, 1) | (1, 2) | (2, 2) | (4, 1));
    match rest {
        // With one component its factors mean nothing, but some programs write 2×2.
        [] => usual,
        [blue, red] => usual && [blue, red].iter().all(|c| factors(c) == (1, 1)),
        [blue, red, black] => usual && [blue, red].iter().all(|c| factors(c) == (1, 1)) && factors(black) == luma,
        _ => false,
    }
}

/// What a failure of the decoder means.
fn broken(cause: JpegError) -> Error {
    let message = match cause {
        JpegError::LimitExceeded { .. } => "the JPEG needs more than is accepted: make it smaller",
        _ => "the JPEG data is damaged or unsupported",
    };
    Error::caused(Kind::Image, message, cause)
}

/// The fewest bytes that the blocks of this picture can take: Huffman codes have at least one bit, and a block has a code for its
/// mean and, where it isn't spread over several scans, one for the rest. What is shorter would mostly be filled with grey.
fn least_bytes(decoder: &Decoder<'_>) -> usize {
    if decoder.is_arithmetic() {
        return 0;
    }
    let header = decoder.header();
    let largest = |factor: fn(&ComponentInfo) -> u8| header.components.iter().map(factor).max().map_or(1, usize::from);
    let (across, down) = (largest(|c| c.horizontal_sampling).max(1), largest(|c| c.vertical_sampling).max(1));
    let blocks = header.components.iter().map(|component| {
        let width = (header.width() * usize::from(component.horizontal_sampling)).div_ceil(8 * across);
        let height = (header.height() * usize::from(component.vertical_sampling)).div_ceil(8 * down);
        width * height
    });
    let bits_per_block = if header.is_progressive { 1 } else { 2 };
    blocks.sum::<usize>() * bits_per_block / 8
}

/// Turns inverted CMYK (as every known program stores it in JPEG: 255 is no ink) into RGB, in place, and cuts the rest off.
fn cmyk_to_rgb(samples: &mut Vec<u8>) {
    let pixels = samples.len() / 4;
    for i in 0..pixels {
        let black = u32::from(samples[4 * i + 3]);
        for channel in 0..3 {
            let ink = 255 - u32::from(samples[4 * i + channel]);
            // Rounded `ink · black / 255` in integers.
            let product = ink * black + 128;
            let covered = (product + (product >> 8)) >> 8;
            samples[3 * i + channel] = (black - covered) as u8;
        }
    }
    samples.truncate(pixels * 3);
}

/// Whether the segments of a JPEG lead to its end-of-image marker. A thumbnail's end mark lies inside a segment and does not
/// count.
fn is_whole(bytes: &[u8]) -> bool {
    const START_OF_IMAGE: u8 = 0xD8;
    const END_OF_IMAGE: u8 = 0xD9;
    let mut rest = bytes;
    // Between segments and inside entropy-coded data alike, the next marker is 0xFF and a byte that is neither a stuffed zero
    // nor fill.
    while let Some(at) = rest.windows(2).position(|pair| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xFF)) {
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        match marker {
            END_OF_IMAGE => return true,
            // Markers without a length: TEM, the restart markers, and the start of image.
            0x01 | 0xD0..=0xD7 | START_OF_IMAGE => {}
            _ => {
                let length = rest.first_chunk().map(|&length| usize::from(u16::from_be_bytes(length)));
                let Some(after) = length.and_then(|length| rest.get(length..)) else { return false };
                rest = after;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jpeg_is_whole_only_with_its_own_end_mark() {
        let thumbnail = [0xFF, 0xE1, 0x00, 0x06, 0xFF, 0xD8, 0xFF, 0xD9];
        let scan = [0xFF, 0xDA, 0x00, 0x02, 0x12, 0xFF, 0x00, 0xFF, 0xD0, 0x34];
        let start: Vec<u8> = [&[0xFF, 0xD8][..], &thumbnail, &scan].concat();
        assert!(!is_whole(&start));
        assert!(is_whole(&[&start[..], &[0xFF, 0xD9]].concat()));
        assert!(is_whole(&[&start[..], &[0xFF, 0xFF, 0xD9]].concat()), "fill bytes before the marker");
        assert!(!is_whole(&[]) && !is_whole(&[0xFF]) && !is_whole(&[0xFF, 0xDA, 0x00]));
    }

    #[test]
    fn cmyk_is_inverted_and_black_multiplies() {
        let mut samples = vec![255, 255, 255, 255, 0, 255, 255, 255, 255, 255, 255, 0, 128, 0, 255, 128];
        cmyk_to_rgb(&mut samples);
        assert_eq!(samples, [255, 255, 255, 0, 255, 255, 0, 0, 0, 64, 0, 128]);
    }
}
