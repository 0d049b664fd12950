//! From a file's bytes to pixels, as the training's loader (Pillow's `Image.open(f).convert("RGB")`) sees them.
//!
//! What that means: the format is told by the content; EXIF orientation is **not** applied, because the training's loader did
//! not; grey becomes three equal channels, palettes are looked up, alpha is dropped (not blended), 16-bit samples are rounded to 8
//! bits; of an animation the first frame counts. A file that ends too early is an error, never a half-grey picture.

use std::fs::File;
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use crate::error::{Error, Kind, Result};
use crate::frame::Picture;
use crate::preprocess::jpeg;

/// The longest side, in pixels, that is accepted.
pub const MAX_SIDE: usize = 16_384;
/// The most pixels that are accepted: enough for a 64-megapixel camera.
pub const MAX_PIXELS: usize = 1 << 26;
/// The largest file that is read.
pub const MAX_FILE_BYTES: usize = 96 << 20;
/// The most that decoded samples may take before they become 8-bit RGB: [`MAX_PIXELS`] of 16-bit RGB. With [`MAX_FILE_BYTES`] and the
/// RGB picture itself this keeps the memory for any file below 1 GB.
const MAX_DECODED_BYTES: usize = 6 * MAX_PIXELS;

/// The error of a picture that made its decoder panic.
pub const DECODER_PANICKED: &str = "its decoder failed on it, the file is probably damaged";

