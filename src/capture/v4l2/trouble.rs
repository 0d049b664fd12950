//! Why a camera cannot be used, and whether waiting can help.

use std::fmt;
use std::io;
use std::path::Path;

use crate::error::{Error, Kind};

/// What sort of reason it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The node is not there, or nobody feeds it yet.
    Missing,
    /// Another program has it.
    Busy,
    /// This user may not.
    Denied,
    /// The node is there and is not a camera that can be used as asked.
    Unsuitable,
    /// The driver failed.
    Failed,
}

/// A reason, with the error that says it.
#[derive(Debug)]
pub struct Trouble {
    /// What sort it is.
    pub cause: Cause,
    /// What to tell.
    pub error: Error,
}

/// What becomes of anything that can go wrong with a camera.
pub type Outcome<T> = std::result::Result<T, Trouble>;

impl Trouble {
    /// The node is not what was asked for.
    pub fn unsuitable(message: impl Into<String>) -> Self {
        Self { cause: Cause::Unsuitable, error: Error::new(Kind::Usage, message) }
    }

    /// The driver does something that drivers must not.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { cause: Cause::Failed, error: Error::new(Kind::Source, message) }
    }

    /// The error `cause` of the kernel when `what` was done with `node`.
    pub fn kernel(node: &Path, what: &str, cause: io::Error) -> Self {
        let code = cause.raw_os_error().unwrap_or(0);
        let node = node.display();
        let (sort, message) = match code {
            libc::ENOENT | libc::ENODEV | libc::ENXIO | libc::ENOTDIR => {
                (Cause::Missing, format!("{node} is not there: {what}"))
            }
            libc::EBUSY => (Cause::Busy, format!("another program uses {node} (`fuser {node}` names it): {what}")),
            libc::EACCES | libc::EPERM => {
                let advice =
                    "add it to the group that owns the node, usually: `sudo usermod -aG video USER`, then log in again";
                (Cause::Denied, format!("this user may not use {node}: {advice}: {what}"))
            }
            _ => (Cause::Failed, format!("{node} fails: {what}")),
        };
        Self { cause: sort, error: Error::caused(Kind::Source, message, cause) }
    }

    /// Whether nobody should wait for this to change by itself.
    pub fn is_lasting(&self) -> bool {
        matches!(self.cause, Cause::Denied | Cause::Unsuitable)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}
