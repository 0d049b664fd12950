//! The calibration frames: from pictures or from an audit.

use std::path::{Path, PathBuf};

use super::super::eval::progress;
use super::super::pictures;
use super::super::session::{Failures, Session};
use super::{Args, SEED};
use crate::bench::schedule::Random;
use crate::calibrate::certificate::{Evidence, data_sha256};
use crate::calibrate::{Keys, Observation, audit, correlation, labels};
use crate::error::{Error, Kind, Result};
use crate::frame::Picture;
use crate::gate;
use crate::model::Label;
use crate::preprocess::decode;

/// The most pictures that are kept decoded for measuring costs, and their bytes.
const MOST_PICTURES: usize = 64;
const MOST_BYTES: usize = 64 << 20;

/// Calibration frames and where they come from.
pub struct Frames {
    /// What both stages said.
    pub observations: Vec<Observation>,
    /// The pictures, in the same order; none for an audit.
    pub paths: Vec<PathBuf>,
    /// For the certificate.
    pub evidence: Evidence,
    /// Remarks for the report.
    pub notes: Vec<String>,
    /// Pictures that were to be read,
    pub asked: usize,
    /// and those that could not be.
    pub failures: Failures,
}

/// The frames of the audit at `path` that are newer than `since`, thinned until they count.
///
/// # Errors
/// As [`audit::read`]; [`Kind::Mismatch`] when it was taken with another engine.
pub fn from_audit(path: &Path, since: Option<jiff::Timestamp>, keys: &Keys) -> Result<Frames> {
    let mut audit = audit::read(path)?;
    audit.header.check(keys).map_err(|e| e.within(format!("cannot use {}", path.display())))?;
    if let Some(since) = since {
        let since = u64::try_from(since.as_millisecond()).unwrap_or(0);
        audit.records.retain(|record| record.time_ms > since);
    }
    let (kept, step, correlation) = correlation::thin(&audit.records, |record| Observation::from(*record));
    let times = || kept.iter().map(|record| record.time_ms);
    let span_h = times().max().zip(times().min()).map(|(last, first)| (last - first) as f64 / 3.6e6);
    let whole = correlation::of(&audit.records.iter().map(|record| Observation::from(*record)).collect::<Vec<_>>());
    let slot_s = audit.header.slot_s;
    let mut notes = vec![format!(
        "{} audited frames of camera {}, worth {:.0} independent ones; correlated over {:.0} s",
        audit.records.len(),
        audit.header.camera,
        whole.n_eff,
        (whole.lag - 1) as f64 * slot_s
    )];
    if step > 1 {
        notes.push(format!("one frame in {step} is used, so that the rest count as independent"));
    }
    if audit.damaged > 0 {
        notes.push(format!("{} damaged records were left out", audit.damaged));
    }
    let observations: Vec<Observation> = kept.into_iter().map(Observation::from).collect();
    let evidence = Evidence {
        data_sha256: data_sha256(&observations),
        n_eff: correlation.n_eff,
        span_h,
        slot_s: Some(slot_s * step as f64),
        assumption: "slots independent".into(),
    };
    Ok(Frames { observations, paths: Vec::new(), evidence, notes, asked: 0, failures: Failures::default() })
}

/// Runs both stages on the pictures that `args` name.
///
/// # Errors
/// When there is none, the labels cannot be used, or the engine fails.
pub fn from_pictures(session: &mut Session, args: &Args) -> Result<Frames> {
    let folder = args.images.as_deref().ok_or_else(|| Error::new(Kind::Usage, "expected --images DIR"))?;
    if !folder.is_dir() {
        let message = format!("--images: expected a folder of pictures, {} is none", folder.display());
        return Err(Error::new(Kind::Usage, message));
    }
    let mut paths = pictures::find(&[folder.to_owned()])?;
    let mut notes = Vec::new();
    if args.group_by.is_some() {
        let all = paths.len();
        paths = one_per_folder(paths);
        notes.push(format!("one picture of each of {} folders, out of {all}", paths.len()));
    }
    let known = right_answers(&paths, folder, args.labels.as_deref(), &session.labels)?;
    let mut frames = observe(session, paths, &known)?;
    let unknown = frames.observations.iter().filter(|o| o.differs() && o.label.is_none()).count();
    if unknown > 0 && args.max_loss.is_some() && frames.observations.iter().any(|o| o.label.is_some()) {
        notes.push(format!("{unknown} pictures on which the stages differ have no label; each counts as a loss"));
    }
    let what = if args.group_by.is_some() { "folders" } else { "pictures" };
    frames.evidence.assumption = format!("{what} independent");
    frames.notes = notes;
    Ok(frames)
}

