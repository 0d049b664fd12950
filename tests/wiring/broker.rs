//! Mosquitto, and whoever listens to and speaks with it.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::service::until;

/// The broker's program; root's folders are not in everybody's path.
fn program(name: &str) -> Option<String> {
    ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .map(|folder| format!("{folder}/{name}"))
        .into_iter()
        .find(|path| Path::new(path).exists())
}

/// A broker that keeps nothing on disk, until it is dropped.
pub struct Broker {
    pub port: u16,
    child: Child,
    dir: tempfile::TempDir,
}

impl Broker {
    /// One for everybody; `None` (said aloud) where there is no mosquitto.
    pub fn start() -> Option<Self> {
        Self::with("allow_anonymous true\n")
    }

    /// One for `user` with `password` only.
    pub fn locked(user: &str, password: &str) -> Option<Self> {
        let tool = program("mosquitto_passwd").or_else(skipped)?;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passwords");
        let made = Command::new(tool).args(["-b", "-c"]).arg(&file).args([user, password]).status().unwrap();
        assert!(made.success());
        Self::start_in(dir, &format!("allow_anonymous false\npassword_file {}\n", file.display()))
    }

    fn with(config: &str) -> Option<Self> {
        Self::start_in(tempfile::tempdir().unwrap(), config)
    }

    fn start_in(dir: tempfile::TempDir, config: &str) -> Option<Self> {
        program("mosquitto").or_else(skipped)?;
        program("mosquitto_sub").or_else(skipped)?;
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        // Where it is started as root, it would become another user, who may not read our folder.
        let user = if rustix::process::geteuid().is_root() { "user root\n" } else { "" };
        let text = format!("listener {port} 127.0.0.1\npersistence false\n{user}{config}");
        std::fs::write(dir.path().join("mosquitto.conf"), text).unwrap();
        let child = Self::spawn(&dir, port);
        Some(Self { port, child, dir })
    }

    fn spawn(dir: &tempfile::TempDir, port: u16) -> Child {
        let mut command = Command::new(program("mosquitto").unwrap());
        command.arg("-c").arg(dir.path().join("mosquitto.conf"));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the broker listens", || TcpStream::connect(("127.0.0.1", port)).ok());
        child
    }

    /// Ends it without a word to its clients; what it kept is lost.
    pub fn pull(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again at its old place.
    pub fn plug(&mut self) {
        self.child = Self::spawn(&self.dir, self.port);
    }

    /// The line of a configuration that names it.
    pub fn section(&self) -> String {
        format!("[mqtt]\nbroker = \"127.0.0.1:{}\"\n", self.port)
    }

    /// Listens to everything from now on.
    pub fn listen(&self) -> Listener {
        let mut child = Command::new(program("mosquitto_sub").unwrap())
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1", "-t", "#", "-F", "%r %q %t %x"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (lines, heard) = (BufReader::new(child.stdout.take().unwrap()), Arc::<Mutex<Vec<Message>>>::default());
        let filled = Arc::clone(&heard);
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                filled.lock().unwrap().push(Message::parse(&line));
            }
        });
        Listener { child, heard }
    }

    /// Publishes one message.
    pub fn publish(&self, topic: &str, payload: &str, retain: bool) {
        let mut command = Command::new(program("mosquitto_pub").unwrap());
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-q", "1", "-t", topic, "-m", payload]);
        if retain {
            command.arg("-r");
        }
        assert!(command.status().unwrap().success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn skipped<T>() -> Option<T> {
    // Not `println!`: the harness would swallow the line of a test that passes.
    let _ = writeln!(
        std::io::stderr(),
        "skipped: mosquitto is not installed (Debian packages mosquitto and mosquitto-clients)"
    );
    None
}

/// What was heard.
#[derive(Clone, Debug)]
pub struct Message {
    pub retained: bool,
    pub qos: u8,
    pub topic: String,
    pub payload: Vec<u8>,
    pub at: Instant,
}

impl Message {
    fn parse(line: &str) -> Self {
        let mut parts = line.splitn(4, ' ');
        let mut next = || parts.next().unwrap_or_default();
        let (retained, qos, topic, hex) = (next() == "1", next().parse().unwrap(), next().to_owned(), next());
        let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        let payload = (0..hex.len()).step_by(2).map(byte).collect();
        Self { retained, qos, topic, payload, at: Instant::now() }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.payload).unwrap()
    }
}

/// Whoever listens, until it is dropped.
pub struct Listener {
    child: Child,
    heard: Arc<Mutex<Vec<Message>>>,
}

impl Listener {
    /// All messages so far whose topics end with `end`.
    pub fn heard(&self, end: &str) -> Vec<Message> {
        self.heard.lock().unwrap().iter().filter(|message| message.topic.ends_with(end)).cloned().collect()
    }

    /// The first message whose topic ends with `end` and which is `right`.
    pub fn wait(&self, end: &str, right: impl Fn(&Message) -> bool) -> Message {
        until(end, || self.heard(end).into_iter().find(&right))
    }

    /// The first message at a topic that ends with `end` and says `text`.
    pub fn wait_for(&self, end: &str, text: &str) -> Message {
        self.wait(end, |message| message.text() == text)
    }

    /// So many messages whose topics end with `end`.
    pub fn wait_count(&self, end: &str, count: usize) -> Vec<Message> {
        until(end, || Some(self.heard(end)).filter(|heard| heard.len() >= count))
    }

    /// Forgets what was heard.
    pub fn clear(&self) {
        self.heard.lock().unwrap().clear();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
