//! How examples and their folders are called.

use std::collections::HashSet;
use std::fmt;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::config::CameraSettings;
use crate::model::Label;

/// Frames of so long a time stay together: a block is for training or for validation as a whole, because neighbours look alike.
const BLOCK_MS: u64 = 10 * 60 * 1000;
/// One block of so many is for validation.
const BLOCKS: u64 = 5;
/// The longest name of a class's folder, in bytes.
const MAX_FOLDER: usize = 100;
/// Of a time, in UTC.
const TIME: &str = "%Y%m%dT%H%M%S";

/// The name of an example without its extension: `<UTC>-<camera>-<seq>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// When the picture was taken, in milliseconds of Unix time.
    pub unix_ms: u64,
    /// The camera's name.
    pub camera: String,
    /// The frame's number.
    pub seq: u64,
}

impl Name {
    /// The one that `stem`, a file's name without its extension, says.
    pub fn parse(stem: &str) -> Option<Self> {
        let (time, rest) = stem.split_once("Z-")?;
        let (camera, seq) = rest.rsplit_once('-')?;
        let (seconds, ms) = time.split_once('.')?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if ms.len() != 3 || !digits(ms) || !digits(seq) || !CameraSettings::is_name(camera) {
            return None;
        }
        let seconds = TimeZone::UTC.to_timestamp(DateTime::strptime(TIME, seconds).ok()?).ok()?.as_second();
        let unix_ms = u64::try_from(seconds).ok()?.checked_mul(1000)?.checked_add(ms.parse().ok()?)?;
        let name = Self { unix_ms, camera: camera.to_owned(), seq: seq.parse().ok()? };
        // Only what this program writes: no other spelling of the same name.
        (name.to_string() == stem).then_some(name)
    }

    /// What it is for once it is labelled.
    pub fn split(&self) -> Split {
        match (self.unix_ms / BLOCK_MS) % BLOCKS {
            last if last == BLOCKS - 1 => Split::Val,
            _ => Split::Train,
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        let time = ms.unwrap_or(Timestamp::UNIX_EPOCH).strftime(TIME);
        write!(f, "{time}.{:03}Z-", self.unix_ms % 1000)?;
        match CameraSettings::is_name(&self.camera) {
            true => f.write_str(&self.camera)?,
            false => f.write_str("camera")?,
        }
        write!(f, "-{}", self.seq)
    }
}

/// What labelled examples are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Split {
    /// Training.
    Train,
    /// Validation.
    Val,
}

impl Split {
    /// The folder's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
        }
    }
}

/// The folder of each class: the label's id, so that `cfvit eval` knows the class by it. What an id has that no folder's name should have
/// becomes `_`, and what is the same then gets its number; such a class is known by its side-cars only.
pub fn folders(labels: &[Label]) -> Vec<String> {
    let mut taken = HashSet::new();
    let folder = |(class, label): (usize, &Label)| {
        let name = safe(&label.id);
        // No safe name has a `~`.
        let name = if taken.contains(&name) { format!("{name}~{class}") } else { name };
        taken.insert(name.clone());
        name
    };
    labels.iter().enumerate().map(folder).collect()
}

fn safe(id: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ',' | ' ' | '(' | ')' | '+' | '\'');
    let mut name: String = id.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    while name.len() > MAX_FOLDER {
        name.pop();
    }
    match name.chars().next() {
        // Hidden, or this folder or the one above it.
        Some('.') => name.replace_range(..1, "_"),
        None => name.push('_'),
        Some(_) => {}
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn label(id: &str) -> Label {
        Label { id: id.into(), name: "x".into() }
    }

    #[test]
    fn a_name_says_when_where_and_which() {
        let name = Name { unix_ms: 1_700_000_000_007, camera: "yard-2".into(), seq: 9 };
        assert_eq!(name.to_string(), "20231114T221320.007Z-yard-2-9");
        for wrong in [
            "",
            "x",
            "20261125T031344.123Z-door",
            "20261125T031344.123Z-a/b-1",
            "20261125T031344Z-door-1",
            "20261125T031344.123Z-door-01",
            "20261325T031344.123Z-door-1",
            "../20261125T031344.123Z-door-1",
        ] {
            assert_eq!(Name::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn ids_are_folders_and_what_is_no_folder_becomes_one() {
        let labels = ["n01440764", "../../etc", "a/b", "a_b", "", ".", "ß é", "a\0b"].map(label);
        let folders = folders(&labels);
        assert_eq!(folders, ["n01440764", "_._.._etc", "a_b", "a_b~3", "_", "_~5", "ß é", "a_b~7"]);
    }

    proptest! {
        #[test]
        fn every_name_is_read_back(unix_ms in 0u64..4_102_444_800_000, camera in "[A-Za-z0-9_-]{1,32}", seq: u64) {
            let name = Name { unix_ms, camera, seq };
            prop_assert_eq!(Name::parse(&name.to_string()), Some(name));
        }

        #[test]
        fn any_text_is_no_panic_and_no_path(text in ".{0,60}") {
            if let Some(name) = Name::parse(&text) {
                prop_assert!(!name.to_string().contains(['/', '\\']));
            }
        }

        #[test]
        fn folders_are_safe_and_each_class_has_its_own(ids in prop::collection::vec(".{0,120}", 0..20)) {
            let folders = folders(&ids.iter().map(|id| label(id)).collect::<Vec<_>>());
            let different: HashSet<&String> = folders.iter().collect();
            prop_assert_eq!(different.len(), ids.len());
            for folder in folders {
                prop_assert!(!folder.is_empty() && !folder.starts_with('.') && folder.len() <= MAX_FOLDER + 21);
                prop_assert!(!folder.contains(['/', '\\', '\0', '\n']), "{}", folder);
            }
        }

        #[test]
        fn one_in_five_is_for_validation_and_neighbours_stay_together(first in 0u64..3_000_000) {
            let split = |block: u64, ms: u64| Name { unix_ms: block * BLOCK_MS + ms, camera: "a".into(), seq: 0 }.split();
            let vals = (first..first + BLOCKS).filter(|&block| split(block, 0) == Split::Val).count();
            prop_assert_eq!(vals, 1);
            prop_assert_eq!(split(first, 0), split(first, BLOCK_MS - 1));
        }
    }
}
