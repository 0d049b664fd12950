//! The pictures of a folder, in order, as if a camera had taken them: the source that needs no hardware.

use std::fs;
use std::path::{Path, PathBuf};

use super::schedule::{self, Schedule};
use super::{Damage, Decode, Event, Options, Pace, Source, Wait};
use crate::error::{Error, Kind, Result};
use crate::frame::{Frame, Picture};
use crate::preprocess::decode;

/// Plays the pictures of a folder and of the folders in it, sorted by path.
pub struct Folder {
    name: String,
    pictures: Vec<PathBuf>,
    /// By picture: its damage was logged.
    named: Vec<bool>,
    next: usize,
    readable_in_pass: usize,
    repeat: bool,
    schedule: Option<Schedule>,
    /// Which picture is decoded in `picture` and waits until it is due.
    ahead: Option<usize>,
    picture: Picture,
    decode: Decode,
}

impl Folder {
    /// Lists the pictures beneath `root`. Hidden files and folders are skipped, links to folders are not followed.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a frame rate outside [`Options::FPS`]; [`Kind::Source`] when `root` is not a folder, cannot be read,
    /// or holds no picture.
    pub fn open(root: &Path, options: Options, decode: Decode) -> Result<Self> {
        let schedule = options.fps.map(Schedule::new).transpose()?;
        let pictures = list(root)?;
        if pictures.is_empty() {
            let message = format!(
                "folder {} holds no picture: expected files ending in {}",
                root.display(),
                decode::EXTENSIONS.join(", ")
            );
            return Err(Error::new(Kind::Source, message));
        }
        Ok(Self {
            name: root.display().to_string(),
            named: vec![false; pictures.len()],
            pictures,
            next: 0,
            readable_in_pass: 0,
            repeat: options.repeat,
            schedule,
            ahead: None,
            picture: Picture::default(),
            decode,
        })
    }

    /// Which picture comes next, and moves on; `None` at the end.
    fn advance(&mut self) -> Result<Option<usize>> {
        if self.next == self.pictures.len() {
            if !self.repeat {
                return Ok(None);
            }
            if self.readable_in_pass == 0 {
                let message = format!("none of the {} pictures in {} can be read", self.pictures.len(), self.name);
                return Err(Error::new(Kind::Source, message));
            }
            (self.next, self.readable_in_pass) = (0, 0);
        }
        self.next += 1;
        Ok(Some(self.next - 1))
    }

    /// Decodes picture `index`; a damaged one is named the first time it is met.
    fn read(&mut self, index: usize) -> bool {
        match (self.decode)(&self.pictures[index], &mut self.picture) {
            Ok(()) => {
                self.readable_in_pass += 1;
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.named[index], true) {
                    log::warn!("skipped: {error}");
                }
                false
            }
        }
    }
}

impl Source for Folder {
    fn next(&mut self, frame: &mut Frame, wait: &Wait<'_>) -> Result<Event> {
        if self.ahead.is_none() {
            let Some(index) = self.advance()? else { return Ok(Event::End) };
            if !self.read(index) {
                return Ok(Event::Failed(Damage::Unreadable));
            }
            self.ahead = Some(index);
        }
        if let Some(schedule) = &mut self.schedule
            && !schedule.wait(wait)
        {
            return Ok(Event::Idle);
        }
        let Some(index) = self.ahead.take() else { return Ok(Event::Idle) };
        frame.name.clear();
        frame.name.push_str(&self.pictures[index].to_string_lossy());
        std::mem::swap(&mut frame.picture, &mut self.picture);
        frame.captured = wait.clock.now();
        Ok(Event::Frame)
    }

    fn pace(&self) -> Pace {
        schedule::pace(self.schedule.as_ref())
    }

    fn describe(&self) -> String {
        let pace = schedule::describe(self.schedule.as_ref());
        let again = if self.repeat { ", again and again" } else { "" };
        format!("{} pictures of {} ({pace}{again})", self.pictures.len(), self.name)
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// The pictures beneath `root`, sorted.
fn list(root: &Path) -> Result<Vec<PathBuf>> {
    let unreadable = |cause| Error::caused(Kind::Source, format!("cannot read folder {}", root.display()), cause);
    if !fs::metadata(root).map_err(unreadable)?.is_dir() {
        let message = format!("{} is not a folder: expected a folder of pictures", root.display());
        return Err(Error::new(Kind::Source, message));
    }
    let (mut pictures, mut folders) = (Vec::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(cause) if folder == root => return Err(unreadable(cause)),
            Err(cause) => {
                log::warn!("skipping folder {}: {cause}", folder.display());
                continue;
            }
        };
        for entry in entries {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                    folders.push(path);
                }
            } else if decode::is_picture_name(&path) && path.is_file() {
                pictures.push(path);
            }
        }
    }
    pictures.sort_unstable();
    Ok(pictures)
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
