//! What a camera's frame costs before the network sees it: conversion to RGB, resize, crop, both tensors. `cf_deit_small`'s input, 640×480.
//!
//! `cargo run --release --example frame-path`
#![allow(clippy::unwrap_used, reason = "a measurement ends when something is wrong")]

use std::time::Instant;

use cfvit::capture::formats::{Colours, Converter, Layout, PixelFormat};
use cfvit::frame::{Inputs, Picture};
use cfvit::model::{Family, Geometry};
use cfvit::preprocess::Preprocess;
use cfvit::preprocess::resize::{Bicubic, CropBox};
use cfvit::preprocess::tensors::{Halver, Normalizer};

const SIZE: (usize, usize) = (640, 480);
const ROUNDS: usize = 500;

fn main() {
    let geometry = Geometry::published(Family::Deit, 7, 1000);
    let mut preprocess = Preprocess::new(&geometry, 0.875).unwrap();
    let (mut picture, mut inputs) = (Picture::default(), Inputs::default());
    println!("640×480, medians of {ROUNDS} and 95th percentiles, ms");
    for format in PixelFormat::ALL {
        let layout = Layout::new(format, SIZE, 0, Colours::of_v4l2(false, 0, 0, 0)).unwrap();
        let data = frame(&layout);
        let mut converter = Converter::new(layout, 256);
        measure(&format!("convert {}", format.name()), || converter.convert(&data, &mut picture).unwrap());
    }
    measure("preprocess", || preprocess.run(&picture, &mut inputs).unwrap());
    let (mut bicubic, normalizer, halver) = (Bicubic::default(), Normalizer::default(), Halver::new(224));
    let part = CropBox::centred(SIZE.0, SIZE.1, 256, 224);
    let mut cropped = vec![0; 224 * 224 * 3];
    measure("- resize, crop", || bicubic.resample(&picture, part, &mut cropped, (224, 224)).unwrap());
    measure("- normalise", || normalizer.apply(&cropped, &mut inputs.fine));
    measure("- halve", || halver.apply(&inputs.fine, &mut inputs.coarse));
}

/// A frame with structure everywhere.
fn frame(layout: &Layout) -> Vec<u8> {
    let level = |x: u32, y: u32| (x * 255 / 640).wrapping_add(((x / 16 + y / 16) % 2) * 60) as u8;
    if layout.format().is_compressed() {
        let picture = image::RgbImage::from_fn(640, 480, |x, y| image::Rgb([level(x, y), level(y, x), 90]));
        let mut bytes = Vec::new();
        image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 85).encode_image(&picture).unwrap();
        return bytes;
    }
    (0..layout.needed_bytes() as u32).map(|at| level(at % 640, at / 640)).collect()
}

fn measure(what: &str, mut run: impl FnMut()) {
    (0..20).for_each(|_| run());
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            run();
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("{what:<14} {:.3} {:.3}", times[ROUNDS / 2], times[ROUNDS * 95 / 100]);
}
