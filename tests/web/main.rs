//! The page, the metrics and the HTTP interface of `cfvit run`, from outside: as other programs, as a browser, and as an attacker sees them.
#![cfg(feature = "web")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod browser;
#[path = "../browser/mod.rs"]
mod driver;
mod hostile;
mod keeping;
mod prometheus;
#[path = "../camera/rig.rs"]
#[allow(dead_code, reason = "the tests of cameras need more of it")]
mod rig;
mod service;
mod viewers;

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use service::{Service, TOKEN, UnixService, VIEW_TOKEN, ask, until};

const BEARER: &str = concat!("Authorization: Bearer ", "0123456789abcdef0123456789abcdef", "\r\n");
const JSON: &str = "Content-Type: application/json\r\nX-Cfvit: 1\r\n";

#[test]
fn every_request_of_a_table_gets_its_status() {
    let service = Service::start("fps=5");
    let long = format!("X-Long: {}\r\n", "a".repeat(9 << 10));
    let big = "x".repeat(5 << 10);
    let (threshold, examples) = ("/api/cameras/cam0/threshold", "/api/cameras/cam0/examples");
    for (method, path, headers, body, expected) in [
        ("GET", "/", "", "", 200),
        ("HEAD", "/", "", "", 200),
        ("GET", "/app.js", "", "", 200),
        ("GET", "/healthz", "", "", 200),
        ("GET", "/metrics", "", "", 200),
        ("GET", "/api/state", "", "", 200),
        ("GET", "/api/history?range=24h", "", "", 200),
        ("GET", "/api/history?range=1y", "", "", 400),
        ("GET", "/api/nothing", "", "", 404),
        ("GET", "/../../etc/passwd", "", "", 404),
        ("GET", "/cameras/..%2f..%2fetc%2fpasswd/frame.jpg", "", "", 404),
        ("GET", "/cameras/nobody/frame.jpg", "", "", 404),
        ("GET", "/cameras/cam0/frame.jpg?seq=x", "", "", 400),
        ("GET", "/cameras/cam0/frame.jpg?seq=99999999", "", "", 404),
        ("GET", "/api/state", &long, "", 431),
        ("POST", "/api/nothing", &format!("{BEARER}{JSON}"), "{}", 404),
        ("PUT", threshold, "", "{}", 403),
        ("PUT", threshold, "X-Cfvit: 1\r\nContent-Type: application/x-www-form-urlencoded\r\n", "threshold=1", 415),
        ("PUT", threshold, JSON, "{\"threshold\": 0.5}", 401),
        ("PUT", threshold, &format!("{JSON}Authorization: Bearer {}0\r\n", &TOKEN[1..]), "{\"threshold\": 0.5}", 401),
        ("PUT", threshold, &format!("{BEARER}{JSON}Origin: http://evil.example\r\n"), "{\"threshold\": 0.5}", 403),
        ("PUT", threshold, &format!("{BEARER}{JSON}"), "{\"threshold\": 60}", 400),
        ("PUT", threshold, &format!("{BEARER}{JSON}"), "no JSON", 400),
        ("PUT", threshold, &format!("{BEARER}{JSON}"), &big, 413),
        ("PUT", "/api/cameras/nobody/threshold", &format!("{BEARER}{JSON}"), "{\"threshold\": 0.5}", 404),
        ("PUT", threshold, &format!("{JSON}Authorization: Bearer {VIEW_TOKEN}\r\n"), "{\"threshold\": 0.5}", 403),
        ("GET", "/api/model", "", "", 200),
        ("GET", "/api/told", "", "", 200),
        ("POST", examples, "", "{\"seq\": 0}", 403),
        ("POST", examples, "Content-Type: application/x-www-form-urlencoded\r\n", "seq=0", 403),
        ("POST", examples, "X-Cfvit: 1\r\nContent-Type: text/plain\r\n", "{\"seq\": 0}", 415),
        ("POST", examples, JSON, "{\"seq\": 0}", 401),
        ("POST", examples, &format!("{JSON}Authorization: Bearer {VIEW_TOKEN}\r\n"), "{\"seq\": 0}", 403),
        ("POST", examples, &format!("{BEARER}{JSON}Origin: http://evil.example\r\n"), "{\"seq\": 0}", 403),
        ("POST", examples, &format!("{BEARER}{JSON}"), "{}", 400),
        ("POST", examples, &format!("{BEARER}{JSON}"), "{\"seq\": -1}", 400),
        ("POST", examples, &format!("{BEARER}{JSON}"), "{\"seq\": 0, \"class\": 10}", 400),
        ("POST", examples, &format!("{BEARER}{JSON}"), "{\"seq\": 0, \"class\": \"../../x\"}", 400),
        ("POST", examples, &format!("{BEARER}{JSON}"), "{\"seq\": 99999999}", 404),
        ("POST", "/api/cameras/nobody/examples", &format!("{BEARER}{JSON}"), "{\"seq\": 0}", 404),
        ("POST", "/api/login", JSON, "{\"token\": \"wrong\"}", 401),
    ] {
        let answer = ask(service.port, method, path, headers, body);
        assert_eq!(answer.status, expected, "{method} {path}: {}", answer.text());
    }
    // Few of them change something: there is a limit.
    for (method, path, allowed) in
        [("POST", "/api/state", "GET, HEAD"), ("GET", threshold, "PUT, DELETE"), ("GET", examples, "POST")]
    {
        let answer = ask(service.port, method, path, &format!("{BEARER}{JSON}"), "{}");
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "{method} {path}");
        assert_eq!(answer.json()["error"], format!("expected {allowed}"));
    }
    for host in ["evil.example", "localhost.evil.example:80", ""] {
        let answer =
            service::raw(service.port, format!("GET /api/state HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        assert_eq!(answer.status, 421, "{host}");
    }
    service.still_decides();
}

/// Five logins and ten changes a minute, twenty pictures a second.
#[test]
fn who_asks_too_often_is_told_so() {
    let service = Service::start("fps=5");
    let statuses = |count: usize, method: &str, path: &str, headers: &str, body: &str| -> Vec<u16> {
        (0..count).map(|_| ask(service.port, method, path, headers, body).status).collect()
    };
    let logins = statuses(8, "POST", "/api/login", JSON, "{\"token\": \"wrong\"}");
    assert_eq!(logins, [401, 401, 401, 401, 401, 429, 429, 429]);
    let (write, threshold) = (format!("{BEARER}{JSON}"), "/api/cameras/cam0/threshold");
    let begun = Instant::now();
    let writes = statuses(14, "PUT", threshold, &write, "{\"threshold\": 0.5}");
    // One more every six seconds.
    let more = begun.elapsed().as_secs() as usize / 6 + 1;
    assert!(writes[..10].iter().all(|status| *status == 200), "{writes:?}");
    assert!(writes[10..].iter().filter(|status| **status == 429).count() + more >= 4, "{writes:?}");
    let begun = Instant::now();
    let pictures = statuses(80, "GET", "/cameras/cam0/frame.jpg?seq=99999999", "", "");
    let given = pictures.iter().filter(|status| **status == 404).count();
    let most = 20 + (20.0 * begun.elapsed().as_secs_f64()) as usize + 1;
    assert!(
        given <= most && pictures.iter().all(|status| [404, 429].contains(status)),
        "{given} of {most}: {pictures:?}"
    );
    // Nobody else is told so.
    assert_eq!(ask(service.port, "GET", "/api/state", "", "").status, 200);
    service.still_decides();
}

/// An audit of frames is no promise: without a certificate whoever has the token may also lower the threshold.
#[test]
fn an_audit_alone_keeps_nobody_from_lowering_the_threshold() {
    let dir = tempfile::tempdir().unwrap();
    let (config, token) = (dir.path().join("cfvit.toml"), dir.path().join("token"));
    std::fs::write(&token, TOKEN).unwrap();
    let text = format!(
        "[gate]\nthreshold = 2\n[[camera]]\nname = \"cam0\"\nsource = \"pattern://?size=320x240&fps=10\"\n\
         [audit]\nfolder = {:?}\nslot_s = 1\n[web]\nlisten = \"127.0.0.1:0\"\ntoken_file = {token:?}\n",
        dir.path()
    );
    std::fs::write(&config, text).unwrap();
    let service = Service::configured(&config);
    until("all are refined", || service.camera()["decision"]["stage"] == "fine");
    assert_eq!(
        (&service.camera()["degraded"], &service.camera()["threshold"]["guarded"]),
        (&Value::Null, &json!(false))
    );
    let put = ask(service.port, "PUT", "/api/cameras/cam0/threshold", &format!("{BEARER}{JSON}"), "{\"threshold\": 0}");
    assert_eq!(put.status, 200, "{}", put.text());
    until("none is refined", || service.camera()["decision"]["stage"] == "coarse");
    assert_eq!(service.camera()["threshold"]["in_force"], 0.0);
}

#[test]
fn every_answer_keeps_browsers_from_loading_anything_else() {
    let service = Service::start("fps=2");
    for path in ["/", "/app.js", "/metrics", "/api/state", "/api/nothing"] {
        let answer = ask(service.port, "GET", path, "", "");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"));
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

#[test]
fn pictures_are_made_only_while_somebody_watches_and_belong_to_their_decision() {
    let service = Service::start("fps=10");
    let pictures = || service.camera()["pictures"].clone();
    until("ten decisions", || service.camera()["frames"]["decided"].as_u64() > Some(10));
    assert_eq!(pictures(), json!({ "viewers": 0, "copies": 0, "encodes": 0 }));

    let mut events = service.events("/api/events?camera=cam0");
    let (mut seen, mut last) = (0, None);
    while seen < 5 {
        let (kind, decision) = events.next();
        if kind != "decision" {
            continue;
        }
        let seq = decision["seq"].as_u64();
        assert!(seq > last, "{seq:?} after {last:?}");
        last = seq;
        let frame = ask(service.port, "GET", &format!("/cameras/cam0/frame.jpg?seq={}", seq.unwrap()), "", "");
        assert_eq!(frame.status, 200, "{}", frame.text());
        assert_eq!(frame.header("x-cfvit-seq").map(|seq| seq.parse().unwrap()), seq);
        let picture = image::load_from_memory(&frame.body).unwrap();
        let size = (u64::from(picture.width()), u64::from(picture.height()));
        assert_eq!((decision["width"].as_u64(), decision["height"].as_u64()), (Some(size.0), Some(size.1)));
        seen += 1;
    }
    assert_eq!(pictures()["viewers"], 1);
    drop(events);
    until("the viewer is gone", || pictures()["viewers"] == 0);
    let copies = pictures()["copies"].clone();
    let decided = service.camera()["frames"]["decided"].as_u64().unwrap();
    until("ten more decisions", || service.camera()["frames"]["decided"].as_u64().unwrap() > decided + 10);
    assert_eq!(pictures()["copies"], copies, "copied for nobody");
}

#[test]
fn a_stream_is_whole_pictures_and_the_fifth_is_turned_away() {
    let service = Service::start("fps=5");
    let mut streams: Vec<_> = (0..4).map(|_| service.open("/cameras/cam0/stream.mjpg")).collect();
    for stream in &mut streams {
        let head = stream.read_head();
        assert!(head.contains("multipart/x-mixed-replace; boundary=cfvit-frame"), "{head}");
    }
    until("all four count", || service.state()["clients"]["streams"] == 4);
    assert_eq!(ask(service.port, "GET", "/cameras/cam0/stream.mjpg", "", "").status, 503);
    // Within the chunks, parts: boundary, head, picture.
    let bytes = streams[0].read_some(20_000);
    let at = |needle: &[u8]| bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    assert!(at(b"--cfvit-frame\r\n") < at(b"Content-Type: image/jpeg") && at(b"\r\n\r\n\xff\xd8\xff") > 0);
    drop(streams);
    until("they are gone", || service.state()["clients"]["streams"] == 0);
}

#[test]
fn a_threshold_moves_the_gate_and_back() {
    let service = Service::start("fps=10");
    until("a decision", || service.camera()["decision"]["seq"].is_u64());
    let configured = service.camera()["threshold"]["in_force"].clone();
    let stage_is = |stage: &str| service.camera()["decision"]["stage"] == stage;
    for (threshold, stage) in [(2.0, "fine"), (0.0, "coarse")] {
        let body = json!({ "threshold": threshold }).to_string();
        let answer = ask(service.port, "PUT", "/api/cameras/cam0/threshold", &format!("{BEARER}{JSON}"), &body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        until(stage, || stage_is(stage));
        let camera = service.camera();
        assert_eq!(
            (&camera["threshold"]["in_force"], &camera["threshold"]["configured"]),
            (&json!(threshold), &configured)
        );
        assert!(camera["threshold"]["changed_ms"].is_u64());
    }
    let answer = ask(service.port, "DELETE", "/api/cameras/cam0/threshold", &format!("{BEARER}X-Cfvit: 1\r\n"), "");
    assert_eq!(answer.status, 200);
    until("the configuration's is back", || service.camera()["decision"]["threshold"] == configured);
    // A browser logs in once and is known by its cookie.
    let login = ask(service.port, "POST", "/api/login", JSON, &json!({ "token": TOKEN }).to_string());
    let cookie = login.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let state = ask(service.port, "GET", "/api/state", &format!("Cookie: {cookie}\r\n"), "").json();
    assert_eq!((&state["may_write"], &service.state()["may_write"]), (&json!(true), &json!(false)));
}

/// The value of every series whose name and labels begin with `prefix`.
fn values<'a>(metrics: &'a str, prefix: &'a str) -> impl Iterator<Item = u64> + 'a {
    metrics
        .lines()
        .filter(move |line| line.starts_with(prefix))
        .map(|line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn at_every_scrape_every_frame_is_accounted_for_and_promtool_is_content() {
    // Faster than this machine decides, so that frames are dropped.
    let service = Service::start("fps=60");
    until("a decision", || service.camera()["decision"]["seq"].is_u64());
    let mut last = String::new();
    for _ in 0..50 {
        last = ask(service.port, "GET", "/metrics", "", "").text();
        let one = |name: &str| values(&last, name).sum::<u64>();
        assert_eq!(
            one("cfvit_frames_captured_total{"),
            one("cfvit_decisions_total{")
                + one("cfvit_frames_dropped_total{")
                + one("cfvit_frames_failed_total{")
                + one("cfvit_frames_in_flight{"),
            "{last}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    for name in [
        "cfvit_build_info{",
        "cfvit_camera_up{camera=\"cam0\"} 1",
        "cfvit_stage_duration_seconds_bucket{",
        "cfvit_frame_age_seconds_count{",
        "cfvit_coarse_confidence_ratio_sum{",
        "cfvit_threshold_ratio{",
        "cfvit_camera_last_frame_timestamp_seconds{",
        "process_resident_memory_bytes ",
        "cfvit_web_clients{",
    ] {
        assert!(last.lines().any(|line| line.starts_with(name)), "{name}: {last}");
    }
    let series = last.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series <= 250, "{series} series");
    let open = ask(service.port, "GET", "/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n", "");
    assert!(
        open.text().ends_with("# EOF\n") && open.header("content-type").unwrap().starts_with("application/openmetrics")
    );

    let Ok(mut promtool) =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()
    else {
        driver::skipped("promtool is not installed (Debian package prometheus)");
        return;
    };
    promtool.stdin.take().unwrap().write_all(last.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn a_network_without_a_token_is_refused_and_a_taken_port_stops_no_frame() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let run = |address: &str| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cfvit"));
        command.args(["run", "--source", "pattern://", "--frames", "3", "--web", address]).env_remove("RUST_LOG");
        command.stdin(Stdio::null()).output().unwrap()
    };
    let refused = run("0.0.0.0:0");
    let says = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && says.contains("web.token_file"), "{says}");
    let went_on = run(&taken.local_addr().unwrap().to_string());
    let says = String::from_utf8_lossy(&went_on.stderr);
    assert!(went_on.status.success() && says.matches("cannot listen").count() == 1, "{says}");
    assert!(String::from_utf8_lossy(&went_on.stdout).contains("decided    3"));
}

/// As `systemd` does it: the socket is descriptor 3, and two variables say so.
#[test]
fn sockets_that_are_handed_over_are_served_and_the_unix_socket_may_write() {
    let service = UnixService::start("fps=10");
    assert_eq!(service.ask("GET", "/api/state", "", "").json()["may_write"], true);
    let set = service.ask("PUT", "/api/cameras/cam0/threshold", JSON, "{\"threshold\": 2}");
    assert_eq!(set.status, 200, "{}", set.text());
    until("all are refined", || service.camera()["decision"]["stage"] == "fine");
}

#[test]
fn readiness_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("cfvit.toml");
    // A camera that is not there is waited for.
    let text = "[[camera]]\nname = \"door\"\nsource = \"/dev/video-none\"\n[web]\nlisten = \"127.0.0.1:0\"\n";
    std::fs::write(&config, text).unwrap();
    let service = Service::configured(&config);
    let answer = ask(service.port, "GET", "/readyz", "", "");
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("door"), "{}", answer.text());
    let state: Value = service.state();
    assert_eq!((&state["cameras"][0]["state"], &state["cameras"][0]["decision"]), (&json!("waiting"), &Value::Null));
}
