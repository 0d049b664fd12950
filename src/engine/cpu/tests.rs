//! Every instruction set of this CPU against the plain reference, for both families and awkward shapes.

use super::fp16;
use super::kernels::supported;
use super::reference::{Noise, Reference, random_tensors};
use super::stages::CpuEngine;
use crate::engine::{Engine, FineFrame};
use crate::error::Kind;
use crate::frame::{Choice, CoarseOutput};
use crate::gather;
use crate::model::{Family, Geometry, Macs, Model, StoredResults, Tensors};

fn model(geometry: Geometry, tensors: Tensors) -> Model {
    let (name, labels, results) = ("random".into(), Vec::new(), StoredResults::default());
    Model { name, geometry, tensors, labels, crop: 0.875, threshold: None, results, certificate: None }
}

/// Shapes that are no multiple of any register, panel or tile.
fn geometries() -> [Geometry; 4] {
    let deit = Geometry {
        family: Family::Deit,
        grid: 3,
        patch: 5,
        width: 36,
        depth: 5,
        heads: 3,
        hidden: 100,
        classes: 7,
        stem: 0,
    };
    [
        deit,
        Geometry { depth: 1, grid: 2, heads: 1, width: 64, hidden: 72, ..deit },
        Geometry { grid: 7, patch: 2, depth: 4, heads: 2, width: 34, ..deit },
        Geometry { family: Family::Lvvit, patch: 4, stem: 10, ..deit },
    ]
}

fn close(got: &[f32], exact: &[f64], tolerance: f64, what: &str) {
    assert_eq!(got.len(), exact.len(), "{what}");
    let scale = exact.iter().fold(1e-30f64, |m, x| m.max(x.abs()));
    for (i, (&g, &e)) in got.iter().zip(exact).enumerate() {
        assert!((g as f64 - e).abs() <= tolerance * scale, "{what}[{i}]: {g}, expected {e}");
    }
}

#[test]
fn both_stages_equal_the_reference_on_every_instruction_set() {
    for (seed, geometry) in geometries().into_iter().enumerate() {
        let tensors = random_tensors(&geometry, seed as u64);
        let reference = Reference { geometry, tensors: &tensors };
        let mut noise = Noise(99);
        let image = |side: usize, noise: &mut Noise| noise.vec(3 * side * side);
        let frames: Vec<_> = (0..2)
            .map(|_| (image(geometry.coarse_side(), &mut noise), image(geometry.fine_side(), &mut noise)))
            .collect();
        for kernels in supported() {
            for threads in [1, 2, 4] {
                let mut engine =
                    CpuEngine::with_kernels(model(geometry, tensors.clone()), threads, kernels, None).unwrap();
                let (mut output, mut choice, mut logits) = Default::default();
                // Frames in a row, and the fine pass twice: nothing of one pass may leak into the next.
                for (coarse_image, fine_image) in &frames {
                    let exact = reference.coarse(coarse_image);
                    engine.coarse(coarse_image, &mut output).unwrap();
                    let what = format!("{geometry}, {}, {threads} threads", kernels.name);
                    close(&output.logits, &exact.logits, 2e-5, &format!("{what}: coarse logits"));
                    let attention = format!("{what}: class attention");
                    close(&output.class_attention, &exact.class_attention, 1e-5, &attention);
                    gather::choose(&output.class_attention, geometry.informative(), &mut choice);
                    let exact = reference.fine(fine_image, &choice, &exact);
                    for _ in 0..2 {
                        engine.fine(fine_image, &choice, &mut logits).unwrap();
                        close(&logits, &exact, 2e-5, &format!("{what}: fine logits"));
                        // The baseline leaves the coarse pass's features alone.
                        engine.full(fine_image, &mut logits).unwrap();
                        close(&logits, &reference.full(fine_image), 2e-5, &format!("{what}: static logits"));
                    }
                }
            }
        }
    }
}

/// Of the largest logit, on random weights: 11 significant bits a factor, and sums of [`fp16::SUM`] steps that are rounded as they grow (1.3 %
/// measured; below 1 % with sums of 8).
const HALF_TOLERANCE: f64 = 0.02;

