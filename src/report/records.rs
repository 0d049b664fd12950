//! One JSON line per decision, handed from the decision thread to the thread that writes.
//!
//! Two buffers change places: the decisions fill one while the other is written, so nothing is allocated per record. The queue is
//! bounded; what happens when it is full is a named policy.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::frame::Timing;

/// The most that waits to be written, in bytes: some thousands of records.
const LIMIT: usize = 1 << 20;
/// The writer is woken early when so much waits, in bytes.
const PLENTY: usize = LIMIT / 8;

/// What one decision was. Borrowed, because it is written at once.
#[derive(Clone, Debug, Serialize)]
pub struct Record<'a> {
    /// When the picture was taken; RFC 3339, UTC.
    #[serde(serialize_with = "rfc3339")]
    pub time: Timestamp,
    /// The number of the frame, counted from 0; dropped and failed frames have numbers too.
    pub seq: u64,
    /// The camera's name.
    pub camera: &'a str,
    /// The source's name.
    pub source: &'a str,
    /// What the source calls the picture: a file's path.
    pub image: &'a str,
    /// `"coarse"`, `"fine"` or `"static"`: which stage answered.
    pub exit: &'static str,
    /// The winning class.
    pub label: usize,
    /// What people call it.
    pub name: &'a str,
    /// `max softmax` of the logits that answered.
    pub confidence: f32,
    /// The class that holds after smoothing; `label` where smoothing is off.
    pub smooth_label: usize,
    /// What people call it.
    pub smooth_name: &'a str,
    /// Its average probability.
    pub smooth_confidence: f32,
    /// `max softmax` of the coarse logits: what the gate compared. `null` (for NaN) where the static pass answered.
    pub coarse_confidence: f32,
    /// η, with which it was compared.
    pub threshold: f32,
    /// Whether the alarm for drift holds: what was promised is no longer true, so every frame is refined.
    pub degraded: bool,
    /// From the capture to the decision, in milliseconds.
    #[serde(serialize_with = "to_the_microsecond")]
    pub latency_ms: f64,
    /// How long each step took.
    pub timing_ms: TimingMs,
}

/// Milliseconds per step; a step that did not run took 0.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TimingMs {
    #[serde(serialize_with = "to_the_microsecond")]
    preprocess: f64,
    #[serde(serialize_with = "to_the_microsecond")]
    coarse: f64,
    #[serde(serialize_with = "to_the_microsecond")]
    gate: f64,
    #[serde(serialize_with = "to_the_microsecond")]
    gather: f64,
    #[serde(serialize_with = "to_the_microsecond")]
    fine: f64,
    #[serde(rename = "static", serialize_with = "to_the_microsecond")]
    full: f64,
    #[serde(serialize_with = "to_the_microsecond")]
    total: f64,
}

impl From<Timing> for TimingMs {
    fn from(timing: Timing) -> Self {
        Self {
            preprocess: timing.preprocess_ms,
            coarse: timing.coarse_ms,
            gate: timing.gate_ms,
            gather: timing.gather_ms,
            fine: timing.fine_ms,
            full: timing.static_ms,
            total: timing.total_ms(),
        }
    }
}

impl Record<'_> {
    /// The record as a line of JSON in `line` (overwritten, memory reused).
    ///
    /// # Errors
    /// When it cannot be represented, which no value of these types can cause.
    pub fn write_to(&self, line: &mut Vec<u8>) -> serde_json::Result<()> {
        line.clear();
        serde_json::to_writer(&mut *line, self)?;
        line.push(b'\n');
        Ok(())
    }
}

fn rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

fn to_the_microsecond<S: Serializer>(ms: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((ms * 1e3).round() / 1e3)
}

/// What to do with a record when the queue is full, because the disk or the reader is slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Drop the record and count it: no live frame waits for a disk.
    Drop,
    /// Wait for room: the frames can wait.
    Wait,
}

/// How many records there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordsCount {
    /// Written completely.
    pub written: u64,
    /// Not written: the queue was full, a write failed, or the writer was stuck at the end.
    pub dropped: u64,
}

/// The queue of records between the decision thread and the [`super::Writer`].
#[derive(Debug)]
pub struct Records {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Debug)]
struct Queue {
    full: Full,
    bytes: Vec<u8>,
    pushed: u64,
    written: u64,
    closed: bool,
    /// Since when a batch has been written.
    writing: Option<Instant>,
}

impl Records {
    /// An empty queue with a policy for when it is full.
    pub fn new(full: Full) -> Self {
        let queue = Queue { full, bytes: Vec::new(), pushed: 0, written: 0, closed: false, writing: None };
        Self { queue: Mutex::new(queue), changed: Condvar::new() }
    }

