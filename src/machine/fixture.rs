//! File trees for tests: of one's own, or those of `tests/data/sysfs`.

use std::fmt::Display;
use std::fs;
use std::path::Path;

/// A tree that stands for `/`.
pub(crate) struct Tree(tempfile::TempDir);

impl Tree {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// The board in `tests/data/sysfs/{name}.tree`.
    pub(crate) fn board(name: &str) -> Self {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/sysfs").join(name).with_extension("tree");
        let (tree, text) = (Self::new(), fs::read_to_string(file).unwrap());
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            if let Some((node, value)) = line.split_once(" = ") {
                tree.set(node, format!("{value}\n"));
            } else {
                let (node, target) = line.split_once(" -> ").unwrap();
                let link = tree.root().join(node);
                fs::create_dir_all(link.parent().unwrap()).unwrap();
                std::os::unix::fs::symlink(target, link).unwrap();
            }
        }
        tree
    }

    pub(crate) fn root(&self) -> &Path {
        self.0.path()
    }

    /// Where the meters look.
    pub(crate) fn sys(&self) -> std::path::PathBuf {
        self.root().join("sys")
    }

    pub(crate) fn set(&self, node: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.root().join(node);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// As [`Tree::set`], with the newline that sysfs ends with.
    pub(crate) fn line(&self, node: &str, content: impl Display) -> &Self {
        self.set(node, format!("{content}\n"))
    }

    pub(crate) fn get(&self, node: &str) -> String {
        fs::read_to_string(self.root().join(node)).unwrap().trim().to_owned()
    }

    pub(crate) fn remove(&self, node: &str) {
        fs::remove_file(self.root().join(node)).unwrap();
    }
}