/// What picture files are called; folders are searched for these (lower case, without the dot).
pub const EXTENSIONS: [&str; 14] =
    ["bmp", "gif", "jpe", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"];

/// Whether `path` is called like a picture: its extension is one of [`EXTENSIONS`] in any case, and it isn't hidden.
pub fn is_picture_name(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    !hidden && extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

/// Reads and decodes the picture at `path` into `picture`, whose memory is reused.
///
/// # Errors
/// [`Kind::Image`], naming the file, when it cannot be read, is not a picture, is damaged, or is beyond [`MAX_SIDE`],
/// [`MAX_PIXELS`] or [`MAX_FILE_BYTES`].
pub fn read(path: &Path, picture: &mut Picture) -> Result<()> {
    let context = || format!("cannot read the picture {}", path.display());
    let bytes = read_bounded(path).map_err(|e| e.within(context()))?;
    decode(&bytes, path, picture).map_err(|e| e.within(context()))
}

/// The file's bytes, if they're not too many. The limit is on what is read, not on what the file system says, so that it also
/// holds for devices and pipes.
fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let io_error = |cause| Error::caused(Kind::Image, "the file cannot be read", cause);
    let mut bytes = Vec::new();
    File::open(path).map_err(io_error)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(io_error)?;
    if bytes.len() > MAX_FILE_BYTES {
        let limit = MAX_FILE_BYTES >> 20;
        return Err(Error::new(Kind::Image, format!("the file is larger than the {limit} MiB that are accepted")));
    }
    Ok(bytes)
}

/// Decodes the `bytes` of a picture file into `picture`, whose memory is reused. `name` matters only where the content does not
/// tell the format, which is the case for TGA.
///
/// # Errors
/// [`Kind::Image`] when this is not a picture, is damaged, or is beyond [`MAX_SIDE`] or [`MAX_PIXELS`].
pub fn decode(bytes: &[u8], name: &Path, picture: &mut Picture) -> Result<()> {
    let format = format(bytes, name)?;
    // The decoders are other people's code on bytes that may be hostile. None is known to panic; should one, that is a bad picture
    // and not the end of a service.
    let decoded = catch_unwind(AssertUnwindSafe(|| match format {
        ImageFormat::Jpeg => jpeg::decode(bytes, picture),
        format => decode_other(bytes, format, picture),
    }));
    decoded.unwrap_or_else(|_| {
        *picture = Picture::default();
        Err(Error::new(Kind::Image, DECODER_PANICKED))
    })
}

/// Decodes a camera's JPEG frame of about `size` (width, height) into `picture`, whose memory is reused: with or without Huffman tables, and at a
/// half, a quarter or an eighth of the sides where the shorter one still has `side` pixels.
///
/// # Errors
/// [`Kind::Image`] when it is truncated, damaged, or of another size.
pub fn decode_frame(bytes: &[u8], size: (usize, usize), side: usize, picture: &mut Picture) -> Result<()> {
    let decoded = catch_unwind(AssertUnwindSafe(|| jpeg::decode_frame(bytes, size, side, picture)));
    decoded.unwrap_or_else(|_| {
        *picture = Picture::default();
        Err(Error::new(Kind::Image, DECODER_PANICKED))
    })
}

/// The format of `bytes`.
fn format(bytes: &[u8], name: &Path) -> Result<ImageFormat> {
    if bytes.is_empty() {
        return Err(Error::new(Kind::Image, "the file is empty"));
    }
    let by_name = || ImageFormat::from_path(name).ok().filter(|&format| format == ImageFormat::Tga);
    image::guess_format(bytes).ok().or_else(by_name).filter(ImageFormat::reading_enabled).ok_or_else(|| {
        let known = "JPEG, PNG, GIF, WebP, TIFF, BMP, PNM or TGA";
        Error::new(Kind::Image, format!("the content is not a picture that can be decoded, expected {known}"))
    })
}

/// Decodes everything that is not JPEG.
fn decode_other(bytes: &[u8], format: ImageFormat, picture: &mut Picture) -> Result<()> {
    let broken = |cause| Error::caused(Kind::Image, format!("the {format:?} data is damaged or unsupported"), cause);
    if format == ImageFormat::Png && !png_is_whole(bytes) {
        return Err(truncated());
    }
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(MAX_DECODED_BYTES as u64);
    reader.limits(limits);
    let decoder = reader.into_decoder().map_err(broken)?;
    let (width, height) = decoder.dimensions();
    check_size(width as usize, height as usize)?;
    if decoder.total_bytes() > MAX_DECODED_BYTES as u64 {
        let (found, limit) = (decoder.total_bytes() >> 20, MAX_DECODED_BYTES >> 20);
        let message = format!("its samples take {found} MiB, at most {limit} MiB are accepted: store it with 8 bits");
        return Err(Error::new(Kind::Image, message));
    }
    let rgb = DynamicImage::from_decoder(decoder).map_err(broken)?.into_rgb8();
    *picture = Picture { width: width as usize, height: height as usize, rgb: rgb.into_raw() };
    Ok(())
}

/// Refuses a picture that is empty or too large, before anything of its size is allocated.
pub(crate) fn check_size(width: usize, height: usize) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::new(Kind::Image, format!("the picture is empty: {width}×{height} pixels")));
    }
    // The product cannot overflow once the sides are bounded.
    if width > MAX_SIDE || height > MAX_SIDE || width * height > MAX_PIXELS {
        let message = format!(
            "the picture is {width}×{height} pixels, at most {MAX_SIDE} on a side and {} megapixels are accepted: \
             make it smaller",
            MAX_PIXELS / 1_000_000
        );
        return Err(Error::new(Kind::Image, message));
    }
    Ok(())
}

/// What a file that ends too early is called.
pub(super) fn truncated() -> Error {
    Error::new(Kind::Image, "the file is truncated: it ends before its end mark")
}

/// Whether the chunks of a PNG lead to its `IEND` chunk. The decoder stops reading after the last pixel, so it would not notice.
fn png_is_whole(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(8..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        // Type, data, checksum.
        let chunk = 8usize.saturating_add(u32::from_be_bytes(*length) as usize);
        if after.len() < chunk {
            return false;
        }
        if after.starts_with(b"IEND") {
            return true;
        }
        rest = &after[chunk..];
    }
    false
}
