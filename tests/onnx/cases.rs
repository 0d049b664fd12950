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

/// The golden fixtures below `root` (relative to the package): each one's first picture alone, and all its pictures as a batch. None, with
/// a printed line, where `root` is absent.
pub fn golden(root: &str) -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let Ok(entries) = std::fs::read_dir(&root) else {
        skipped(&format!("{} is not there", root.display()));
        return Vec::new();
    };
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "{} holds no fixture", root.display());
    folders.iter().flat_map(|folder| fixture(folder)).collect()
}

fn fixture(folder: &Path) -> [Case; 2] {
    let Fixture { model, cases } =
        serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
    let model = model::open(Some(&folder.join("checkpoint.pth")), Some(model.num_heads)).unwrap();
    let pictures: Vec<Picture> = cases
        .iter()
        .map(|case| {
            let stem = Path::new(&case.image).file_stem().unwrap().to_str().unwrap();
            picture(&folder.join("images").join(format!("{stem}.crop.png")))
        })
        .collect();
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let batch = Case::new(format!("{name}, batch {}", pictures.len()), model.clone(), &pictures, true);
    [Case::new(name, model, &pictures[..1], true), batch]
}

/// A published model's size and 1000 classes with random weights, on one of the bundled photographs.
pub fn full_size(family: Family, grid: usize) -> Case {
    const PICTURE: &str = "tests/data/pictures/n01440764/ILSVRC2012_val_00017700.JPEG";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("random.safetensors");
    model::write_random(&path, &Geometry::published(family, grid, 1000), 1).unwrap();
    let model = model::open(Some(&path), None).unwrap();
    let name = format!("{}-small-{grid}", family.as_str());
    Case::new(name, model, &[picture(&Path::new(env!("CARGO_MANIFEST_DIR")).join(PICTURE))], false)
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

/// Fails unless the slices are equally long and no element differs by more than `tolerance`; `NaN` never passes. Gives the largest
/// difference.
pub fn close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) -> f32 {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    let mut largest = 0f32;
    for (i, (&a, &b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= tolerance, "{what}[{i}]: found {a}, expected {b} ± {tolerance}");
        largest = largest.max((a - b).abs());
    }
    largest
}
