//! Models, pictures, and what the CPU engine makes of them.

use std::io::Write;
use std::path::{Path, PathBuf};

use cfvit::engine;
use cfvit::frame::{Choice, CoarseOutput, Inputs, Picture};
use cfvit::gather;
use cfvit::model::onnx::{self, Graph, Options};
use cfvit::model::{self, Family, Geometry, Model};
use cfvit::preprocess::{Preprocess, decode};
use serde::Deserialize;

/// A batch of pictures for a model, and the CPU engine's numbers.
pub struct Case {
    /// For messages.
    pub name: String,
    pub model: Model,
    /// One per picture.
    pub inputs: Vec<Inputs>,
    /// One per picture.
    pub expected: Vec<Expected>,
}

/// What the CPU engine gives for one picture.
#[derive(Default)]
pub struct Expected {
    pub coarse: CoarseOutput,
    pub choice: Choice,
    pub fine_logits: Vec<f32>,
    pub static_logits: Vec<f32>,
}

impl Case {
    fn new(name: String, model: Model, pictures: &[Picture], exact: bool) -> Self {
        let mut engine = engine::open(model.clone(), Some(2)).unwrap();
        let mut preprocess = Preprocess::new(&model.geometry, model.crop).unwrap();
        let (mut inputs, mut expected) = (Vec::new(), Vec::new());
        for picture in pictures {
            let (mut tensors, mut out) = (Inputs::default(), Expected::default());
            match exact {
                true => preprocess.run_exact(picture, &mut tensors).unwrap(),
                false => preprocess.run(picture, &mut tensors).unwrap(),
            }
            engine.coarse(&tensors.coarse, &mut out.coarse).unwrap();
            gather::choose(&out.coarse.class_attention, model.geometry.informative(), &mut out.choice);
            engine.fine(&tensors.fine, &out.choice, &mut out.fine_logits).unwrap();
            engine.full(&tensors.fine, &mut out.static_logits).unwrap();
            inputs.push(tensors);
            expected.push(out);
        }
        Self { name, model, inputs, expected }
    }

    /// Pictures at a time.
    pub fn batch(&self) -> usize {
        self.inputs.len()
    }

    /// All pictures' values one after the other.
    pub fn joined<T: Copy>(&self, of: impl Fn(&Expected) -> &[T]) -> Vec<T> {
        self.expected.iter().flat_map(|expected| of(expected).iter().copied()).collect()
    }

    /// The input tensors of the batch: coarse, fine.
    pub fn images(&self) -> [Vec<f32>; 2] {
        let joined = |of: fn(&Inputs) -> &Vec<f32>| self.inputs.iter().flat_map(|i| of(i).iter().copied()).collect();
        [joined(|inputs| &inputs.coarse), joined(|inputs| &inputs.fine)]
    }

    /// The file of `graph`.
    pub fn export(&self, options: Options, graph: Graph) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = onnx::export(&self.model, options, graph, &mut bytes).unwrap();
        assert_eq!(written, bytes.len() as u64, "{}: the length is known beforehand", self.name);
        bytes
    }
}

#[derive(Deserialize)]
struct Fixture {
    model: FixtureModel,
    cases: Vec<FixtureCase>,
}

#[derive(Deserialize)]
struct FixtureModel {
    num_heads: usize,
}

#[derive(Deserialize)]
struct FixtureCase {
    image: String,
}

/// The golden fixtures below `root` (relative to the package), each with all of its pictures at once. None, with a printed line, where `root` is absent.
pub fn golden(root: &str) -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let Ok(entries) = std::fs::read_dir(&root) else {
        skipped(&format!("{} is not there", root.display()));
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "{} holds no fixture", root.display());
    folders.iter().map(|folder| fixture(folder, None)).collect()
}

/// A fixture of each family with three pictures at a time.
pub fn batches() -> [Case; 2] {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden");
    ["deit-7", "lvvit-7"].map(|name| fixture(&root.join(name), Some(3)))
}

/// The first `count` pictures of a fixture, or all.
fn fixture(folder: &Path, count: Option<usize>) -> Case {
    let expected = std::fs::read(folder.join("expected.json")).unwrap();
    let Fixture { model, cases } = serde_json::from_slice(&expected).unwrap();
    let model = model::open(Some(&folder.join("checkpoint.pth")), Some(model.num_heads)).unwrap();
    let crop = |case: &FixtureCase| {
        let stem = Path::new(&case.image).file_stem().unwrap().to_str().unwrap();
        picture(&folder.join("images").join(format!("{stem}.crop.png")))
    };
    let count = count.unwrap_or(cases.len());
    let pictures: Vec<Picture> = cases[..count].iter().map(crop).collect();
    let name = folder.file_name().unwrap().to_string_lossy();
    Case::new(format!("{name}, batch {count}"), model, &pictures, true)
}

/// A published model's size and 1000 classes with random weights.
pub fn full_size(family: Family, grid: usize) -> Case {
    random(Geometry::published(family, grid, 1000), 1)
}

/// A model unlike any published one, two pictures at a time.
pub fn odd(family: Family) -> Case {
    let stem = if family == Family::Lvvit { 12 } else { 0 };
    let geometry = Geometry { family, grid: 4, patch: 6, width: 33, depth: 4, heads: 3, hidden: 50, classes: 5, stem };
    random(geometry, 2)
}

/// Random weights, on bundled photographs.
fn random(geometry: Geometry, count: usize) -> Case {
    const PICTURES: [&str; 2] = ["n01440764/ILSVRC2012_val_00017700.JPEG", "n03028079/n03028079_30232.JPEG"];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("random.safetensors");
    model::write_random(&path, &geometry, 1).unwrap();
    let model = model::open(Some(&path), None).unwrap();
    assert_eq!(model.geometry, geometry);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures");
    let pictures: Vec<Picture> = PICTURES[..count].iter().map(|path| picture(&root.join(path))).collect();
    let Geometry { family, grid, width, .. } = geometry;
    Case::new(format!("random {} {width}, {grid}×{grid}, batch {count}", family.as_str()), model, &pictures, false)
}

fn picture(path: &Path) -> Picture {
    let mut picture = Picture::default();
    decode::read(path, &mut picture).unwrap();
    picture
}

/// Says that something was not tested. Not by `println!`: the harness would swallow the line of a test that passes.
pub fn skipped(why: &str) {
    writeln!(std::io::stderr(), "skipped: {why}").unwrap();
}

/// Fails unless the slices are equally long and no element differs by more than `tolerance`; `NaN` never passes.
pub fn close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    for (i, (&a, &b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance, "{what}[{i}]: found {a}, expected {b} ± {tolerance}");
    }
}
