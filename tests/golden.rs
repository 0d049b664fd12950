//! Parity with the published model: every fixture in `tests/data/golden` (made by `tools/make_fixtures.py`) and, where it lies beside
//! the checkout, in `../shared/golden` (outputs of the authors' code).
//!
//! A fixture is a folder: `checkpoint.pth`, `expected.json`, `images/NAME.crop.png` (the fine-size picture the numbers belong to) and
//! maybe the photograph `images/NAME.JPEG` that the crop was made from.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::explicit_write,
    reason = "test code outside of #[test] functions"
)]

use std::io::Write;
use std::path::{Path, PathBuf};

use cfvit::engine::{self, Engine};
use cfvit::error::{Kind, Result};
use cfvit::frame::{Choice, CoarseOutput, Inputs, Picture};
use cfvit::model::onnx::Precision;
use cfvit::preprocess::{Preprocess, decode};
use cfvit::{gate, gather, model};
use serde::Deserialize;

/// Logits on the same pixels.
const LOGIT_TOLERANCE: f32 = 1e-3;
/// The same with the CPU engine's products in 16 bits, relative to the largest logit. These models have random weights, which
/// exaggerate: measured 0.1 to 0.7 % on the project's fixtures, 1.4 % at worst beside the checkout.
const HALF_TOLERANCE: f32 = 0.02;
/// Class attention on the same pixels, relative to its maximum.
const ATTENTION_TOLERANCE: f32 = 1e-5;
/// Logits from the photograph: decoders and resizers may differ by a level or two.
const PHOTOGRAPH_LOGIT_TOLERANCE: f32 = 0.05;
/// The normalised tensor's means and single values.
const INPUT_TOLERANCE: f32 = 1e-5;

#[derive(Deserialize)]
struct Expected {
    model: ExpectedModel,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct ExpectedModel {
    num_heads: usize,
    coarse_stage_size: usize,
    crop_pct: f64,
}

#[derive(Deserialize)]
struct Case {
    image: String,
    coarse_logits: Vec<f32>,
    coarse_confidence: f32,
    class_attention: Vec<f32>,
    informative: Vec<u32>,
    fine_logits: Vec<f32>,
    input_mean: [f32; 3],
    input_probe: [f32; 9],
}

/// What both stages give for one picture.
#[derive(Default)]
struct Outputs {
    coarse: CoarseOutput,
    confidence: f32,
    choice: Choice,
    fine_logits: Vec<f32>,
}

/// A fixture, opened.
struct Fixture {
    folder: PathBuf,
    cases: Vec<Case>,
    engine: Box<dyn Engine>,
    preprocess: Preprocess,
}

impl Fixture {
    fn open(folder: &Path) -> Self {
        Self::open_in(folder, Precision::Fp32).unwrap()
    }

    fn open_in(folder: &Path, precision: Precision) -> Result<Self> {
        let expected = std::fs::read(folder.join("expected.json")).unwrap();
        let Expected { model: shape, cases } = serde_json::from_slice(&expected).unwrap();
        assert!(!cases.is_empty(), "{} has no cases", folder.display());
        let model = model::open(Some(&folder.join("checkpoint.pth")), Some(shape.num_heads)).unwrap();
        assert_eq!(model.geometry.grid, shape.coarse_stage_size);
        let engine = engine::open_in(model, Some(2), precision)?;
        let preprocess = Preprocess::new(engine.geometry(), shape.crop_pct).unwrap();
        Ok(Self { folder: folder.to_owned(), cases, engine, preprocess })
    }

    fn picture(&self, name: &str) -> Option<Picture> {
        let path = self.folder.join("images").join(name);
        let mut picture = Picture::default();
        path.exists().then(|| decode::read(&path, &mut picture).unwrap())?;
        Some(picture)
    }

    /// What the published code was given for `case`.
    fn crop(&mut self, case: &Case, what: &str) -> Inputs {
        let stem = Path::new(&case.image).file_stem().unwrap().to_str().unwrap();
        let picture = self.picture(&format!("{stem}.crop.png")).unwrap_or_else(|| panic!("{what}: no crop"));
        let mut inputs = Inputs::default();
        self.preprocess.run_exact(&picture, &mut inputs).unwrap();
        inputs
    }

