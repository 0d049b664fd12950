//! A real Prometheus scrapes a run: the counters add up in it, and the alerts and the dashboard that are shipped work on what it has.

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::service::{Answer, Service, raw, until};

fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// False, said aloud, where `tool` is not installed.
fn installed(tool: &str) -> bool {
    let there = Command::new(tool).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        // Not `println!`: the harness would swallow the line of a test that passes.
        let _ = writeln!(std::io::stderr(), "skipped: {tool} is not installed (Debian package prometheus)");
    }
    there
}

/// Asks with a form for a body, by HTTP/1.0: its answers come in one piece.
fn request(port: u16, method: &str, path: &str, form: &str) -> Answer {
    let kind = "Content-Type: application/x-www-form-urlencoded";
    let length = form.len();
    raw(
        port,
        format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n{kind}\r\nContent-Length: {length}\r\n\r\n{form}"),
    )
}

struct Prometheus {
    port: u16,
    child: Child,
    _dir: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// Scrapes what listens on `target` twice a second.
    fn start(target: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rules = packaging("prometheus-alerts.yml");
        let config = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 400ms, evaluation_interval: 500ms}}\nrule_files: [{:?}]\n\
             scrape_configs: [{{job_name: cfvit, static_configs: [{{targets: [\"127.0.0.1:{target}\"]}}]}}]\n",
            rules.display().to_string()
        );
        std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        // Free a moment ago.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", dir.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let prometheus = Self { port, child, _dir: dir };
        until("Prometheus is ready", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        until("Prometheus is ready", || request(port, "GET", "/-/ready", "").status == 200);
        prometheus
    }

    /// The values that `query` has now; an error of it fails.
    fn query(&self, query: &str) -> Vec<f64> {
        let body: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = request(self.port, "POST", "/api/v1/query", &format!("query={body}")).json();
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        let value = |series: &Value| series["value"][1].as_str().unwrap().parse().unwrap();
        answer["data"]["result"].as_array().unwrap().iter().map(value).collect()
    }
}

#[test]
fn a_prometheus_that_scrapes_finds_every_frame_accounted_for_and_the_alerts_and_the_dashboard_work() {
    if !installed("prometheus") {
        return;
    }
    // Faster than this machine decides, so that frames are dropped.
    let service = Service::start("fps=60");
    let prometheus = Prometheus::start(service.port);
    until("it is up", || prometheus.query("up{job=\"cfvit\"}") == [1.0]);
    until("decisions were scraped", || prometheus.query("sum(cfvit_decisions_total) > 30").len() == 1);
    let identity = "sum(cfvit_frames_captured_total) - sum(cfvit_decisions_total) - sum(cfvit_frames_dropped_total) \
                    - sum(cfvit_frames_failed_total) - sum(cfvit_frames_in_flight)";
    for _ in 0..10 {
        assert_eq!(prometheus.query(identity), [0.0]);
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let series = prometheus.query("scrape_samples_scraped{job=\"cfvit\"}")[0];
    assert!((100.0..=250.0).contains(&series), "{series} series");

    let dashboard: Value =
        serde_json::from_slice(&std::fs::read(packaging("grafana-dashboard.json")).unwrap()).unwrap();
    let targets = dashboard["panels"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let mut answered = 0;
    for target in targets {
        // As Grafana fills them in.
        let query = ["$job", "$instance", "$camera"]
            .iter()
            .fold(target["expr"].as_str().unwrap().to_owned(), |query, variable| query.replace(variable, ".*"));
        answered += usize::from(!prometheus.query(&query.replace("$__rate_interval", "1m")).is_empty());
    }
    assert!(answered >= 12, "only {answered} queries of the dashboard find anything");

    let rules = request(prometheus.port, "GET", "/api/v1/rules", "").json();
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap().clone();
    assert_eq!(rules.len(), 10);
    assert!(rules.iter().all(|rule| rule["health"] != "err"), "{rules:?}");
}

#[test]
fn the_alerts_fire_when_they_should_and_only_then() {
    if !installed("promtool") {
        return;
    }
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/web/alerts.yml");
    for (what, file) in [("check", packaging("prometheus-alerts.yml")), ("test", tests)] {
        let output = Command::new("promtool").args([what, "rules"]).arg(&file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&[output.stdout, output.stderr].concat()));
    }
}
