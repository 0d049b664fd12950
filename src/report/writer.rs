//! Writes the records to a file or standard output, once a second. What cannot be written is dropped and counted; a line is
//! never left torn by a full disk.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Records;
use super::rotate::{Rotating, Rotation};
use crate::episode::Episode;
use crate::error::{Error, Kind, Result};

/// How long a record may wait to be written.
const PERIOD: Duration = Duration::from_secs(1);

/// Where records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `-`.
    Stdout,
    /// A file; records are added at its end.
    File(PathBuf),
}

impl From<&OsStr> for Target {
    fn from(name: &OsStr) -> Self {
        if name == "-" { Target::Stdout } else { Target::File(PathBuf::from(name)) }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Stdout => f.write_str("standard output"),
            Target::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The end of the records' queue.
pub struct Writer {
    output: Box<dyn Write + Send>,
    target: Target,
    /// The rest of a line that a failed write has torn; it is written before anything else.
    owed: Vec<u8>,
    /// `owed` ends a record that is not yet counted.
    owes_record: bool,
    episode: Episode,
}

impl Writer {
    /// Opens `target`. A file is made if it is missing and never shortened; with a `rotation` a new one is begun when it is full, if it
    /// is a regular file.
    ///
    /// # Errors
    /// [`Kind::Io`] when it cannot be opened for writing.
    pub fn open(target: Target, rotation: Option<Rotation>) -> Result<Self> {
        let fails = |cause| Error::caused(Kind::Io, format!("cannot write records to {target}"), cause);
        let (output, torn): (Box<dyn Write + Send>, bool) = match &target {
            // Not through `std::io::stdout`: its buffer would hide what was written when a write fails.
            Target::Stdout => {
                (Box::new(File::from(std::io::stdout().as_fd().try_clone_to_owned().map_err(fails)?)), false)
            }
            Target::File(path) => {
                let file = OpenOptions::new().append(true).create(true).open(path).map_err(fails)?;
                let torn = ends_torn(path);
                match rotation.filter(|_| file.metadata().is_ok_and(|metadata| metadata.is_file())) {
                    Some(rotation) => (Box::new(Rotating::new(path, file, rotation, torn).map_err(fails)?), torn),
                    None => (Box::new(file), torn),
                }
            }
        };
        let owed = if torn { vec![b'\n'] } else { Vec::new() };
        Ok(Self { owed, ..Self::new(output, target) })
    }

    fn new(output: Box<dyn Write + Send>, target: Target) -> Self {
        Self { output, target, owed: Vec::new(), owes_record: false, episode: Episode::default() }
    }

    /// Writes what is queued, once a second, until the queue is closed.
    ///
    /// # Errors
    /// [`Kind::Closed`] when the reader of standard output has gone. Every other failure drops records, is logged once per
    /// episode, and is tried again a second later.
    pub fn run(&mut self, records: &Records) -> Result<()> {
        let mut batch = Vec::new();
        let mut due = Instant::now() + PERIOD;
        loop {
            let more = records.take(due, &mut batch);
            due = Instant::now() + PERIOD;
            let (written, result) = self.write_lines(&batch);
            records.wrote(written);
            self.judge(result)?;
            if !more {
                return Ok(());
            }
        }
    }

    /// Logs the first failure of an episode and its end.
    fn judge(&mut self, result: std::io::Result<()>) -> Result<()> {
        match result {
            Ok(()) => {
                if self.episode.recovers().is_some() {
                    log::info!("records are written to {} again", self.target);
                }
            }
            Err(cause) if self.target == Target::Stdout && cause.kind() == ErrorKind::BrokenPipe => {
                return Err(Error::caused(Kind::Closed, "standard output was closed", cause));
            }
            Err(cause) if self.episode.fails() => {
                log::warn!("records are being dropped: cannot write to {}: {cause}", self.target);
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// Writes whole lines; how many records were completed, and what ended the writing before the end.
    fn write_lines(&mut self, lines: &[u8]) -> (u64, std::io::Result<()>) {
        let mut records = 0;
        let (done, result) = write_some(&mut self.output, &self.owed);
        self.owed.drain(..done);
        if self.owed.is_empty() {
            records += u64::from(std::mem::take(&mut self.owes_record));
        }
        if result.is_err() {
            return (records, result);
        }
        let (done, result) = write_some(&mut self.output, lines);
        let (written, left) = lines.split_at(done);
        records += newlines(written);
        if !written.is_empty() && !written.ends_with(b"\n") {
            let rest = left.iter().position(|&byte| byte == b'\n').map_or(left.len(), |at| at + 1);
            self.owed.extend_from_slice(&left[..rest]);
            self.owes_record = true;
        }
        (records, result)
    }
}

fn newlines(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|&&byte| byte == b'\n').count() as u64
}

/// Like `write_all`, but says how far it came.
fn write_some(output: &mut dyn Write, bytes: &[u8]) -> (usize, std::io::Result<()>) {
    let mut done = 0;
    while done < bytes.len() {
        match output.write(&bytes[done..]) {
            Ok(0) => return (done, Err(ErrorKind::WriteZero.into())),
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return (done, Err(error)),
        }
    }
    (done, Ok(()))
}

/// Whether the file's last line has no newline, because its writer was killed.
fn ends_torn(path: &Path) -> bool {
    let last_byte = || -> std::io::Result<u8> {
        let mut file = File::open(path)?;
        let mut last = [b'\n'];
        if file.metadata()?.is_file() && file.metadata()?.len() > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        Ok(last[0])
    };
    // A device or a pipe must not be opened for reading.
    path.is_file() && last_byte().is_ok_and(|byte| byte != b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Full, RecordsCount};
    use proptest::prelude::*;
    use std::sync::{Arc, Mutex};

    /// Takes as many bytes as it is told, then fails, then is told again.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let (content, room) = &mut *self.0.lock().unwrap();
            if *room == 0 {
                return Err(std::io::Error::from(ErrorKind::StorageFull));
            }
            let count = bytes.len().min(*room);
            content.extend_from_slice(&bytes[..count]);
            *room -= count;
            Ok(count)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn a_disk_that_fills_and_empties_tears_no_line_and_counts_right(
            batches in prop::collection::vec((prop::collection::vec(0usize..30, 0..8), 0usize..120), 1..20),
        ) {
            let disk = Disk::default();
            let mut writer = Writer::new(Box::new(disk.clone()), Target::File("disk".into()));
            let mut counted = 0;
            for (lengths, room) in batches {
                let batch: String = lengths.iter().map(|&n| format!("{}\n", "x".repeat(n))).collect();
                disk.0.lock().unwrap().1 = room;
                let (records, result) = writer.write_lines(batch.as_bytes());
                prop_assert!(writer.judge(result).is_ok());
                counted += records;
            }
            disk.0.lock().unwrap().1 = usize::MAX;
            counted += writer.write_lines(b"last\n").0;
            let content = String::from_utf8(disk.0.lock().unwrap().0.clone()).unwrap();
            prop_assert!(content.ends_with("last\n"));
            prop_assert!(content.lines().all(|line| line == "last" || line.bytes().all(|byte| byte == b'x')));
            prop_assert_eq!(content.lines().count() as u64, counted);
        }
    }

    #[test]
    fn a_file_is_added_to_and_a_torn_tail_is_closed_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        std::fs::write(&path, "{\"seq\":1}\n{\"se").unwrap();
        let records = Records::new(Full::Drop);
        records.push(b"{\"seq\":2}\n");
        records.close();
        Writer::open(Target::File(path.clone()), None).unwrap().run(&records).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"seq\":1}\n{\"se\n{\"seq\":2}\n");
        assert_eq!(records.count(), RecordsCount { written: 1, dropped: 0 });
    }

    #[test]
    fn a_full_file_is_put_aside_even_when_its_last_line_was_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.jsonl");
        std::fs::write(&path, "{\"seq\":1}\n{\"se").unwrap();
        let records = Records::new(Full::Drop);
        (2..5).for_each(|seq| records.push(format!("{{\"seq\":{seq}}}\n").as_bytes()));
        records.close();
        let rotation = Some(Rotation { max_bytes: 20, keep: 1 });
        Writer::open(Target::File(path.clone()), rotation).unwrap().run(&records).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"seq\":4}\n");
        assert_eq!(std::fs::read_to_string(dir.path().join("out.jsonl.1")).unwrap(), "{\"seq\":2}\n{\"seq\":3}\n");
        assert_eq!(records.count(), RecordsCount { written: 3, dropped: 0 });
    }

    #[test]
    fn a_full_device_drops_records_without_an_error() {
        let records = Records::new(Full::Drop);
        records.push(b"{}\n");
        records.push(b"{}\n");
        records.close();
        Writer::open(Target::File("/dev/full".into()), Some(Rotation { max_bytes: 1, keep: 1 }))
            .unwrap()
            .run(&records)
            .unwrap();
        assert_eq!(records.count(), RecordsCount { written: 0, dropped: 2 });
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_named() {
        let error = Writer::open(Target::File("/nowhere/out.jsonl".into()), None).err().unwrap();
        assert!(error.kind() == Kind::Io && error.to_string().contains("/nowhere/out.jsonl"), "{error}");
    }
}
