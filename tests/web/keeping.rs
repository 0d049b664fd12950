//! Pictures that are kept for training over HTTP.

use std::path::Path;

use serde_json::{Value, json};

use super::service::{Answer, Service, ask, until};
use super::{BEARER, JSON};

/// A picture on the disk.
#[derive(Debug)]
pub struct Kept {
    /// `inbox`, or the class.
    pub folder: String,
    pub seq: String,
    pub bytes: Vec<u8>,
    pub side_car: Value,
}

impl Kept {
    /// All below `root`. Each has its side-car, and nothing else is there.
    pub fn below(root: &Path) -> Vec<Self> {
        let files = walkdir::WalkDir::new(root).into_iter().flatten().filter(|entry| entry.file_type().is_file());
        let (pictures, others): (Vec<_>, Vec<_>) =
            files.map(|entry| entry.into_path()).partition(|path| path.extension().is_some_and(|ext| ext == "jpg"));
        assert_eq!(pictures.len(), others.len(), "{others:?}");
        let read = |path: &std::path::PathBuf| Self {
            folder: path.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned(),
            seq: path.file_stem().unwrap().to_string_lossy().rsplit('-').next().unwrap().to_owned(),
            bytes: std::fs::read(path).unwrap(),
            side_car: serde_json::from_slice(&std::fs::read(path.with_extension("json")).unwrap()).unwrap(),
        };
        pictures.iter().map(read).collect()
    }
}

fn put(service: &Service, body: Value) -> Answer {
    ask(service.port, "POST", "/api/cameras/cam0/examples", &format!("{BEARER}{JSON}"), &body.to_string())
}

/// The next decision that has a picture, and the picture.
fn shown(events: &mut super::service::Events, service: &Service) -> (Value, Vec<u8>) {
    loop {
        let (kind, decision) = events.next();
        if kind != "decision" {
            continue;
        }
        let path = format!("/cameras/cam0/frame.jpg?seq={}", decision["seq"]);
        let frame = ask(service.port, "GET", &path, "", "");
        if frame.status == 200 {
            return (decision, frame.body);
        }
    }
}

#[test]
fn the_frame_that_is_shown_is_the_one_that_is_kept() {
    let service = Service::start("fps=5");
    let mut events = service.events("/api/events?camera=cam0");
    let (decision, picture) = shown(&mut events, &service);
    let seq = decision["seq"].clone();
    let answer = put(&service, json!({ "seq": seq }));
    assert_eq!((answer.status, answer.json()["place"].clone()), (200, json!("inbox")), "{}", answer.text());
    let kept = Kept::below(&service.examples);
    assert_eq!((kept.len(), kept[0].folder.as_str(), kept[0].seq.clone()), (1, "inbox", seq.to_string()));
    assert_eq!(kept[0].bytes, picture, "the very picture");
    let side_car = &kept[0].side_car;
    assert_eq!(side_car["informative"], decision["informative"]);
    assert_eq!((&side_car["reason"], &side_car["class"]), (&json!("asked"), &Value::Null));
    assert!(side_car["engine_sha256"].as_str().is_some_and(|sum| sum.len() == 64), "{side_car}");

    // Much later, when the picture is long gone from memory.
    until("it is gone", || {
        ask(service.port, "GET", &format!("/cameras/cam0/frame.jpg?seq={seq}"), "", "").status == 404
    });
    let answer = put(&service, json!({ "seq": seq, "class": 3 })).json();
    assert!(answer["place"] == "train" || answer["place"] == "val", "{answer}");
    let kept = Kept::below(&service.examples);
    assert_eq!((kept.len(), &json!(kept[0].folder)), (1, &answer["class"]));
    assert_eq!((&kept[0].side_car["class"], &kept[0].side_car["labeller"]), (&answer["class"], &json!("page")));
    assert_eq!(put(&service, json!({ "seq": seq, "discard": true })).json()["place"], "discarded");
    assert!(Kept::below(&service.examples).is_empty());
    assert_eq!(put(&service, json!({ "seq": seq })).json()["place"], "inbox", "taken back");
    assert_eq!(Kept::below(&service.examples)[0].bytes, picture);
    assert_eq!(service.state()["examples"]["files"], 1);

    // The cap of this service is four.
    let mut full = None;
    for _ in 0..4 {
        let (decision, _) = shown(&mut events, &service);
        full = Some(put(&service, json!({ "seq": decision["seq"] })));
    }
    let full = full.unwrap();
    assert!(full.status == 507 && full.text().contains("max_files"), "{}", full.text());
    let metrics = ask(service.port, "GET", "/metrics", "", "").text();
    assert!(metrics.contains("cfvit_examples_total{reason=\"asked\"} 4"), "{metrics}");
    assert!(metrics.contains("cfvit_examples_bytes "), "{metrics}");
    service.still_decides();
}

#[test]
fn without_a_folder_the_button_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("cfvit.toml");
    let token = dir.path().join("token");
    std::fs::write(&token, super::TOKEN).unwrap();
    let text = format!(
        "[[camera]]\nname = \"cam0\"\nsource = \"pattern://?size=320x240&fps=5\"\n[collect]\nfolder = \"none\"\n\
         [web]\nlisten = \"127.0.0.1:0\"\ntoken_file = {:?}\n",
        token.display().to_string()
    );
    std::fs::write(&config, text).unwrap();
    let service = Service::configured(&config);
    let answer = put(&service, json!({ "seq": 1 }));
    assert!(answer.status == 409 && answer.text().contains("collect.folder"), "{}", answer.text());
    assert_eq!(service.state()["examples"], Value::Null);
}

#[test]
fn warnings_are_told_with_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("cfvit.toml");
    let text = "[[camera]]\nname = \"door\"\nsource = \"/dev/video-none\"\n[collect]\nauto = \"random\"\nfolder = \"none\"\n\
                [web]\nlisten = \"127.0.0.1:0\"\n";
    std::fs::write(&config, text).unwrap();
    let service = Service::configured(&config);
    assert!(service.state()["told"].as_u64() >= Some(1));
    let told = ask(service.port, "GET", "/api/told", "", "").json()["told"].clone();
    let warning =
        told.as_array().unwrap().iter().find(|told| told["text"].as_str().unwrap().contains("collect.folder"));
    let warning = warning.unwrap_or_else(|| panic!("{told}"));
    assert!(warning["level"] == "warn" && warning["time_ms"].as_u64() > Some(1_700_000_000_000), "{warning}");
}
