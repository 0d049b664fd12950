//! `cfvit run` with a camera that is made to fail in every way that cameras do. The camera is a preloaded library (`camera.c`), strict about
//! who owns which buffer.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod rig;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rig::Rig;

/// Only the coarse stage: these tests are about frames.
const COARSE: [&str; 2] = ["--threshold", "0"];

#[test]
fn frames_are_decided_in_the_cheapest_mode_that_covers_the_input() {
    let Some(rig) = Rig::new() else { return };
    let ran = rig.run("", &["--threshold", "0", "--frames", "20"]);
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    let [captured, decided, _, failed, _] = ran.counters();
    assert!(decided == 20 && failed == 0 && captured >= 20, "{}", ran.stdout);
    assert_eq!(ran.lines("YUYV 640×480 at 30/s from Fake Camera, fake"), 1, "{}", ran.log);
    assert_eq!((ran.count("opens"), ran.count("open ")), (2, 0), "looked at, then streamed, then closed");
    assert_eq!(ran.lines("lost") + ran.lines(" warn "), 0, "{}", ran.log);
}

#[test]
fn what_is_asked_for_is_set_or_refused() {
    let Some(rig) = Rig::new() else { return };
    let ran = rig.run("?size=320x240&fps=15&format=YUYV", &["--threshold", "0", "--frames", "3"]);
    assert!(ran.code == Some(0) && ran.log.contains("YUYV 320×240 at 15/s"), "{}", ran.log);
    for (query, args, says) in [
        ("?size=800x600", &[][..], "YUYV 640x480"),
        ("?format=NV12", &[], "it does not offer NV12"),
        ("?fps=15", &["--fps", "30"], "leave one out"),
        ("", &["--loop"], "a camera never ends"),
        ("?format=H264", &[], "expected one of YUYV"),
    ] {
        let ran = rig.run(query, args);
        assert!(ran.code == Some(2) && ran.log.contains(says), "{query} {args:?}: {}", ran.log);
    }
}

#[test]
fn nodes_that_cannot_be_used_end_the_run_with_the_reason() {
    let Some(rig) = Rig::new() else { return };
    for (fault, code, says) in [
        ("denied", 1, "usermod -aG video"),
        ("metadata", 2, "carries the camera's metadata"),
        ("mplane", 2, "multi-planar"),
        ("bayer", 2, "nvarguscamerasrc"),
    ] {
        rig.set_fault(fault);
        let ran = rig.run("", &[]);
        assert!(ran.code == Some(code) && ran.log.contains(says), "{fault}: {:?} {}", ran.code, ran.log);
    }
}

#[test]
fn a_camera_that_comes_later_is_waited_for() {
    let Some(rig) = Rig::new() else { return };
    rig.unplug();
    let mut run = rig.start("", &COARSE);
    run.wait_for_lines("waiting for camera", 1);
    run.wait_for_lines("captured 0", 3);
    rig.plug();
    run.wait_for_decisions(5);
    let ran = run.stop();
    assert!(ran.code == Some(0) && ran.counters()[1] >= 5, "{}", ran.log);
    assert_eq!((ran.lines(" warn waiting for camera"), ran.lines("gives frames after")), (1, 1), "{}", ran.log);
}

/// Also with a signal while there is no camera.
#[test]
fn a_run_without_a_camera_ends_when_it_is_asked_to() {
    let Some(rig) = Rig::new() else { return };
    rig.unplug();
    let mut run = rig.start("", &COARSE);
    run.wait_for_lines("captured 0", 2);
    let ran = run.stop();
    assert_eq!((ran.code, ran.counters()), (Some(0), [0; 5]), "{}", ran.log);
}

