//! What a power cut leaves: on a file system of our own (ext4 in a file) that stops from one moment to the next, without writing anything more
//! (`EXT4_IOC_SHUTDOWN`), and is mounted anew. Skipped aloud without root and its tools.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::{list, picture, skipped};

/// Cuts, each on a new file system and at another moment.
const CUTS: u64 = 6;
/// Pictures, each of a scene of its own.
const SCENES: usize = 120;
/// `_IOR('X', 125, __u32)`, and the way that loses the journal's last words too.
const SHUTDOWN: libc::Ioctl = 0x8004_587D_u32 as libc::Ioctl;
const NO_LOG_FLUSH: u32 = 2;

/// A disk in a file, mounted until it is dropped.
struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    fn make(dir: &Path) -> Option<Self> {
        let disk = Self { image: dir.join("image"), at: dir.join("disk") };
        fs::create_dir(&disk.at).unwrap();
        File::create(&disk.image).unwrap().set_len(64 << 20).unwrap();
        works(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.image))?;
        disk.mount().then_some(disk)
    }

    fn mount(&self) -> bool {
        works(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.at)).is_some()
    }

    fn unmount(&self) -> bool {
        works(Command::new("umount").arg(&self.at)).is_some()
    }

    /// From now on nothing reaches the disk any more, whatever was promised and not yet written.
    fn cut(&self) {
        let (folder, how) = (File::open(&self.at).unwrap(), NO_LOG_FLUSH);
        // SAFETY: the call reads one integer.
        let done = unsafe { libc::ioctl(folder.as_raw_fd(), SHUTDOWN, &raw const how) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.unmount();
    }
}

fn works(command: &mut Command) -> Option<()> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then_some(())
}

/// `cfvit run` that keeps pictures, until it is dropped.
struct Collecting(Child);

impl Collecting {
    fn start(config: &Path) -> Self {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cfvit"));
        command.args(["run", "--config"]).arg(config).env_remove("RUST_LOG").env_remove("STATE_DIRECTORY");
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The pictures that are there under their names.
fn names(root: &Path) -> BTreeSet<PathBuf> {
    let files = walkdir::WalkDir::new(root).into_iter().flatten().map(walkdir::DirEntry::into_path);
    files.filter(|path| path.extension().is_some_and(|ext| ext == "jpg")).collect()
}

#[test]
fn a_power_cut_leaves_whole_pictures_only_and_all_that_were_there() {
    let dir = tempfile::tempdir().unwrap();
    let photos = dir.path().join("photos");
    fs::create_dir(&photos).unwrap();
    (0..SCENES).for_each(|number| picture(number, &photos.join(format!("{number:03}.png"))));
    let mut careless = [0, 0];
    for cut in 0..CUTS {
        let dir = tempfile::tempdir_in(dir.path()).unwrap();
        let Some(disk) = Disk::make(dir.path()) else {
            skipped("no ext4 can be made and mounted here (needs root, e2fsprogs and loop devices)");
            return;
        };
        survive(&disk, &photos, cut, &mut careless);
    }
    // Files that were written without care beside them show that power was cut at all.
    let [whole, all] = careless;
    let _ = writeln!(std::io::stderr(), "{whole} of {all} files that were only renamed are whole");
    assert!(whole < all);
}

fn survive(disk: &Disk, photos: &Path, cut: u64, careless: &mut [usize; 2]) {
    let (root, beside) = (disk.at.join("examples"), disk.at.join("careless"));
    let config = disk.image.with_file_name("cfvit.toml");
    let text = format!(
        "[gate]\nthreshold = 0\n[[camera]]\nname = \"yard\"\nsource = {photos:?}\nfps = 30\nrepeat = true\n[web]\nenabled = false\n\
         [audit]\nfolder = \"none\"\n[collect]\nauto = \"random\"\nprobability = 1\nfolder = {root:?}\ninterval_s = 0.1\nmin_free_mib = 0\n"
    );
    fs::write(&config, text).unwrap();
    fs::create_dir(&beside).unwrap();
    let collecting = Collecting::start(&config);
    let begun = Instant::now();
    while names(&root).len() < 3 + cut as usize {
        assert!(begun.elapsed() < Duration::from_secs(120), "no pictures are collected");
        std::thread::sleep(Duration::from_millis(5));
    }
    // What is there under its name is on the disk in a moment at most: the folder, too, is written then.
    let seen = names(&root);
    let settled = Instant::now();
    let mut number = 0;
    while settled.elapsed() < Duration::from_millis(400 + 37 * cut) {
        let (temporary, path) = (beside.join("temporary"), beside.join(format!("{number}")));
        fs::write(&temporary, [7; 5000]).unwrap();
        fs::rename(temporary, path).unwrap();
        number += 1;
        std::thread::sleep(Duration::from_millis(10));
    }
    disk.cut();
    drop(collecting);
    assert!(disk.unmount() && disk.mount(), "the disk is not there again");
    careless[0] +=
        (0..number).filter(|n| fs::read(beside.join(n.to_string())).is_ok_and(|bytes| bytes == [7; 5000])).count();
    careless[1] += number;

    let found = names(&root);
    let lost: Vec<_> = seen.difference(&found).collect();
    assert!(lost.is_empty(), "cut {cut}: {lost:?}");
    for path in &found {
        image::open(path).unwrap_or_else(|error| panic!("cut {cut}: {}: {error}", path.display()));
        let side_car = fs::read(path.with_extension("json")).unwrap();
        let side_car: serde_json::Value = serde_json::from_slice(&side_car).unwrap();
        assert_eq!(side_car["reason"], "random", "cut {cut}: {}", path.display());
    }
    assert_eq!(list(root.to_str().unwrap())["examples"].as_array().unwrap().len(), found.len());
}
