//! From a wanted frame to a file, and an operator's second thoughts.

use std::time::SystemTime;

use super::*;
use crate::examples::{Entry, entries};
use crate::frame::Stage;

const LIMITS: Limits = Limits { max_bytes: 1 << 30, max_files: 4, min_free_bytes: 0 };

fn about() -> About {
    let label = |id: &str, name: &str| Label { id: id.into(), name: name.into() };
    About { labels: vec![label("n1", "church"), label("n2", "n1")], ..About::default() }
}

fn example(seq: u64) -> Example {
    Example {
        camera: "door".into(),
        seq,
        captured: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + seq),
        stage: Stage::Fine,
        top: vec![(0, 0.5), (1, 0.4)],
        coarse_top: vec![(1, 0.4)],
        coarse_confidence: f32::NAN,
        threshold: 0.6,
        informative: vec![3, 4],
        reason: Reason::Disagree,
    }
}

/// A scene of its own for each seed.
fn picture(seed: usize) -> Picture {
    let value =
        |at: usize| if (at % 64 / 8 * 31 + at / 64 / 8 * 17 + seed * 7919).is_multiple_of(2 + seed) { 230 } else { 20 };
    Picture { width: 64, height: 64, rgb: (0..64 * 64).flat_map(|at| [value(at); 3]).collect() }
}

fn files(dir: &tempfile::TempDir) -> Vec<Entry> {
    entries(dir.path()).unwrap()
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "this never comes: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn wanted_frames_are_written_once_each_and_the_thread_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (shelf, writer) = start(dir.path().to_owned(), LIMITS, about(), true).unwrap();
    for seq in 0..4 {
        // The third looks like the first.
        wait("room", || shelf.offer(&picture(1 + seq % 2), example(seq as u64)));
    }
    wait("all are looked at", || shelf.counts.skipped()[0].1 + files(&dir).len() as u64 == 4);
    assert_eq!((files(&dir).len(), shelf.counts.skipped()[0]), (2, ("duplicate", 2)));
    assert_eq!(shelf.counts.saved().next(), Some(("disagree", 2)));
    wait("the last one", || shelf.offer(&picture(5), example(9)));
    writer.unwrap().finish();
    let written = files(&dir);
    assert_eq!((written.len(), shelf.usage().files), (3, 3), "what waits at the end is written");
    let read = image::open(&written[0].path).unwrap();
    assert_eq!((read.width(), read.height()), (64, 64));
    let side_car: Value =
        serde_json::from_slice(&std::fs::read(written[0].path.with_extension("json")).unwrap()).unwrap();
    assert_eq!((&side_car["reason"], &side_car["top"][0]["id"]), (&"disagree".into(), &"n1".into()));
    assert_eq!((&side_car["coarse_confidence"], &side_car["width"]), (&Value::Null, &64.into()));
}

#[test]
fn a_full_folder_stops_the_collecting_and_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (shelf, writer) = start(dir.path().to_owned(), Limits { max_files: 1, ..LIMITS }, about(), true).unwrap();
    for seq in 0..3 {
        wait("room", || shelf.offer(&picture(1 + seq), example(seq as u64)));
    }
    wait("two are refused", || shelf.counts.skipped()[1] == ("full", 2));
    writer.unwrap().finish();
    assert_eq!((files(&dir).len(), lock(&shelf.full).failures()), (1, 2));
}

#[test]
fn a_damaged_picture_is_counted_and_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let (shelf, writer) = start(dir.path().to_owned(), LIMITS, about(), true).unwrap();
    assert!(shelf.offer(&Picture { width: 4, height: 4, rgb: vec![0; 3] }, example(1)));
    wait("it failed", || shelf.counts.skipped()[2] == ("failed", 1));
    writer.unwrap().finish();
    assert_eq!(files(&dir).len(), 0);
}

#[test]
fn an_operator_keeps_names_discards_and_takes_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let (shelf, writer) = start(dir.path().to_owned(), LIMITS, about(), false).unwrap();
    assert!(writer.is_none());
    let put = |place, shown: bool| shelf.put(("door", 7), place, shown.then(|| (example(7), &b"jpeg"[..], (2, 1))));
    assert_eq!(put(Place::Discarded, false).unwrap(), None, "nothing to discard");
    assert!(put(Place::Inbox, false).unwrap_err().to_string().contains("is gone"));
    assert_eq!(put(Place::Inbox, true).unwrap(), Some(Whereabouts::Inbox));
    // From here on the picture is on the disk, whether it is still shown or not.
    let split = example(7).name().split();
    assert_eq!(put(Place::Class(1), false).unwrap(), Some(Whereabouts::Class(split, "n2".into())));
    assert_eq!(put(Place::Discarded, false).unwrap(), None);
    assert_eq!((files(&dir).len(), shelf.usage().files), (0, 0));
    assert_eq!(put(Place::Inbox, false).unwrap(), Some(Whereabouts::Inbox), "taken back");
    assert_eq!(std::fs::read(&files(&dir)[0].path).unwrap(), b"jpeg");
    assert_eq!(shelf.counts.saved().last(), Some(("asked", 1)));
    assert!(put(Place::Class(2), true).is_err());
}

#[test]
fn an_id_is_known_before_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let (shelf, _) = start(dir.path().to_owned(), LIMITS, about(), false).unwrap();
    assert_eq!([shelf.class("n1"), shelf.class("church"), shelf.class("dog")], [Some(0), Some(0), None]);
}
