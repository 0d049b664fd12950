//! What the board and its system tell: L4T release, power mode.

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

#[cfg(test)]
mod tests {
    use std::fs;

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
        assert_eq!(l4t(root).found, "36.4.3");
        assert_eq!(power_mode(root).found, "MAXN_SUPER (mode 2)");
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
