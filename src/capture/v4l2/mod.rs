//! Video4Linux cameras.
//!
//! [`Camera`] is the source: it looks for the camera, opens it (`device.rs`, `mode.rs`), takes the newest frame out of its stream
//! (`live.rs`, `stream.rs`) and, when it is lost, tears everything down and begins again (`patience.rs`, `retry.rs`, `watch.rs`). All calls into the
//! driver and all `unsafe` are in `sys.rs`; they are made by the thread that calls [`crate::capture::Source::next`].

mod camera;
pub mod device;
mod live;
pub mod mode;
mod patience;
mod retry;
mod stream;
mod sys;
mod trouble;
mod watch;

pub use camera::Camera;
pub use device::Device;
pub use trouble::{Cause, Trouble};
