//! `cfvit calibrate` as a process, and what `classify`, `run`, `inspect` and `doctor` make of its certificate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use serde_json::Value;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn cfvit(args: &[&str]) -> Command {
    let mut command = Command::cargo_bin("cfvit").unwrap();
    command.args(args).timeout(std::time::Duration::from_secs(300)).env_remove("RUST_LOG");
    command
}

/// Standard output and error, and the exit code.
fn outcome(command: &mut Command) -> (String, String, i32) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

/// Parts of the twelve photographs, `parts` of each: enough pictures to promise something, on some of which the stages differ. (For these
/// tests only: parts of one photograph are not independent.)
fn pictures(parts: u32) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for class in fs::read_dir(root().join("tests/data/pictures")).unwrap() {
        let class = class.unwrap().path();
        let to = folder.path().join(class.file_name().unwrap());
        fs::create_dir(&to).unwrap();
        for picture in fs::read_dir(&class).unwrap() {
            let picture = picture.unwrap().path();
            let whole = image::open(&picture).unwrap().to_rgb8();
            for part in 0..parts {
                let side = 110;
                let room = whole.width().min(whole.height()) - side;
                let (x, y) = (part * 37 % room, part * 61 % room);
                let cut = image::imageops::crop_imm(&whole, x, y, side, side).to_image();
                let name = picture.file_stem().unwrap().to_string_lossy().into_owned();
                cut.save(to.join(format!("{name}-{part}.png"))).unwrap();
            }
        }
    }
    folder
}

