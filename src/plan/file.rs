//! The plan file: a header of this program's own before TensorRT's bytes.
//!
//! ```text
//! "cfvit plan 1\n"   13 bytes
//! header length      u32, little endian
//! header             TOML: the key, the length and the SHA-256 of the plan, the mark of the build
//! plan               TensorRT's bytes, to the end of the file
//! ```

use serde::{Deserialize, Serialize};

use super::key::Key;
use crate::error::{Error, Kind, Result};
use crate::files::sha256;

const MAGIC: &[u8] = b"cfvit plan 1\n";
/// A header is some hundred bytes long.
const MAX_HEADER: usize = 64 << 10;

/// What stands before the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    /// The same in all plans of one build.
    pub set: String,
    /// Bytes of the plan.
    pub bytes: u64,
    /// SHA-256 of the plan.
    pub sha256: String,
    /// What the plan is tied to.
    pub key: Key,
}

/// Everything before the plan, for the file that `plan` is to be put in.
///
/// # Errors
/// [`Kind::Io`] when a value has no form in TOML.
pub(super) fn header(key: &Key, set: &str, plan: &[u8]) -> Result<Vec<u8>> {
    let header = Header { set: set.into(), bytes: plan.len() as u64, sha256: sha256(plan), key: key.clone() };
    let text = toml::to_string(&header).map_err(|e| Error::caused(Kind::Io, "cannot write the plan's key", e))?;
    Ok([MAGIC, &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat())
}

/// Splits a file into header and plan, without looking at the plan's bytes.
///
/// # Errors
/// [`Kind::Model`] when it is no plan file, or shorter or longer than its header says.
pub(super) fn split(file: &[u8]) -> Result<(Header, &[u8])> {
    let damaged = |what: &str| Error::new(Kind::Model, format!("damaged: {what}"));
    let rest = file.strip_prefix(MAGIC).ok_or_else(|| damaged("it does not begin like a plan of cfvit"))?;
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(|| damaged("it ends within its header"))?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_HEADER {
        return Err(damaged(&format!("a header of {length} bytes, expected at most {MAX_HEADER}")));
    }
    let (text, plan) = rest.split_at_checked(length).ok_or_else(|| damaged("it ends within its header"))?;
    let header: Header = std::str::from_utf8(text)
        .map_err(|e| e.to_string())
        .and_then(|text| toml::from_str(text).map_err(|e: toml::de::Error| e.message().to_string()))
        .map_err(|why| damaged(&format!("its header: {why}")))?;
    if header.bytes != plan.len() as u64 {
        return Err(damaged(&format!("a plan of {} bytes, expected {}", plan.len(), header.bytes)));
    }
    Ok((header, plan))
}

/// The plan's bytes are those that were written.
///
/// # Errors
/// [`Kind::Model`] when they are not.
pub(super) fn verify(header: &Header, plan: &[u8]) -> Result<()> {
    let found = sha256(plan);
    if found == header.sha256 {
        return Ok(());
    }
    Err(Error::new(Kind::Model, format!("damaged: sha256 {found}, expected {}", header.sha256)))
}
