//! Replays the hostile pictures: an error for each, no panic; and odd but valid pictures, which must work.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy allows them in test functions, not in their helpers")]

mod hostile;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use cfvit::error::{Kind, Result};
use cfvit::frame::{Inputs, Picture};
use cfvit::model::{Family, Geometry};
use cfvit::preprocess::decode::{MAX_PIXELS, MAX_SIDE};
use cfvit::preprocess::{Preprocess, decode};
use hostile::{Case, MAY_BE_VALID, Random, images};
use image::{DynamicImage, ImageFormat};

/// All that happens to a picture before the network. Panics go through, with the case's name.
fn prepare(name: &str, file: &str, bytes: &[u8], preprocess: &mut Preprocess) -> Result<Picture> {
    let prepared = catch_unwind(AssertUnwindSafe(|| {
        let mut picture = Picture::default();
        decode::decode(bytes, Path::new(file), &mut picture)?;
        preprocess.run(&picture, &mut Inputs::default())?;
        Ok(picture)
    }));
    let prepared: Result<Picture> = prepared.unwrap_or_else(|_| panic!("{name}: panicked"));
    // The program survives a decoder that panics; that none does is what is tested here.
    let contained = prepared.as_ref().is_err_and(|error| error.to_string().contains(decode::DECODER_PANICKED));
    assert!(!contained, "{name}: the decoder panicked");
    prepared
}

fn preprocess() -> Preprocess {
    let family = Family::Deit;
    let geometry =
        Geometry { family, grid: 3, patch: 16, width: 96, depth: 5, heads: 3, hidden: 384, classes: 20, stem: 0 };
    Preprocess::new(&geometry, 0.875).unwrap()
}

fn is_sound(picture: &Picture) -> bool {
    let Picture { width, height, ref rgb } = *picture;
    (1..=MAX_SIDE).contains(&width)
        && (1..=MAX_SIDE).contains(&height)
        && width * height <= MAX_PIXELS
        && rgb.len() == width * height * 3
}

/// What is wrong with what `case` gives, if anything.
fn complaint(case: &Case, preprocess: &mut Preprocess) -> Option<String> {
    match (prepare(&case.name, &case.file, &case.bytes, preprocess), case.expect) {
        (Ok(picture), MAY_BE_VALID) if is_sound(&picture) => None,
        (Ok(picture), _) => Some(format!("{}: gave a {}×{} picture", case.name, picture.width, picture.height)),
        (Err(error), _) if error.kind() != Kind::Image => Some(format!("{}: {error:?}", case.name)),
        (Err(_), MAY_BE_VALID) => None,
        (Err(error), expect) if !error.to_string().contains(expect) => {
            Some(format!("{}: `{error}` lacks `{expect}`", case.name))
        }
        _ => None,
    }
}

#[test]
fn every_hostile_picture_gives_an_error_and_no_panic() {
    let corpus = images::corpus();
    let certain = corpus.iter().filter(|case| case.expect != MAY_BE_VALID).count();
    assert!(certain >= 150, "only {certain} cases");
    let mut preprocess = preprocess();
    let complaints: Vec<String> = corpus.iter().filter_map(|case| complaint(case, &mut preprocess)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Damage at random, far more of it than is worth keeping as files: an error or a sound picture, never a panic.
#[test]
fn random_damage_never_panics() {
    let mut random = Random(5);
    let mut preprocess = preprocess();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pillow");
    let read = |name: &str| std::fs::read(data.join(name)).unwrap();
    let mut seeds = ["cmyk.jpg", "grey.jpg", "progressive-4-2-2.jpg", "exif-rotated-4-4-4.jpg", "palette.png"]
        .map(|name| (name, read(name)))
        .to_vec();
    let formats = [ImageFormat::Gif, ImageFormat::WebP, ImageFormat::Tiff, ImageFormat::Bmp, ImageFormat::Pnm];
    seeds.extend(formats.map(|format| ("x", images::encode(&images::sample(), format))));
    seeds.push(("x.tga", images::encode(&images::sample(), ImageFormat::Tga)));
    let rounds = std::env::var("CFVIT_FUZZ_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(600);
    for (name, seed) in &seeds {
        for round in 0..rounds {
            let mut bytes = seed.clone();
            let reach = if round % 2 == 0 { bytes.len() } else { bytes.len().min(700) };
            for _ in 0..1 + random.below(8) {
                bytes[random.below(reach)] = random.next() as u8;
            }
            let what = format!("{name} of {} bytes, round {round}", seed.len());
            // Sizes near the limit are sound, but would make the test slow.
            if let Ok(picture) = prepare(&what, name, &bytes, &mut preprocess) {
                assert!(is_sound(&picture), "{what}");
            }
        }
    }
}

#[test]
fn odd_but_valid_pictures_work() {
    let image = images::sample();
    let rgb = image.to_rgb8();
    let grey = DynamicImage::from(image.to_luma8());
    let mut preprocess = preprocess();
    let mut read = |name: &str, bytes: &[u8]| prepare(name, name, bytes, &mut preprocess).unwrap().rgb;
    let png = |image: DynamicImage| images::encode(&image, ImageFormat::Png);

    assert_eq!(read("rgb.png", &png(image.clone())), *rgb);
    assert_eq!(read("deep.png", &png(image.to_rgb16().into())), *rgb, "16 bits of an 8-bit picture are rounded back");
    let grey_as_rgb = grey.to_rgb8();
    assert_eq!(read("grey.png", &png(grey.clone())), *grey_as_rgb);
    assert_eq!(read("deep-grey.png", &png(grey.to_luma16().into())), *grey_as_rgb);
    let mut faint = image.to_rgba8();
    faint.pixels_mut().for_each(|pixel| pixel.0[3] = 3);
    assert_eq!(read("alpha.png", &png(faint.into())), *rgb, "alpha is dropped, not blended");
    for format in [ImageFormat::Tiff, ImageFormat::Bmp, ImageFormat::Pnm, ImageFormat::WebP] {
        assert_eq!(read("any", &images::encode(&image, format)), *rgb, "{format:?}");
    }
    assert_eq!(read("x.TGA", &images::encode(&image, ImageFormat::Tga)), *rgb);
    for (width, height) in [(1, 1), (1, 3000), (16_384, 1)] {
        let thin = DynamicImage::from(image::RgbImage::from_pixel(width, height, image::Rgb([9, 99, 200])));
        let size = (width * height * 3) as usize;
        assert_eq!(read("thin.png", &png(thin.clone())).len(), size);
        assert_eq!(read("thin.jpg", &images::encode(&thin, ImageFormat::Jpeg)).len(), size);
    }
}

#[test]
fn content_counts_and_not_the_name() {
    let bytes = images::encode(&images::sample(), ImageFormat::Png);
    assert!(prepare("png", "called.jpg", &bytes, &mut preprocess()).is_ok());
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let mut picture = Picture::default();
    for path in ["/nowhere/at-all.jpg", "/proc/self"] {
        let error = decode::read(Path::new(path), &mut picture).unwrap_err();
        assert!(error.kind() == Kind::Image && error.to_string().contains(path), "{error}");
    }
    let error = decode::read(Path::new("/dev/zero"), &mut picture).unwrap_err();
    assert!(error.to_string().contains("larger than the 96 MiB"), "{error}");
}
