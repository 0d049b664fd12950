//! The page in a real browser, driven over WebDriver. Skipped aloud where Chromium or its driver is not installed.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::keeping::Kept;
use super::service::{Service, TOKEN, ask, until};

/// What WebDriver calls an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
const HOSTILE: &str = "<img src=x onerror=\"document.title='broken'\">";
const ARROW_RIGHT: &str = "\u{e014}";

struct Browser {
    port: u16,
    session: String,
    driver: Child,
}

impl Browser {
    /// `None` where there is none.
    fn start() -> Option<Self> {
        let mut driver = Command::new("chromedriver");
        let mut driver =
            driver.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut lines = BufReader::new(driver.stdout.take()?).lines();
        let port = lines
            .find_map(|line| line.ok()?.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok())?;
        let mut browser = Self { port, session: String::new(), driver };
        let options = json!({ "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });
        let wanted = json!({ "goog:chromeOptions": options, "goog:loggingPrefs": { "browser": "ALL" } });
        let session = browser.call("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        // A driver without a browser.
        browser.session = session["sessionId"].as_str()?.to_owned();
        Some(browser)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let answer = ask(self.port, method, path, "Content-Type: application/json\r\n", &body);
        answer.json()["value"].clone()
    }

    fn command(&self, method: &str, what: &str, body: &Value) -> Value {
        let value = self.call(method, &format!("/session/{}/{what}", self.session), body);
        assert!(value["error"].is_null(), "{what}: {value}");
        value
    }

    fn run(&self, script: &str) -> Value {
        self.command("POST", "execute/sync", &json!({ "script": script, "args": [] }))
    }

    fn text(&self, id: &str) -> String {
        self.run(&format!("return document.getElementById('{id}').textContent")).as_str().unwrap().to_owned()
    }

    fn keys(&self, id: &str, keys: &str) {
        let element = self.command("POST", "element", &json!({ "using": "css selector", "value": format!("#{id}") }));
        let element = element[ELEMENT].as_str().unwrap().to_owned();
        self.command("POST", &format!("element/{element}/value"), &json!({ "text": keys }));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            self.call("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// The bundled model, with names for its classes that no page may take for anything but text.
fn hostile_package(folder: &Path) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("engines/imagenette");
    for name in ["model.safetensors", "manifest.toml", "labels.txt"] {
        std::fs::copy(from.join(name), folder.join(name)).unwrap();
    }
    let labels = std::fs::read_to_string(folder.join("labels.txt")).unwrap();
    let hostile: String =
        labels.lines().map(|line| format!("{}\t{HOSTILE}\n", line.split('\t').next().unwrap())).collect();
    let digest = |text: &str| Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let manifest = std::fs::read_to_string(folder.join("manifest.toml")).unwrap();
    assert!(manifest.contains(&digest(&labels)));
    std::fs::write(folder.join("manifest.toml"), manifest.replace(&digest(&labels), &digest(&hostile))).unwrap();
    std::fs::write(folder.join("labels.txt"), hostile).unwrap();
}

#[test]
fn the_page_shows_what_was_decided_and_asks_for_nothing_elsewhere() {
    let Some(browser) = Browser::start() else {
        println!("skipped: no Chromium with its driver (Debian packages chromium, chromium-driver)");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    hostile_package(dir.path());
    let (config, token) = (dir.path().join("cfvit.toml"), dir.path().join("token"));
    let examples = dir.path().join("examples");
    std::fs::write(&token, TOKEN).unwrap();
    let text = format!(
        "[model]\npath = {:?}\n[gate]\nthreshold = 2\n[[camera]]\nname = \"door\"\nsource = \"pattern://?size=320x240&fps=5\"\n\
         [web]\nlisten = \"127.0.0.1:0\"\ntoken_file = {:?}\n[collect]\nfolder = {:?}\nmin_free_mib = 0\n",
        dir.path().display().to_string(),
        token.display().to_string(),
        examples.display().to_string()
    );
    std::fs::write(&config, text).unwrap();
    let service = Service::configured(&config);
    let origin = format!("http://127.0.0.1:{}/", service.port);
    let decided = note_decisions(&service);
    browser.command("POST", "url", &json!({ "url": origin }));
    until("the label", || browser.text("label") != "–");
    // Foreign text is text.
    assert_eq!(browser.text("label"), HOSTILE);
    assert!(
        browser.run("return document.querySelectorAll('img').length") == 0
            && browser.run("return document.title") == "cfvit"
    );
    until("it is live", || browser.text("pill") == "live");

    the_outlines_are_those_of_the_same_frame(&browser, &decided);
    the_threshold_moves_by_keyboard(&browser, &service);
    a_picture_is_kept_by_keyboard(&browser, &service, &examples);
    it_fits_its_window(&browser);
    what_stops_is_said_to_be_stale(&browser, &service);

    let elsewhere = browser.run(&format!(
        "return performance.getEntriesByType('resource').map((one) => one.name).filter((name) => !name.startsWith('{origin}') && !name.startsWith('blob:'))"
    ));
    assert_eq!(elsewhere, json!([]));
    let log = browser.command("POST", "se/log", &json!({ "type": "browser" }));
    // A picture that was gone before it was fetched is no fault of the page.
    let is_gone = |line: &Value| line["message"].as_str().unwrap().contains("frame.jpg");
    let faults: Vec<_> =
        log.as_array().unwrap().iter().filter(|line| line["level"] == "SEVERE" && !is_gone(line)).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

/// Informative cells by frame, as another client is told.
fn note_decisions(service: &Service) -> Arc<Mutex<HashMap<String, Value>>> {
    let (noted, mut events) = (Arc::new(Mutex::new(HashMap::new())), service.events("/api/events?camera=door"));
    let notes = Arc::clone(&noted);
    std::thread::spawn(move || {
        loop {
            let (kind, data) = events.next();
            if kind == "decision" {
                notes.lock().unwrap().insert(data["seq"].to_string(), data["informative"].clone());
            }
        }
    });
    noted
}

fn the_outlines_are_those_of_the_same_frame(browser: &Browser, decided: &Mutex<HashMap<String, Value>>) {
    let (mut compared, begun) = (HashMap::new(), Instant::now());
    while compared.len() < 20 {
        assert!(begun.elapsed() < Duration::from_secs(120), "only {} frames were compared", compared.len());
        let drawn = browser.run("const {seq, cells} = document.getElementById('canvas').dataset; return {seq, cells}");
        let seq = drawn["seq"].as_str().unwrap_or_default().to_owned();
        let expected = decided.lock().unwrap().get(&seq).cloned();
        if let Some(Value::Array(expected)) = expected {
            let expected: Vec<String> = expected.iter().map(Value::to_string).collect();
            assert_eq!(drawn["cells"], expected.join(","), "frame {seq}");
            assert!(!expected.is_empty());
            compared.insert(seq, ());
        }
    }
}

fn the_threshold_moves_by_keyboard(browser: &Browser, service: &Service) {
    let in_force = || service.camera()["threshold"]["in_force"].as_f64().unwrap();
    assert_eq!(browser.run("return document.getElementById('slider').disabled"), true, "read-only without a login");
    browser.keys("token", &format!("{TOKEN}\n"));
    until("the login", || browser.run("return document.getElementById('slider').disabled") == false);
    browser.run("document.getElementById('slider').value = 0.5; document.getElementById('slider').dispatchEvent(new Event('input'))");
    browser.keys("slider", ARROW_RIGHT);
    browser.keys("apply", "\n");
    until("the new threshold", || (in_force() - 0.51).abs() < 1e-6);
    until("it is said", || browser.text("threshold-state").contains("changed"));
    browser.keys("revert", "\n");
    until("the old one is back", || in_force() == 2.0);
}

/// The picture stands still and is the one that is saved; a number names it; another key press takes it back.
fn a_picture_is_kept_by_keyboard(browser: &Browser, service: &Service, examples: &Path) {
    let drawn = || browser.run("return document.getElementById('canvas').dataset.seq").as_str().unwrap().to_owned();
    let note = |what: &str| until(what, || browser.text("keep-note").contains(what));
    let kept = || Kept::below(examples);
    until("a picture can be kept", || browser.run("return document.getElementById('keep').disabled") == false);
    browser.keys("keep", "\n");
    note("is kept, not labelled");
    let seq = drawn();
    let decided = || service.camera()["frames"]["decided"].as_u64().unwrap();
    let before = decided();
    until("frames go on", || decided() > before + 5);
    assert_eq!((drawn(), browser.text("pill").as_str()), (seq.clone(), "picture held"));
    assert_eq!(
        kept().iter().map(|kept| (kept.folder.as_str(), kept.seq.as_str())).collect::<Vec<_>>(),
        [("inbox", seq.as_str())]
    );
    let first = browser.run("return document.querySelector('#asking button').dataset.key");
    assert_eq!(first, "1");
    browser.run("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: '2', bubbles: true}))");
    note("kept for");
    until("it is live again", || browser.text("pill") == "live" && drawn() != seq);
    let labelled = kept();
    assert!(labelled.len() == 1 && labelled[0].folder != "inbox" && labelled[0].seq == seq);
    browser.keys("undo", "\n");
    note("not kept after all");
    assert!(kept().is_empty());
    // Nothing is frozen by a key where nothing is asked.
    browser.run("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: '1', bubbles: true}))");
    assert!(kept().is_empty());
    assert!(browser.text("predicted").contains("fine") && browser.text("told") == "none");
}

fn it_fits_its_window(browser: &Browser) {
    for width in [360, 800, 1440] {
        browser.command("POST", "window/rect", &json!({ "width": width, "height": 900 }));
        // Headless windows have their own least width; the page is laid out in what there is.
        let fits = browser.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth");
        assert_eq!(fits, true, "at {width} pixels");
    }
}

fn what_stops_is_said_to_be_stale(browser: &Browser, service: &Service) {
    service.signal(rustix::process::Signal::STOP);
    until("it is stale", || browser.text("pill").contains("stale"));
    service.signal(rustix::process::Signal::CONT);
    until("it is live", || browser.text("pill") == "live");
}
