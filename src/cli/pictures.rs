//! The pictures that a command line names: files as they are, folders searched.

use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::error::{Error, Kind, Result};
use crate::preprocess::decode;

/// Every picture that `paths` name, in the order given. A folder gives its picture files and its subfolders', sorted by name;
/// anything else is taken as it is, so that a wrong name is reported as an unreadable picture.
///
/// # Errors
/// [`Kind::Usage`] when there is none, or a folder cannot be searched (symbolic links in a circle included).
pub fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in paths {
        match path.is_dir() {
            true => search(path, &mut found)?,
            false => found.push(path.clone()),
        }
    }
    if found.is_empty() {
        let folders: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        let extensions = decode::EXTENSIONS.join(", ");
        let message = format!("no pictures in {}; files called {extensions} count", folders.join(", "));
        return Err(Error::new(Kind::Usage, message));
    }
    Ok(found)
}

/// Adds the pictures in `folder` to `found`.
fn search(folder: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|e| Error::caused(Kind::Usage, format!("cannot search {}", folder.display()), e))?;
        if entry.file_type().is_file() && decode::is_picture_name(entry.path()) {
            found.push(entry.into_path());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_searched_in_order_and_other_files_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::create_dir(path("b")).unwrap();
        for name in ["c.jpg", "a.PNG", "b/z.jpeg", "b/y.webp", "notes.txt", ".hidden.png"] {
            std::fs::write(path(name), "").unwrap();
        }
        let found = find(&[path("missing.jpg"), folder.path().into()]).unwrap();
        assert_eq!(found, ["missing.jpg", "a.PNG", "b/y.webp", "b/z.jpeg", "c.jpg"].map(path));
    }

    #[test]
    fn a_folder_without_pictures_is_wrong_usage() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.txt"), "").unwrap();
        let error = find(&[folder.path().into()]).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains("no pictures in"), "{error}");
    }

    #[cfg(unix)]
    #[test]
    fn links_in_a_circle_are_an_error_and_not_a_hang() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("self")).unwrap();
        assert_eq!(find(&[folder.path().into()]).unwrap_err().kind(), Kind::Usage);
    }
}
