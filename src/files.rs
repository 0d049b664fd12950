//! Files that are written whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Kind, Result};

/// Writes `bytes` to `path`: into a temporary file beside it, synced, then renamed, so that after a crash or a full disk the
/// old file or the new one is there, never half of one.
///
/// # Errors
/// [`Kind::Io`] naming the file; the old one is untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, |temporary| File::create(temporary)?.write_all(bytes))
}

/// The same for a file that `write` makes at the temporary path it is given. It gets the permissions of any new file, even where
/// `write` puts a private one there.
///
/// # Errors
/// As [`write_atomic`].
pub fn replace(path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let temporary = beside(path);
    let written = File::create(&temporary)
        .and_then(|file| file.metadata())
        .and_then(|usual| write(&temporary).and_then(|()| fs::set_permissions(&temporary, usual.permissions())))
        .and_then(|()| File::open(&temporary)?.sync_all())
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Best effort: the error that matters is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written.map_err(|e| Error::caused(Kind::Io, format!("cannot write {}", path.display()), e))?;
    sync_folder(path);
    Ok(())
}

/// A hidden name in the same folder (so that renaming stays on one file system), this process's own.
pub fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

/// Makes a rename in `path`'s folder durable, where the file system allows it.
pub fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(folder) = File::open(folder) {
        // Some file systems refuse to sync folders; the file itself is safe already.
        let _ = folder.sync_all();
    }
}

/// The SHA-256 sum of `bytes`, in lower-case hexadecimal digits.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.json");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        // A folder in the way makes the rename fail after the temporary file was written.
        let folder = dir.path().join("taken");
        fs::create_dir(&folder).unwrap();
        let error = write_atomic(&folder, b"x").unwrap_err();
        assert!(error.to_string().contains("cannot write") && error.to_string().contains("taken"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert!(write_atomic(&dir.path().join("none/x"), b"x").is_err());
    }
}
