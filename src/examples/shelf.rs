//! Examples on their way to the disk: copied by the decision thread, encoded and written by another.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use image::ExtendedColorType;
use image::codecs::jpeg::JpegEncoder;
use serde_json::Value;

use super::example::{About, Example, Reason};
use super::hash::{difference_hash, distance};
use super::name::{Name, folders};
use super::store::{Limits, Store, Usage, Whereabouts};
use crate::episode::Episode;
use crate::error::{Error, Kind, Result};
use crate::frame::Picture;
use crate::model::Label;

/// Pictures are for training: little is to be lost.
const QUALITY: u8 = 92;
/// Hashes that differ in at most so many of 64 bits are of the same scene.
const ALIKE: u32 = 5;
/// So many hashes of a run are compared with.
const REMEMBERED: usize = 256;
/// So many examples that were asked for can still be labelled anew.
const ASKED: usize = 32;
/// So long the thread may take to end; then it is left behind.
const GRACE: Duration = Duration::from_secs(2);

/// What was done, by [`Reason`], and what was not.
#[derive(Debug, Default)]
pub struct Counts {
    saved: [AtomicU64; Reason::ALL.len()],
    duplicate: AtomicU64,
    full: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    /// Examples saved for each reason.
    pub fn saved(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Reason::ALL.iter().zip(&self.saved).map(|(reason, count)| (reason.as_str(), count.load(Relaxed)))
    }

    /// Wanted frames that were not saved, and why.
    pub fn skipped(&self) -> [(&'static str, u64); 3] {
        [("duplicate", &self.duplicate), ("full", &self.full), ("failed", &self.failed)]
            .map(|(why, count)| (why, count.load(Relaxed)))
    }
}

/// What becomes of a picture that an operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Kept without a label.
    Inbox,
    /// Of this class.
    Class(usize),
    /// Not kept.
    Discarded,
}

/// Where examples are put. Shared by the decision thread, the thread that writes, and the page.
#[derive(Debug)]
pub struct Shelf {
    /// What is the same for all.
    pub about: About,
    /// What was done so far.
    pub counts: Counts,
    store: Mutex<Store>,
    /// Told when an example was taken away or saved, for whoever only looks.
    usage: Mutex<Usage>,
    job: Mutex<Job>,
    waker: Sender<()>,
    asked: Mutex<Asked>,
    full: Mutex<Episode>,
    failing: Mutex<Episode>,
}

/// The frame to write next.
#[derive(Debug, Default)]
struct Job {
    picture: Picture,
    example: Option<Example>,
}

