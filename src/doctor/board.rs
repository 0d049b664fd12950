//! What the board and its system tell: L4T release, power mode.

use std::fs;
use std::path::Path;

use super::{Finding, State};
use crate::plan;

pub(super) fn l4t(root: &Path) -> Finding {
    match plan::l4t_release(root) {
        Some(release) => Finding::new("L4T", State::Good, release),
        None => Finding::new("L4T", State::Absent, "this is no Jetson"),
    }
}

/// The power mode, by name: numbers mean different modes on different boards.
pub(super) fn power_mode(root: &Path) -> Finding {
    let what = "power mode";
    let Ok(status) = fs::read_to_string(root.join("var/lib/nvpmodel/status")) else {
        return Finding::new(what, State::Absent, "no nvpmodel");
    };
    let Some(id) = mode_id(&status) else {
        return Finding::new(what, State::Bad, "nvpmodel's status cannot be understood")
            .advice("`nvpmodel -q` shows it");
    };
    let names = fs::read_to_string(root.join("etc/nvpmodel.conf")).unwrap_or_default();
    let name = mode_name(&names, id).unwrap_or("unnamed");
    Finding::new(what, State::Good, format!("{name} (mode {id})"))
        .advice("engines are tied to it where it switches multiprocessors off; for steady measurements also run `jetson_clocks`")
}

/// From `pmode:0002`.
fn mode_id(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.trim().strip_prefix("pmode:"))?.trim().parse().ok()
}

/// From `< POWER_MODEL ID=2 NAME=MAXN_SUPER >`.
fn mode_name(conf: &str, id: u32) -> Option<&str> {
    conf.lines().find_map(|line| {
        let words = line.trim().strip_prefix("< POWER_MODEL")?;
        let value = |key: &str| words.split_whitespace().find_map(|word| word.strip_prefix(key));
        (value("ID=")?.parse() == Ok(id)).then(|| value("NAME="))?
    })
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
