//! The log on standard error: for people on a terminal or in a file, with a priority in front of each line where the journal reads it.
//! The level can be changed while the program runs.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};
use std::time::SystemTime;

use env_logger::fmt::Formatter;
use env_logger::{Builder, Env, Logger};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::error::Error;

/// The logger in force; another level is another logger in its place.
struct Switch(RwLock<Logger>);

static SWITCH: OnceLock<Switch> = OnceLock::new();

/// So many warnings and errors are remembered,
const REMEMBERED: usize = 20;
/// and so much of each, in bytes.
const REMEMBERED_BYTES: usize = 400;

/// A warning or an error that was logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When.
    pub at: SystemTime,
    /// [`Level::Warn`] or [`Level::Error`].
    pub level: Level,
    /// What, on one line.
    pub text: String,
}

/// How many were logged in all, and the last of them.
static TOLD: Mutex<(u64, VecDeque<Told>)> = Mutex::new((0, VecDeque::new()));

/// How many warnings and errors this process has logged.
pub fn told_count() -> u64 {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner).0
}

/// The last of them, newest first.
pub fn told() -> Vec<Told> {
    TOLD.lock().unwrap_or_else(PoisonError::into_inner).1.iter().rev().cloned().collect()
}

fn remember(record: &Record<'_>) {
    let mut text = one_line(&record.args().to_string());
    if text.len() > REMEMBERED_BYTES {
        text.truncate(text.floor_char_boundary(REMEMBERED_BYTES));
        text.push('…');
    }
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    let (count, last) = &mut *told;
    *count += 1;
    if last.len() == REMEMBERED {
        last.pop_front();
    }
    last.push_back(Told { at: SystemTime::now(), level: record.level(), text });
}

/// Starts the log at level `info`, or as `RUST_LOG` says. Once per process; another call changes nothing.
pub fn init() {
    let switch = SWITCH.get_or_init(|| Switch(RwLock::new(logger(LevelFilter::Info))));
    if log::set_logger(switch).is_ok() {
        log::set_max_level(switch.read(Logger::filter));
    }
}

/// From now on `level` is the least important one that is logged, unless `RUST_LOG` says something else.
pub fn set_level(level: LevelFilter) {
    if let Some(switch) = SWITCH.get() {
        let logger = logger(level);
        log::set_max_level(logger.filter());
        *switch.0.write().unwrap_or_else(PoisonError::into_inner) = logger;
    }
}

/// Prints the error that ends the program, as `error: …`; the journal gets its priority in front.
pub fn print_error(error: &Error) {
    // Nobody can be told that standard error is gone.
    let _ = match is_journal() {
        true => writeln!(std::io::stderr(), "<3>error: {}", one_line(&error.to_string())),
        false => writeln!(std::io::stderr(), "error: {error}"),
    };
}

/// TensorRT says at `info` what only its developers want to know.
fn logger(level: LevelFilter) -> Logger {
    let quieter = if level <= LevelFilter::Info { level.min(LevelFilter::Warn) } else { level };
    let default = format!("{level},tensorrt={quieter}");
    let mut builder = Builder::from_env(Env::default().default_filter_or(default));
    if is_journal() { builder.format(journal_line) } else { builder.format(human_line) }.build()
}

/// Whether standard error goes to the journal: its device and inode are those that systemd names in `JOURNAL_STREAM`
/// (systemd.exec(5)).
pub fn is_journal() -> bool {
    let Some(named) = std::env::var("JOURNAL_STREAM").ok().as_deref().and_then(device_and_inode) else { return false };
    let found = std::io::stderr().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
    found.is_ok_and(|found| (found.dev(), found.ino()) == named)
}

/// `device:inode`, both decimal.
fn device_and_inode(text: &str) -> Option<(u64, u64)> {
    let (device, inode) = text.split_once(':')?;
    Some((device.parse().ok()?, inode.parse().ok()?))
}

/// `HH:MM:SS level message`, in local time.
fn human_line(line: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    let time = jiff::ZonedDateTime::now().strftime("%H:%M:%S");
    let level = match record.level() {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    let style = line.default_level_style(record.level());
    writeln!(line, "{time} {style}{level}{style:#} {}", record.args())
}

/// `<N>message`: the priority as in syslog(3); the journal keeps the time. A message is one line, or its rest would be another.
fn journal_line(line: &mut Formatter, record: &Record<'_>) -> std::io::Result<()> {
    writeln!(line, "<{}>{}", priority(record.level()), one_line(&record.args().to_string()))
}

fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

impl Switch {
    fn read<T>(&self, look: impl FnOnce(&Logger) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Log for Switch {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.read(|logger| logger.enabled(metadata))
    }

    fn log(&self, record: &Record<'_>) {
        if record.level() <= Level::Warn && self.enabled(record.metadata()) {
            remember(record);
        }
        self.read(|logger| logger.log(record));
    }

    fn flush(&self) {
        self.read(Log::flush);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        assert_eq!(device_and_inode("9:31415"), Some((9, 31415)));
        for wrong in ["", "9", "9:", ":9", "9:x", "9:1:2", "-1:3"] {
            assert_eq!(device_and_inode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn levels_have_the_priorities_of_syslog_and_lines_stay_lines() {
        assert_eq!([Level::Error, Level::Warn, Level::Info, Level::Debug].map(priority), [3, 4, 6, 7]);
        assert_eq!(one_line("a\nb\r\nc"), "a b  c");
    }

    #[test]
    fn the_last_warnings_are_remembered_in_bounded_memory() {
        let before = told_count();
        for number in 0..REMEMBERED + 5 {
            let text = format!("{number}\n{}", "ä".repeat(REMEMBERED_BYTES));
            remember(&Record::builder().level(Level::Warn).args(format_args!("{text}")).build());
        }
        // Other tests of this process may log meanwhile.
        assert!(told_count() >= before + REMEMBERED as u64 + 5);
        let told = told();
        assert_eq!(told.len(), REMEMBERED);
        assert!(told.iter().all(|told| told.text.len() <= REMEMBERED_BYTES + 3 && !told.text.contains('\n')));
        assert!(told.iter().any(|told| told.text.starts_with("24 ä")));
    }

    #[test]
    fn tensorrt_is_quieter_than_the_rest_unless_details_are_wanted() {
        let enabled = |filter, target: &str, level| {
            logger(filter).enabled(&Metadata::builder().target(target).level(level).build())
        };
        if std::env::var_os("RUST_LOG").is_some() {
            println!("skipped: RUST_LOG is set, and stands above every level");
            return;
        }
        assert!(
            enabled(LevelFilter::Info, "cfvit::x", Level::Info) && !enabled(LevelFilter::Info, "tensorrt", Level::Info)
        );
        assert!(enabled(LevelFilter::Debug, "tensorrt", Level::Info));
        assert!(
            !enabled(LevelFilter::Error, "tensorrt", Level::Warn) && !enabled(LevelFilter::Warn, "cfvit", Level::Info)
        );
    }
}
