//! A camera that streams: which of its frames is taken, and when it counts as lost.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::device::Device;
use super::mode::{Mode, Wish, choose, rounded};
use super::patience::Patience;
use super::stream::{Filled, Stream};
use super::sys::Ready;
use super::trouble::{Outcome, Trouble};
use crate::capture::formats::Converter;
use crate::capture::{Damage, Status};
use crate::clock::Stop;
use crate::frame::Picture;

/// Where the driver does not tell the rate.
const UNKNOWN_PERIOD: Duration = Duration::from_millis(100);
/// After each wait of this length the thread shows that it lives.
const SLICE: Duration = Duration::from_millis(100);

/// What [`Live::take`] found.
pub enum Taken {
    /// The picture is filled; it was taken at this instant.
    Frame(Instant),
    /// A frame was damaged, as the text says.
    Damaged(Damage, String),
    /// Nothing yet.
    Nothing,
    /// The camera is lost, because of this.
    Lost(String),
}

/// What a camera was set to.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Name and driver.
    pub device: String,
    /// The mode, as the driver made it.
    pub mode: String,
    /// Why this mode, and how its colours are read.
    pub why: String,
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}: {}", self.mode, self.device, self.why)
    }
}

/// A camera that streams.
pub struct Live {
    stream: Stream,
    converter: Converter,
    patience: Patience,
    /// When the last buffer came, or the stream began.
    last: Instant,
    /// The number of the last buffer.
    sequence: Option<u32>,
    /// The newest good frame so far, while it is looked for a newer one.
    held: Option<Filled>,
}

/// Opens the camera at `node` and chooses its mode.
///
/// # Errors
/// Why not.
pub fn probe(node: &Path, wish: &Wish) -> Outcome<(Device, Mode)> {
    let device = Device::open(node)?;
    let offers = device.offers(wish)?;
    let asked = |message| Trouble::unsuitable(format!("{} ({}): {message}", node.display(), device.card()));
    let mode = choose(&offers, wish).map_err(asked)?;
    Ok((device, mode))
}

impl Live {
    /// Opens the camera at `node`, sets it up and starts its stream.
    ///
    /// # Errors
    /// Why not.
    pub fn open(node: &Path, wish: &Wish) -> Outcome<(Self, Settings)> {
        let (device, mut mode) = probe(node, wish)?;
        let setup = device.set(&mode)?;
        let asked_fps = mode.interval.map(|interval| interval.fps());
        mode.size = (setup.layout.width(), setup.layout.height());
        mode.interval = setup.interval.or(mode.interval);
        let fps = mode.interval.map(|interval| interval.fps());
        if let (Some(wanted), Some(fps)) = (wish.fps, fps)
            && (fps - wanted).abs() > 0.02 * wanted
        {
            mode.why += &format!("; {}/s were asked for", rounded(wanted));
        } else if let (Some(asked), Some(fps)) = (asked_fps, fps)
            && (fps - asked).abs() > 0.02 * asked
        {
            mode.why += &format!("; set to {}/s by its driver", rounded(fps));
        }
        let settings = Settings {
            device: format!("{}, {}", device.card(), device.driver()),
            mode: mode.to_string(),
            why: format!("{}; {}", mode.why, setup.layout.describe_colours()),
        };
        let period = fps.and_then(|fps| Duration::try_from_secs_f64(1.0 / fps).ok()).unwrap_or(UNKNOWN_PERIOD);
        let stream = Stream::start(device).map_err(|(what, e)| Trouble::kernel(node, what, e))?;
        let converter = Converter::new(setup.layout, wish.side);
        let (patience, last) = (Patience::new(period), Instant::now());
        Ok((Self { stream, converter, patience, last, sequence: None, held: None }, settings))
    }

    /// Takes the newest frame into `picture`; waits for it `until` or the stop at the latest.
    pub fn take(&mut self, until: Instant, stop: &Stop, picture: &mut Picture, status: &Status) -> Taken {
        match self.newest(until, stop, status) {
            Ok(Found::Newest(filled)) => self.deliver(filled, picture, status),
            Ok(Found::Damaged(damage, why)) => Taken::Damaged(damage, why),
            Ok(Found::Nothing) => self.nothing(),
            Err(error) => Taken::Lost(error.to_string()),
        }
    }

