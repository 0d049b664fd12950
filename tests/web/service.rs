//! A running `cfvit run` with its page, and an HTTP client that does what it is told, right or wrong.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The token of [`Service::start`].
pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// The one for looking only.
pub const VIEW_TOKEN: &str = "fedcba9876543210fedcba9876543210";
/// Longer than anything here takes on a slow machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `done`.
pub fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "this never comes: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A run with a page, until it is dropped.
pub struct Service {
    pub port: u16,
    /// Where [`Service::start`] keeps examples.
    pub examples: PathBuf,
    child: Child,
    _dir: Option<tempfile::TempDir>,
}

impl Service {
    /// Decides test cards; `query` says how many a second. Whoever knows [`TOKEN`] may change things.
    pub fn start(query: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (config, token) = (dir.path().join("cfvit.toml"), dir.path().join("token"));
        let (view_token, examples) = (dir.path().join("view-token"), dir.path().join("examples"));
        std::fs::write(&token, TOKEN).unwrap();
        std::fs::write(&view_token, VIEW_TOKEN).unwrap();
        let text = format!(
            "[[camera]]\nname = \"cam0\"\nsource = \"pattern://?size=320x240&{query}\"\n\
             [web]\nlisten = \"127.0.0.1:0\"\ntoken_file = {:?}\nview_token_file = {:?}\n\
             [collect]\nfolder = {:?}\nmin_free_mib = 0\nmax_files = 4\n",
            token.display().to_string(),
            view_token.display().to_string(),
            examples.display().to_string()
        );
        std::fs::write(&config, text).unwrap();
        let mut service = Self::configured(&config);
        service._dir = Some(dir);
        service.examples = examples;
        service
    }

    /// What `config` says.
    pub fn configured(config: &Path) -> Self {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("cfvit"));
        command.args(["run", "--report-interval", "60", "--config"]).arg(config).env_remove("RUST_LOG");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        let port = loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "the run ended before its page was there");
            if let Some((_, rest)) = line.split_once("page and metrics: http://127.0.0.1:") {
                break rest.trim().trim_end_matches('/').parse().unwrap();
            }
        };
        // Nobody may ever wait for this pipe.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let service = Self { port, examples: PathBuf::new(), child, _dir: None };
        // The page is there before the run begins.
        until("the camera", || service.camera()["frames"].is_object());
        service
    }

    pub fn state(&self) -> Value {
        ask(self.port, "GET", "/api/state", "", "").json()
    }

    pub fn camera(&self) -> Value {
        self.state()["cameras"][0].clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What the kernel tells of its thread of this name.
    pub fn thread(&self, name: &str) -> Option<String> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap().flatten();
        // A thread may end meanwhile.
        let status = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("status")).ok());
        status.into_iter().find(|status| status.lines().next() == Some(&format!("Name:\t{name}")))
    }

    /// Whether a thread of it has this name.
    pub fn has_thread(&self, name: &str) -> bool {
        self.thread(name).is_some()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, signal).unwrap();
    }

    /// Frames go on, now.
    pub fn still_decides(&self) {
        let decided = || self.camera()["frames"]["decided"].as_u64().unwrap();
        let before = decided();
        until("frames go on", || decided() > before + 2);
    }

    /// A connection on which `path` was asked for.
    pub fn open(&self, path: &str) -> Open {
        let mut stream = connect(self.port);
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).unwrap();
        Open(BufReader::new(stream))
    }

    pub fn events(&self, path: &str) -> Events {
        let mut open = self.open(path);
        let head = open.read_head();
        assert!(head.contains("text/event-stream"), "{head}");
        Events(open)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A run whose page is reached over a unix socket that was handed over, as systemd does it, until it is dropped.
pub struct UnixService {
    child: Child,
    dir: tempfile::TempDir,
}

impl UnixService {
    /// Decides test cards; `query` says how many a second.
    pub fn start(query: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("api.sock")).unwrap();
        // The socket is descriptor 3, and two variables say so.
        let script = "exec 3<&0 </dev/null; export LISTEN_PID=$$ LISTEN_FDS=1; exec \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(assert_cmd::cargo::cargo_bin!("cfvit"));
        command.args(["run", "--source", &format!("pattern://?size=320x240&{query}"), "--web", "127.0.0.1:1"]);
        command.stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::null()).stderr(Stdio::null());
        let service = Self { child: command.env_remove("RUST_LOG").spawn().unwrap(), dir };
        until("a decision", || service.camera()["decision"]["seq"].is_u64());
        service
    }

    pub fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.dir.path().join("api.sock")).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        ask_over(self.connect(), method, path, headers, body)
    }

    pub fn camera(&self) -> Value {
        self.ask("GET", "/api/state", "", "").json()["cameras"][0].clone()
    }
}

impl Drop for UnixService {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// An answer that goes on.
pub struct Open(BufReader<TcpStream>);

impl Open {
    pub fn read_head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(self.0.read_line(&mut head).unwrap() > 0, "{head}");
        }
        head
    }

    pub fn read_some(&mut self, bytes: usize) -> Vec<u8> {
        let mut some = vec![0; bytes];
        self.0.read_exact(&mut some).unwrap();
        some
    }
}

pub struct Events(Open);

impl Events {
    /// The next event: its name and its data.
    pub fn next(&mut self) -> (String, Value) {
        self.try_next().expect("an event")
    }

    /// The same; `None` at the end of the connection.
    pub fn try_next(&mut self) -> Option<(String, Value)> {
        let mut kind = String::new();
        loop {
            let mut line = String::new();
            if !matches!(self.0.0.read_line(&mut line), Ok(1..)) {
                return None;
            }
            if let Some(name) = line.strip_prefix("event: ") {
                kind = name.trim().to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some((kind, serde_json::from_str(data).unwrap()));
            }
        }
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let find = |line: &'_ str| line.split_once(':').is_some_and(|(known, _)| known.eq_ignore_ascii_case(name));
        self.head.lines().find(|line| find(line)).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }
}

pub fn ask(port: u16, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    ask_over(connect(port), method, path, headers, body)
}

pub fn ask_over(stream: impl Read + Write, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost:8632\r\nConnection: close\r\n{headers}{length}\r\n{body}");
    send(stream, request.as_bytes())
}

pub fn raw(port: u16, request: impl AsRef<[u8]>) -> Answer {
    send(connect(port), request.as_ref())
}

fn send(mut stream: impl Read + Write, request: &[u8]) -> Answer {
    // A server that refuses early may have closed already.
    let _ = stream.write_all(request);
    let (mut bytes, mut some) = (Vec::new(), [0; 8192]);
    // Not every server closes when it is asked to.
    while !is_whole(&bytes)
        && let Ok(read @ 1..) = stream.read(&mut some)
    {
        bytes.extend_from_slice(&some[..read]);
    }
    let (head, body) = split(&bytes).unwrap_or((&bytes, &[]));
    let head = String::from_utf8_lossy(head).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    Answer { status, head, body: body.to_vec() }
}

/// Head and body, once the head is whole.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((&bytes[..end], &bytes[end + 4..]))
}

/// Whether a body of a known length is there.
fn is_whole(bytes: &[u8]) -> bool {
    let Some((head, body)) = split(bytes) else { return false };
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    length.is_some_and(|length| body.len() >= length)
}
