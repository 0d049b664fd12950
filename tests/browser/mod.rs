//! Headless Chromium, driven over WebDriver: pages as people see them, and all that they ask for.
#![allow(dead_code, reason = "not every test program needs all of it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// What WebDriver calls an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
pub const TAB: &str = "\u{e004}";
pub const ENTER: &str = "\u{e007}";
pub const HOME: &str = "\u{e011}";
pub const ARROW_RIGHT: &str = "\u{e014}";
/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Says why a test shows nothing here. Not `println!`: the harness would swallow the line of a test that passes.
pub fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// A browser with one window, until it is dropped.
pub struct Browser {
    port: u16,
    session: String,
    driver: Child,
    /// The browser's own process, which the driver may leave behind on a busy machine.
    process: Option<rustix::process::Pid>,
}

impl Browser {
    /// `None`, said aloud, where there is none.
    pub fn start() -> Option<Self> {
        let started = Self::try_start();
        if started.is_none() {
            skipped("no Chromium with its driver (Debian packages chromium, chromium-driver)");
        }
        started
    }

    fn try_start() -> Option<Self> {
        let mut driver = Command::new("chromedriver");
        let mut driver =
            driver.arg("--port=0").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut lines = BufReader::new(driver.stdout.take()?).lines();
        let port = lines
            .find_map(|line| line.ok()?.split_once("successfully on port ")?.1.trim_end_matches('.').parse().ok())?;
        let mut browser = Self { port, session: String::new(), driver, process: None };
        // What the browser itself would ask the world is none of a page's affair.
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ];
        let wanted = json!({
            "goog:chromeOptions": { "args": args },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        });
        let session = browser.call("POST", "/session", &json!({ "capabilities": { "alwaysMatch": wanted } }));
        // A driver without a browser.
        browser.session = session["sessionId"].as_str()?.to_owned();
        let process = session["capabilities"]["goog:processID"].as_i64();
        browser.process = process.and_then(|process| rustix::process::Pid::from_raw(process as i32));
        browser.command("POST", "timeouts", &json!({ "script": PATIENCE.as_millis() as u64 }));
        Some(browser)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
        let (kind, length) = ("Content-Type: application/json", body.len());
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{kind}\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all((head + &body).as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "{path}: the driver is gone");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer).unwrap();
        serde_json::from_slice::<Value>(&answer).unwrap()["value"].clone()
    }

    /// A command of WebDriver; its errors fail.
    pub fn command(&self, method: &str, what: &str, body: &Value) -> Value {
        let value = self.call(method, &format!("/session/{}/{what}", self.session), body);
        assert!(value["error"].is_null(), "{what}: {value}");
        value
    }

    /// A command of the Chrome DevTools Protocol.
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.command("POST", "goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    pub fn open(&self, url: &str) {
        self.command("POST", "url", &json!({ "url": url }));
    }

    /// What the body of a function returns in the page. No policy of the page's applies to it.
    pub fn run(&self, script: &str) -> Value {
        self.command("POST", "execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// What it hands to `done`, some time.
    pub fn run_async(&self, script: &str) -> Value {
        let script = format!("const done = arguments[arguments.length - 1]; {script}");
        self.command("POST", "execute/async", &json!({ "script": script, "args": [] }))
    }

    pub fn text(&self, id: &str) -> String {
        self.run(&format!("return document.getElementById('{id}').textContent")).as_str().unwrap().to_owned()
    }

    /// Types into the element with this id.
    pub fn keys(&self, id: &str, keys: &str) {
        let element = self.command("POST", "element", &json!({ "using": "css selector", "value": format!("#{id}") }));
        self.type_into(&element, keys);
    }

    /// Types into whatever has the focus.
    pub fn type_keys(&self, keys: &str) {
        let element = self.command("GET", "element/active", &Value::Null);
        self.type_into(&element, keys);
    }

    fn type_into(&self, element: &Value, keys: &str) {
        let element = element[ELEMENT].as_str().unwrap();
        self.command("POST", &format!("element/{element}/value"), &json!({ "text": keys }));
    }

    /// Lays the page out in so many pixels, whatever the window's own least size.
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", size);
    }

    /// `light` or `dark`, as the system would ask for it.
    pub fn prefer(&self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", features);
    }

    /// The whole page in so many pixels of width, as a PNG below the target folder. It must show something.
    pub fn screenshot(&self, width: u32, name: &str) -> PathBuf {
        self.resize(width, 900);
        let height = self.run("return document.documentElement.scrollHeight").as_u64().unwrap() as u32;
        self.resize(width, height.max(900));
        let shot = self.command("GET", "screenshot", &Value::Null);
        let bytes = BASE64_STANDARD.decode(shot.as_str().unwrap()).unwrap();
        let image = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert_eq!(image.width(), width, "{name}");
        let colours: std::collections::HashSet<_> = image.pixels().map(|pixel| pixel.0).collect();
        assert!(colours.len() > 50, "{name}: {} colours", colours.len());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("screenshots");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.png"));
        std::fs::write(&path, bytes).unwrap();
        path
    }

    /// Whether nothing reaches beyond a window of this width.
    pub fn fits(&self, width: u32) -> bool {
        self.resize(width, 900);
        self.run("return innerWidth") == width
            && self.run("return document.documentElement.scrollWidth <= document.documentElement.clientWidth") == true
    }

    /// Every URL that was asked for since the last call.
    pub fn requests(&self) -> Vec<String> {
        let log = self.command("POST", "se/log", &json!({ "type": "performance" }));
        let url = |line: &Value| {
            let message: Value = serde_json::from_str(line["message"].as_str()?).ok()?;
            let message = &message["message"];
            let is_request = message["method"] == "Network.requestWillBeSent";
            is_request.then(|| message["params"]["request"]["url"].as_str().unwrap().to_owned())
        };
        log.as_array().unwrap().iter().filter_map(url).collect()
    }

    /// What the console has said since the last call.
    pub fn console(&self) -> Vec<Value> {
        self.command("POST", "se/log", &json!({ "type": "browser" })).as_array().unwrap().clone()
    }

    /// The violations that axe finds serious or critical, each with its elements; `None`, said aloud, where axe is not there.
    pub fn axe(&self) -> Option<Vec<Value>> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/npm/node_modules/axe-core/axe.min.js");
        let Ok(axe) = std::fs::read_to_string(path) else {
            skipped("no axe-core (`make axe`)");
            return None;
        };
        self.run(&axe);
        let found = self.run_async("axe.run(document, { resultTypes: ['violations'] }).then((found) => done(found.violations), (error) => done(String(error)))");
        let found = found.as_array().unwrap_or_else(|| panic!("axe: {found}"));
        let is_serious = |one: &&Value| ["serious", "critical"].contains(&one["impact"].as_str().unwrap_or_default());
        let brief = |one: &Value| {
            let nodes = one["nodes"].as_array().unwrap().iter().map(|node| node["html"].clone());
            json!({ "rule": one["id"], "help": one["help"], "elements": nodes.collect::<Vec<_>>() })
        };
        Some(found.iter().filter(is_serious).map(brief).collect())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            // Ends the browser itself; a test that has failed already need not fail again.
            let end = || self.call("DELETE", &format!("/session/{}", self.session), &Value::Null);
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(end));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
        let is_browser = |process: &rustix::process::Pid| {
            let command = std::fs::read_to_string(format!("/proc/{}/cmdline", process.as_raw_nonzero()));
            command.is_ok_and(|command| command.contains("--remote-debugging"))
        };
        if let Some(process) = self.process.filter(is_browser) {
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
        }
    }
}
