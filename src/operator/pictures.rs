//! Pictures for viewers: copied and encoded only while somebody watches, at most five a second, once for all of them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};
use image::codecs::jpeg::JpegEncoder;
use image::error::{ParameterError, ParameterErrorKind};
use image::{ExtendedColorType, ImageBuffer, ImageError, Rgb};
use tokio::sync::watch;

use super::board::{Board, Channel, Snapshot};
use crate::episode::Episode;
use crate::frame::Picture;

/// No two pictures of a camera are taken in less time.
pub const PERIOD: Duration = Duration::from_millis(200);
/// So long after the last viewer the encoder waits for another.
pub const LINGER: Duration = Duration::from_secs(5);
/// The encoder looks so often whether anybody watches.
const PATIENCE: Duration = Duration::from_millis(500);
/// The longest side of an encoded picture; larger ones are made smaller.
const MAX_SIDE: u32 = 640;
const QUALITY: u8 = 80;
/// So many encoded pictures are kept, so that a viewer that has read of one can still fetch it.
const KEPT: usize = 8;

/// A picture for viewers, with the decision on exactly this frame.
#[derive(Debug)]
pub struct Shot {
    /// The decision.
    pub snapshot: Snapshot,
    /// The picture.
    pub jpeg: Bytes,
    /// Pixels in a row of it.
    pub width: usize,
    /// Rows of it.
    pub height: usize,
}

/// Where the pictures of one camera stand.
#[derive(Debug, Default)]
pub struct Easel {
    viewers: AtomicUsize,
    /// Pictures copied, and encoded, so far.
    copies: AtomicU64,
    encodes: AtomicU64,
    job: Mutex<Job>,
    shots: watch::Sender<Option<Arc<Shot>>>,
    recent: Mutex<VecDeque<Arc<Shot>>>,
}

/// The picture to encode next.
#[derive(Debug, Default)]
struct Job {
    picture: Picture,
    snapshot: Option<Snapshot>,
    taken: Option<Instant>,
}

impl Easel {
    /// Copies `picture` for the encoder if anybody watches and one is due; true if it did. Never waits.
    pub(super) fn offer(&self, picture: &Picture, snapshot: &Snapshot) -> bool {
        if self.viewers.load(Relaxed) == 0 {
            return false;
        }
        let Ok(mut job) = self.job.try_lock() else { return false };
        if job.taken.is_some_and(|taken| snapshot.decided.saturating_duration_since(taken) < PERIOD) {
            return false;
        }
        (job.picture.width, job.picture.height) = (picture.width, picture.height);
        job.picture.rgb.clear();
        job.picture.rgb.extend_from_slice(&picture.rgb);
        job.snapshot = Some(snapshot.clone());
        job.taken = Some(snapshot.decided);
        self.copies.fetch_add(1, Relaxed);
        true
    }

    /// Pictures copied and encoded so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.copies.load(Relaxed), self.encodes.load(Relaxed))
    }

    /// How many watch.
    pub fn viewers(&self) -> usize {
        self.viewers.load(Relaxed)
    }

    /// Tells of every new picture; a slow reader misses some.
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Shot>>> {
        self.shots.subscribe()
    }

    /// The picture of the frame `seq`, if it is one of the newest.
    pub fn shot(&self, seq: u64) -> Option<Arc<Shot>> {
        lock(&self.recent).iter().find(|shot| shot.snapshot.seq == seq).cloned()
    }

    /// Encodes the waiting picture, if there is one. Whoever has another one meanwhile keeps it: a second buffer for it would weigh more
    /// than all else that viewers need.
    fn encode(&self) -> Result<(), ImageError> {
        let mut job = lock(&self.job);
        let Some(snapshot) = job.snapshot.take() else { return Ok(()) };
        let (jpeg, width, height) = jpeg(&job.picture)?;
        drop(job);
        self.encodes.fetch_add(1, Relaxed);
        let shot = Arc::new(Shot { snapshot, jpeg: jpeg.into(), width, height });
        {
            let mut recent = lock(&self.recent);
            if recent.len() == KEPT {
                recent.pop_front();
            }
            recent.push_back(Arc::clone(&shot));
        }
        self.shots.send_replace(Some(shot));
        Ok(())
    }

    /// Old pictures are not shown to whoever comes next, and take no memory until then.
    fn clear(&self) {
        *lock(&self.job) = Job::default();
        *lock(&self.recent) = VecDeque::new();
        self.shots.send_replace(None);
    }
}

/// Starts and ends the thread that encodes.
#[derive(Debug)]
pub struct Studio {
    /// The thread runs.
    running: Mutex<bool>,
    waker: Sender<()>,
    woken: Receiver<()>,
}

impl Default for Studio {
    fn default() -> Self {
        let (waker, woken) = bounded(1);
        Self { running: Mutex::new(false), waker, woken }
    }
}

impl Studio {
    /// Something is to be encoded.
    pub(super) fn wake(&self) {
        // Full: it wakes already.
        let _ = self.waker.try_send(());
    }