#[test]
fn twenty_times_unplugged_and_plugged_in_it_is_back_each_time_and_leaks_nothing() {
    let Some(rig) = Rig::new() else { return };
    let mut run = rig.start("", &COARSE);
    run.wait_for_decisions(3);
    let files = run.open_files();
    for cycle in 1..=20 {
        rig.unplug();
        run.wait_for_lines("lost: ", cycle);
        rig.plug();
        run.wait_for_lines("gives frames after", cycle);
        assert_eq!(run.open_files(), files, "in cycle {cycle}");
    }
    run.wait_for_decisions(3);
    let ran = run.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    ran.counters();
    assert_eq!((ran.lines("lost: "), ran.lines("gives frames after")), (20, 20), "{}", ran.log);
    assert_eq!((ran.count("opens"), ran.count("open ")), (22, 0), "one for each return: {}", ran.log);
}

/// A fault that ends the frames, while it lasts: one line when it begins, at most one why it goes on, one when it is over.
fn outage(fault: &str, says: &str) {
    let Some(rig) = Rig::new() else { return };
    let mut run = rig.start("", &COARSE);
    // The first eight frames of a camera may come irregularly; after them three periods count.
    run.wait_for_decisions(12);
    rig.set_fault(fault);
    run.wait_for_lines("lost: ", 1);
    std::thread::sleep(Duration::from_millis(1500));
    rig.set_fault("none");
    run.wait_for_lines("gives frames after", 1);
    run.wait_for_decisions(3);
    let ran = run.stop();
    assert_eq!(ran.code, Some(0), "{}", ran.log);
    ran.counters();
    assert!(ran.log.contains(says), "{}", ran.log);
    assert_eq!((ran.lines("lost: "), ran.lines("gives frames after")), (1, 1), "{}", ran.log);
    assert!(ran.lines(" warn ") <= 2, "{}", ran.log);
}

#[test]
fn a_camera_that_freezes_is_lost_and_comes_back() {
    outage("freeze", "no frame for 0.25 s");
}

#[test]
fn a_driver_that_fails_is_opened_anew() {
    outage("eio", "lost: Input/output error");
}

#[test]
fn a_camera_in_use_and_one_that_does_not_start_are_waited_for() {
    for (fault, says) in [("busy", "another program uses"), ("streamon", "it does not start")] {
        let Some(rig) = Rig::new() else { return };
        rig.set_fault(fault);
        let mut run = rig.start("", &COARSE);
        run.wait_for_lines(says, 1);
        run.wait_for_lines("captured 0", 10);
        rig.set_fault("none");
        run.wait_for_decisions(3);
        let ran = run.stop();
        assert_eq!(
            (ran.code, ran.lines(says), ran.lines("gives frames after")),
            (Some(0), 1, 1),
            "{fault}: {}",
            ran.log
        );
        ran.counters();
    }
}

#[test]
fn damaged_and_short_frames_are_dropped_and_counted() {
    for (fault, says) in
        [("error/3", "flags the data as damaged"), ("short/3", "307200 bytes, the format takes 614400")]
    {
        let Some(rig) = Rig::new() else { return };
        rig.set_fault(fault);
        let mut run = rig.start("", &COARSE);
        run.wait_for_decisions(20);
        let ran = run.stop();
        let [captured, _, _, failed, _] = ran.counters();
        assert!(failed * 5 >= captured && failed * 2 <= captured, "every third: {}", ran.stdout);
        assert_eq!((ran.lines(says), ran.lines(" warn "), ran.lines("lost: ")), (1, 1, 0), "{}", ran.log);
    }
}

#[test]
fn frames_that_the_driver_drops_are_no_failure() {
    let Some(rig) = Rig::new() else { return };
    rig.set_fault("gap/3");
    let mut run = rig.start("", &COARSE);
    run.wait_for_decisions(20);
    let ran = run.stop();
    assert!(ran.counters()[3] == 0 && ran.lines(" warn ") == 0, "{}{}", ran.stdout, ran.log);
}

