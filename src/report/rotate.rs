//! A file of lines that is cut off at a size: `records.jsonl` becomes `records.jsonl.1`, which becomes `.2`, and so on; the oldest goes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Result, Write};
use std::path::{Path, PathBuf};

/// When a new file is begun, and how many old ones stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// No file grows beyond so many bytes, unless one line alone is longer.
    pub max_bytes: u64,
    /// So many old files stay beside the one that is written, at least 1.
    pub keep: u32,
}

/// Appends lines to a file and begins a new one before a line that would not fit.
pub(super) struct Rotating {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    size: u64,
    /// What is written next begins a line.
    at_line_start: bool,
}

impl Rotating {
    /// Goes on at the end of `file`, which is the regular file at `path`; `torn` where its last line has no end.
    pub(super) fn new(path: &Path, file: File, rotation: Rotation, torn: bool) -> Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), rotation, file, size, at_line_start: !torn })
    }

    /// Moves every file one number on and begins a new one.
    fn rotate(&mut self) -> Result<()> {
        let old = |number: u32| {
            let mut name = OsString::from(&self.path);
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        // Beyond the oldest that stays there may be more, from another configuration.
        let mut number = self.rotation.keep;
        while remove(&old(number))? || number == self.rotation.keep {
            number += 1;
        }
        for number in (1..self.rotation.keep).rev() {
            match fs::rename(old(number), old(number + 1)) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                renamed => renamed?,
            }
        }
        match fs::rename(&self.path, old(1)) {
            // Somebody else has taken it away.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        self.file = OpenOptions::new().append(true).create(true).open(&self.path)?;
        self.size = self.file.metadata()?.len();
        Ok(())
    }
}

/// Removes a file; false if there is none.
fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        removed => removed.map(|()| true),
    }
}

/// Each call writes whole lines that fit, or the (rest of the) first one.
impl Write for Rotating {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        let first = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
        let max = self.rotation.max_bytes;
        if self.at_line_start && self.size > 0 && self.size.saturating_add(first as u64) > max {
            self.rotate()?;
        }
        let room = usize::try_from(max.saturating_sub(self.size)).unwrap_or(usize::MAX).min(bytes.len());
        let fitting = bytes[..room].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let piece = &bytes[..if self.at_line_start { fitting.max(first) } else { first }];
        let written = self.file.write(piece)?;
        self.size += written as u64;
        if written > 0 {
            self.at_line_start = piece[..written].ends_with(b"\n");
        }
        Ok(written)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn open(path: &Path, max_bytes: u64, keep: u32) -> Rotating {
        let file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        Rotating::new(path, file, Rotation { max_bytes, keep }, false).unwrap()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn old_files_move_on_and_the_oldest_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        for stale in [3, 4] {
            fs::write(dir.path().join(format!("r.jsonl.{stale}")), "stale\n").unwrap();
        }
        let mut file = open(&path, 8, 2);
        for number in 0..9 {
            file.write_all(format!("{number}..\n").as_bytes()).unwrap();
        }
        assert_eq!(names(dir.path()), ["r.jsonl", "r.jsonl.1", "r.jsonl.2"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), "8..\n");
        assert_eq!(fs::read_to_string(dir.path().join("r.jsonl.1")).unwrap(), "6..\n7..\n");
        assert_eq!(fs::read_to_string(dir.path().join("r.jsonl.2")).unwrap(), "4..\n5..\n");
    }

    #[test]
    fn a_folder_that_cannot_be_changed_is_an_error_and_nothing_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        let mut file = open(&path, 4, 1);
        file.write_all(b"abc\n").unwrap();
        // A folder of that name that is not empty cannot be removed or replaced.
        fs::create_dir_all(dir.path().join("r.jsonl.1/x")).unwrap();
        assert!(file.write_all(b"def\n").is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "abc\n");
        fs::remove_dir_all(dir.path().join("r.jsonl.1")).unwrap();
        file.write_all(b"def\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "def\n");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn no_line_is_torn_no_file_is_too_long_and_the_newest_lines_are_there(
            lengths in prop::collection::vec(0usize..20, 1..60), max in 1u64..40, keep in 1u32..4, at_once in 1usize..5,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("r");
            let lines: Vec<String> = lengths.iter().enumerate().map(|(i, &n)| format!("{i}{}\n", "x".repeat(n))).collect();
            let mut file = open(&path, max, keep);
            for batch in lines.chunks(at_once) {
                file.write_all(batch.concat().as_bytes()).unwrap();
            }
            let mut found = Vec::new();
            prop_assert!(names(dir.path()).len() <= 1 + keep as usize);
            for name in names(dir.path()).iter().rev().filter(|name| *name != "r") {
                found.push(fs::read_to_string(dir.path().join(name)).unwrap());
            }
            found.push(fs::read_to_string(&path).unwrap());
            for text in &found {
                prop_assert!(text.len() as u64 <= max || text.lines().count() == 1, "{:?}", text);
            }
            prop_assert!(lines.concat().ends_with(&found.concat()));
        }
    }
}
