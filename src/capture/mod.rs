//! Where frames come from. One trait; a source never knows what is done with its pictures.

mod folder;
mod uri;

use std::ffi::OsStr;
use std::path::Path;
use std::time::Instant;

pub use folder::Folder;

use crate::clock::{Clock, Stop};
use crate::error::Result;
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
    Failed,
    /// Nothing came before the deadline: ask again. Also the answer of a camera that is away and being looked for.
    Idle,
    /// There will be no more frames.
    End,
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
}

/// Reads one picture file into a picture whose memory is reused; the error names the file. What a program passes is
/// [`crate::preprocess::decode::read`].
pub type Decode = Box<dyn FnMut(&Path, &mut Picture) -> Result<()> + Send>;

/// How a source is to behave.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Options {
    /// Frames per second, within [`Options::FPS`]; `None` is as fast as they are taken.
    pub fps: Option<f64>,
    /// Start again at the end.
    pub repeat: bool,
}

impl Options {
    /// The frame rates that can be asked for.
    pub const FPS: std::ops::RangeInclusive<f64> = 0.001..=1000.0;
}

/// Opens the source called `uri`: a folder's path, or `file:///…` for one.
///
/// # Errors
/// [`crate::error::Kind::Usage`] for a scheme that is not supported, [`crate::error::Kind::Source`] when the folder cannot be
/// read or holds no picture.
pub fn open(uri: &OsStr, options: Options, decode: Decode) -> Result<Box<dyn Source>> {
    let root = uri::folder(uri)?;
    Ok(Box::new(Folder::open(&root, options, decode)?))
}