#[test]
fn products_in_16_bits_stay_near_the_reference() {
    for (seed, geometry) in geometries().into_iter().enumerate() {
        let tensors = random_tensors(&geometry, seed as u64);
        let reference = Reference { geometry, tensors: &tensors };
        let mut noise = Noise(99);
        let (coarse_side, fine_side) = (geometry.coarse_side(), geometry.fine_side());
        let (coarse_image, fine_image) =
            (noise.vec(3 * coarse_side * coarse_side), noise.vec(3 * fine_side * fine_side));
        let exact = reference.coarse(&coarse_image);
        for half in fp16::tests::sets() {
            let what = format!("{geometry}, {}", half.name);
            let mut by_threads = Vec::new();
            for threads in [1, 3] {
                let model = model(geometry, tensors.clone());
                let mut engine = CpuEngine::with_kernels(model, threads, supported()[0], Some(half)).unwrap();
                assert_eq!(engine.precision(), "fp16");
                let (mut output, mut choice, mut fine, mut full) = Default::default();
                engine.coarse(&coarse_image, &mut output).unwrap();
                close(&output.logits, &exact.logits, HALF_TOLERANCE, &format!("{what}: coarse logits"));
                close(&output.class_attention, &exact.class_attention, HALF_TOLERANCE, &format!("{what}: attention"));
                gather::choose(&output.class_attention, geometry.informative(), &mut choice);
                engine.fine(&fine_image, &choice, &mut fine).unwrap();
                close(&fine, &reference.fine(&fine_image, &choice, &exact), HALF_TOLERANCE, &format!("{what}: fine"));
                engine.full(&fine_image, &mut full).unwrap();
                close(&full, &reference.full(&fine_image), HALF_TOLERANCE, &format!("{what}: static logits"));
                by_threads.push((output.logits, output.class_attention, fine, full));
            }
            assert_eq!(by_threads[0], by_threads[1], "{what}: threads change who computes what, not what");
        }
    }
}

