//! What the Debian package ships beside the program: manual, completions, units. `tests/vm/run` installs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::Path;
use std::process::Command;

use assert_cmd::cargo::cargo_bin;

#[test]
fn every_subcommand_has_a_page_and_every_shell_its_completion() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new");
    assert!(Command::new(cargo_bin("cfvit")).arg("manual").arg(&out).status().unwrap().success());
    let help = Command::new(cargo_bin("cfvit")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let listed = help.lines().skip_while(|line| !line.starts_with("Commands:")).skip(1);
    let subcommands: Vec<&str> = listed
        .take_while(|line| line.starts_with("  "))
        .filter(|line| !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|&name| name != "help")
        .collect();
    assert!(subcommands.contains(&"run") && !subcommands.contains(&"manual"), "{subcommands:?}");
    let text = |name: &str| fs::read_to_string(out.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    for name in &subcommands {
        assert!(text(&format!("cfvit-{name}.1")).contains(".TH"), "{name}");
        for completion in ["cfvit.bash", "_cfvit", "cfvit.fish"] {
            assert!(text(completion).contains(name), "{name} in {completion}");
        }
    }
    assert!(text("cfvit.1").contains("DESCRIPTION"));
    assert!(text("cfvit-run.1").contains("Exit codes"), "the long help is in it");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The values of `key` in a unit.
fn values(unit: &str, key: &str) -> Vec<String> {
    let text = fs::read_to_string(root().join("systemd").join(unit)).unwrap();
    text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned).collect()
}

#[test]
fn the_units_are_shut_tight() {
    let version = Command::new("systemd-analyze").arg("--version").output().ok();
    let version: Option<u32> =
        version.and_then(|version| String::from_utf8_lossy(&version.stdout).split_whitespace().nth(1)?.parse().ok());
    if version.is_none_or(|version| version < 250) {
        println!("skipped: no systemd-analyze that can look at files (from 250)");
        return;
    }
    for unit in ["cfvit.service", "cfvit-build.service"] {
        let file = root().join("systemd").join(unit);
        let args = ["security", "--offline=true", "--threshold=20", "--no-pager"];
        let output = Command::new("systemd-analyze").args(args).arg(&file).output().unwrap();
        assert!(output.status.success(), "{unit}: {}", String::from_utf8_lossy(&output.stdout));
    }
}

/// The drop-in opens the network, and no more than that. As systemd reads both together.
#[test]
fn the_drop_in_opens_the_network_to_named_addresses_only() {
    let dropped = values("network.conf", "RestrictAddressFamilies");
    assert_eq!(
        (&dropped[..], &values("network.conf", "PrivateNetwork")[..]),
        (&["AF_INET AF_INET6".to_owned()][..], &["no".to_owned()][..])
    );
    assert_eq!(values("cfvit.service", "IPAddressDeny"), ["any"]);
    assert_eq!(values("network.conf", "IPAddressDeny"), [""; 0], "what is not named stays shut");
    let text = fs::read_to_string(root().join("systemd/network.conf")).unwrap();
    let keys = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
    let known = ["Wants", "After", "PrivateNetwork", "RestrictAddressFamilies", "IPAddressAllow"];
    assert_eq!(keys.map(|(key, _)| key).collect::<Vec<_>>(), known, "nothing else of the sandbox is touched");
    if !Command::new("systemd-analyze").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("skipped: no systemd-analyze");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let unit = dir.path().join("cfvit.service");
    fs::copy(root().join("systemd/cfvit.service"), &unit).unwrap();
    fs::create_dir(dir.path().join("cfvit.service.d")).unwrap();
    let score = || {
        let args = ["security", "--offline=true", "--threshold=20", "--no-pager"];
        Command::new("systemd-analyze").args(args).arg(&unit).output().unwrap()
    };
    let shut = score();
    fs::copy(root().join("systemd/network.conf"), dir.path().join("cfvit.service.d/network.conf")).unwrap();
    let open = score();
    assert!(open.status.success(), "{}", String::from_utf8_lossy(&open.stdout));
    assert_ne!(shut.stdout, open.stdout, "the drop-in was read");
}

#[test]
fn the_service_reaches_cameras_and_gpus_and_nothing_else() {
    let devices = values("cfvit.service", "DeviceAllow");
    assert!(devices.contains(&"char-video4linux rw".to_owned()));
    let known = ["char-video4linux", "char-nv", "char-host1x", "char-drm", "/dev/nv"];
    assert!(devices.iter().all(|device| known.iter().any(|known| device.starts_with(known))), "{devices:?}");
    // The build needs the same GPU nodes and no camera.
    let gpus: Vec<_> = devices.into_iter().filter(|device| !device.contains("video4linux")).collect();
    assert_eq!(values("cfvit-build.service", "DeviceAllow"), gpus);
    assert_eq!(values("cfvit.service", "DevicePolicy"), ["closed"]);
}

#[test]
fn the_package_lists_what_the_repository_has() {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    for asset in deb["assets"].as_array().unwrap() {
        let source = asset[0].as_str().unwrap();
        if !source.starts_with("target/") && !source.contains('*') {
            assert!(root().join(source).is_file(), "{source}");
        }
    }
    let version = manifest["package"]["version"].as_str().unwrap();
    let changelog = fs::read_to_string(root().join(deb["changelog"].as_str().unwrap())).unwrap();
    assert!(changelog.starts_with(&format!("cfvit ({version}-")), "the changelog's first entry is version {version}");
}
