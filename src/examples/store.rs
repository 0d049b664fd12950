//! The folder of examples: what is in it, what may still go in, and how it gets there.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::name::{Name, Split};
use crate::error::{Error, Kind, Result};
use crate::files;

/// The folder of what has no label yet.
const INBOX: &str = "inbox";
/// A side-car is a page of text.
const MAX_SIDE_CAR: u64 = 1 << 20;

/// A file that is still being written is younger.
const HALF_WRITTEN: Duration = Duration::from_secs(60);

/// Where collecting stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all examples, side-cars included.
    pub max_bytes: u64,
    /// Examples.
    pub max_files: u64,
    /// Bytes that stay free on the disk.
    pub min_free_bytes: u64,
}

/// What is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all examples, side-cars included.
    pub bytes: u64,
    /// Examples.
    pub files: u64,
}

impl Limits {
    /// Why `more` bytes do not go in, where `free` bytes of the disk are free; `None` where they do.
    pub fn refuse(&self, usage: Usage, free: u64, more: u64) -> Option<String> {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        if usage.files >= self.max_files {
            return Some(format!("{} examples are there, which is all there may be (collect.max_files)", usage.files));
        }
        if usage.bytes.saturating_add(more) > self.max_bytes {
            let (used, most) = (mib(usage.bytes), mib(self.max_bytes));
            return Some(format!("{used} MiB of examples are there, at most {most} may be (collect.max_mib)"));
        }
        if free < self.min_free_bytes.saturating_add(more) {
            let (free, least) = (mib(free), mib(self.min_free_bytes));
            return Some(format!("the disk has {free} MiB left, {least} stay free (collect.min_free_mib)"));
        }
        None
    }
}

/// In which folder an example is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whereabouts {
    /// Not labelled.
    Inbox,
    /// In the folder of a class.
    Class(Split, String),
}

/// An example on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: Name,
    /// Where it is.
    pub whereabouts: Whereabouts,
    /// The picture.
    pub path: PathBuf,
    /// Of the picture and its side-car.
    pub bytes: u64,
}

/// All examples below `root`, sorted by folder and name; other files are not looked at. What is not there has none.
///
/// # Errors
/// [`Kind::Io`] where a folder cannot be listed.
pub fn entries(root: &Path) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    list(&root.join(INBOX), &Whereabouts::Inbox, &mut entries)?;
    for split in [Split::Train, Split::Val] {
        for (class, path) in names(&root.join(split.as_str()))? {
            if path.is_dir() {
                list(&path, &Whereabouts::Class(split, class), &mut entries)?;
            }
        }
    }
    entries.sort_by(|a, b| (&a.whereabouts, &a.name).cmp(&(&b.whereabouts, &b.name)));
    Ok(entries)
}

fn list(folder: &Path, whereabouts: &Whereabouts, entries: &mut Vec<Entry>) -> Result<()> {
    for (file, path) in names(folder)? {
        let Some(name) = file.strip_suffix(".jpg").and_then(Name::parse) else { continue };
        let size = |path: &Path| fs::symlink_metadata(path).map(|file| if file.is_file() { file.len() } else { 0 });
        // It may just have been moved.
        let Ok(bytes) = size(&path) else { continue };
        let bytes = bytes + size(&path.with_extension("json")).unwrap_or_default();
        entries.push(Entry { name, whereabouts: whereabouts.clone(), path, bytes });
    }
    Ok(())
}

/// The visible entries of a folder whose names are text; none where there is no folder.
fn names(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let fails = |cause| Error::caused(Kind::Io, format!("cannot list {}", folder.display()), cause);
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fails(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fails)?;
        if let Some(name) = entry.file_name().to_str().filter(|name| !name.starts_with('.')) {
            names.push((name.to_owned(), entry.path()));
        }
    }
    Ok(names)
}