#[test]
fn what_16_bits_do_not_hold_is_an_error() {
    for geometry in [geometries()[0], geometries()[3]] {
        let open = |change: &dyn Fn(&mut Tensors)| {
            let mut tensors = random_tensors(&geometry, 1);
            change(&mut tensors);
            CpuEngine::with_kernels(model(geometry, tensors), 1, supported()[0], Some(&fp16::tests::EMULATED))
        };
        let error = open(&|t| t.get_mut("blocks.2.mlp.fc2.weight").unwrap().data[3] = -1.5e5).err().unwrap();
        assert_eq!(error.kind(), Kind::Model);
        for part in ["blocks.2.mlp.fc2.weight", "65504", "--precision fp32"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        // Only the activations are too large, in the last block's rows too.
        let last = geometry.depth - 1;
        for layer in ["blocks.0.mlp.fc1".to_owned(), format!("blocks.{last}.mlp.fc1")] {
            let grow = |t: &mut Tensors| t.get_mut(&format!("{layer}.bias")).unwrap().data.fill(1e5);
            let mut engine = open(&grow).unwrap();
            let side = geometry.coarse_side();
            let error = engine.coarse(&vec![0.5; 3 * side * side], &mut CoarseOutput::default()).unwrap_err();
            assert_eq!(error.kind(), Kind::Engine);
            assert!(error.to_string().contains("±65504") && error.to_string().contains("fp32"), "{error}");
        }
    }
}

#[test]
fn precision_is_in_the_identity_and_refused_where_the_processor_lacks_it() {
    let geometry = geometries()[0];
    let model = || model(geometry, random_tensors(&geometry, 1));
    let single = CpuEngine::new(model(), 1).unwrap();
    let half = CpuEngine::with_kernels(model(), 1, supported()[0], Some(&fp16::tests::EMULATED)).unwrap();
    assert_ne!(single.identity(), half.identity(), "a certificate of one does not hold for the other");
    assert!(half.identity().contains("f16") && half.describe().contains("f16"), "{}", half.describe());
    assert_eq!(single.precision(), "fp32");
    match (CpuEngine::new_half(model(), 1), fp16::supported()) {
        (Ok(engine), Some(set)) => assert!(engine.describe().contains(set.name), "{}", engine.describe()),
        (Err(error), None) => {
            assert_eq!(error.kind(), Kind::Usage);
            for part in ["precision fp16: expected", "aarch64", supported()[0].name, "fp32"] {
                assert!(error.to_string().contains(part), "{error}");
            }
        }
        (result, set) => panic!("{:?}, {:?}", result.err(), set.map(|set| set.name)),
    }
}

/// Frames that go through together answer as if each went alone, whichever of them are refined and in whatever order.
#[test]
fn a_batch_equals_its_frames_one_by_one() {
    for (seed, geometry) in geometries().into_iter().enumerate() {
        let tensors = random_tensors(&geometry, seed as u64);
        let mut noise = Noise(7);
        let mut image = |side: usize| noise.vec(3 * side * side);
        let frames: Vec<_> = (0..8).map(|_| (image(geometry.coarse_side()), image(geometry.fine_side()))).collect();
        for kernels in supported() {
            let mut engine = CpuEngine::with_kernels(model(geometry, tensors.clone()), 2, kernels, None).unwrap();
            let mut alone = Vec::new();
            for (coarse, fine) in &frames {
                let (mut output, mut choice, mut logits) = (CoarseOutput::default(), Choice::default(), Vec::new());
                engine.coarse(coarse, &mut output).unwrap();
                gather::choose(&output.class_attention, geometry.informative(), &mut choice);
                engine.fine(fine, &choice, &mut logits).unwrap();
                alone.push((output, choice, logits));
            }
            for n in [3, 8, 1, 5] {
                let images: Vec<&[f32]> = frames[..n].iter().map(|(coarse, _)| coarse.as_slice()).collect();
                let mut outputs = vec![CoarseOutput::default(); n];
                engine.coarse_batch(&images, &mut outputs).unwrap();
                for (output, (expected, ..)) in outputs.iter().zip(&alone) {
                    let exact: Vec<f64> = expected.logits.iter().map(|&x| x as f64).collect();
                    close(&output.logits, &exact, 1e-6, &format!("{geometry}, {}: coarse of {n}", kernels.name));
                    let exact: Vec<f64> = expected.class_attention.iter().map(|&x| x as f64).collect();
                    close(&output.class_attention, &exact, 1e-6, &format!("{geometry}: attention of {n}"));
                }
                // All but the second, from the last to the first.
                let slots: Vec<usize> = (0..n).rev().filter(|&slot| slot != 1).collect();
                let frame = |&slot: &usize| FineFrame { slot, image: &frames[slot].1, choice: &alone[slot].1 };
                let mut logits = vec![Vec::new(); slots.len()];
                engine.fine_batch(&slots.iter().map(frame).collect::<Vec<_>>(), &mut logits).unwrap();
                for (&slot, logits) in slots.iter().zip(&logits) {
                    let exact: Vec<f64> = alone[slot].2.iter().map(|&x| x as f64).collect();
                    close(logits, &exact, 1e-6, &format!("{geometry}, {}: fine of slot {slot} of {n}", kernels.name));
                }
            }
        }
    }
}

/// Shapes without padding, so that the products that ran can be counted exactly.
#[test]
fn every_pass_multiplies_what_is_said() {
    let family = Family::Deit;
    let deit = Geometry { family, grid: 3, patch: 4, width: 64, depth: 5, heads: 2, hidden: 96, classes: 32, stem: 0 };
    for geometry in [deit, Geometry { depth: 1, ..deit }, Geometry { family: Family::Lvvit, stem: 32, ..deit }] {
        for half in [None, Some(&fp16::tests::EMULATED)] {
            count(geometry, half);
        }
    }
}

fn count(geometry: Geometry, half: Option<&'static fp16::HalfKernels>) {
    let model = model(geometry, random_tensors(&geometry, 1));
    let mut engine = CpuEngine::with_kernels(model, 2, supported()[0], half).unwrap();
    let image = |side: usize| vec![0.5; 3 * side * side];
    let (mut output, mut choice, mut logits) = Default::default();
    engine.counted_macs();
    engine.coarse(&image(geometry.coarse_side()), &mut output).unwrap();
    let coarse = engine.counted_macs();
    gather::choose(&output.class_attention, geometry.informative(), &mut choice);
    engine.fine(&image(geometry.fine_side()), &choice, &mut logits).unwrap();
    let fine = engine.counted_macs();
    engine.full(&image(geometry.fine_side()), &mut logits).unwrap();
    let full = engine.counted_macs();
    assert_eq!(engine.executed_macs(), Macs { coarse, fine, full }, "{geometry}");
}

#[test]
fn misuse_is_an_error_that_says_what_was_expected() {
    let geometry = geometries()[0];
    let tensors = random_tensors(&geometry, 1);
    let mut engine = CpuEngine::new(model(geometry, tensors.clone()), 1).unwrap();
    let side = geometry.fine_side();
    let image = vec![0.0; 3 * side * side];
    let mut choice = Choice { informative: (0..5).collect(), kept: (5..9).collect() };
    let mut logits = Vec::new();
    let error = engine.fine(&image, &choice, &mut logits).unwrap_err();
    assert!(error.to_string().contains("coarse pass"), "{error}");
    let mut output = CoarseOutput::default();
    let error = engine.coarse(&image, &mut output).unwrap_err();
    assert!(error.to_string().contains("expected 3×15×15"), "{error}");
    engine.coarse(&image[..3 * 15 * 15], &mut output).unwrap();
    engine.fine(&image, &choice, &mut logits).unwrap();
    let both = [0, 1].map(|slot| FineFrame { slot, image: &image, choice: &choice });
    let error = engine.fine_batch(&both, &mut [Vec::new(), Vec::new()]).unwrap_err();
    assert!(error.to_string().contains("coarse pass"), "there was one frame only: {error}");
    let many = vec![&image[..3 * 15 * 15]; 9];
    let error = engine.coarse_batch(&many, &mut vec![CoarseOutput::default(); 9]).unwrap_err();
    assert!(error.to_string().contains("from 1 to 8"), "{error}");
    assert!(engine.coarse_batch(&many[..2], &mut [CoarseOutput::default()]).is_err());
    assert!(engine.fine_batch(&both[..1], &mut []).is_err());
    engine.coarse(many[0], &mut output).unwrap();
    choice.kept[0] = 9;
    assert!(engine.fine(&image, &choice, &mut logits).is_err());
    choice.kept.pop();
    assert!(engine.fine(&image, &choice, &mut logits).is_err());

    let mut missing = tensors;
    missing.remove("head.bias");
    let error = CpuEngine::new(model(geometry, missing), 1).err().unwrap();
    assert!(error.to_string().contains("head.bias is missing"), "{error}");
}
