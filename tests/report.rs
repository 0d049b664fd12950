//! `cfvit bench --html`, `eval --html` and `report` as processes, with the bundled model.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "browser/mod.rs"]
mod driver;

use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use driver::Browser;
use serde_json::json;

fn cfvit(arguments: &[&str]) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cfvit"));
    command.args(arguments).env_remove("RUST_LOG").timeout(std::time::Duration::from_secs(240)).output().unwrap()
}

fn succeed(arguments: &[&str]) {
    let output = cfvit(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A folder, and paths in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn at(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn page(&self, name: &str) -> String {
        let page = std::fs::read_to_string(self.0.path().join(name)).unwrap();
        assert!(page.starts_with("<!DOCTYPE html>") && page.ends_with("</html>") && page.len() < 1 << 20, "{name}");
        assert!(!page.contains("<script") && !page.contains("://"), "{name}");
        page
    }
}

fn pictures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures")
}

#[test]
fn bench_writes_the_page_that_its_json_makes_and_two_runs_are_compared() {
    let folder = Folder::new();
    let [json, other, html, again, both] =
        ["a.json", "b.json", "a.html", "again.html", "both.html"].map(|name| folder.at(name));
    let short = ["bench", "--seconds", "0.2", "--warmup", "0", "--min-runs", "5"];
    succeed(&[&short[..], &["--json", &json, "--html", &html]].concat());
    succeed(&[&short[..], &["--json", &other, "--threads", "1"]].concat());
    succeed(&["report", &json, "--html", &again]);
    let page = folder.page("a.html");
    assert!(page == folder.page("again.html"), "the same JSON, other bytes");
    let measured: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let sentence = measured["sentence"].as_str().unwrap();
    assert!(page.contains(sentence), "{sentence}");
    assert!(page.contains(&format!("cfvit bench --seconds 0.2 --warmup 0 --min-runs 5 --json {json}")));
    for baseline in ["static", "coarse_only", "fine_always", "adaptive"] {
        let percentiles = measured["percentiles_ms"][baseline].as_array().unwrap();
        let summary = &measured["frames_ms"][baseline];
        assert_eq!(percentiles.len(), 101);
        assert_eq!(
            (&percentiles[0], &percentiles[50], &percentiles[99]),
            (&summary["min"], &summary["median"], &summary["p99"])
        );
    }
    let rounds = measured["windows"].as_array().unwrap().iter().map(|window| window["rounds"].as_u64().unwrap());
    assert_eq!(Some(rounds.sum()), measured["rounds"].as_u64(), "every round lies in one window");
    succeed(&["report", "--compare", &json, &other, "--html", &both]);
    assert!(folder.page("both.html").contains("Two runs of cfvit bench"));
}

#[test]
fn eval_writes_a_page_with_the_pictures_of_its_mistakes() {
    let folder = Folder::new();
    let [json, html, again] = ["a.json", "a.html", "again.html"].map(|name| folder.at(name));
    succeed(&["eval", "--json", &json, "--html", &html, "--threshold", "0.4", pictures().to_str().unwrap()]);
    let page = folder.page("a.html");
    let measured: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    let worst = measured["worst"].as_array().unwrap();
    let wrong = (12.0 * (1.0 - measured["dynamic"]["top1"].as_f64().unwrap() / 100.0)).round() as usize;
    assert!(wrong > 0 && worst.len() == wrong, "{worst:?}");
    assert_eq!(page.matches("src=\"data:image/jpeg;base64,").count(), wrong, "each mistake has its picture");
    assert!(page.contains("Accuracy against ms") && page.contains("class=\"matrix\""));
    let (top1, fine) = (&measured["static"]["top1"], &measured["cost"]["frames_ms"]["fine_always"]["mean"]);
    assert!(top1.is_number() && fine.as_f64() > measured["cost"]["frames_ms"]["coarse_only"]["mean"].as_f64());
    // Without the pictures it is the page that the JSON makes.
    succeed(&["report", &json, "--html", &again]);
    let mut bare = String::new();
    let mut rest = page.as_str();
    while let Some((before, image)) = rest.split_once("<img src=\"data:") {
        bare += before;
        bare += "<div class=\"none\">no picture here</div>";
        rest = image.split_once('>').unwrap().1;
    }
    assert!(bare + rest == folder.page("again.html"));
}

#[test]
fn in_a_browser_the_pages_are_whole_with_scripts_and_network_off() {
    let Some(browser) = Browser::start() else { return };
    let folder = Folder::new();
    let [bench, eval, a, b] = ["bench.json", "eval.json", "a.html", "b.html"].map(|name| folder.at(name));
    let short = ["bench", "--seconds", "0.2", "--warmup", "0", "--min-runs", "5"];
    succeed(&[&short[..], &["--json", &bench, "--html", &a]].concat());
    let pictures = pictures();
    succeed(&["eval", "--sweep", "--json", &eval, "--html", &b, pictures.to_str().unwrap()]);
    succeed(&["report", "--compare", &bench, &bench, "--html", &folder.at("both.html")]);
    browser.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": true }));
    browser.devtools("Network.enable", json!({}));
    let nowhere = json!({ "offline": true, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0 });
    browser.devtools("Network.emulateNetworkConditions", nowhere);
    for (name, least_plots) in [("a.html", 2), ("b.html", 2), ("both.html", 1)] {
        folder.page(name);
        let url = format!("file://{}", folder.at(name));
        browser.open(&url);
        // The driver's own scripts run; of the page's, the driver itself says that they would not.
        let shown = browser.run("return document.body.innerText");
        assert!(shown.as_str().unwrap().len() > 500, "{name}: {shown}");
        let plots = browser.run("return [...document.querySelectorAll('svg')].filter((one) => one.getBoundingClientRect().width > 100).length");
        assert!(plots.as_u64() >= Some(least_plots), "{name}: {plots} plots");
        let missing = browser.run("return [...document.images].filter((one) => one.naturalWidth === 0).length");
        assert_eq!(missing, 0, "{name}");
        for width in [360, 1440] {
            assert!(browser.fits(width), "{name} at {width} pixels");
            browser.screenshot(width, &format!("report-{}-{width}", name.trim_end_matches(".html")));
        }
        let asked = browser.requests();
        assert!(asked.iter().all(|asked| *asked == url || asked.starts_with("data:image/")), "{name}: {asked:?}");
        let faults = browser.console();
        assert!(faults.is_empty(), "{name}: {faults:?}");
    }
    browser.devtools("Emulation.setScriptExecutionDisabled", json!({ "value": false }));
    for name in ["a.html", "b.html", "both.html"] {
        browser.open(&format!("file://{}", folder.at(name)));
        if let Some(violations) = browser.axe() {
            assert!(violations.is_empty(), "{name}: {violations:#?}");
        }
    }
}

#[test]
fn wrong_usage_is_named_and_leaves_no_file() {
    let folder = Folder::new();
    let [bench, eval, html, none] = ["bench.json", "eval.json", "out.html", "none.json"].map(|name| folder.at(name));
    succeed(&["bench", "--seconds", "0", "--warmup", "0", "--min-runs", "2", "--json", &bench]);
    succeed(&["eval", "--json", &eval, pictures().to_str().unwrap()]);
    let text = folder.at("text.json");
    std::fs::write(&text, "no JSON").unwrap();
    for (arguments, code, says) in [
        (&["report", "--compare", &bench, &eval, "--html", &html][..], 2, "nothing to compare"),
        (&["report", &text, "--html", &html], 2, "bench --json"),
        (&["report", &none, "--html", &html], 1, "none.json"),
        (&["report", "--html", &html], 2, "required"),
        (&["report", &bench, "--compare", &bench, &eval, "--html", &html], 2, "cannot be used with"),
    ] {
        let output = cfvit(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && stderr.contains(says), "{arguments:?}: {stderr}");
        assert!(!Path::new(&html).exists());
    }
    // What eval writes alone also makes a page, which says what is missing.
    succeed(&["report", &eval, "--html", &html]);
    assert!(folder.page("out.html").contains("The curve over all thresholds was not measured"));
}