/// The right class of each picture, where it is known: from the table, else from class folders, if all are named by labels' ids.
fn right_answers(
    paths: &[PathBuf],
    folder: &Path,
    table: Option<&Path>,
    classes: &[Label],
) -> Result<Vec<Option<usize>>> {
    if let Some(table) = table {
        let known = labels::read(table, folder, classes)?;
        if known.is_empty() {
            let message = format!(
                "{} holds no label: expected lines `picture,label`, with a class in the second column",
                table.display()
            );
            return Err(Error::new(Kind::Usage, message));
        }
        let answers: Vec<_> = paths.iter().map(|path| known.get(path).copied()).collect();
        if answers.iter().all(Option::is_none) {
            let message = format!(
                "none of the {} labels in {} is for a picture in {}: paths are as seen from there",
                known.len(),
                table.display(),
                folder.display()
            );
            return Err(Error::new(Kind::Mismatch, message));
        }
        return Ok(answers);
    }
    let class = |path: &PathBuf| {
        let inside = path.strip_prefix(folder).ok()?;
        let mut parts = inside.iter();
        let (first, _) = (parts.next()?, parts.next()?);
        classes.iter().position(|label| label.id.as_str() == first)
    };
    let answers: Option<Vec<usize>> = paths.iter().map(class).collect();
    Ok(answers.map_or(vec![None; paths.len()], |answers| answers.into_iter().map(Some).collect()))
}

/// Both stages on every picture, one at a time as `run` decides them. What cannot be read is named and left out.
fn observe(session: &mut Session, paths: Vec<PathBuf>, known: &[Option<usize>]) -> Result<Frames> {
    let (mut observations, mut kept, mut failures) = (Vec::new(), Vec::new(), Failures::default());
    let asked = paths.len();
    let progress = progress(asked);
    let mut probabilities = Vec::new();
    for (path, label) in paths.into_iter().zip(known) {
        let decided = session.decide(&path, false);
        if let Some(decision) = progress.suspend(|| failures.note(decided))? {
            let verdict = decision.verdict;
            gate::softmax(&verdict.coarse.logits, &mut probabilities);
            observations.push(Observation {
                confidence: verdict.coarse_confidence,
                coarse: gate::argmax(&probabilities).0,
                fine: verdict.label,
                label: *label,
            });
            kept.push(path);
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    if observations.is_empty() {
        failures.finish(asked)?;
        return Err(Error::new(Kind::Image, "no picture could be read"));
    }
    let evidence = Evidence {
        data_sha256: data_sha256(&observations),
        n_eff: observations.len() as f64,
        span_h: None,
        slot_s: None,
        assumption: String::new(),
    };
    Ok(Frames { observations, paths: kept, evidence, notes: Vec::new(), asked, failures })
}

/// One picture of each folder, at random (the same at every run); sorted by folder as before.
fn one_per_folder(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut random = Random(SEED);
    let mut groups: Vec<Vec<PathBuf>> = Vec::new();
    for path in paths {
        match groups.iter_mut().find(|group| group[0].parent() == path.parent()) {
            Some(group) => group.push(path),
            None => groups.push(vec![path]),
        }
    }
    groups.into_iter().map(|mut group| group.swap_remove(random.below(group.len()))).collect()
}

/// Some pictures of `folder`, decoded, to measure costs on.
///
/// # Errors
/// When there is none that can be read.
pub fn load(folder: &Path) -> Result<Vec<Picture>> {
    let mut paths = pictures::find(&[folder.to_owned()])?;
    Random(SEED).shuffle(&mut paths);
    let (mut loaded, mut bytes) = (Vec::new(), 0);
    for path in paths.iter().take(MOST_PICTURES) {
        let mut picture = Picture::default();
        // What cannot be read was named before.
        if decode::read(path, &mut picture).is_ok() {
            bytes += picture.rgb.len();
            loaded.push(picture);
        }
        if bytes > MOST_BYTES {
            break;
        }
    }
    match loaded.is_empty() {
        true => Err(Error::new(Kind::Image, format!("none of the pictures in {} can be read", folder.display()))),
        false => Ok(loaded),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_picture_of_each_folder_the_same_at_every_run() {
        let paths: Vec<PathBuf> = ["a/1", "a/2", "a/3", "b/1", "c/d/1", "c/d/2"].map(PathBuf::from).into();
        let kept = one_per_folder(paths.clone());
        assert_eq!(
            kept.iter().map(|path| path.parent().unwrap().to_str().unwrap()).collect::<Vec<_>>(),
            ["a", "b", "c/d"]
        );
        assert_eq!(kept, one_per_folder(paths));
    }

    #[test]
    fn folders_say_the_class_only_where_all_are_ids() {
        let label = |id: &str| Label { id: id.into(), name: id.into() };
        let classes = [label("n1"), label("n2")];
        let of = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(|path| Path::new("/val").join(path)).collect();
            right_answers(&paths, Path::new("/val"), None, &classes).unwrap()
        };
        assert_eq!(of(&["n2/x.jpg", "n1/y/z.jpg"]), [Some(1), Some(0)]);
        assert_eq!(of(&["n2/x.jpg", "clip7/y.jpg"]), [None, None]);
        assert_eq!(of(&["n1", "n2/x.jpg"]), [None, None], "a file called like a class is no class folder");
    }
}
