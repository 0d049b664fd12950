//! What the board and its system tell: L4T release, power mode, cameras.

use std::fs;
use std::path::Path;

use super::{Finding, State};
use crate::{machine, plan};

pub(super) fn l4t(root: &Path) -> Finding {
    match plan::l4t_release(root) {
        Some(release) => Finding::new("L4T", State::Good, release),
        None => Finding::new("L4T", State::Absent, "this is no Jetson"),
    }
}

/// The power mode beneath `root` (`/`), for a key: `none` where there is no nvpmodel, `unknown` where it cannot be understood.
pub fn power_mode_name(root: &Path) -> String {
    match machine::power_mode(root) {
        Ok(Some(mode)) => mode.to_string(),
        Ok(None) => "none".into(),
        Err(_) => "unknown".into(),
    }
}

/// The power mode, by name: numbers mean different modes on different boards.
pub(super) fn power_mode(root: &Path) -> Finding {
    let what = "power mode";
    match machine::power_mode(root) {
        Ok(Some(mode)) => Finding::new(what, State::Good, mode.to_string()).advice(
            "engines are tied to it where it switches multiprocessors off; for steady measurements also run `jetson_clocks`",
        ),
        Ok(None) => Finding::new(what, State::Absent, "no nvpmodel"),
        Err(error) => Finding::new(what, State::Bad, error.to_string()).advice("`nvpmodel -q` shows it"),
    }
}

/// One line for each video device that Linux knows.
pub(super) fn cameras(root: &Path) -> Vec<Finding> {
    let Ok(entries) = fs::read_dir(root.join("sys/class/video4linux")) else { return vec![no_camera()] };
    let mut devices: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    devices.sort();
    let found: Vec<_> = devices
        .iter()
        .filter_map(|device| {
            let name = fs::read_to_string(device.join("name")).ok()?;
            let node = Path::new("/dev").join(device.file_name()?);
            let text = format!("{}: {}", node.display(), name.trim().escape_debug());
            Some(match fs::File::open(root.join("dev").join(device.file_name()?)) {
                Ok(_) => Finding::new("camera", State::Good, text),
                Err(e) => {
                    Finding::new("camera", State::Bad, format!("{text}: {e}")).advice("add this user to group video")
                }
            })
        })
        .collect();
    if found.is_empty() { vec![no_camera()] } else { found }
}

fn no_camera() -> Finding {
    Finding::new("camera", State::Absent, "no video device")
        .advice("`cfvit run --source FOLDER` takes pictures instead")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_jetson_is_described() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        write(root, "etc/nv_tegra_release", "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n");
        write(root, "var/lib/nvpmodel/status", "pmode:0002\nfmode:quiet\n");
        let conf =
            "# a comment\n< POWER_MODEL ID=0 NAME=15W >\n  < POWER_MODEL ID=2 NAME=MAXN_SUPER >\nCPU_ONLINE CORE_0 1\n";
        write(root, "etc/nvpmodel.conf", conf);
        write(root, "sys/class/video4linux/video0/name", "UVC Camera\n");
        write(root, "sys/class/video4linux/video1/name", "imx219\x1b[2J\n");
        write(root, "dev/video0", "");
        assert_eq!(l4t(root).found, "36.4.3");
        assert_eq!(power_mode(root).found, "MAXN_SUPER (mode 2)");
        let cameras = cameras(root);
        assert_eq!((cameras[0].state, cameras[0].found.as_str()), (State::Good, "/dev/video0: UVC Camera"));
        assert!(cameras[1].state == State::Bad && cameras[1].found.contains("imx219\\u{1b}"), "{:?}", cameras[1]);
    }

    #[test]
    fn what_cannot_be_understood_is_said() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "var/lib/nvpmodel/status", "garbage");
        assert_eq!(power_mode(root.path()).state, State::Bad);
        write(root.path(), "var/lib/nvpmodel/status", "pmode:0007");
        assert_eq!(power_mode(root.path()).found, "unnamed (mode 7)");
    }
}
