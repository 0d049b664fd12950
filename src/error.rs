//! One error type for the whole program: what kind of failure, a message that helps, and the cause.

use std::fmt;

/// What sort of thing went wrong. The kind alone decides the exit code and whether a retry can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The command line asks for something that cannot be done. Exit code 2.
    Usage,
    /// A configuration file is wrong. Exit code 2.
    Config,
    /// A checkpoint or engine package is damaged, foreign or inconsistent.
    Model,
    /// A picture cannot be read or is out of bounds.
    Image,
    /// A camera or picture source failed.
    Source,
    /// An engine cannot be opened, or was given what does not fit it.
    Engine,
    /// The device that an engine runs on failed. That engine refuses all further work; opening a new one, in a new process if need
    /// be, may help.
    Device,
    /// A file or device could not be read or written.
    Io,
    /// What is asked for cannot be had at once: a calibration whose limits contradict each other or the machine. Exit code 3.
    Infeasible,
    /// Too few calibration frames to promise anything. Exit code 4.
    TooFew,
    /// A certificate or an audit belongs to another engine, preprocessing or power mode. Exit code 5.
    Mismatch,
    /// Whoever read our standard output has gone (`cfvit … | head`). Nothing failed: exit code 0, nothing printed.
    Closed,
}

/// An error: its [`Kind`], a message naming the thing, what was expected, what was found and what to do next, and
/// the cause beneath it, if any.
pub struct Error {
    kind: Kind,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` that says `message`.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same, with the `cause` kept beneath the message.
    pub fn caused(
        kind: Kind,
        message: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind, message: message.into(), source: Some(cause.into()) }
    }

    /// This error beneath a `message` that names the thing being worked on; the kind is kept.
    pub fn within(self, message: impl Into<String>) -> Self {
        Self { kind: self.kind, message: message.into(), source: Some(Box::new(self)) }
    }

    /// The kind of failure.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The process's exit code for this error: 2 for wrong usage or configuration, 3 to 5 for what a calibration cannot promise, 1 for every
    /// other failure.
    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Closed => 0,
            Kind::Usage | Kind::Config => 2,
            Kind::Infeasible => 3,
            Kind::TooFew => 4,
            Kind::Mismatch => 5,
            _ => 1,
        }
    }
}

/// The whole chain on one line: `message: cause: cause of the cause`.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.source {
            Some(cause) => write!(f, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} error: {self}", self.kind)
    }
}

// `Display` prints the whole chain already, so `source` stays at its default: a reporter that walks the chain must
// not print the causes twice.
impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_prints_the_whole_chain_once_and_the_kind_decides_the_exit_code() {
        let cause = Error::caused(Kind::Model, "data.pkl", std::io::Error::other("byte 7"));
        let error = cause.within("cannot read m.pth");
        assert_eq!(error.to_string(), "cannot read m.pth: data.pkl: byte 7");
        assert_eq!((error.kind(), error.exit_code()), (Kind::Model, 1));
        assert_eq!(Error::new(Kind::Usage, "x").exit_code(), 2);
        assert_eq!(Error::new(Kind::Config, "x").exit_code(), 2);
    }
}
