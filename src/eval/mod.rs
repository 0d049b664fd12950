//! How good a model is on labelled pictures: coarse only, fine always, and the cascade at a threshold. One pass that runs both
//! stages on every picture answers for every threshold (the authors' eval modes 0, 1 and 2).

pub mod detail;
pub mod report;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::frame::Stage;
use crate::gate;
use crate::model::{Geometry, Label};
use crate::preprocess::decode::{EXTENSIONS, is_picture_name};

/// A picture and its class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The file.
    pub path: PathBuf,
    /// The class, below the model's number of classes.
    pub class: usize,
}

/// The pictures of an ImageFolder: one folder a class. Where the folders' names are the labels' ids they say the class, else the rank
/// among the sorted names does. Sorted by class folder, then by path.
///
/// # Errors
/// [`Kind::Usage`] when there is no folder or no picture in it, when some folder names are label ids and others are not, or
/// when there are more folders than classes.
pub fn image_folder(dir: &Path, labels: &[Label]) -> Result<Vec<Sample>> {
    let mut folders = read_dir(dir)?;
    folders.retain(|path| path.is_dir());
    let shown = dir.display();
    if folders.is_empty() {
        let message = format!("{shown} holds no folders; expected one folder of pictures for each class");
        return Err(Error::new(Kind::Usage, message));
    }
    let classes = classes_of(&folders, labels).map_err(|e| e.within(format!("cannot use {shown}")))?;
    let mut samples = Vec::new();
    for (folder, class) in folders.iter().zip(classes) {
        let mut paths = read_dir(folder)?;
        paths.retain(|path| path.is_file() && is_picture_name(path));
        samples.extend(paths.into_iter().map(|path| Sample { path, class }));
    }
    if samples.is_empty() {
        let message = format!("the folders of {shown} hold no pictures; files called {} count", EXTENSIONS.join(", "));
        return Err(Error::new(Kind::Usage, message));
    }
    Ok(samples)
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'))
}

/// The entries of `dir`, hidden ones left out, sorted by name.
fn read_dir(dir: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |e| Error::caused(Kind::Io, format!("cannot list {}", dir.display()), e);
    let entries = std::fs::read_dir(dir).map_err(unreadable)?;
    let mut paths = entries.map(|entry| entry.map(|e| e.path()).map_err(unreadable)).collect::<Result<Vec<_>>>()?;
    paths.retain(|path| !is_hidden(path));
    paths.sort();
    Ok(paths)
}

fn classes_of(folders: &[PathBuf], labels: &[Label]) -> Result<Vec<usize>> {
    let names: Vec<String> =
        folders.iter().filter_map(|f| f.file_name()).map(|n| n.to_string_lossy().into_owned()).collect();
    let by_id: Vec<Option<usize>> = names.iter().map(|name| labels.iter().position(|l| l.id == *name)).collect();
    if by_id.iter().all(Option::is_some) {
        return Ok(by_id.into_iter().flatten().collect());
    }
    if let (true, Some(stranger)) = (by_id.iter().any(Option::is_some), by_id.iter().position(Option::is_none)) {
        let message =
            format!("some folders are named by label ids, but `{}` is no label of the model", names[stranger]);
        return Err(Error::new(Kind::Usage, message));
    }
    if folders.len() > labels.len() {
        let message = format!("it has {} class folders, the model only {} classes", folders.len(), labels.len());
        return Err(Error::new(Kind::Usage, message));
    }
    Ok((0..folders.len()).collect())
}

/// Where the right class came in one stage's ranking: 0 is best. Equal logits rank in class order; a `NaN` logit is never better.
pub fn rank(logits: &[f32], class: usize) -> usize {
    let own = logits[class];
    logits.iter().enumerate().filter(|&(i, &x)| x > own || x == own && i < class || own.is_nan()).count()
}