/// What an operator asked for in this run, newest last.
#[derive(Debug, Default)]
struct Asked {
    names: VecDeque<(String, u64, Name)>,
    /// The last one that was discarded, to be taken back.
    discarded: Option<(Name, Vec<u8>, Value)>,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writer {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// A shelf over the folder `root`, and where wanted frames will come by themselves (`writes`), the thread that writes them.
///
/// # Errors
/// [`Kind::Io`] where the folder cannot be read, or no thread be made.
pub fn start(root: PathBuf, limits: Limits, about: About, writes: bool) -> Result<(Arc<Shelf>, Option<Writer>)> {
    let store = Store::open(root, folders(&about.labels), limits)?;
    store.sweep();
    let (waker, woken) = bounded(1);
    let shelf = Arc::new(Shelf {
        about,
        counts: Counts::default(),
        usage: Mutex::new(store.usage()),
        store: Mutex::new(store),
        job: Mutex::default(),
        waker,
        asked: Mutex::default(),
        full: Mutex::default(),
        failing: Mutex::default(),
    });
    if !writes {
        return Ok((shelf, None));
    }
    let (stop, stopped) = bounded(1);
    let writing = Arc::clone(&shelf);
    let thread = std::thread::Builder::new().name("examples".to_owned()).spawn(move || run(&writing, &woken, &stopped));
    let thread = thread.map_err(|e| Error::caused(Kind::Io, "cannot start the thread that writes examples", e))?;
    Ok((shelf, Some(Writer { stop, thread })))
}

impl Writer {
    /// Writes what still waits and ends, in bounded time.
    pub fn finish(self) {
        let _ = self.stop.try_send(());
        let end = Instant::now() + GRACE;
        while !self.thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        if self.thread.is_finished() {
            // A panic of it has been printed.
            let _ = self.thread.join();
        }
    }
}

impl Shelf {
    /// Copies a wanted frame for the thread that writes; false while that is not done with the one before. Never waits.
    pub fn offer(&self, picture: &Picture, example: Example) -> bool {
        let Ok(mut job) = self.job.try_lock() else { return false };
        if job.example.is_some() {
            return false;
        }
        (job.picture.width, job.picture.height) = (picture.width, picture.height);
        job.picture.rgb.clear();
        job.picture.rgb.extend_from_slice(&picture.rgb);
        job.example = Some(example);
        // Full: it wakes already.
        let _ = self.waker.try_send(());
        true
    }

    /// What is there.
    pub fn usage(&self) -> Usage {
        *lock(&self.usage)
    }

    /// The class of this id, or of this name where no id is.
    pub fn class(&self, word: &str) -> Option<usize> {
        let find = |is: &dyn Fn(&Label) -> bool| self.about.labels.iter().position(is);
        find(&|label| label.id == word).or_else(|| find(&|label| label.name == word))
    }

    /// Puts a picture that an operator looks at where it belongs: saves it the first time, moves it afterwards. `shown` is the picture where
    /// it is still there. Waits for the disk.
    ///
    /// # Errors
    /// [`Kind::Usage`] where the picture is gone or the class is none, [`Kind::Io`] where it cannot be written or there is no room.
    pub fn put(
        &self,
        (camera, seq): (&str, u64),
        place: Place,
        shown: Option<(Example, &[u8], (usize, usize))>,
    ) -> Result<Option<Whereabouts>> {
        let mut asked = lock(&self.asked);
        let mut store = lock(&self.store);
        let known = asked.names.iter().find(|(of, number, _)| of == camera && *number == seq);
        let known = known.map(|(_, _, name)| name.clone());
        let result = self.put_in(&mut store, &mut asked, (camera, seq), known, place, shown);
        *lock(&self.usage) = store.usage();
        result
    }

    fn put_in(
        &self,
        store: &mut Store,
        asked: &mut Asked,
        (camera, seq): (&str, u64),
        known: Option<Name>,
        place: Place,
        shown: Option<(Example, &[u8], (usize, usize))>,
    ) -> Result<Option<Whereabouts>> {
        let gone = || Error::new(Kind::Usage, "the picture of this frame is gone, or never was");
        let name = match known {
            Some(name) => {
                let taken = asked.discarded.take_if(|(discarded, ..)| *discarded == name);
                if let Some((name, jpeg, side_car)) = taken.filter(|_| place != Place::Discarded) {
                    store.save(&name, &jpeg, &side_car)?.map_err(|why| Error::new(Kind::Io, why))?;
                }
                name
            }
            None if place == Place::Discarded => return Ok(None),
            None => {
                let (example, jpeg, size) = shown.ok_or_else(gone)?;
                let name = example.name();
                let saved = store.save(&name, jpeg, &example.side_car(&self.about, size))?;
                saved.map_err(|why| Error::new(Kind::Io, why))?;
                self.counts.saved[Reason::Asked as usize].fetch_add(1, Relaxed);
                if asked.names.len() == ASKED {
                    asked.names.pop_front();
                }
                asked.names.push_back((camera.to_owned(), seq, name.clone()));
                name
            }
        };
        match place {
            Place::Discarded => {
                asked.discarded = store.discard(&name)?.map(|(jpeg, side_car)| (name, jpeg, side_car));
                Ok(None)
            }
            Place::Inbox => store.label(&name, None, "page")?.ok_or_else(gone).map(Some),
            Place::Class(class) => store.label(&name, Some(class), "page")?.ok_or_else(gone).map(Some),
        }
    }

    /// Writes the waiting frame, if there is one and it is new. `spare` changes places with its picture.
    fn write(&self, spare: &mut Picture, seen: &mut VecDeque<u64>) {
        let example = {
            let mut job = lock(&self.job);
            let Some(example) = job.example.take() else { return };
            std::mem::swap(&mut job.picture, spare);
            example
        };
        let hash = difference_hash(spare);
        if seen.iter().any(|&other| distance(hash, other) <= ALIKE) {
            self.counts.duplicate.fetch_add(1, Relaxed);
            return;
        }
        let saved = jpeg(spare).and_then(|jpeg| {
            let side_car = example.side_car(&self.about, (spare.width, spare.height));
            let mut store = lock(&self.store);
            let saved = store.save(&example.name(), &jpeg, &side_car);
            *lock(&self.usage) = store.usage();
            saved
        });
        if self.note(saved, example.reason) {
            if seen.len() == REMEMBERED {
                seen.pop_front();
            }
            seen.push_back(hash);
        }
    }

    /// Counts, and says once per episode what is wrong.
    fn note(&self, saved: Result<std::result::Result<(), String>>, reason: Reason) -> bool {
        let (mut full, mut failing) = (lock(&self.full), lock(&self.failing));
        match saved {
            Ok(Ok(())) => {
                self.counts.saved[reason as usize].fetch_add(1, Relaxed);
                if full.recovers().is_some() | failing.recovers().is_some() {
                    log::info!("examples are collected again");
                }
                return true;
            }
            Ok(Err(why)) => {
                self.counts.full.fetch_add(1, Relaxed);
                if full.fails() {
                    log::warn!(
                        "no more examples are collected: {why}; frames go on. `cfvit examples purge` makes room"
                    );
                }
            }
            Err(error) => {
                self.counts.failed.fetch_add(1, Relaxed);
                if failing.fails() {
                    log::warn!("an example is not collected: {error}; frames go on");
                }
            }
        }
        false
    }
}

/// The thread that writes, until the run ends.
fn run(shelf: &Shelf, woken: &Receiver<()>, stopped: &Receiver<()>) {
    // Frames go first. What cannot be made nicer writes all the same.
    let _ = rustix::process::setpriority_process(None, 10);
    let (mut spare, mut seen) = (Picture::default(), VecDeque::new());
    loop {
        crossbeam_channel::select! {
            recv(woken) -> _ => shelf.write(&mut spare, &mut seen),
            recv(stopped) -> _ => return shelf.write(&mut spare, &mut seen),
        }
    }
}

fn jpeg(picture: &Picture) -> Result<Vec<u8>> {
    let damaged = |what: &str| Error::new(Kind::Image, format!("cannot encode a picture: {what}"));
    let side = |side: usize| u32::try_from(side).ok().filter(|side| (1..=u32::from(u16::MAX)).contains(side));
    let sides = side(picture.width).zip(side(picture.height));
    let (width, height) = sides.ok_or_else(|| damaged("expected sides from 1 to 65535 pixels"))?;
    // The encoder panics where they do not fit.
    if picture.rgb.len() != picture.width * picture.height * 3 {
        return Err(damaged("its bytes do not fit its size"));
    }
    let mut bytes = Vec::with_capacity(256 << 10);
    JpegEncoder::new_with_quality(&mut bytes, QUALITY)
        .encode(&picture.rgb, width, height, ExtendedColorType::Rgb8)
        .map_err(|error| damaged(&error.to_string()))?;
    Ok(bytes)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
