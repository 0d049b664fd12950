//! Where frames come from. One trait; a source never knows what is done with its pictures.

mod folder;
pub mod formats;
mod pattern;
mod schedule;
pub mod status;
mod uri;
pub mod v4l2;

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

pub use folder::Folder;
pub use pattern::Pattern;
pub use status::Status;
pub use uri::{CameraRequest, PatternRequest, Target, parse};
pub use v4l2::Camera;

use crate::clock::{Clock, Stop};
use crate::error::{Error, Kind, Result};
use crate::frame::{Frame, Picture};

/// How long [`Source::next`] may take to come back.
#[derive(Clone, Copy)]
pub struct Wait<'a> {
    /// Tells the time.
    pub clock: &'a dyn Clock,
    /// Ends every wait at once.
    pub stop: &'a Stop,
    /// The latest moment to come back at without a frame.
    pub deadline: Instant,
}

impl Wait<'_> {
    /// Sleeps until `due`; false if the deadline or the stop came first.
    pub fn until(&self, due: Instant) -> bool {
        !self.clock.sleep_until(due.min(self.deadline), self.stop) && due <= self.deadline
    }
}

/// What [`Source::next`] came back with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The frame is filled: picture, name and the instant of its capture.
    Frame,
    /// A picture was due but is damaged. The source has logged what matters; the run goes on.
    Failed(Damage),
    /// Nothing came before the deadline: ask again. Also the answer of a camera that is away and being looked for.
    Idle,
    /// There will be no more frames.
    End,
}

/// What is wrong with a picture that was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// A picture file that cannot be read or decoded.
    Unreadable,
    /// The driver says that the data is damaged, or it cannot be decoded.
    Corrupt,
    /// Fewer bytes than the format takes.
    Short,
}

/// Who sets the pace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// The frames come when they come, as from a camera: what is not taken in time is replaced by a newer one.
    Live,
    /// The frames can wait, as files do: each is decided, none is dropped.
    Pull,
}

/// Gives frames, one at a time, from its own thread.
pub trait Source: Send {
    /// Fills `frame` with the newest picture: `picture`, `name` and `captured`, reusing the memory that `frame` brings (`seq`
    /// is the caller's). Never waits beyond `wait.deadline` or the stop; after anything but [`Event::Frame`] the content of
    /// `frame` is unspecified.
    ///
    /// # Errors
    /// [`crate::error::Kind::Source`] when the source is lost for good; a loss that may heal is [`Event::Idle`].
    fn next(&mut self, frame: &mut Frame, wait: &Wait<'_>) -> Result<Event>;

    /// Whether frames that are not taken in time are lost.
    fn pace(&self) -> Pace;

    /// One line for a person: what it is, where, how fast.
    fn describe(&self) -> String;

    /// The short name that stands in every record.
    fn name(&self) -> &str;

    /// How it is doing, for other threads; `None` for a source that cannot be lost or stuck.
    fn status(&self) -> Option<Arc<Status>> {
        None
    }
}

/// Reads one picture file into a picture whose memory is reused; the error names the file. What a program passes is
/// [`crate::preprocess::decode::read`].
pub type Decode = Box<dyn FnMut(&Path, &mut Picture) -> Result<()> + Send>;

/// How a source is to behave.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// Frames per second, within [`Options::FPS`]; `None` is as fast as they are taken, or a camera's usual rate.
    pub fps: Option<f64>,
    /// Start again at the end.
    pub repeat: bool,
    /// The shorter side, in pixels, that a picture needs so that none is made up: a camera's cheapest mode that has it is chosen.
    /// `None` is [`Options::WANTED_SIDE`].
    pub wanted_side: Option<usize>,
}

impl Options {
    /// The frame rates that can be asked for.
    pub const FPS: std::ops::RangeInclusive<f64> = 0.001..=1000.0;
    /// The shorter side that models reading 224 pixels are trained with: 224 / 0.875.
    pub const WANTED_SIDE: usize = 256;

    /// The rate asked for here or by the source's name, `named`.
    fn agreed_fps(&self, named: Option<f64>) -> Result<Option<f64>> {
        match (self.fps, named) {
            (Some(here), Some(named)) if here != named => {
                let message = format!("--fps says {here}, the source's name says fps={named}: leave one out");
                Err(Error::new(Kind::Usage, message))
            }
            (here, named) => Ok(here.or(named)),
        }
    }

    /// Refuses a repetition of `what`, which has no end.
    fn refuse_repeat(&self, what: &str) -> Result<()> {
        match self.repeat {
            true => {
                Err(Error::new(Kind::Usage, format!("--loop plays a folder again; {what} never ends: leave it out")))
            }
            false => Ok(()),
        }
    }
}

/// Opens the source called `uri`: a folder's path or `file:///…` for one, a camera's node or `v4l2:///…`, or `pattern://`. A camera that is
/// away or in use is no error, it is waited for.
///
/// # Errors
/// [`Kind::Usage`] for a name that is not understood or contradicts `options`, and for a node that is no camera or not as asked;
/// [`Kind::Source`] when the folder cannot be read or holds no picture, or this user may not use the camera.
pub fn open(uri: &OsStr, options: Options, decode: Decode) -> Result<Box<dyn Source>> {
    match parse(uri)? {
        Target::Folder(root) => Ok(Box::new(Folder::open(&root, options, decode)?)),
        Target::Pattern(request) => Ok(Box::new(Pattern::open(&request, &options)?)),
        Target::Camera(request) => Ok(Box::new(Camera::open(request, &options)?)),
    }
}
