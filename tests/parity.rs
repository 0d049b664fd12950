//! Preprocessing against Pillow's: the pictures bundled in `tests/data/pillow`, and the golden ones beside the checkout where there are any.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code outside of #[test] functions")]

use std::path::{Path, PathBuf};

use cfvit::frame::{Inputs, Picture};
use cfvit::model::{Family, Geometry};
use cfvit::preprocess::{Preprocess, decode};

fn geometry() -> Geometry {
    let family = Family::Deit;
    Geometry { family, grid: 7, patch: 16, width: 96, depth: 5, heads: 3, hidden: 384, classes: 20, stem: 0 }
}

fn read(path: &Path) -> Picture {
    let mut picture = Picture::default();
    decode::read(path, &mut picture).unwrap();
    picture
}

/// `(largest, mean)` difference in levels between our crop of `photograph` and the `expected` one.
fn difference(photograph: &Path, expected: &Path, crop: f64) -> (u8, f64) {
    let mut preprocess = Preprocess::new(&geometry(), crop).unwrap();
    preprocess.run(&read(photograph), &mut Inputs::default()).unwrap();
    let expected = read(expected);
    assert_eq!((expected.width, expected.height), (224, 224));
    let differences = || preprocess.cropped().iter().zip(&expected.rgb).map(|(a, b)| a.abs_diff(*b));
    let sum: f64 = differences().map(f64::from).sum();
    (differences().max().unwrap(), sum / expected.rgb.len() as f64)
}

fn assert_parity(photograph: &Path, expected: &Path, crop: f64) {
    let (largest, mean) = difference(photograph, expected, crop);
    println!("{}: largest difference {largest}, mean {mean:.4}", photograph.display());
    assert!(largest <= 2 && mean < 0.2, "{}: largest difference {largest}, mean {mean:.4}", photograph.display());
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
            assert_parity(&photograph, &photograph.with_extension("crop.png"), crop);
        }
    }
}