    /// Both stages, whatever the gate would say.
    fn run(&mut self, inputs: &Inputs) -> Outputs {
        let mut out = Outputs::default();
        let mut probabilities = Vec::new();
        self.engine.coarse(&inputs.coarse, &mut out.coarse).unwrap();
        gate::softmax(&out.coarse.logits, &mut probabilities);
        out.confidence = gate::argmax(&probabilities).1;
        gather::choose(&out.coarse.class_attention, self.engine.geometry().informative(), &mut out.choice);
        self.engine.fine(&inputs.fine, &out.choice, &mut out.fine_logits).unwrap();
        out
    }

    /// Every case on the very pixels of the published code.
    fn check_crops(&mut self) {
        for case in std::mem::take(&mut self.cases) {
            let what = format!("{}, {}", self.folder.display(), case.image);
            let inputs = self.crop(&case, &what);
            check_inputs(&inputs, self.engine.geometry().fine_side(), &case, &what);
            let out = self.run(&inputs);

            close(&out.coarse.logits, &case.coarse_logits, LOGIT_TOLERANCE, &format!("{what}: coarse logits"));
            close(&[out.confidence], &[case.coarse_confidence], LOGIT_TOLERANCE, &format!("{what}: confidence"));
            let largest = case.class_attention.iter().copied().fold(0.0, f32::max);
            let tolerance = ATTENTION_TOLERANCE * largest;
            close(&out.coarse.class_attention, &case.class_attention, tolerance, &format!("{what}: class attention"));
            assert_eq!(out.choice.informative, case.informative, "{what}: informative cells");
            close(&out.fine_logits, &case.fine_logits, LOGIT_TOLERANCE, &format!("{what}: fine logits"));
            self.cases.push(case);
        }
    }

    /// Every case on those pixels, within what 16 bits can hold: the coarse logits, the cells that class attention chooses, and the fine logits of
    /// the published choice. Gives the largest error relative to the largest logit.
    fn check_crops_in_half(&mut self) -> f32 {
        let mut worst = 0.0f32;
        for case in std::mem::take(&mut self.cases) {
            let what = format!("{}, {}", self.folder.display(), case.image);
            let inputs = self.crop(&case, &what);
            let mut out = self.run(&inputs);
            let (found, expected) = (&out.coarse.class_attention, &case.class_attention);
            let tolerance = HALF_TOLERANCE * expected.iter().copied().fold(0.0, f32::max);
            close(found, expected, tolerance, &format!("{what}: class attention"));
            if out.choice.informative != case.informative {
                near_ties(&out.choice.informative, &case.informative, expected, tolerance, &what);
                // Other cells, other logits: the published choice makes them comparable.
                gather::choose(expected, case.informative.len(), &mut out.choice);
                assert_eq!(out.choice.informative, case.informative, "{what}: informative cells");
                self.engine.fine(&inputs.fine, &out.choice, &mut out.fine_logits).unwrap();
            }
            let pairs = [(&out.coarse.logits, &case.coarse_logits), (&out.fine_logits, &case.fine_logits)];
            for (stage, (found, expected)) in ["coarse", "fine"].into_iter().zip(pairs) {
                let largest = expected.iter().fold(0.0f32, |most, logit| most.max(logit.abs()));
                close(found, expected, HALF_TOLERANCE * largest, &format!("{what}: {stage} logits"));
                assert_eq!(gate::argmax(found).0, gate::argmax(expected).0, "{what}: {stage} label");
                let errors = found.iter().zip(expected).map(|(a, b)| (a - b).abs() / largest);
                worst = errors.fold(worst, f32::max);
            }
        }
        worst
    }

