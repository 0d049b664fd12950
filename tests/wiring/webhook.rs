//! The webhook, to receivers that behave and to others.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use cfvit::operator::secret::hmac_sha256;
use serde_json::{Value, json};

use super::service::{CAMERA, PATIENCE, Service, photographs, until};

/// A request: its head and its body.
#[derive(Clone, Debug)]
struct Request {
    head: String,
    body: String,
}

impl Request {
    fn header(&self, name: &str) -> Option<String> {
        let find = |line: &&str| line.split_once(':').is_some_and(|(known, _)| known.eq_ignore_ascii_case(name));
        self.head.lines().find(find)?.split_once(':').map(|(_, value)| value.trim().to_owned())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn id(&self) -> String {
        self.json()["id"].as_str().unwrap().to_owned()
    }
}

/// A receiver: `answer` says what the request with this number gets; `None` is nothing at all.
struct Sink {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Sink {
    fn start(answer: impl Fn(usize) -> Option<String> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, requests) = (listener.local_addr().unwrap().port(), Arc::<Mutex<Vec<Request>>>::default());
        let filled = Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut hanging = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&mut stream) else { continue };
                let number = filled.lock().unwrap().len();
                filled.lock().unwrap().push(request);
                match answer(number) {
                    Some(answer) => {
                        let _ = stream.write_all(answer.as_bytes());
                    }
                    None => hanging.push(stream),
                }
            }
        });
        Self { port, requests }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port)
    }

    fn section(&self) -> String {
        format!("[webhook]\nurl = \"{}\"\n", self.url())
    }

    fn wait(&self, count: usize) -> Vec<Request> {
        until("requests", || Some(self.requests.lock().unwrap().clone()).filter(|requests| requests.len() >= count))
    }
}

fn read(stream: &mut TcpStream) -> Option<Request> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut bytes, mut some) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let request = Request { head: head.to_owned(), body: body.to_owned() };
            let length: usize = request.header("content-length")?.parse().unwrap();
            if body.len() >= length {
                return Some(request);
            }
        }
        match stream.read(&mut some) {
            Ok(read @ 1..) => bytes.extend_from_slice(&some[..read]),
            _ => return None,
        }
    }
}

fn answer(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}

#[test]
fn changes_of_the_label_are_told_in_order_and_signed() {
    let dir = tempfile::tempdir().unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "not for everybody\n").unwrap();
    let sink = Sink::start(|_| Some(answer("204 No Content")));
    let config = format!("{}{}secret_file = {secret:?}\n", photographs(4.0), sink.section());
    let service = Service::start(&config);
    let requests = sink.wait(4);
    let mut previous = Value::Null;
    for request in &requests {
        assert!(request.head.starts_with("POST /hook HTTP/1.1\r\n"), "{}", request.head);
        let signature = format!("sha256={}", hmac_sha256(b"not for everybody", request.body.as_bytes()));
        assert_eq!(request.header("x-cfvit-signature"), Some(signature));
        assert_eq!(request.header("x-cfvit-event"), Some(request.id()));
        let body = request.json();
        assert_eq!((&body["event"], &body["camera"], &body["previous"]), (&json!("label"), &json!("door"), &previous));
        assert_ne!(body["label"], previous);
        previous = body["label"].clone();
    }
    let ids: std::collections::HashSet<String> = requests.iter().map(Request::id).collect();
    assert_eq!(ids.len(), requests.len());
    service.stop();
}

#[test]
fn a_receiver_that_fails_is_tried_again_with_the_same_event_and_one_that_redirects_is_not_followed() {
    let elsewhere = Sink::start(|_| Some(answer("200 OK")));
    let url = elsewhere.url();
    let sink = Sink::start(move |number| {
        Some(match number {
            0 | 1 => answer("500 Internal Server Error"),
            3 => format!(
                "HTTP/1.1 307 Temporary Redirect\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            ),
            _ => answer("200 OK"),
        })
    });
    let service = Service::start(&format!("{}{}", photographs(2.0), sink.section()));
    let requests = sink.wait(6);
    let ids: Vec<String> = requests.iter().map(Request::id).collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "tried until it is taken: {ids:?}");
    assert!(ids[3] != ids[2] && ids[4] != ids[3], "a redirect is a refusal: {ids:?}");
    assert_eq!(requests[0].header("x-cfvit-signature"), None, "without a secret");
    assert!(elsewhere.requests.lock().unwrap().is_empty());
    let log = service.log();
    assert_eq!(log.matches("it answers 500").count(), 1, "{log}");
    assert_eq!(log.matches("delivered again after").count(), 2, "{log}");
    service.stop();
}

#[test]
fn a_receiver_that_hangs_holds_no_frame_and_not_the_end() {
    let sink = Sink::start(|_| None);
    let dir = tempfile::tempdir().unwrap();
    let records = dir.path().join("records.jsonl");
    let config = format!("{}{}[records]\npath = {records:?}\n", photographs(20.0), sink.section());
    let service = Service::start(&config);
    let requests = sink.wait(1);
    let decided = || std::fs::read_to_string(&records).unwrap_or_default().lines().count();
    let before = decided();
    // All of this while the receiver says nothing.
    until("frames go on", || (decided() > before + 20).then_some(()));
    let requests = [requests, sink.wait(2)].concat();
    assert!(requests.iter().all(|request| request.id() == requests[0].id()));
    service.wait_for_log("trying again for an hour; frames go on");
    service.stop();
}

#[test]
fn a_camera_that_ends_is_told_and_one_that_goes_on_is_not() {
    let photographs = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/pictures");
    let short = format!("[[camera]]\nname = \"short\"\nsource = {photographs:?}\nfps = 20\n");
    let sink = Sink::start(|_| Some(answer("200 OK")));
    let service = Service::start(&format!("{CAMERA}{short}{}", sink.section()));
    let is_camera = |request: &Request| request.json()["event"] == "camera";
    let told = until("the end of a camera", || sink.requests.lock().unwrap().iter().find(|r| is_camera(r)).cloned());
    assert_eq!((&told.json()["camera"], &told.json()["state"]), (&json!("short"), &json!("offline")));
    let count = sink.requests.lock().unwrap().iter().filter(|request| is_camera(request)).count();
    assert_eq!(count, 1);
    service.stop();
}

/// What a receiver may do wrong: each is told, and the same event comes again.
#[test]
fn a_receiver_that_answers_nonsense_or_hangs_up_is_tried_again_and_a_password_is_sent_but_not_shown() {
    let sink = Sink::start(|number| {
        Some(match number {
            0 => String::new(),
            1 => "what?\r\n\r\n".to_owned(),
            2 => format!("HTTP/1.1 100 Continue\r\n\r\n{}", answer("200 OK")),
            _ => answer("200 OK"),
        })
    });
    let url = sink.url().replace("127.0.0.1", "someone:secret@localhost");
    let service = Service::start(&format!("{}[webhook]\nurl = {url:?}\n", photographs(0.5)));
    let requests = sink.wait(4);
    let ids: Vec<String> = requests.iter().map(Request::id).collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[3] != ids[2], "tried until it is taken: {ids:?}");
    // `printf someone:secret | base64`
    assert_eq!(requests[0].header("authorization").as_deref(), Some("Basic c29tZW9uZTpzZWNyZXQ="));
    assert_eq!(requests[0].header("host"), Some(format!("localhost:{}", sink.port)));
    service.wait_for_log("delivered again after 2 failed requests");
    let log = service.log();
    let said = log.matches("trying again for an hour").count();
    assert!(said == 1 && !log.contains("secret"), "{log}");
    service.stop();
}