    /// Whether the thread runs.
    pub fn is_running(&self) -> bool {
        *lock(&self.running)
    }
}

/// Somebody who watches a camera, for as long as it lives.
#[derive(Debug)]
pub struct Viewer(Arc<Channel>);

impl Viewer {
    /// Watches `channel` of `board`; the encoder's thread begins if it does not run.
    pub fn new(board: &Arc<Board>, channel: Arc<Channel>) -> Self {
        channel.easel.viewers.fetch_add(1, SeqCst);
        let mut running = lock(&board.studio.running);
        if !*running {
            let encoder = Arc::clone(board);
            let started = std::thread::Builder::new().name("pictures".to_owned()).spawn(move || run(&encoder));
            match started {
                Ok(_) => *running = true,
                Err(error) => log::warn!("no pictures for viewers: cannot start a thread: {error}"),
            }
        }
        drop(running);
        Self(channel)
    }

    /// What is watched.
    pub fn channel(&self) -> &Arc<Channel> {
        &self.0
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.easel.viewers.fetch_sub(1, SeqCst);
    }
}

/// The encoder's thread, until nobody has watched for [`LINGER`].
fn run(board: &Board) {
    // Frames go first: what they leave is enough for five pictures a second. What cannot be made nicer encodes all the same.
    let _ = rustix::process::setpriority_process(None, 19);
    let (mut watched, mut failing) = (Instant::now(), Episode::default());
    loop {
        let _ = board.studio.woken.recv_timeout(PATIENCE);
        let channels = board.channels();
        let is_watched = || channels.iter().any(|channel| channel.easel.viewers.load(SeqCst) > 0);
        if is_watched() {
            watched = Instant::now();
        } else if watched.elapsed() >= LINGER || board.is_closed() {
            let mut running = lock(&board.studio.running);
            // A viewer counts itself before it looks whether the thread runs, so either it is seen here or it starts another.
            if !is_watched() || board.is_closed() {
                channels.iter().for_each(|channel| channel.easel.clear());
                *running = false;
                return;
            }
        }
        for channel in &channels {
            match channel.easel.encode() {
                Ok(()) => {
                    failing.recovers();
                }
                Err(error) if failing.fails() => log::warn!("a picture cannot be encoded for viewers: {error}"),
                Err(_) => {}
            }
        }
    }
}

/// `picture` as a JPEG of at most [`MAX_SIDE`] along its longer side, and its size.
fn jpeg(picture: &Picture) -> Result<(Vec<u8>, usize, usize), ImageError> {
    let mismatch = || ImageError::Parameter(ParameterError::from_kind(ParameterErrorKind::DimensionMismatch));
    let side = |side: usize| u32::try_from(side).ok().filter(|side| (1..=u32::from(u16::MAX)).contains(side));
    let (width, height) = side(picture.width).zip(side(picture.height)).ok_or_else(mismatch)?;
    // Fails where the bytes are too few; the encoder panics where they are too many.
    let image = ImageBuffer::<Rgb<u8>, &[u8]>::from_raw(width, height, &picture.rgb).ok_or_else(mismatch)?;
    if picture.rgb.len() != picture.width * picture.height * 3 {
        return Err(mismatch());
    }
    let mut bytes = Vec::with_capacity(64 << 10);
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
    let longer = width.max(height);
    let (width, height) = if longer > MAX_SIDE {
        let scaled = |side: u32| (side * MAX_SIDE).div_ceil(longer);
        let small = image::imageops::thumbnail(&image, scaled(width), scaled(height));
        encoder.encode(small.as_raw(), small.width(), small.height(), ExtendedColorType::Rgb8)?;
        small.dimensions()
    } else {
        encoder.encode(&picture.rgb, width, height, ExtendedColorType::Rgb8)?;
        (width, height)
    };
    // Some are kept for a while.
    bytes.shrink_to_fit();
    Ok((bytes, width as usize, height as usize))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: usize, height: usize) -> Picture {
        Picture { width, height, rgb: (0..width * height * 3).map(|i| (i % 251) as u8).collect() }
    }

    #[test]
    fn a_large_picture_is_made_smaller_and_keeps_its_shape() {
        let (bytes, width, height) = jpeg(&picture(1280, 720)).unwrap();
        assert_eq!((width, height), (640, 360));
        let read = image::load_from_memory(&bytes).unwrap();
        assert_eq!((read.width(), read.height()), (640, 360));
        assert_eq!(jpeg(&picture(32, 20)).map(|(_, width, height)| (width, height)).unwrap(), (32, 20));
    }

    #[test]
    fn a_picture_that_does_not_fit_its_size_is_no_panic() {
        for (width, height, bytes) in [(0, 0, 0), (4, 4, 3), (1 << 17, 2, 8), (usize::MAX >> 12, 1, 0)] {
            let damaged = Picture { width, height, rgb: vec![0; bytes] };
            let caught = std::panic::catch_unwind(|| jpeg(&damaged).is_err());
            assert!(matches!(caught, Ok(true)), "{width}x{height} with {bytes} bytes");
        }
    }
}