#[test]
fn a_slow_driver_is_borne_with() {
    let Some(rig) = Rig::new() else { return };
    rig.set_fault("slow");
    let mut run = rig.start("", &COARSE);
    run.wait_for_decisions(3);
    let ran = run.stop();
    assert_eq!((ran.code, ran.lines("lost: ")), (Some(0), 0), "{}", ran.log);
    ran.counters();
}

#[test]
fn a_driver_that_never_answers_does_not_hold_the_program() {
    let Some(rig) = Rig::new() else { return };
    let mut run = rig.start("", &COARSE);
    run.wait_for_decisions(3);
    rig.set_fault("hang");
    run.wait_for("silence", |log| log.lines().rev().take(5).filter(|line| line.contains("0.0 frames/s")).count() == 5);
    let ran = run.stop();
    assert!(ran.code == Some(0) && ran.log.contains("capture thread does not end"), "{:?} {}", ran.code, ran.log);
    ran.counters();
}

/// A photograph through the camera is answered as the same photograph from a file.
#[test]
fn a_photograph_is_answered_as_from_a_file() {
    let Some(mut rig) = Rig::new() else { return };
    for name in ["n02102040/n02102040_6060.JPEG", "n03417042/n03417042_11611.JPEG", "n03028079/n03028079_30232.JPEG"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures").join(name);
        let photo =
            image::open(path).unwrap().resize_exact(640, 480, image::imageops::FilterType::Triangle).into_rgb8();
        let still = rig.dir.path().join("still.png");
        photo.save(&still).unwrap();
        let expected = label_of(&still);
        let jpeg = rig.dir.path().join("frame.jpg");
        image::codecs::jpeg::JpegEncoder::new_with_quality(std::fs::File::create(&jpeg).unwrap(), 95)
            .encode_image(&photo)
            .unwrap();
        let yuyv = rig.dir.path().join("frame.yuyv");
        std::fs::write(&yuyv, packed(&photo)).unwrap();
        for (frame, format) in [(yuyv, "YUYV"), (jpeg, "MJPEG")] {
            rig.show(frame);
            let query = format!("?format={format}&size=640x480");
            let records = rig.dir.path().join("records.jsonl");
            let _ = std::fs::remove_file(&records);
            let ran = rig.run(&query, &["--frames", "2", "--jsonl", records.to_str().unwrap()]);
            assert_eq!((ran.code, ran.counters()[3]), (Some(0), 0), "{}", ran.log);
            for line in std::fs::read_to_string(&records).unwrap().lines() {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                assert_eq!(record["name"], expected, "{name} {format}");
                assert!(record["latency_ms"].as_f64().is_some_and(|ms| ms > 0.0), "from the kernel's stamp: {line}");
            }
        }
    }
}

fn label_of(picture: &Path) -> String {
    let output = Command::new(assert_cmd::cargo::cargo_bin!("cfvit"))
        .args(["classify", "--json"])
        .arg(picture)
        .output()
        .unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["name"].as_str().unwrap().to_owned()
}

/// YUYV by BT.601 in limited range.
fn packed(picture: &image::RgbImage) -> Vec<u8> {
    let sample = |scale: f64, offset: f64, of: [f64; 3], pixel: &[u8]| {
        let sum: f64 = of.iter().zip(pixel).map(|(weight, &level)| weight * f64::from(level) / 255.0).sum();
        (offset + scale * sum).round().clamp(0.0, 255.0) as u8
    };
    let luma = |pixel: &[u8]| sample(219.0, 16.0, [0.299, 0.587, 0.114], pixel);
    let blue = |pixel: &[u8]| sample(224.0, 128.0, [-0.168736, -0.331264, 0.5], pixel);
    let red = |pixel: &[u8]| sample(224.0, 128.0, [0.5, -0.418688, -0.081312], pixel);
    let pairs = picture.as_raw().chunks_exact(6);
    pairs.flat_map(|pair| [luma(&pair[..3]), blue(&pair[..3]), luma(&pair[3..]), red(&pair[..3])]).collect()
}
