//! What a run tells: counters, latencies and energy, as one line a second and a summary at the end, and a record per decision.
//! Nothing here keeps a frame waiting.

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