/// What both stages said of one picture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Observation {
    /// Which of the samples it is.
    pub sample: usize,
    /// The right class.
    pub class: usize,
    /// What the gate sees.
    pub confidence: f32,
    /// [`rank`] of the right class in the coarse logits.
    pub coarse_rank: usize,
    /// [`rank`] of the right class in the fine logits.
    pub fine_rank: usize,
    /// The class that the coarse stage answers.
    pub coarse_label: usize,
    /// The class that the fine stage answers.
    pub fine_label: usize,
    /// The probability that the fine stage gives it.
    pub fine_confidence: f32,
    /// [`rank`] of the right class after one static pass; `None` where none was made.
    pub static_rank: Option<usize>,
}

/// Top-1 and top-5, in percent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Accuracy {
    /// The best class is right.
    pub top1: f64,
    /// The right class is among the best five.
    pub top5: f64,
}

/// The cascade at one threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct Dynamic {
    /// In percent.
    pub top1: f64,
    /// In percent.
    pub top5: f64,
    /// Share of pictures that the fine stage answered, 0 to 1.
    pub fine_fraction: f64,
    /// Mean multiply-accumulates a picture, in units of 1e9, counted as the paper does.
    pub mean_gmacs: f64,
}

/// One point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct SweepPoint {
    /// η
    pub threshold: f64,
    /// In percent.
    pub top1: f64,
    /// Share of pictures that the fine stage answered, 0 to 1.
    pub fine_fraction: f64,
    /// As in [`Dynamic::mean_gmacs`].
    pub mean_gmacs: f64,
}

/// Observations of one model on many pictures.
#[derive(Clone, Debug)]
pub struct Evaluation {
    coarse_gmacs: f64,
    fine_gmacs: f64,
    observations: Vec<Observation>,
}

impl Evaluation {
    /// An empty one, for a model of `geometry`.
    pub fn new(geometry: &Geometry) -> Self {
        let macs = geometry.macs();
        let (coarse_gmacs, fine_gmacs) = (macs.coarse as f64 / 1e9, macs.fine as f64 / 1e9);
        Self { coarse_gmacs, fine_gmacs, observations: Vec::new() }
    }

    /// Adds a picture.
    pub fn add(&mut self, observation: Observation) {
        self.observations.push(observation);
    }

    /// Pictures added.
    pub fn images(&self) -> usize {
        self.observations.len()
    }

    /// The coarse stage alone.
    pub fn coarse(&self) -> Accuracy {
        self.accuracy(|o| o.coarse_rank)
    }

    /// The fine stage on every picture.
    pub fn fine(&self) -> Accuracy {
        self.accuracy(|o| o.fine_rank)
    }

    /// One static pass for every picture; `None` unless each had one.
    pub fn full(&self) -> Option<Accuracy> {
        let all = !self.observations.is_empty() && self.observations.iter().all(|o| o.static_rank.is_some());
        all.then(|| self.accuracy(|o| o.static_rank.unwrap_or(usize::MAX)))
    }

    /// The cascade at `threshold`, by the gate's own rule.
    pub fn dynamic(&self, threshold: f32) -> Dynamic {
        let refined = |o: &Observation| gate::decide(o.confidence, threshold) == Stage::Fine;
        let Accuracy { top1, top5 } = self.accuracy(|o| if refined(o) { o.fine_rank } else { o.coarse_rank });
        let fine_fraction = self.share(refined);
        Dynamic { top1, top5, fine_fraction, mean_gmacs: self.coarse_gmacs + fine_fraction * self.fine_gmacs }
    }

    /// The curve over η = 0.00, 0.01, … 1.00.
    pub fn sweep(&self) -> Vec<SweepPoint> {
        let point = |step: u32| {
            let threshold = f64::from(step) / 100.0;
            let Dynamic { top1, fine_fraction, mean_gmacs, .. } = self.dynamic(threshold as f32);
            SweepPoint { threshold, top1, fine_fraction, mean_gmacs }
        };
        (0..=100).map(point).collect()
    }

    fn accuracy(&self, rank: impl Fn(&Observation) -> usize) -> Accuracy {
        Accuracy { top1: 100.0 * self.share(|o| rank(o) < 1), top5: 100.0 * self.share(|o| rank(o) < 5) }
    }

