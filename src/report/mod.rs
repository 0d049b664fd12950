//! What the program tells, people and other programs. Of a picture: the answer, and a drawing of what the network looked at. Of a
//! run: counters, latencies and energy, as one line a second and a summary at the end, and a record per decision. Nothing here
//! keeps a frame waiting.

pub mod answer;
pub mod figure;
mod latency;
mod line;
mod power;
mod records;
mod reporter;
mod rotate;
mod tally;
pub mod text;
mod window;
mod writer;

pub use latency::{Latencies, Percentiles, Recorder};
pub use line::{Line, Summary};
pub use power::Power;
pub use records::{Full, Record, Records, RecordsCount};
pub use reporter::{CameraReporter, Reporter};
pub use rotate::Rotation;
pub use tally::{Reason, Tally};
pub use window::{CameraReport, CameraState, Label, Report};
pub use writer::{Target, Writer};
