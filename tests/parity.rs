//! Preprocessing against Pillow's: on what is bundled in `tests/data/pillow` (see `make.py` there), and on the golden photographs
//! beside the checkout where there are any.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code outside of #[test] functions")]

use std::path::{Path, PathBuf};

use cfvit::frame::{Inputs, Picture};
use cfvit::model::{Family, Geometry};
use cfvit::preprocess::{Preprocess, decode};

/// A model that reads `side × side` pixels.
fn geometry(side: usize) -> Geometry {
    let family = Family::Deit;
    Geometry { family, grid: side / 32, patch: 16, width: 96, depth: 5, heads: 3, hidden: 384, classes: 20, stem: 0 }
}

fn read(path: &Path) -> Picture {
    let mut picture = Picture::default();
    decode::read(path, &mut picture).unwrap();
    picture
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// Our crop of `photograph` differs from the `expected` one by at most 2 levels anywhere and by less than 0.2 on average.
fn assert_crop(photograph: &Path, expected: &Path, crop: f64) {
    let expected = read(expected);
    let mut preprocess = Preprocess::new(&geometry(expected.width), crop).unwrap();
    preprocess.run(&read(photograph), &mut Inputs::default()).unwrap();
    assert_eq!(preprocess.cropped().len(), expected.rgb.len());
    let differences = || preprocess.cropped().iter().zip(&expected.rgb).map(|(a, b)| a.abs_diff(*b));
    let largest = differences().max().unwrap();
    let mean = differences().map(f64::from).sum::<f64>() / expected.rgb.len() as f64;
    println!("{}: largest difference {largest}, mean {mean:.4}", photograph.display());
    assert!(largest <= 2 && mean < 0.2, "{}: largest difference {largest}, mean {mean:.4}", photograph.display());
}

#[test]
fn bundled_photographs_are_cropped_as_pillow_does() {
    for (name, side) in [
        ("n02102040/n02102040_6060", 224),
        ("n03888257/n03888257_27102", 224),
        ("n03417042/n03417042_11611", 96),
        ("n03445777/n03445777_5992", 96),
    ] {
        let stem = name.split('/').next_back().unwrap();
        assert_crop(&data(&format!("pictures/{name}.JPEG")), &data(&format!("pillow/{stem}.{side}.png")), 0.875);
    }
}

/// CMYK, grey, progressive 4:2:2, 4:4:4 with an EXIF rotation (not applied), palette: the very pixels that Pillow gives.
#[test]
fn odd_colour_models_and_samplings_are_decoded_as_pillow_does() {
    for name in ["cmyk.jpg", "grey.jpg", "progressive-4-2-2.jpg", "exif-rotated-4-4-4.jpg", "palette.png"] {
        let stem = name.split('.').next().unwrap();
        let (found, expected) =
            (read(&data(&format!("pillow/{name}"))), read(&data(&format!("pillow/{stem}.rgb.png"))));
        assert_eq!((found.width, found.height), (77, 103), "{name}");
        assert!(found == expected, "{name} differs from Pillow's pixels");
    }
}

/// The cases of `../shared/golden/{name}/expected.json`, `None` where that isn't there.
fn golden(name: &str) -> Option<(PathBuf, serde_json::Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden").join(name);
    let Ok(text) = std::fs::read_to_string(folder.join("expected.json")) else {
        println!("skipped: {} is not there", folder.display());
        return None;
    };
    Some((folder, serde_json::from_str(&text).unwrap()))
}

#[test]
fn golden_photographs_are_cropped_as_pillow_does() {
    for name in ["deit-7", "lvvit-7"] {
        let Some((folder, expected)) = golden(name) else { return };
        let crop = expected["model"]["crop_pct"].as_f64().unwrap();
        for case in expected["cases"].as_array().unwrap() {
            let photograph = folder.join("images").join(case["image"].as_str().unwrap());
            assert_crop(&photograph, &photograph.with_extension("crop.png"), crop);
        }
    }
}

/// `input_mean` is the mean of each plane of the fine tensor; `input_probe` its values at three (row, column) places, plane by
/// plane.
#[test]
fn golden_crops_are_normalised_as_in_training() {
    const PROBES: [(usize, usize); 3] = [(0, 0), (74, 112), (223, 217)];
    for name in ["deit-7", "lvvit-7"] {
        let Some((folder, expected)) = golden(name) else { return };
        let mut preprocess = Preprocess::new(&geometry(224), 0.9).unwrap();
        for case in expected["cases"].as_array().unwrap() {
            let image = Path::new(case["image"].as_str().unwrap()).with_extension("crop.png");
            let mut inputs = Inputs::default();
            preprocess.run_exact(&read(&folder.join("images").join(image)), &mut inputs).unwrap();
            let planes: Vec<&[f32]> = inputs.fine.chunks_exact(224 * 224).collect();
            let means =
                planes.iter().map(|plane| plane.iter().copied().map(f64::from).sum::<f64>() / plane.len() as f64);
            let probes =
                planes.iter().flat_map(|plane| PROBES.map(|(row, column)| f64::from(plane[row * 224 + column])));
            for (what, found) in [("input_mean", means.collect::<Vec<_>>()), ("input_probe", probes.collect())] {
                let expected: Vec<f64> = serde_json::from_value(case[what].clone()).unwrap();
                assert_eq!(found.len(), expected.len());
                for (found, expected) in found.iter().zip(expected) {
                    assert!((found - expected).abs() < 1e-5, "{name} {} {what}: {found} {expected}", case["image"]);
                }
            }
        }
    }
}

#[test]
fn an_exact_picture_of_another_size_is_refused_with_both_sizes() {
    let mut preprocess = Preprocess::new(&geometry(96), 0.875).unwrap();
    let picture = Picture { width: 95, height: 96, rgb: vec![0; 95 * 96 * 3] };
    let error = preprocess.run_exact(&picture, &mut Inputs::default()).unwrap_err().to_string();
    assert!(error.contains("95×96") && error.contains("96×96"), "{error}");
}

#[test]
fn a_picture_whose_bytes_do_not_fit_its_sides_is_refused() {
    let mut preprocess = Preprocess::new(&geometry(96), 0.875).unwrap();
    for (width, height, bytes) in [(10, 10, 299), (10, 10, 301), (0, 5, 0), (usize::MAX, 2, 6), (20_000, 1, 60_000)] {
        let picture = Picture { width, height, rgb: vec![0; bytes] };
        assert!(preprocess.run(&picture, &mut Inputs::default()).is_err(), "{width}×{height}");
    }
}

#[test]
fn crop_ratios_outside_the_range_are_wrong_usage() {
    for crop in [0.0, -1.0, 1.01, f64::NAN, f64::INFINITY, 1e-300] {
        let error = Preprocess::new(&geometry(96), crop).err().unwrap();
        assert_eq!(error.exit_code(), 2, "{crop}");
    }
    for crop in [0.01, 0.5, 1.0] {
        assert!(Preprocess::new(&geometry(96), crop).is_ok(), "{crop}");
    }
}

/// Thin pictures are resized to millions of pixels on the longer side; only the crop of that may cost memory or time.
#[test]
fn the_thinnest_pictures_are_cropped_without_the_detour() {
    let mut preprocess = Preprocess::new(&geometry(224), 0.01).unwrap();
    let mut inputs = Inputs::default();
    for (width, height) in [(1, 1), (1, 16_384), (16_384, 1), (2, 3), (16_384, 3)] {
        let picture = Picture { width, height, rgb: vec![51; width * height * 3] };
        preprocess.run(&picture, &mut inputs).unwrap();
        assert!(preprocess.cropped().iter().all(|&byte| byte == 51), "{width}×{height}: a flat picture stays flat");
        assert_eq!((inputs.fine.len(), inputs.coarse.len()), (3 * 224 * 224, 3 * 112 * 112));
    }
}