    fn share(&self, which: impl Fn(&Observation) -> bool) -> f64 {
        let count = self.observations.iter().filter(|o| which(o)).count();
        count as f64 / self.observations.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Family;
    use proptest::prelude::*;

    fn labels(ids: &[&str]) -> Vec<Label> {
        ids.iter().map(|&id| Label { id: id.into(), name: id.into() }).collect()
    }

    fn folders(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("b.jpg"), "").unwrap();
            std::fs::write(dir.path().join(name).join("a.jpg"), "").unwrap();
        }
        dir
    }

    fn classes(names: &[&str], ids: &[&str]) -> Result<Vec<usize>> {
        let dir = folders(names);
        image_folder(dir.path(), &labels(ids)).map(|s| s.iter().step_by(2).map(|s| s.class).collect())
    }

    #[test]
    fn folders_named_by_ids_take_the_ids_class_others_their_rank() {
        assert_eq!(classes(&["n3", "n1"], &["n3", "n2", "n1"]).unwrap(), [2, 0]);
        assert_eq!(classes(&["zebra", "ant"], &["n3", "n2", "n1"]).unwrap(), [0, 1]);
        let error = classes(&["n3", "zebra"], &["n3", "n2"]).unwrap_err();
        assert!(error.to_string().contains("`zebra` is no label"), "{error}");
        let error = classes(&["a", "b", "c"], &["n3", "n2"]).unwrap_err();
        assert!(error.to_string().contains("3 class folders, the model only 2"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn a_folder_without_classes_or_pictures_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(image_folder(dir.path(), &labels(&["a"])).unwrap_err().to_string().contains("holds no folders"));
        std::fs::create_dir(dir.path().join("a")).unwrap();
        assert!(image_folder(dir.path(), &labels(&["a"])).unwrap_err().to_string().contains("hold no pictures"));
        assert!(image_folder(&dir.path().join("none"), &labels(&["a"])).is_err());
    }

    #[test]
    fn rank_counts_what_is_better() {
        assert_eq!(rank(&[1.0, 3.0, 2.0], 1), 0);
        assert_eq!(rank(&[1.0, 3.0, 2.0], 0), 2);
        assert_eq!(rank(&[2.0, 2.0, 2.0], 1), 1);
        assert_eq!(rank(&[f32::NAN; 6], 0), 6);
    }

    fn geometry() -> Geometry {
        let family = Family::Deit;
        Geometry { family, grid: 7, patch: 16, width: 192, depth: 6, heads: 3, hidden: 768, classes: 10, stem: 0 }
    }

    #[test]
    fn costs_are_those_of_the_bundled_model_s_description() {
        let evaluation = Evaluation::new(&geometry());
        assert!((evaluation.coarse_gmacs - 0.1457).abs() < 5e-5, "{}", evaluation.coarse_gmacs);
        assert!((evaluation.fine_gmacs - 0.41113).abs() < 5e-6, "{}", evaluation.fine_gmacs);
    }

    proptest! {
        #[test]
        fn the_curve_s_ends_are_the_stages_and_its_cost_grows(
            observations in prop::collection::vec((0f32..1.0, 0usize..10, 0usize..10), 1..60),
        ) {
            let mut evaluation = Evaluation::new(&geometry());
            for (confidence, coarse_rank, fine_rank) in observations {
                evaluation.add(Observation { confidence, coarse_rank, fine_rank, ..Observation::default() });
            }
            let sweep = evaluation.sweep();
            prop_assert_eq!(sweep.len(), 101);
            prop_assert_eq!(sweep[0].top1, evaluation.coarse().top1);
            prop_assert_eq!(sweep[100].top1, evaluation.fine().top1, "no confidence reaches 1 here");
            prop_assert!(sweep.windows(2).all(|w| w[0].fine_fraction <= w[1].fine_fraction));
            prop_assert!(sweep.iter().all(|p| p.mean_gmacs >= evaluation.coarse_gmacs));
            let dynamic = evaluation.dynamic(0.5);
            prop_assert_eq!(dynamic.top1, sweep[50].top1);
            prop_assert!(dynamic.top5 >= dynamic.top1);
            prop_assert_eq!(evaluation.full(), None, "no static pass was made");
        }
    }
}
