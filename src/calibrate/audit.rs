//! The audit file: what both stages said of one frame per slot, 16 bytes each and no picture.
//!
//! The first line says for which engine: `cfvit-audit 1 {…}`. Records follow without gaps, little-endian: milliseconds since 1970 (6 bytes),
//! the coarse confidence as a 32-bit float, the coarse and the fine class (3 bytes each). A record that was cut off at the end, as after a
//! power failure, is ignored and overwritten by the next one.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Keys, Observation};
use crate::error::{Error, Kind, Result};

/// What the first line begins with.
const MAGIC: &str = "cfvit-audit 1 ";
/// The longest first line.
const MAX_HEADER: u64 = 4096;
/// Bytes of a record.
pub const RECORD: usize = 16;
/// The largest file that is read: a record every 10 s for 20 years.
const MAX_BYTES: u64 = 1 << 30;

/// What all records of a file have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The camera.
    pub camera: String,
    /// Length of a slot, in seconds.
    pub slot_s: f64,
    /// Classes of the model.
    pub classes: usize,
    /// As in [`Keys`].
    pub engine: String,
    /// As in [`Keys`].
    pub engine_sha256: String,
    /// As in [`Keys`].
    pub preprocess_sha256: String,
    /// As in [`Keys`].
    pub power_mode: String,
}

impl Header {
    /// For the audit of `camera` by the engine of `keys`.
    pub fn new(camera: &str, slot_s: f64, classes: usize, keys: &Keys) -> Self {
        let Keys { engine, engine_sha256, preprocess_sha256, power_mode } = keys.clone();
        Self { camera: camera.to_owned(), slot_s, classes, engine, engine_sha256, preprocess_sha256, power_mode }
    }

    /// Records under `other` can be counted together with those under this one. The number of threads and the power mode change no answer.
    fn is_like(&self, other: &Self) -> bool {
        let key =
            |h: &Self| (h.camera.clone(), h.slot_s, h.classes, h.engine_sha256.clone(), h.preprocess_sha256.clone());
        key(self) == key(other)
    }

    /// The engine and the preprocessing are those of `keys`.
    ///
    /// # Errors
    /// [`Kind::Mismatch`] saying what differs.
    pub fn check(&self, keys: &Keys) -> Result<()> {
        let what = match (self.engine_sha256 == keys.engine_sha256, self.preprocess_sha256 == keys.preprocess_sha256) {
            (true, true) => return Ok(()),
            (false, _) if self.engine == keys.engine => "other weights or plans".to_owned(),
            (false, _) => format!("the engine {}, here is {}", self.engine, keys.engine),
            (true, false) => "another crop or picture size".to_owned(),
        };
        let message = format!(
            "the audit was taken with {what}: its confidences say nothing about this engine. Give the --model, --backend and --crop \
             that `cfvit run` had, or audit anew"
        );
        Err(Error::new(Kind::Mismatch, message))
    }
}

/// What both stages said of one frame.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// Milliseconds since 1970, of the decision.
    pub time_ms: u64,
    /// The coarse confidence.
    pub confidence: f32,
    /// The coarse stage's class.
    pub coarse: u32,
    /// The fine stage's class.
    pub fine: u32,
}

impl Record {
    /// The bytes in the file.
    pub fn to_bytes(self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[..6].copy_from_slice(&self.time_ms.to_le_bytes()[..6]);
        bytes[6..10].copy_from_slice(&self.confidence.to_le_bytes());
        bytes[10..13].copy_from_slice(&self.coarse.to_le_bytes()[..3]);
        bytes[13..].copy_from_slice(&self.fine.to_le_bytes()[..3]);
        bytes
    }

    /// The record of `bytes`, whatever they are.
    pub fn from_bytes(bytes: &[u8; RECORD]) -> Self {
        let number =
            |range: std::ops::Range<usize>| bytes[range].iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
        Self {
            time_ms: number(0..6),
            confidence: f32::from_bits(number(6..10) as u32),
            coarse: number(10..13) as u32,
            fine: number(13..16) as u32,
        }
    }

    /// Whether it can be true: a confidence from 0 to 1, or none (NaN), and classes that the model has.
    fn is_possible(&self, classes: usize) -> bool {
        let class = |class: u32| (class as usize) < classes;
        (self.confidence.is_nan() || (0.0..=1.0).contains(&self.confidence)) && class(self.coarse) && class(self.fine)
    }
}

impl From<Record> for Observation {
    fn from(record: Record) -> Self {
        let Record { confidence, coarse, fine, .. } = record;
        Self { confidence, coarse: coarse as usize, fine: fine as usize, label: None }
    }
}

/// An audit that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Audit {
    /// The first line.
    pub header: Header,
    /// The records in the order of the file.
    pub records: Vec<Record>,
    /// Records that cannot be true and were left out.
    pub damaged: usize,
}