/// Takes an example away.
///
/// # Errors
/// [`Kind::Io`] where it stays.
pub fn remove(entry: &Entry) -> Result<()> {
    let fails = |cause| Error::caused(Kind::Io, format!("cannot remove {}", entry.path.display()), cause);
    for path in [entry.path.clone(), entry.path.with_extension("json")] {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(fails(error)),
            _ => {}
        }
    }
    Ok(())
}

/// The folder, written to.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// By class.
    folders: Vec<String>,
    limits: Limits,
    usage: Usage,
}

impl Store {
    /// Of the folder `root`, made when the first example comes; `folders` are those of the classes, from [`super::folders`].
    ///
    /// # Errors
    /// As [`entries`].
    pub fn open(root: PathBuf, folders: Vec<String>, limits: Limits) -> Result<Self> {
        let mut store = Self { root, folders, limits, usage: Usage::default() };
        store.count()?;
        Ok(store)
    }

    /// Removes what a power cut left half written. For the one program that writes here.
    pub fn sweep(&self) {
        let walk = walkdir::WalkDir::new(&self.root).max_depth(3).into_iter().flatten();
        for file in walk.filter(|entry| entry.file_type().is_file()) {
            let name = file.file_name().to_string_lossy();
            let is_old = || {
                let age = file.metadata().ok().and_then(|file| file.modified().ok()?.elapsed().ok());
                age.is_some_and(|age| age > HALF_WRITTEN)
            };
            if name.starts_with('.') && name.ends_with(".tmp") && is_old() {
                // Best effort: it is counted nowhere and only takes room.
                let _ = fs::remove_file(file.path());
            }
        }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What is there, as far as this program knows.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Puts a picture and its side-car into the inbox; why not, where that is full. After a power cut there is no half of one.
    ///
    /// # Errors
    /// [`Kind::Io`] where it cannot be written.
    pub fn save(&mut self, name: &Name, jpeg: &[u8], side_car: &Value) -> Result<std::result::Result<(), String>> {
        let side_car = side_car.to_string();
        let more = (jpeg.len() + side_car.len()) as u64;
        let folder = self.root.join(INBOX);
        make(&folder)?;
        let free = free_bytes(&folder)?;
        if self.limits.refuse(self.usage, free, more).is_some() {
            // Others take examples away.
            self.count()?;
            if let Some(why) = self.limits.refuse(self.usage, free, more) {
                return Ok(Err(why));
            }
        }
        let picture = folder.join(format!("{name}.jpg"));
        // First the side-car: a picture always has one.
        let side = picture.with_extension("json");
        files::write_atomic(&side, side_car.as_bytes())?;
        if let Err(error) = files::write_atomic(&picture, jpeg) {
            // Best effort: a side-car alone is no example.
            let _ = fs::remove_file(side);
            return Err(error);
        }
        self.usage.bytes += more;
        self.usage.files += 1;
        Ok(Ok(()))
    }

    /// Moves an example to the folder of `class`, `None` being the inbox, and notes `labeller`. Its new place, or `None` where there is no
    /// such example.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a class that is none, [`Kind::Io`] where it cannot be moved.
    pub fn label(&mut self, name: &Name, class: Option<usize>, labeller: &str) -> Result<Option<Whereabouts>> {
        let Some(entry) = self.find(name)? else { return Ok(None) };
        let folder = class.map(|class| {
            let message = || format!("there is no class {class}: expected one below {}", self.folders.len());
            self.folders.get(class).ok_or_else(|| Error::new(Kind::Usage, message()))
        });
        let to = match folder.transpose()? {
            Some(folder) => Whereabouts::Class(name.split(), folder.clone()),
            None => Whereabouts::Inbox,
        };
        if entry.whereabouts != to {
            relabel(&self.root, &entry, &to, labeller)?;
        }
        Ok(Some(to))
    }

    /// Takes an example away and gives what it was: the picture and its side-car.
    ///
    /// # Errors
    /// [`Kind::Io`] where it cannot be read or removed.
    pub fn discard(&mut self, name: &Name) -> Result<Option<(Vec<u8>, Value)>> {
        let Some(entry) = self.find(name)? else { return Ok(None) };
        let fails = |cause| Error::caused(Kind::Io, format!("cannot read {}", entry.path.display()), cause);
        let picture = fs::read(&entry.path).map_err(fails)?;
        let side_car = read_side_car(&entry.path.with_extension("json"));
        remove(&entry)?;
        self.usage.bytes = self.usage.bytes.saturating_sub(entry.bytes);
        self.usage.files = self.usage.files.saturating_sub(1);
        Ok(Some((picture, side_car)))
    }

    fn find(&self, name: &Name) -> Result<Option<Entry>> {
        let file = format!("{name}.jpg");
        let classes = self.folders.iter().map(|folder| Whereabouts::Class(name.split(), folder.clone()));
        for whereabouts in [Whereabouts::Inbox].into_iter().chain(classes) {
            let path = place(&self.root, &whereabouts).join(&file);
            if let Ok(found) = fs::symlink_metadata(&path) {
                let side = fs::symlink_metadata(path.with_extension("json")).map_or(0, |file| file.len());
                return Ok(Some(Entry { name: name.clone(), whereabouts, path, bytes: found.len() + side }));
            }
        }
        Ok(None)
    }

    fn count(&mut self) -> Result<()> {
        let entries = entries(&self.root)?;
        let bytes = entries.iter().map(|entry| entry.bytes).sum();
        self.usage = Usage { bytes, files: entries.len() as u64 };
        Ok(())
    }
}

/// Moves the files of `entry` below `root`; the side-car says the new class and who gave it.
fn relabel(root: &Path, entry: &Entry, to: &Whereabouts, labeller: &str) -> Result<()> {
    let folder = place(root, to);
    make(&folder)?;
    let picture = folder.join(entry.path.file_name().unwrap_or_default());
    let (side, old_side) = (picture.with_extension("json"), entry.path.with_extension("json"));
    let mut said = read_side_car(&old_side);
    if let Some(said) = said.as_object_mut() {
        let class = match to {
            Whereabouts::Inbox => Value::Null,
            Whereabouts::Class(_, folder) => json!(folder),
        };
        let by = if class.is_null() { Value::Null } else { json!(labeller) };
        said.insert("class".to_owned(), class);
        said.insert("labeller".to_owned(), by);
    }
    files::write_atomic(&side, said.to_string().as_bytes())?;
    let fails = |cause| Error::caused(Kind::Io, format!("cannot move {}", entry.path.display()), cause);
    fs::rename(&entry.path, &picture).map_err(fails)?;
    files::sync_folder(&picture);
    // Best effort: a side-car alone is no example.
    let _ = fs::remove_file(old_side);
    files::sync_folder(&entry.path);
    Ok(())
}

fn place(root: &Path, whereabouts: &Whereabouts) -> PathBuf {
    match whereabouts {
        Whereabouts::Inbox => root.join(INBOX),
        Whereabouts::Class(split, folder) => root.join(split.as_str()).join(folder),
    }
}

fn make(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| Error::caused(Kind::Io, format!("cannot make {}", folder.display()), e))
}

/// What the side-car says; nothing where it is damaged.
fn read_side_car(path: &Path) -> Value {
    let is_small = fs::metadata(path).is_ok_and(|file| file.len() <= MAX_SIDE_CAR);
    let text = is_small.then(|| fs::read(path).ok()).flatten().unwrap_or_default();
    serde_json::from_slice(&text).ok().filter(Value::is_object).unwrap_or_else(|| json!({ "v": 1 }))
}

/// What the disk of `folder` has left for this user.
fn free_bytes(folder: &Path) -> Result<u64> {
    let fails = |cause: rustix::io::Errno| {
        Error::caused(Kind::Io, format!("cannot tell what is free on the disk of {}", folder.display()), cause)
    };
    let disk = rustix::fs::statvfs(folder).map_err(fails)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