    /// Queues `line`, which ends with a newline.
    pub fn push(&self, line: &[u8]) {
        let mut queue = self.lock();
        let has_no_room = |queue: &Queue| !queue.bytes.is_empty() && queue.bytes.len() + line.len() > LIMIT;
        while queue.full == Full::Wait && !queue.closed && has_no_room(&queue) {
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.pushed += 1;
        if queue.closed || has_no_room(&queue) {
            return;
        }
        queue.bytes.extend_from_slice(line);
        if queue.bytes.len() >= PLENTY {
            self.changed.notify_all();
        }
    }

    /// From now on a full queue drops, whatever its policy was: the run is being stopped.
    pub fn hurry(&self) {
        self.lock().full = Full::Drop;
        self.changed.notify_all();
    }

    /// There will be no more records; the writer writes what is left and ends.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// What became of the records so far; those still queued count as dropped, so ask at the end.
    pub fn count(&self) -> RecordsCount {
        let queue = self.lock();
        RecordsCount { written: queue.written, dropped: queue.pushed - queue.written }
    }

    /// For how long a batch has been written without an end; `None` while none is.
    pub fn writing(&self) -> Option<Duration> {
        self.lock().writing.map(|since| since.elapsed())
    }

    /// Waits until `due`, until plenty is queued, or until the queue is closed; then moves what is queued to `batch`
    /// (overwritten). False when it is closed: this was the last batch.
    pub(super) fn take(&self, due: Instant, batch: &mut Vec<u8>) -> bool {
        let mut queue = self.lock();
        while !queue.closed && queue.bytes.len() < PLENTY {
            let patience = due.saturating_duration_since(Instant::now());
            if patience.is_zero() {
                break;
            }
            queue = self.changed.wait_timeout(queue, patience).unwrap_or_else(PoisonError::into_inner).0;
        }
        batch.clear();
        std::mem::swap(batch, &mut queue.bytes);
        queue.writing = Some(Instant::now());
        self.changed.notify_all();
        !queue.closed
    }

    /// Counts `records` as written; the batch is done.
    pub(super) fn wrote(&self, records: u64) {
        let mut queue = self.lock();
        queue.written += records;
        queue.writing = None;
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Stage;
    use std::sync::Arc;

    #[test]
    fn a_record_has_the_documented_keys_and_survives_odd_values() {
        let record = Record {
            time: Timestamp::from_millisecond(1_700_000_000_123).unwrap(),
            seq: 7,
            camera: "front",
            source: "pictures",
            image: "a \"b\"\n.jpg",
            exit: Stage::Fine.as_str(),
            label: 3,
            name: "chain saw",
            confidence: f32::NAN,
            smooth_label: 2,
            smooth_name: "church",
            smooth_confidence: 0.5,
            coarse_confidence: 0.25,
            threshold: 0.5,
            degraded: true,
            latency_ms: 12.345_678,
            timing_ms: Timing { coarse_ms: 1.0, fine_ms: 2.0, ..Timing::default() }.into(),
        };
        let mut line = b"old".to_vec();
        record.write_to(&mut line).unwrap();
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["time"], "2023-11-14T22:13:20.123Z");
        assert_eq!(value["image"], "a \"b\"\n.jpg");
        assert_eq!((&value["exit"], &value["latency_ms"]), (&"fine".into(), &12.346.into()));
        assert_eq!((&value["timing_ms"]["total"], &value["timing_ms"]["gate"]), (&3.0.into(), &0.0.into()));
        assert!(value["confidence"].is_null());
        assert_eq!(value["degraded"], true);
        assert_eq!(value.as_object().unwrap().len(), 17);
        assert_eq!(value["timing_ms"].as_object().unwrap().len(), 7);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let records = Records::new(Full::Drop);
        let line = vec![b'\n'; 1000];
        (0..2 * LIMIT / 1000).for_each(|_| records.push(&line));
        assert!(records.lock().bytes.len() <= LIMIT);
        let mut batch = Vec::new();
        assert!(records.take(Instant::now(), &mut batch));
        assert_eq!(batch.len(), LIMIT / 1000 * 1000);
        records.close();
        records.push(&line);
        assert!(!records.take(Instant::now(), &mut batch) && batch.is_empty());
        assert_eq!(records.count().dropped, 2 * (LIMIT as u64) / 1000 + 1);
    }

    #[test]
    fn a_full_queue_can_wait_until_there_is_room_or_hurry() {
        let records = Arc::new(Records::new(Full::Wait));
        let line = vec![b'\n'; LIMIT / 2];
        records.push(&line);
        records.push(&line);
        let pushing = |records: &Arc<Records>| {
            let (records, line) = (Arc::clone(records), line.clone());
            std::thread::spawn(move || records.push(&line))
        };
        let waiting = pushing(&records);
        let mut batch = Vec::new();
        while batch.len() < LIMIT {
            records.take(Instant::now(), &mut batch);
        }
        waiting.join().unwrap();
        records.push(&line);
        let waiting = pushing(&records);
        records.hurry();
        waiting.join().unwrap();
        assert_eq!(records.lock().pushed, 5);
        assert_eq!(records.lock().bytes.len(), LIMIT);
    }
}
