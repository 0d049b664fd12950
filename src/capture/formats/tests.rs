//! The conversions against the formulas of the standards, written anew in double precision.

use proptest::prelude::*;

use super::*;
use crate::capture::formats::{Colours, Matrix};

const MATRICES: [Matrix; 4] = [Matrix::Bt601, Matrix::Bt709, Matrix::Bt2020, Matrix::Smpte240m];

/// R, G, B from E'Y, E'Pb and E'Pr: each standard says how much red and blue make up the brightness.
fn rgb_of([y, cb, cr]: [u8; 3], colours: Colours) -> [f64; 3] {
    let (red, blue) = match colours.matrix {
        Matrix::Bt601 => (0.299, 0.114),
        Matrix::Bt709 => (0.2126, 0.0722),
        Matrix::Bt2020 => (0.2627, 0.0593),
        Matrix::Smpte240m => (0.212, 0.087),
    };
    let (y, cb, cr) = (f64::from(y), f64::from(cb) - 128.0, f64::from(cr) - 128.0);
    let (y, pb, pr) = match colours.range {
        // Darker than black is black.
        Range::Limited => ((y.max(16.0) - 16.0) / 219.0, cb / 224.0, cr / 224.0),
        Range::Full => (y / 255.0, cb / 255.0, cr / 255.0),
    };
    let (r, b) = (y + 2.0 * (1.0 - red) * pr, y + 2.0 * (1.0 - blue) * pb);
    let g = (y - red * r - blue * b) / (1.0 - red - blue);
    [r, g, b].map(|level| (255.0 * level).clamp(0.0, 255.0))
}

/// The samples of the pixel at `(x, y)`: where they are, from the formats' descriptions.
fn samples_at(layout: &Layout, data: &[u8], x: usize, y: usize) -> [u8; 3] {
    use PixelFormat::*;
    let (stride, height) = (layout.stride(), layout.height());
    let row = y * stride;
    let pair = row + x / 2 * 4;
    let planes = stride * height;
    let pairs = planes + y / 2 * stride + x / 2 * 2;
    let half = stride / 2;
    let (first, second) = (planes + y / 2 * half + x / 2, planes + half * height.div_ceil(2) + y / 2 * half + x / 2);
    match layout.format() {
        Yuyv => [data[pair + x % 2 * 2], data[pair + 1], data[pair + 3]],
        Uyvy => [data[pair + x % 2 * 2 + 1], data[pair], data[pair + 2]],
        Nv12 => [data[row + x], data[pairs], data[pairs + 1]],
        Nv21 => [data[row + x], data[pairs + 1], data[pairs]],
        I420 => [data[row + x], data[first], data[second]],
        Yv12 => [data[row + x], data[second], data[first]],
        Rgb24 => [0, 1, 2].map(|c| data[row + 3 * x + c]),
        Bgr24 => [2, 1, 0].map(|c| data[row + 3 * x + c]),
        Grey => [data[row + x]; 3],
        Mjpeg | Jpeg => unreachable!("not raw"),
    }
}

fn expected_at(layout: &Layout, data: &[u8], x: usize, y: usize) -> [f64; 3] {
    let samples = samples_at(layout, data, x, y);
    let limited = |level: u8| ((f64::from(level) - 16.0) / 219.0 * 255.0).clamp(0.0, 255.0);
    match (layout.format(), layout.colours().range) {
        (PixelFormat::Rgb24 | PixelFormat::Bgr24 | PixelFormat::Grey, Range::Full) => samples.map(f64::from),
        (PixelFormat::Rgb24 | PixelFormat::Bgr24 | PixelFormat::Grey, Range::Limited) => samples.map(limited),
        _ => rgb_of(samples, layout.colours()),
    }
}

/// `count` bytes that look like noise.
fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(count).collect()
}

fn raw_format() -> impl Strategy<Value = PixelFormat> {
    let raw: Vec<PixelFormat> = PixelFormat::ALL.into_iter().filter(|format| !format.is_compressed()).collect();
    prop::sample::select(raw)
}

