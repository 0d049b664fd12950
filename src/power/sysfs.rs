//! Reading sysfs. Nodes may hold anything, vanish and come back; nothing is believed that does not parse.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

/// No node that is read here is longer. In bytes.
const LONGEST: u64 = 4096;

/// The text of a node, without the newline.
///
/// # Errors
/// [`Kind::Io`] when it cannot be read.
pub(super) fn text(path: &Path) -> Result<String> {
    let unreadable = |cause| Error::caused(Kind::Io, format!("cannot read {}", path.display()), cause);
    let mut text = String::new();
    File::open(path).and_then(|node| node.take(LONGEST).read_to_string(&mut text)).map_err(unreadable)?;
    Ok(text.trim().to_owned())
}

/// The number in a node.
///
/// # Errors
/// [`Kind::Io`] when it cannot be read or is no such number.
pub(super) fn number<T: std::str::FromStr>(path: &Path) -> Result<T> {
    let text = text(path)?;
    text.parse().map_err(|_| {
        let found: String = text.escape_debug().take(40).collect();
        Error::new(Kind::Io, format!("{} holds `{found}`, expected an integer", path.display()))
    })
}

/// What is in `folder` and has a name that starts with `prefix`, in the order of the names; nothing where there is no such folder.
pub(super) fn entries(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect();
    found.sort_unstable();
    found
}
