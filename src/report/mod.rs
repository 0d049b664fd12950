//! What the program tells. Of a run: counters, latencies and energy, as one line a second and a summary at the end, and a record
//! per decision; nothing of this keeps a frame waiting. Of a picture: the answer ([`answer`]) and its figure ([`figure`]).

pub mod answer;
pub mod figure;
pub mod text;

mod latency;
mod line;
mod records;
mod reporter;
mod tally;
mod writer;

pub use latency::{Latencies, Percentiles, Recorder};
pub use line::{Line, Summary};
pub use records::{Full, Record, Records, RecordsCount};
pub use reporter::Reporter;
pub use tally::Tally;
pub use writer::{Target, Writer};