/// Reads the audit at `path`.
///
/// # Errors
/// [`Kind::Io`] when it cannot be read, [`Kind::Model`] when it is no audit.
pub fn read(path: &Path) -> Result<Audit> {
    let within = |e: Error| e.within(format!("cannot read the audit {}", path.display()));
    let unreadable = |e: std::io::Error| within(Error::caused(Kind::Io, "the system says", e));
    let metadata = path.metadata().map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > MAX_BYTES {
        let message = format!("expected a file of at most {} MiB, as `cfvit run` writes with [audit]", MAX_BYTES >> 20);
        return Err(within(Error::new(Kind::Model, message)));
    }
    let mut reader = BufReader::new(File::open(path).map_err(unreadable)?);
    let (header, _) = read_header(&mut reader).map_err(within)?;
    let mut bytes = Vec::new();
    reader.take(MAX_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
    let all = bytes.as_chunks::<RECORD>().0;
    let possible = all.iter().map(Record::from_bytes).filter(|record| record.is_possible(header.classes));
    let records: Vec<Record> = possible.collect();
    let damaged = all.len() - records.len();
    Ok(Audit { header, records, damaged })
}

/// The first line, and how many bytes it has.
fn read_header(reader: &mut impl BufRead) -> Result<(Header, u64)> {
    let foreign =
        || Error::new(Kind::Model, format!("it does not begin with `{}`, so it is no audit", MAGIC.trim_end()));
    let mut line = Vec::new();
    let read = reader.take(MAX_HEADER).read_until(b'\n', &mut line);
    read.map_err(|e| Error::caused(Kind::Io, "the system says", e))?;
    let text = line.strip_suffix(b"\n").and_then(|line| std::str::from_utf8(line).ok());
    let json = text.and_then(|text| text.strip_prefix(MAGIC)).ok_or_else(foreign)?;
    let header: Header =
        serde_json::from_str(json).map_err(|e| Error::caused(Kind::Model, "its first line is damaged", e))?;
    let texts = [&header.camera, &header.engine, &header.power_mode];
    if !(header.slot_s.is_finite() && header.slot_s > 0.0) || texts.iter().any(|t| t.chars().any(char::is_control)) {
        return Err(Error::new(
            Kind::Model,
            "its first line is damaged: a slot that is no time, or control characters",
        ));
    }
    Ok((header, line.len() as u64))
}

/// Writes an audit, a few records at a time.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    /// Goes on with the audit at `path`, behind its last whole record. One with another header is put aside as `….old`: its records say nothing
    /// about this engine.
    ///
    /// # Errors
    /// [`Kind::Io`] naming the file.
    pub fn open(path: &Path, header: &Header) -> Result<Self> {
        let failed =
            |e: std::io::Error| Error::caused(Kind::Io, format!("cannot write the audit {}", path.display()), e);
        let mut file = open_for_both(path).map_err(failed)?;
        let known = read_header(&mut BufReader::new(&file)).ok().filter(|(known, _)| known.is_like(header));
        let mut len = file.metadata().map_err(failed)?.len();
        if len > 0 && known.is_none() {
            let mut aside = path.as_os_str().to_owned();
            aside.push(".old");
            std::fs::rename(path, &aside).map_err(failed)?;
            let aside = Path::new(&aside).display();
            log::info!("audit: {} was taken with other settings, put aside as {aside}", path.display());
            file = open_for_both(path).map_err(failed)?;
            len = 0;
        }
        let start = match known {
            Some((_, start)) => start,
            None => {
                let first = first_line(header)?;
                file.write_all(first.as_bytes()).map_err(failed)?;
                len = first.len() as u64;
                len
            }
        };
        let end = start + len.saturating_sub(start) / RECORD as u64 * RECORD as u64;
        file.set_len(end).and_then(|()| file.seek(SeekFrom::Start(end))).map_err(failed)?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Adds `records`. Whole or not at all: what was half written is taken back.
    ///
    /// # Errors
    /// [`Kind::Io`] naming the file.
    pub fn append(&mut self, records: &[Record]) -> Result<()> {
        let failed = |e| Error::caused(Kind::Io, format!("cannot write the audit {}", self.path.display()), e);
        let start = self.file.stream_position().map_err(failed)?;
        let bytes: Vec<u8> = records.iter().flat_map(|record| record.to_bytes()).collect();
        self.file.write_all(&bytes).map_err(|e| {
            // Should this fail too, the reader ignores what is no whole record.
            let _ = self.file.set_len(start).and_then(|()| self.file.seek(SeekFrom::Start(start)));
            failed(e)
        })
    }
}

fn open_for_both(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn first_line(header: &Header) -> Result<String> {
    let json = serde_json::to_string(header);
    Ok(format!("{MAGIC}{}\n", json.map_err(|e| Error::caused(Kind::Io, "cannot write the audit's first line", e))?))
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
