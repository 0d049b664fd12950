//! Noticing that a device node came: by inotify, and by looking now and then. (udev's messages do not reach a sandboxed service.)

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

use super::sys;

/// How often is looked whether the node is there, whatever inotify says.
const LOOK: Duration = Duration::from_millis(100);

/// Watches for one device node.
pub struct NodeWatch {
    node: PathBuf,
    inotify: Option<OwnedFd>,
    /// The folder that is watched: where the node lies, or as near to it as there is a folder.
    folder: Option<PathBuf>,
    /// The node was there when last looked at.
    there: bool,
}

impl NodeWatch {
    /// For `node`, which may be a link, in a folder that may not exist yet.
    pub fn new(node: &Path) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK);
        if let Err(e) = &inotify {
            log::debug!("no inotify ({e}): looking for {} every {} ms", node.display(), LOOK.as_millis());
        }
        let mut watch = Self { node: node.to_owned(), inotify: inotify.ok(), folder: None, there: node.exists() };
        watch.watch_folder();
        watch
    }

    /// Waits `until` or until the node came or changed (its owner and mode are set after it was made); true if it did. Comes back at least
    /// every 100 ms.
    pub fn wait(&mut self, until: Instant) -> bool {
        self.watch_folder();
        let until = until.min(Instant::now() + LOOK);
        let told = match &self.inotify {
            Some(inotify) => {
                // Without events the answer is in `there`.
                let _ = sys::poll(inotify.as_fd(), until);
                self.read_events()
            }
            None => {
                std::thread::sleep(until.saturating_duration_since(Instant::now()));
                false
            }
        };
        let there = self.node.exists();
        let came = there && !std::mem::replace(&mut self.there, there);
        self.there = there;
        there && (told || came)
    }

    /// Watches the nearest folder that exists.
    fn watch_folder(&mut self) {
        let Some(inotify) = &self.inotify else { return };
        let nearest = self.node.ancestors().skip(1).find(|folder| folder.is_dir()).map(Path::to_owned);
        if nearest == self.folder {
            return;
        }
        let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ATTRIB | WatchFlags::ONLYDIR;
        // A watch on a folder that went away ended with it; one on a folder further up does no harm.
        self.folder = nearest.filter(|folder| inotify::add_watch(inotify, folder, flags).is_ok());
    }

    /// Takes all events; true if one is about the node.
    fn read_events(&mut self) -> bool {
        let (Some(inotify), Some(folder)) = (&self.inotify, &self.folder) else { return false };
        let awaited = self.node.strip_prefix(folder).ok().and_then(|rest| rest.iter().next());
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(inotify, &mut buffer);
        let mut told = false;
        // It ends with "would block".
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
            told |= name.is_some() && name == awaited;
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waits as a camera does, at most five seconds; how long it took.
    fn wait(watch: &mut NodeWatch) -> Duration {
        let begun = Instant::now();
        let end = begun + Duration::from_secs(5);
        while !watch.wait(end) {
            assert!(Instant::now() < end, "nothing was noticed");
        }
        begun.elapsed()
    }

    #[test]
    fn a_node_that_comes_in_a_folder_that_comes_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("v4l/by-id/camera");
        let mut watch = NodeWatch::new(&node);
        let before = Instant::now();
        assert!(!watch.wait(before + Duration::from_millis(30)) && before.elapsed() >= Duration::from_millis(30));
        let maker = std::thread::spawn({
            let node = node.clone();
            move || {
                std::thread::sleep(Duration::from_millis(50));
                std::fs::create_dir_all(node.parent().unwrap()).unwrap();
                std::fs::write(node, "").unwrap();
            }
        });
        wait(&mut watch);
        maker.join().unwrap();
    }

    #[test]
    fn a_node_that_goes_and_comes_again_or_changes_is_noticed_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("video0");
        std::fs::write(&node, "").unwrap();
        let mut watch = NodeWatch::new(&node);
        assert!(!watch.wait(Instant::now()), "it was there from the beginning");
        std::fs::write(dir.path().join("video1"), "").unwrap();
        assert!(!watch.wait(Instant::now() + Duration::from_millis(30)), "another's");
        for _ in 0..3 {
            std::fs::remove_file(&node).unwrap();
            assert!(!watch.wait(Instant::now() + Duration::from_millis(5)), "it went");
            std::fs::write(&node, "").unwrap();
            wait(&mut watch);
        }
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&node, std::fs::Permissions::from_mode(0o640)).unwrap();
        wait(&mut watch);
    }

    #[test]
    fn without_inotify_it_is_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("video0");
        let mut watch = NodeWatch { inotify: None, ..NodeWatch::new(&node) };
        assert!(!watch.wait(Instant::now()));
        std::fs::write(&node, "").unwrap();
        wait(&mut watch);
    }
}