    /// Every case from its photograph: decoding, resizing and cropping included.
    fn check_photographs(&mut self) -> usize {
        let mut checked = 0;
        for case in std::mem::take(&mut self.cases) {
            let Some(picture) = self.picture(&case.image) else { continue };
            let what = format!("{}, {}", self.folder.display(), case.image);
            let mut inputs = Inputs::default();
            self.preprocess.run(&picture, &mut inputs).unwrap();
            let out = self.run(&inputs);
            let pairs = [(&out.coarse.logits, &case.coarse_logits), (&out.fine_logits, &case.fine_logits)];
            for (stage, (found, expected)) in ["coarse", "fine"].into_iter().zip(pairs) {
                assert_eq!(gate::argmax(found).0, gate::argmax(expected).0, "{what}: {stage} label");
                close(found, expected, PHOTOGRAPH_LOGIT_TOLERANCE, &format!("{what}: {stage} logits"));
            }
            checked += 1;
        }
        checked
    }
}

/// The mean of each plane, and nine single values: three pixels in each plane.
fn check_inputs(inputs: &Inputs, side: usize, case: &Case, what: &str) {
    let probes = [(0, 0), (side / 3, side / 2), (side - 1, side - 7)];
    let planes: Vec<&[f32]> = inputs.fine.chunks_exact(side * side).collect();
    let mean = |plane: &&[f32]| (plane.iter().map(|&v| f64::from(v)).sum::<f64>() / plane.len() as f64) as f32;
    let means: Vec<f32> = planes.iter().map(mean).collect();
    let values: Vec<f32> = planes.iter().flat_map(|plane| probes.map(|(y, x)| plane[y * side + x])).collect();
    close(&means, &case.input_mean, INPUT_TOLERANCE, &format!("{what}: input mean"));
    close(&values, &case.input_probe, INPUT_TOLERANCE, &format!("{what}: input probe"));
}

/// Fails unless every cell that only one of the choices has is as attended as the least of the published choice, within twice `tolerance`.
fn near_ties(found: &[u32], expected: &[u32], attention: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: informative cells");
    let least = expected.iter().map(|&cell| attention[cell as usize]).fold(f32::INFINITY, f32::min);
    for &cell in found.iter().chain(expected).filter(|cell| found.contains(cell) != expected.contains(cell)) {
        let attention = attention[cell as usize];
        assert!(
            (attention - least).abs() <= 2.0 * tolerance,
            "{what}: informative cell {cell} of attention {attention}"
        );
    }
    writeln!(std::io::stderr(), "{what}: another choice among cells that are attended alike").unwrap();
}

/// Fails unless the slices are equally long and no element differs by more than `tolerance`; `NaN` never passes.
fn close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    for (i, (&a, &b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance, "{what}[{i}]: found {a}, expected {b} ± {tolerance}");
    }
}

/// The fixtures' folders below `root` (relative to the package), sorted; none, with a printed line, where it's absent.
fn fixtures(root: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let Ok(entries) = std::fs::read_dir(&root) else {
        // Not `println!`: the harness would swallow the line of a test that passes.
        writeln!(std::io::stderr(), "skipped: {} is not there", root.display()).unwrap();
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

#[test]
fn the_projects_own_fixtures() {
    let folders = fixtures("tests/data/golden");
    assert_eq!(folders.len(), 5, "a fixture is missing, or new: {folders:?}");
    folders.iter().for_each(|folder| Fixture::open(folder).check_crops());
}

#[test]
fn outputs_of_the_published_code_on_its_pixels() {
    fixtures("../shared/golden").iter().for_each(|folder| Fixture::open(folder).check_crops());
}

#[test]
fn outputs_of_the_published_code_from_photographs() {
    for folder in fixtures("../shared/golden") {
        let mut fixture = Fixture::open(&folder);
        let cases = fixture.cases.len();
        assert_eq!(fixture.check_photographs(), cases, "{}: a photograph is missing", folder.display());
    }
}

/// Where the processor computes in 16 bits; elsewhere that is refused.
#[test]
fn products_in_16_bits_stay_near_the_published_code() {
    for folder in ["tests/data/golden", "../shared/golden"].into_iter().flat_map(fixtures) {
        match Fixture::open_in(&folder, Precision::Fp16) {
            Ok(mut fixture) => {
                assert_eq!(fixture.engine.precision(), "fp16");
                let worst = fixture.check_crops_in_half();
                assert!(worst > 1e-5, "{}: it was not computed in 16 bits", folder.display());
                writeln!(std::io::stderr(), "{}: off by {:.2} %", folder.display(), 100.0 * worst).unwrap();
            }
            Err(error) => {
                assert_eq!(error.kind(), Kind::Usage, "{error}");
                assert!(!fp16_expected(), "{error}");
            }
        }
    }
}

/// Whether this processor, or the emulator in its place, computes in 16 bits.
fn fp16_expected() -> bool {
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("fp16");
    #[cfg(not(target_arch = "aarch64"))]
    false
}