fn colours() -> impl Strategy<Value = Colours> {
    (prop::sample::select(&MATRICES[..]), prop::sample::select(&[Range::Limited, Range::Full][..]))
        .prop_map(|(matrix, range)| Colours { matrix, range })
}

/// A layout with `gap` bytes (rounded to even) after each row.
fn layout(format: PixelFormat, size: (usize, usize), gap: usize, colours: Colours) -> Layout {
    let tight = Layout::new(format, size, 0, colours).unwrap().stride();
    Layout::new(format, size, tight + gap / 2 * 2, colours).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_raw_format_of_any_size_is_within_a_level_of_the_formula(
        format in raw_format(), colours in colours(), width in 1usize..150, height in 1usize..12, gap in 0usize..70, seed: u64,
    ) {
        let layout = layout(format, (width, height), gap, colours);
        let data = noise(layout.needed_bytes(), seed);
        let mut picture = Picture::default();
        Converter::new(layout, 256).convert(&data, &mut picture).unwrap();
        prop_assert_eq!((picture.width, picture.height, picture.rgb.len()), (width, height, width * height * 3));
        for y in 0..height {
            for x in 0..width {
                let found = &picture.rgb[(y * width + x) * 3..][..3];
                let expected = expected_at(&layout, &data, x, y);
                let close = found.iter().zip(expected).all(|(&found, expected)| (f64::from(found) - expected).abs() < 1.51);
                prop_assert!(close, "{:?} {:?} at {},{}: {:?}, expected {:?}", layout, samples_at(&layout, &data, x, y), x, y, found, expected);
            }
        }
    }

    /// Whatever a driver says, the layout is refused or its frame is converted; what is too short is refused.
    #[test]
    fn no_layout_and_no_data_make_it_fail_badly(
        format in raw_format(), width in 0usize..70_000, height in 0usize..70_000, stride: u32, small in 0usize..80, length in 0usize..4000,
    ) {
        let colours = Colours::of_v4l2(false, 0, 0, 0);
        if let Ok(layout) = Layout::new(format, (width, height), stride as usize, colours) {
            prop_assert!(layout.needed_bytes() >= width * height);
            let mut picture = Picture::default();
            prop_assert!(length >= layout.needed_bytes() || Converter::new(layout, 256).convert(&vec![0; length], &mut picture).is_err());
        }
        if let Ok(layout) = Layout::new(format, (small, 1 + small / 2), 0, colours) {
            let mut picture = Picture::default();
            let converted = Converter::new(layout, 256).convert(&noise(length, 7), &mut picture);
            prop_assert_eq!(converted.is_ok(), length >= layout.needed_bytes());
        }
    }

    #[test]
    fn any_bytes_are_a_jpeg_frame_or_an_error(data in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..5000, at in 0usize..5000, byte: u8) {
        let layout = Layout::new(PixelFormat::Mjpeg, (64, 48), 0, Colours::of_v4l2(false, 0, 0, 0)).unwrap();
        let mut converter = Converter::new(layout, 256);
        let mut picture = Picture::default();
        let _ = converter.convert(&data, &mut picture);
        let mut jpeg = jpeg((64, 48));
        let at = at % jpeg.len();
        jpeg[at] = byte;
        let _ = converter.convert(&jpeg, &mut picture);
        jpeg.truncate(cut % jpeg.len());
        prop_assert!(converter.convert(&jpeg, &mut picture).is_err(), "truncated");
    }
}

#[test]
fn memory_is_reused() {
    for format in PixelFormat::ALL.into_iter().filter(|format| !format.is_compressed()) {
        let layout = layout(format, (64, 48), 6, Colours::of_v4l2(false, 0, 0, 0));
        let (mut converter, mut picture) = (Converter::new(layout, 256), Picture::default());
        let data = noise(layout.needed_bytes(), 3);
        converter.convert(&data, &mut picture).unwrap();
        let (at, planes) = (picture.rgb.as_ptr(), converter.planes.each_ref().map(Vec::as_ptr));
        converter.convert(&data, &mut picture).unwrap();
        assert_eq!((picture.rgb.as_ptr(), converter.planes.each_ref().map(Vec::as_ptr)), (at, planes), "{format:?}");
    }
}

