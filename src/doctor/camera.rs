//! The video nodes: which are cameras, what they offer, and which of it would be taken.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Finding, State};
use crate::capture::v4l2::mode::{Offer, Wish, choose};
use crate::capture::v4l2::{Cause, Device, Trouble};
use crate::capture::{Options, formats::PixelFormat};

/// One finding for each video node that Linux knows.
pub(super) fn all(root: &Path) -> Vec<Finding> {
    let entries = fs::read_dir(root.join("sys/class/video4linux")).into_iter().flatten().flatten();
    let mut names: Vec<PathBuf> = entries.filter_map(|entry| entry.path().file_name().map(PathBuf::from)).collect();
    names.sort_by_key(|name| (name.as_os_str().len(), name.clone()));
    let found: Vec<Finding> = names.iter().map(|name| examine(root, name)).collect();
    if found.is_empty() { vec![none()] } else { found }
}

fn none() -> Finding {
    Finding::new("camera", State::Absent, "no video device")
        .advice("`cfvit run --source FOLDER` takes pictures instead, `--source pattern://` a test card")
}

/// Looks at the node called `name`.
fn examine(root: &Path, name: &Path) -> Finding {
    let path = root.join("dev").join(name);
    let wish = Wish { size: None, fps: None, format: None, side: Options::WANTED_SIDE };
    let seen = Device::open(&path).and_then(|device| device.offers(&wish).map(|offers| (device, offers)));
    let lasting = link_to(root, name).map_or(String::new(), |link| format!(", also {}", link.display()));
    let node = Path::new("/dev").join(name).display().to_string() + &lasting;
    match seen {
        Ok((device, offers)) => {
            let taken = choose(&offers, &wish).map_or_else(|why| why, |mode| mode.to_string());
            let (card, driver, modes) = (device.card(), device.driver(), list(&offers));
            Finding::new("camera", State::Good, format!("{node}: {card} ({driver}): {modes}; would take {taken}"))
        }
        Err(trouble) => {
            let name =
                fs::read_to_string(root.join("sys/class/video4linux").join(name).join("name")).unwrap_or_default();
            failing(format!("{node}: {}", name.trim().escape_debug()), &trouble)
        }
    }
}

/// A node that cannot be used. Many are no cameras and need not be.
fn failing(what: String, trouble: &Trouble) -> Finding {
    let (state, found) = match trouble.cause {
        Cause::Denied => (State::Bad, "this user may not use it"),
        Cause::Busy => (State::Bad, "in use"),
        Cause::Missing => (State::Absent, "not there, or not fed yet"),
        Cause::Unsuitable => (State::Absent, "no camera that can be used"),
        Cause::Failed => (State::Bad, "fails"),
    };
    Finding::new("camera", state, format!("{what}: {found}")).advice(trouble.to_string())
}

/// The formats with their sizes, as `YUYV 640×480 320×240, MJPEG 1280×720`.
fn list(offers: &[Offer]) -> String {
    const SHOWN: usize = 4;
    let sizes_of = |format: PixelFormat| {
        let mut sizes: Vec<_> = offers.iter().filter(|offer| offer.format == format).map(|offer| offer.size).collect();
        sizes.sort_by_key(|&(width, height)| std::cmp::Reverse(width * height));
        sizes.dedup();
        sizes
    };
    let formats = PixelFormat::ALL.into_iter().map(|format| (format, sizes_of(format)));
    let parts = formats.filter(|(_, sizes)| !sizes.is_empty()).map(|(format, sizes)| {
        let shown: Vec<String> = sizes.iter().take(SHOWN).map(|(width, height)| format!("{width}×{height}")).collect();
        let more = if sizes.len() > SHOWN { " …" } else { "" };
        format!("{} {}{more}", format.name(), shown.join(" "))
    });
    parts.collect::<Vec<_>>().join(", ")
}

/// The name in `/dev/v4l/by-id` that leads to the node and stays the same when its number changes.
fn link_to(root: &Path, name: &Path) -> Option<PathBuf> {
    let folder = Path::new("/dev/v4l/by-id");
    let entries = fs::read_dir(root.join("dev/v4l/by-id")).ok()?;
    let mut links = entries
        .flatten()
        .filter(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.file_name() == Some(name.as_os_str())));
    links.next().map(|link| folder.join(link.file_name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::v4l2::mode::Rates;

    #[test]
    fn nodes_are_listed_with_their_lasting_names_and_why_they_do_not_work() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for (node, name) in [("video0", "UVC Camera\n"), ("video10", "x"), ("video2", "imx219\x1b[2J\n")] {
            let folder = root.join("sys/class/video4linux").join(node);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("name"), name).unwrap();
        }
        fs::create_dir_all(root.join("dev/v4l/by-id")).unwrap();
        fs::write(root.join("dev/video0"), "").unwrap();
        std::os::unix::fs::symlink("../../video0", root.join("dev/v4l/by-id/usb-Cam-video-index0")).unwrap();
        let found = all(root);
        let first: Vec<&str> = found.iter().map(|finding| finding.found.split(':').next().unwrap()).collect();
        assert_eq!(first, ["/dev/video0, also /dev/v4l/by-id/usb-Cam-video-index0", "/dev/video2", "/dev/video10"]);
        assert!(found[0].advice.as_ref().unwrap().contains("is no device"), "{:?}", found[0]);
        assert!(found[1].state == State::Absent && found[1].found.contains("imx219\\u{1b}"), "{:?}", found[1]);
    }

    #[test]
    fn without_a_node_there_is_one_line() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(all(root.path()), [none()]);
    }

    #[test]
    fn modes_are_told_by_format() {
        let offer = |format, size| Offer { format, size, rates: Rates::Unknown };
        let mut offers = vec![offer(PixelFormat::Mjpeg, (1280, 720)), offer(PixelFormat::Yuyv, (320, 240))];
        offers.extend((1..6).map(|n| offer(PixelFormat::Yuyv, (640 + n, 480))));
        assert_eq!(list(&offers), "YUYV 645×480 644×480 643×480 642×480 …, MJPEG 1280×720");
    }
}
