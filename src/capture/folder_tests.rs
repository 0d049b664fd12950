use std::ffi::OsStr;
use std::time::{Duration, Instant};

use super::*;
use crate::clock::{Clock, Simulated, Stop};

/// Files called `names`, empty, in a fresh folder.
fn folder(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in names {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, b"").unwrap();
    }
    dir
}

/// Gives a picture one pixel wide; files whose name holds `bad` are damaged.
fn decode() -> Decode {
    Box::new(|path, picture| {
        if path.to_string_lossy().contains("bad") {
            return Err(Error::new(Kind::Image, "damaged"));
        }
        (picture.width, picture.height) = (1, 1);
        picture.rgb.clear();
        picture.rgb.extend([7; 3]);
        Ok(())
    })
}

fn frame() -> Frame {
    Frame { seq: 0, name: String::new(), captured: Instant::now(), picture: Picture::default() }
}

/// Asks `source` once, patient for an hour.
fn ask(source: &mut Folder, clock: &Simulated, frame: &mut Frame) -> Result<Event> {
    let deadline = clock.now() + Duration::from_secs(3600);
    source.next(frame, &Wait { clock, stop: &Stop::new(), deadline })
}

#[test]
fn plays_nested_pictures_in_order_and_ends() {
    let dir = folder(&["b.JPG", "a/2.png", "a/10.webp", "notes.txt", ".hidden.png", "a/bad.ppm"]);
    let mut source = Folder::open(dir.path(), Options::default(), decode()).unwrap();
    let (clock, mut frame) = (Simulated::new(), frame());
    let mut seen = Vec::new();
    loop {
        match ask(&mut source, &clock, &mut frame).unwrap() {
            Event::End => break,
            Event::Frame => seen.push(Path::new(&frame.name).strip_prefix(dir.path()).unwrap().display().to_string()),
            other => seen.push(format!("{other:?}")),
        }
    }
    assert_eq!(seen, ["a/10.webp", "a/2.png", "Failed(Unreadable)", "b.JPG"]);
    assert_eq!(frame.picture.rgb, [7; 3]);
    assert_eq!(source.pace(), Pace::Pull);
    assert_eq!(ask(&mut source, &clock, &mut frame).unwrap(), Event::End, "the end stays the end");
}

#[test]
fn repeats_for_ever_unless_nothing_can_be_read() {
    let options = Options { repeat: true, ..Options::default() };
    let dir = folder(&["1.png", "bad.png"]);
    let mut source = Folder::open(dir.path(), options, decode()).unwrap();
    let (clock, mut frame) = (Simulated::new(), frame());
    for _ in 0..5 {
        assert_eq!(ask(&mut source, &clock, &mut frame).unwrap(), Event::Frame);
        assert_eq!(ask(&mut source, &clock, &mut frame).unwrap(), Event::Failed(Damage::Unreadable));
    }

    let dir = folder(&["bad1.png", "bad2.png"]);
    let mut source = Folder::open(dir.path(), options, decode()).unwrap();
    assert_eq!(ask(&mut source, &clock, &mut frame).unwrap(), Event::Failed(Damage::Unreadable));
    assert_eq!(ask(&mut source, &clock, &mut frame).unwrap(), Event::Failed(Damage::Unreadable));
    let error = ask(&mut source, &clock, &mut frame).unwrap_err();
    assert!(error.kind() == Kind::Source && error.to_string().contains("none of the 2 pictures"), "{error}");
}

#[test]
fn the_schedule_does_not_drift() {
    let dir = folder(&["1.png"]);
    let mut source =
        Folder::open(dir.path(), Options { fps: Some(30.0), repeat: true, ..Options::default() }, decode()).unwrap();
    assert_eq!(source.pace(), Pace::Live);
    let (clock, mut frame) = (Simulated::new(), frame());
    let start = clock.now();
    for n in 0..3000 {
        assert_eq!(ask(&mut source, &clock, &mut frame).unwrap(), Event::Frame);
        let late = frame.captured - start;
        assert!((late.as_secs_f64() - f64::from(n) / 30.0).abs() < 1e-6, "frame {n} came after {late:?}");
        clock.advance(Duration::from_millis(5)); // the reader is slow, but not too slow
    }
}

#[test]
fn what_was_missed_is_not_delivered_in_a_burst() {
    let dir = folder(&["1.png"]);
    let mut source =
        Folder::open(dir.path(), Options { fps: Some(10.0), repeat: true, ..Options::default() }, decode()).unwrap();
    let (clock, mut frame) = (Simulated::new(), frame());
    ask(&mut source, &clock, &mut frame).unwrap();
    clock.advance(Duration::from_secs(60));
    ask(&mut source, &clock, &mut frame).unwrap();
    let resumed = frame.captured;
    ask(&mut source, &clock, &mut frame).unwrap();
    assert_eq!(frame.captured - resumed, Duration::from_millis(100));
}

#[test]
fn a_wait_ends_at_the_deadline_and_at_the_stop_and_loses_no_picture() {
    let dir = folder(&["1.png", "2.png"]);
    let mut source =
        Folder::open(dir.path(), Options { fps: Some(1.0), repeat: false, ..Options::default() }, decode()).unwrap();
    let (clock, stop, mut frame) = (Simulated::new(), Stop::new(), frame());
    assert_eq!(ask(&mut source, &clock, &mut frame).unwrap(), Event::Frame);
    let deadline = clock.now() + Duration::from_millis(300);
    assert_eq!(source.next(&mut frame, &Wait { clock: &clock, stop: &stop, deadline }).unwrap(), Event::Idle);
    assert_eq!(clock.now(), deadline);
    assert_eq!(ask(&mut source, &clock, &mut frame).unwrap(), Event::Frame);
    assert!(frame.name.ends_with("2.png"));

    stop.request();
    let mut source =
        Folder::open(dir.path(), Options { fps: Some(1.0), repeat: false, ..Options::default() }, decode()).unwrap();
    let wait = Wait { clock: &clock, stop: &stop, deadline: clock.now() + Duration::from_secs(9) };
    assert_eq!(source.next(&mut frame, &wait).unwrap(), Event::Idle);
}

#[test]
fn what_cannot_be_played_is_an_error_that_names_it() {
    let dir = folder(&["notes.txt"]);
    let missing = dir.path().join("nowhere");
    let file = dir.path().join("notes.txt");
    for (path, says) in [(dir.path(), "no picture"), (&missing, "nowhere"), (&file, "not a folder")] {
        let error = super::super::open(path.as_os_str(), Options::default(), decode()).err().unwrap();
        assert!(error.kind() == Kind::Source && error.to_string().contains(says), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    }
    for fps in [0.0, -1.0, f64::NAN, f64::INFINITY, 1000.1] {
        let error = Folder::open(dir.path(), Options { fps: Some(fps), repeat: false, ..Options::default() }, decode())
            .err()
            .unwrap();
        assert_eq!(error.kind(), Kind::Usage);
    }
    let error = super::super::open(OsStr::new("rtsp://camera"), Options::default(), decode()).err().unwrap();
    assert_eq!(error.kind(), Kind::Usage);
}