    /// Empties the queue, and waits where it is empty.
    fn newest(&mut self, until: Instant, stop: &Stop, status: &Status) -> io::Result<Found> {
        let mut refreshed = false;
        loop {
            let mut emptied = 0;
            // Bounded, as a slow driver may have the next frame ready each time.
            while emptied < self.stream.buffers()
                && let Some(filled) = self.stream.dequeue()?
            {
                emptied += 1;
                self.note_arrival(&filled, status);
                if let Some(found) = self.sort(filled, status)? {
                    return Ok(found);
                }
            }
            if emptied == self.stream.buffers()
                && !std::mem::replace(&mut refreshed, true)
                && let Some(stale) = self.held.take()
            {
                // All buffers were full: the driver had to stop, and even the newest is from then. A fresh one is on its way.
                self.stream.queue(stale)?;
                status.note_superseded(1);
                continue;
            }
            if let Some(filled) = self.held.take() {
                return Ok(Found::Newest(filled));
            }
            let now = Instant::now();
            if now >= until || stop.is_requested() {
                return Ok(Found::Nothing);
            }
            let ready = self.stream.wait(until.min(now + SLICE).min(self.deadline()))?;
            status.beat();
            match ready {
                Ready::Readable => {}
                Ready::NotYet if Instant::now() < self.deadline() => {}
                Ready::NotYet => return Ok(Found::Nothing),
                Ready::Broken => return Err(io::Error::other("its driver reports an error")),
            }
        }
    }

    /// Keeps a good frame instead of an older one; a damaged one goes back and is told at once.
    fn sort(&mut self, filled: Filled, status: &Status) -> io::Result<Option<Found>> {
        let needed = self.converter.layout().needed_bytes();
        let damage = if filled.damaged {
            Some((Damage::Corrupt, "its driver flags the data as damaged".to_owned()))
        } else if filled.bytes_used < needed {
            Some((Damage::Short, format!("{} bytes, the format takes {needed}", filled.bytes_used)))
        } else {
            None
        };
        if let Some((damage, why)) = damage {
            self.stream.queue(filled)?;
            return Ok(Some(Found::Damaged(damage, why)));
        }
        if let Some(older) = self.held.replace(filled) {
            self.stream.queue(older)?;
            status.note_superseded(1);
        }
        Ok(None)
    }

    fn note_arrival(&mut self, filled: &Filled, status: &Status) {
        self.last = Instant::now();
        self.patience.note(filled.captured);
        if let Some(last) = self.sequence.replace(filled.sequence) {
            // A number that went back is a driver that counts anew or not at all.
            let gap = filled.sequence.wrapping_sub(last);
            if (2..=1 << 31).contains(&gap) {
                status.note_skipped(u64::from(gap - 1));
            }
        }
    }

    /// Turns the frame into a picture and gives its buffer back.
    fn deliver(&mut self, filled: Filled, picture: &mut Picture, status: &Status) -> Taken {
        let converted = self.converter.convert(self.stream.bytes(&filled), picture);
        let captured = filled.captured;
        if let Err(error) = self.stream.queue(filled) {
            return Taken::Lost(format!("it does not take a buffer back: {error}"));
        }
        match converted {
            Ok(()) => {
                status.note_frame();
                Taken::Frame(captured)
            }
            Err(error) => Taken::Damaged(Damage::Corrupt, error.to_string()),
        }
    }

    /// Nothing came: is it lost?
    fn nothing(&self) -> Taken {
        if Instant::now() < self.deadline() {
            return Taken::Nothing;
        }
        let first = if self.patience.is_first() { "first " } else { "" };
        Taken::Lost(format!("no {first}frame for {:.2} s", self.patience.length().as_secs_f64()))
    }

    /// When the camera counts as lost, unless a frame comes.
    fn deadline(&self) -> Instant {
        self.last + self.patience.length()
    }
}

/// What is in the queue.
enum Found {
    Newest(Filled),
    Damaged(Damage, String),
    Nothing,
}
