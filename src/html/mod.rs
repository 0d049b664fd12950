//! Reports for people: what `bench` and `eval` measured as one HTML page, alone or two side by side.
//!
//! A page is made from a measurement's JSON and nothing else (but for the pictures of `eval`'s mistakes), so the same JSON makes the same
//! bytes. It holds no script and names no other file; a policy inside it forbids both. What was not measured is said, never filled in.
//! Everything that comes from outside is cut to a length, so a page stays below [`MAX_BYTES`].

mod bars;
mod bench;
mod compare;
mod eval;
mod page;
mod parts;
mod picture;

use serde_json::Value;

pub use bench::page as bench;
pub use compare::compare;
pub use eval::page as eval;
pub use picture::thumbnail;

use crate::error::{Error, Kind, Result};

/// No page is larger.
pub const MAX_BYTES: usize = 1 << 20;

/// What a JSON file of `bench` or `eval` holds.
#[derive(Clone, Debug)]
pub enum Measurement {
    /// Of `cfvit bench`.
    Bench(Box<crate::bench::report::Report>),
    /// Of `cfvit eval`.
    Eval(Box<crate::eval::report::Report>),
}

impl Measurement {
    /// Reads what `bench --json` or `eval --json` wrote.
    ///
    /// # Errors
    /// [`Kind::Usage`] where it is something else.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |e| Error::caused(Kind::Usage, "expected JSON that `bench --json` or `eval --json` wrote", e);
        let value: Value = serde_json::from_slice(bytes).map_err(wrong)?;
        if value.get("frames_ms").is_some() {
            return serde_json::from_value(value).map(Self::Bench).map_err(wrong);
        }
        if value.get("dynamic").is_some() {
            return serde_json::from_value(value).map(Self::Eval).map_err(wrong);
        }
        let message =
            "expected JSON that `bench --json` or `eval --json` wrote, found neither `frames_ms` nor `dynamic`";
        Err(Error::new(Kind::Usage, message))
    }

    /// Its page; without pictures of mistakes.
    pub fn page(&self) -> String {
        match self {
            Measurement::Bench(report) => bench(report),
            Measurement::Eval(report) => eval(report, &[]),
        }
    }
}

#[cfg(test)]
mod tests;