#[test]
fn layouts_that_cannot_be_are_refused_with_what_can() {
    let colours = Colours::of_v4l2(false, 0, 0, 0);
    for (size, stride, says) in [
        ((0, 480), 0, "empty"),
        ((640, 480), 1279, "1280"),
        ((99_999, 4), 0, "16384"),
        ((640, 480), 1 << 31, "1048576"),
    ] {
        let error = Layout::new(PixelFormat::Yuyv, size, stride, colours).unwrap_err();
        assert!(error.kind() == Kind::Source && error.to_string().contains(says), "{error}");
    }
    assert_eq!(Layout::new(PixelFormat::Yuyv, (640, 480), 0, colours).unwrap().needed_bytes(), 640 * 480 * 2);
    assert_eq!(Layout::new(PixelFormat::I420, (640, 480), 0, colours).unwrap().needed_bytes(), 640 * 480 * 3 / 2);
    assert_eq!(Layout::new(PixelFormat::Nv12, (640, 480), 704, colours).unwrap().needed_bytes(), 704 * 720 - 64);
}

/// A JPEG of a smooth picture.
fn jpeg((width, height): (u32, u32)) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 255 / width) as u8, (y * 255 / height) as u8, ((x + y) * 127 / (width + height)) as u8])
    });
    let mut bytes = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 90).encode_image(&picture).unwrap();
    bytes
}

/// Without its Huffman tables, as many cameras send frames: they always use the standard's, as the encoder here does.
fn without_tables(jpeg: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (jpeg[..2].to_vec(), &jpeg[2..]);
    loop {
        let (marker, length) = (rest[1], usize::from(u16::from_be_bytes([rest[2], rest[3]])) + 2);
        if marker != 0xC4 {
            out.extend_from_slice(&rest[..length]);
        }
        rest = &rest[length..];
        if marker == 0xDA {
            out.extend_from_slice(rest);
            return out;
        }
    }
}

fn converted(data: &[u8], size: (usize, usize), side: usize) -> Result<Picture> {
    let layout = Layout::new(PixelFormat::Mjpeg, size, 0, Colours::of_v4l2(false, 0, 0, 0))?;
    let mut picture = Picture::default();
    Converter::new(layout, side).convert(data, &mut picture).map(|()| picture)
}

#[test]
fn jpeg_frames_without_huffman_tables_are_the_same_pictures() {
    let whole = jpeg((160, 120));
    let bare = without_tables(&whole);
    assert!(bare.len() < whole.len() - 300, "the tables are gone");
    assert_eq!(converted(&bare, (160, 120), 256).unwrap(), converted(&whole, (160, 120), 256).unwrap());
}

#[test]
fn jpeg_frames_are_decoded_as_small_as_the_model_allows() {
    let frame = jpeg((640, 480));
    for (side, expected) in [
        (481, (640, 480)),
        (256, (640, 480)),
        (240, (320, 240)),
        (200, (320, 240)),
        (100, (160, 120)),
        (60, (80, 60)),
        (1, (80, 60)),
    ] {
        let picture = converted(&frame, (640, 480), side).unwrap();
        assert_eq!((picture.width, picture.height), expected, "for {side}");
        // The picture's own gradient, at this size.
        let (width, height) = expected;
        for (x, y) in [(width / 4, height / 4), (width / 2, height / 2), (width - 1, height - 1)] {
            let found = &picture.rgb[(y * width + x) * 3..][..3];
            let close =
                found[0].abs_diff((x * 255 / width) as u8) < 12 && found[1].abs_diff((y * 255 / height) as u8) < 12;
            assert!(close, "for {side} at {x},{y}: {found:?}");
        }
    }
    assert!(converted(&frame, (320, 240), 256).unwrap_err().to_string().contains("expected 320×240"));
}

#[test]
fn half_a_jpeg_frame_and_another_picture_are_refused() {
    let mut frame = jpeg((160, 120));
    assert!(converted(&frame, (640, 480), 256).unwrap_err().to_string().contains("expected 640×480"));
    frame.truncate(frame.len() / 2);
    assert!(converted(&frame, (160, 120), 256).unwrap_err().to_string().contains("truncated"));
}