/// A package of its own, from the bundled model's files.
fn package() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["manifest.toml", "model.safetensors", "labels.txt"] {
        fs::copy(root().join("engines/imagenette").join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(out: &str) -> Value {
    serde_json::from_str(out).unwrap_or_else(|e| panic!("{e}: {out}"))
}

#[test]
fn a_package_gets_its_certificate_and_classify_decides_by_it_to_the_bit() {
    let (pictures, package) = (pictures(6), package());
    let model = text(package.path());
    let plot = package.path().join("curve.svg");
    let arguments = ["calibrate", "--max-disagreement", "10", "--images", text(pictures.path()), "--model", model];
    let (out, err, code) = outcome(cfvit(&arguments).args(["--plot", text(&plot)]));
    assert_eq!(code, 0, "{err}");
    for says in ["With 95 % confidence at most 10 %", "72 frames", "not      promised", "tighter  5 %", "manifest.toml"]
    {
        assert!(out.contains(says), "{says} in {out}");
    }
    assert!(fs::read_to_string(&plot).unwrap().ends_with("</svg>\n"));

    // The gate and the calibration agree on every picture.
    let manifest: toml::Table = fs::read_to_string(package.path().join("manifest.toml")).unwrap().parse().unwrap();
    let certificate = &manifest["calibration"];
    let bits = certificate["eta_bits"].as_str().unwrap().trim_start_matches("0x");
    let eta = f32::from_bits(u32::from_str_radix(bits, 16).unwrap());
    let classify = ["classify", "--json", "--trace", "--model", model, text(pictures.path())];
    let (out, err, code) = outcome(&mut cfvit(&classify));
    assert_eq!((code, err.as_str()), (0, ""));
    let mut fine = 0;
    for line in out.lines() {
        let answer = json(line);
        let coarse = answer["trace"]["coarse_confidence"].as_f64().unwrap() as f32;
        assert_eq!(answer["exit"] == "coarse", coarse >= eta, "{line}");
        fine += u32::from(answer["exit"] == "fine");
    }
    let share = certificate["fine_share"][1].as_float().unwrap();
    assert!((share - f64::from(fine) / 72.0).abs() < 1e-5, "{share} against {fine} of 72");

    // Where the lines break depends on the processor's name.
    let out = outcome(&mut cfvit(&["inspect", model])).0.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(out.contains("With 95 % confidence") && out.contains("assumes pictures independent"), "{out}");
    let (out, ..) = outcome(&mut cfvit(&["inspect", "--json", model]));
    assert_eq!(json(&out)["certificate"]["n"], 72);
    let (out, ..) = outcome(&mut cfvit(&["doctor", "--model", model]));
    assert!(out.contains("ok certificate"), "{out}");

    // The same again is no further attempt, another limit is.
    let again = |limit: &str| {
        let arguments =
            ["calibrate", "--json", "--max-disagreement", limit, "--images", text(pictures.path()), "--model", model];
        let (out, err, code) = outcome(&mut cfvit(&arguments));
        assert_eq!(code, 0, "{err}");
        json(&out)["certificate"]["attempts"].as_u64().unwrap()
    };
    assert_eq!([again("10"), again("20")], [1, 2]);
}

#[test]
fn a_certificate_for_another_crop_refines_every_picture_unless_that_is_allowed() {
    let pictures = pictures(6);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("eta.toml");
    let calibrate = ["calibrate", "--max-disagreement", "10", "--images", text(pictures.path())];
    let (_, err, code) = outcome(&mut cfvit(&calibrate));
    assert_eq!(code, 2);
    assert!(err.contains("--out FILE.toml") && err.contains("--certificate FILE.toml"), "{err}");
    let (_, err, code) = outcome(cfvit(&calibrate).args(["--out", text(&file)]));
    assert_eq!(code, 0, "{err}");

    let classify = |more: &[&str]| {
        let photographs = root().join("tests/data/pictures");
        let mut command = cfvit(&["classify", "--json", "--certificate", text(&file), text(&photographs)]);
        let (out, err, code) = outcome(command.args(more));
        assert_eq!(code, 0, "{err}");
        let fine = out.lines().filter(|line| json(line)["exit"] == "fine").count();
        (fine, err)
    };
    let (fine, err) = classify(&[]);
    assert!(fine < 12 && err.is_empty(), "{fine}: {err}");
    let (all, err) = classify(&["--crop", "0.8"]);
    assert!(all == 12 && err.contains("every frame is refined") && err.contains("another crop"), "{all}: {err}");
    let (some, err) = classify(&["--crop", "0.8", "--allow-uncertified"]);
    assert!(some < 12 && err.contains("uncertified"), "{some}: {err}");
    let (none, err) = classify(&["--threshold", "0"]);
    assert!(none == 0 && err.contains("breaks what the certificate promises"), "{none}: {err}");
    assert!(classify(&["--threshold", "2"]).1.is_empty(), "above the certified threshold nothing is broken");

    let (_, err, code) = outcome(&mut cfvit(&["classify", "--certificate", text(pictures.path()), "x.jpg"]));
    assert_eq!(code, 1);
    assert!(err.contains("cannot read the certificate"), "{err}");
    // An edited threshold is not believed.
    let edited = fs::read_to_string(&file).unwrap().replacen("eta = ", "eta = 1", 1);
    fs::write(&file, edited).unwrap();
    let (_, err, code) = outcome(&mut cfvit(&["classify", "--certificate", text(&file), "x.jpg"]));
    assert_eq!(code, 1);
    assert!(err.contains("calibrate anew"), "{err}");
}

#[test]
fn loss_needs_right_answers_and_says_what_it_does_without() {
    let pictures = pictures(6);
    let folder = tempfile::tempdir().unwrap();
    let (out_file, observed) = (folder.path().join("eta.toml"), folder.path().join("observed.csv"));
    let calibrate = |images: &Path, more: &[&str]| {
        let mut command =
            cfvit(&["calibrate", "--json", "--max-loss", "40", "--images", text(images), "--out", text(&out_file)]);
        outcome(command.args(more))
    };
    // Class folders named by ids.
    let (out, err, code) = calibrate(pictures.path(), &["--export-observations", text(&observed)]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(json(&out)["certificate"]["target"], "loss");
    assert!(json(&out)["gap_points"]["labelled"] == 72);
    let lines = fs::read_to_string(&observed).unwrap();
    assert_eq!((lines.lines().count(), lines.lines().next()), (73, Some("confidence,coarse,fine,label")));

    // The same in folders that say nothing: disagreement, and it is said.
    let anonymous = tempfile::tempdir().unwrap();
    for (i, class) in fs::read_dir(pictures.path()).unwrap().enumerate() {
        let clip = anonymous.path().join(format!("clip{i}"));
        fs::create_dir(&clip).unwrap();
        for picture in fs::read_dir(class.unwrap().path()).unwrap() {
            let picture = picture.unwrap().path();
            fs::copy(&picture, clip.join(picture.file_name().unwrap())).unwrap();
        }
    }
    let (out, err, code) = calibrate(anonymous.path(), &[]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(json(&out)["certificate"]["target"], "disagreement");
    let plain = ["calibrate", "--max-loss", "40", "--images", text(anonymous.path()), "--out", text(&out_file)];
    assert!(outcome(&mut cfvit(&plain)).0.contains("disagreement is limited instead of loss"));

    // Only the disagreements, labelled by hand, give the loss again.
    let exported = folder.path().join("look");
    let export = ["calibrate", "--images", text(anonymous.path()), "--export-disagreements", text(&exported)];
    let (_, err, code) = outcome(&mut cfvit(&export));
    assert_eq!(code, 0, "{err}");
    let table = fs::read_to_string(exported.join("labels.csv")).unwrap();
    let rows = table.lines().skip(1).count();
    assert!(rows > 0 && rows < 72, "{table}");
    assert_eq!(fs::read_dir(&exported).unwrap().count(), rows + 1);
    assert_eq!(outcome(&mut cfvit(&export)).2, 2, "the folder is there already");
    let labelled: String =
        table.lines().skip(1).map(|line| format!("{},church\n", line.split(',').next().unwrap())).collect();
    let labels = folder.path().join("labels.csv");
    fs::write(&labels, labelled).unwrap();
    let (out, err, code) = calibrate(anonymous.path(), &["--labels", text(&labels)]);
    assert_eq!(code, 0, "{err}");
    assert_eq!(json(&out)["certificate"]["target"], "loss");
    fs::write(&labels, "nowhere.jpg,church\n").unwrap();
    let (_, err, code) = calibrate(anonymous.path(), &["--labels", text(&labels)]);
    assert_eq!(code, 5);
    assert!(err.contains("none of the 1 labels"), "{err}");
}

#[test]
fn refusals_have_exit_codes_of_their_own() {
    let few = pictures(1);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("eta.toml");
    let run = |args: &[&str]| {
        let mut command = cfvit(&["calibrate", "--images", text(few.path()), "--out", text(&out)]);
        let (_, err, code) = outcome(command.args(args));
        (err, code)
    };
    let (err, code) = run(&["--max-loss", "1"]);
    assert!(code == 4 && err.contains("12 frames are too few") && err.contains("299 frames"), "{err}");
    let (err, code) = run(&["--max-latency", "0.0001ms"]);
    assert!(code == 3 && err.contains("already costs"), "{err}");
    for (args, expected) in [
        (&[][..], "nothing to promise"),
        (&["--max-loss", "1", "--max-disagreement", "1"], "cannot be used with"),
        (&["--max-loss", "200"], "percent of the frames"),
        (&["--max-loss", "1", "--confidence", "0.95"], "percent from 50"),
        (&["--max-latency", "20mJ"], "a time above 0"),
    ] {
        let (err, code) = run(args);
        assert!(code == 2 && err.contains(expected), "{args:?}: {err}");
    }
    assert!(!out.exists(), "a refusal writes nothing");
    let audit = folder.path().join("audit.log");
    fs::write(&audit, "garbage").unwrap();
    let (_, err, code) = outcome(&mut cfvit(&[
        "calibrate",
        "--max-disagreement",
        "1",
        "--from-audit",
        text(&audit),
        "--out",
        text(&out),
    ]));
    assert!(code == 1 && err.contains("no audit"), "{err}");
    let (stdout, _, code) = outcome(&mut cfvit(&["calibrate", "--plan", "--max-loss", "1"]));
    assert!(
        code == 0 && stdout.contains("299 frames at least") && stdout.contains("1000 frames: 4 may be bad (0.40 %)"),
        "{stdout}"
    );
}

#[test]
fn a_latency_budget_is_kept_by_the_mean_and_refused_with_the_error_limit_it_contradicts() {
    let pictures = pictures(10);
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("eta.toml");
    let run = |args: &[&str]| {
        let mut command = cfvit(&["calibrate", "--json", "--images", text(pictures.path()), "--out", text(&out)]);
        outcome(command.args(args))
    };
    // What the machine takes is not known before: everything may be refined within an hour.
    let costs = || {
        let (stdout, err, code) = run(&["--max-latency", "3600s"]);
        assert_eq!(code, 0, "{err}");
        let terms = json(&stdout)["certificate"]["budget"].clone();
        let [coarse, fine, share, coarse_upper, fine_upper] =
            ["coarse", "fine", "share", "coarse_upper", "fine_upper"].map(|key| terms[key].as_f64().unwrap());
        assert!(coarse > 0.0 && fine > 0.0 && share == 1.0, "{terms}");
        assert!(coarse_upper >= coarse && fine_upper >= fine, "{terms}");
        (coarse, fine)
    };
    // Between the cost of the coarse stage and of both.
    let (coarse, fine) = costs();
    let (stdout, err, code) = run(&["--max-latency", &format!("{}ms", coarse + 0.7 * fine)]);
    // On a machine that has become busy since, that may be too little, or leave a share so small that the pictures are too few for it.
    assert!(code == 0 || code == 3 || code == 4 && err.contains("the budget of"), "{err}");
    if code == 0 {
        let certificate = &json(&stdout)["certificate"];
        assert_eq!(certificate["target"], "latency");
        let share = certificate["fine_share"][1].as_f64().unwrap();
        assert!(share <= certificate["budget"]["share"].as_f64().unwrap(), "{certificate}");
    }
    // Hardly any error and hardly any time contradict each other, unless the machine became much faster between the two commands.
    let contradicts = || {
        let (coarse, fine) = costs();
        let (_, err, code) = run(&["--max-disagreement", "5", "--max-latency", &format!("{}ms", coarse + 0.05 * fine)]);
        assert!(code == 0 || code == 3 || code == 4 && err.contains("the budget of"), "{code}: {err}");
        code == 3
    };
    assert!((0..5).any(|_| contradicts()), "never refused");
}
