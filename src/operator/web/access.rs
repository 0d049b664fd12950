//! Who may do what. Loopback is no protection by itself: a web page elsewhere can make a browser ask here, hence the checks of host,
//! origin and media type.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::header::{self, HeaderMap};
use hyper::{Method, Request, StatusCode};
use sha2::{Digest, Sha256};

use super::listen::Socket;
use super::respond::{Refusal, refuse};
use crate::config::WebSettings;
use crate::error::{Error, Kind, Result};

/// A token is at least so long: 128 bits in hexadecimal digits.
pub const MIN_TOKEN: usize = 32;
const MAX_TOKEN: u64 = 4096;
/// How long a login lasts.
const SESSION: Duration = Duration::from_secs(12 * 3600);
/// So many logins hold at a time; the oldest one ends.
const MAX_SESSIONS: usize = 16;
/// What a browser's cookie is called.
const COOKIE: &str = "cfvit_session";
/// These say nothing of the run and need no token.
const OPEN: [&str; 7] = ["/", "/app.css", "/app.js", "/icon.svg", "/healthz", "/readyz", "/api/login"];

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The unix socket: the permissions of its file have decided already.
    Unix,
    /// Anything else.
    Tcp,
}

/// What somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    /// Look.
    View,
    /// Look and change.
    Control,
}

/// The rules of one service.
#[derive(Debug)]
pub struct Access {
    /// The tokens' digests.
    tokens: Vec<(Scope, [u8; 32])>,
    hosts: Vec<String>,
    /// A socket can be reached from other machines, so what a request says of its host means nothing.
    network: bool,
    sessions: Mutex<Vec<(Scope, [u8; 32], Instant)>>,
    logins: Limit,
    writes: Limit,
    examples: Limit,
    pictures: Limit,
}

impl Access {
    /// The rules that `settings` say.
    ///
    /// # Errors
    /// [`Kind::Config`] when the token cannot be read or is too short.
    pub fn new(settings: &WebSettings) -> Result<Self> {
        let mut tokens = Vec::new();
        let files = [
            (Scope::Control, "web.token_file", &settings.token_file),
            (Scope::View, "web.view_token_file", &settings.view_token_file),
        ];
        for (scope, key, file) in files {
            if let Some(file) = file {
                tokens.push((scope, digest(read_token(key, file)?.as_bytes())));
            }
        }
        if let [(_, control), (_, view)] = tokens[..]
            && control == view
        {
            let message = "web.view_token_file: expected another token than in web.token_file, found the same";
            return Err(Error::new(Kind::Config, message));
        }
        Ok(Self {
            tokens,
            hosts: settings.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
            network: false,
            sessions: Mutex::default(),
            logins: Limit::new(5, Duration::from_secs(60)),
            writes: Limit::new(10, Duration::from_secs(60)),
            // Each example is two: kept at once, named later.
            examples: Limit::new(60, Duration::from_secs(60)),
            pictures: Limit::new(20, Duration::from_secs(1)),
        })
    }

    /// Takes note of where requests will come from.
    ///
    /// # Errors
    /// [`Kind::Config`] where a socket of `sockets` can be reached from other machines and there is no token.
    pub fn check_sockets(&mut self, sockets: &[Socket]) -> Result<()> {
        for socket in sockets {
            let Socket::Tcp(_, address) = socket else { continue };
            if address.ip().to_canonical().is_loopback() {
                continue;
            }
            if self.tokens.is_empty() {
                let message = format!(
                    "web.listen: {socket} can be reached from other machines: expected a loopback address, or web.token_file with a \
                     token of at least {MIN_TOKEN} characters"
                );
                return Err(Error::new(Kind::Config, message));
            }
            self.network = true;
            if !address.ip().is_unspecified() {
                self.hosts.push(host_of(&address.to_string()));
            }
        }
        Ok(())
    }

    /// Whether anybody can be allowed to change something over TCP.
    pub fn has_token(&self) -> bool {
        self.tokens.iter().any(|(scope, _)| *scope == Scope::Control)
    }

    /// Judges a request before it is looked at any further.
    ///
    /// # Errors
    /// The refusal.
    pub fn check<B>(&self, request: &Request<B>, peer: Peer) -> std::result::Result<(), Refusal> {
        let headers = request.headers();
        let host = self.check_host(request, peer)?;
        let path = request.uri().path();
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            let local = host.as_deref().is_none_or(is_local_name);
            if OPEN.contains(&path) || peer == Peer::Unix || (local && !self.network) {
                return Ok(());
            }
            return self.scope(headers).map(|_| ());
        }
        check_write(request, host.as_deref())?;
        if path == "/api/login" {
            return self.logins.take("logins");
        }
        match path.ends_with("/examples") {
            true => self.examples.take("examples")?,
            false => self.writes.take("changes")?,
        }
        if peer == Peer::Unix {
            return Ok(());
        }
        if !self.has_token() {
            return refuse(StatusCode::FORBIDDEN, "read-only: no token is configured (web.token_file)");
        }
        match self.scope(headers)? {
            Scope::Control => Ok(()),
            Scope::View => refuse(StatusCode::FORBIDDEN, "this token is only for looking (web.view_token_file)"),
        }
    }

    /// Whether a request may change something, as far as its token or cookie says.
    pub fn may_write(&self, headers: &HeaderMap, peer: Peer) -> bool {
        peer == Peer::Unix || self.scope(headers) == Ok(Scope::Control)
    }

    /// One more picture.
    ///
    /// # Errors
    /// 429 where there were too many.
    pub fn take_picture(&self) -> std::result::Result<(), Refusal> {
        self.pictures.take("pictures")
    }

    /// A cookie for whoever knows the token.
    ///
    /// # Errors
    /// 401 for another token, 403 where there is none.
    pub fn login(&self, token: &str) -> std::result::Result<String, Refusal> {
        if self.tokens.is_empty() {
            return refuse(StatusCode::FORBIDDEN, "read-only: no token is configured (web.token_file)");
        }
        let scope = self.token_scope(token)?;
        let Some(id) = random() else {
            return refuse(StatusCode::INTERNAL_SERVER_ERROR, "the system gives no random numbers");
        };
        let mut sessions = lock(&self.sessions);
        sessions.retain(|(.., begun)| begun.elapsed() < SESSION);
        if sessions.len() == MAX_SESSIONS {
            sessions.remove(0);
        }
        sessions.push((scope, digest(id.as_bytes()), Instant::now()));
        let seconds = SESSION.as_secs();
        Ok(format!("{COOKIE}={id}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}"))
    }

    /// What a token allows. All are compared, whichever it is.
    fn token_scope(&self, token: &str) -> std::result::Result<Scope, Refusal> {
        let sent = digest(token.trim().as_bytes());
        let allows = |found, (scope, known): &(Scope, [u8; 32])| if same(known, &sent) { Some(*scope) } else { found };
        match self.tokens.iter().fold(None, allows) {
            Some(scope) => Ok(scope),
            None => refuse(StatusCode::UNAUTHORIZED, "the token is wrong"),
        }
    }

    /// What a request's token or cookie allows.
    fn scope(&self, headers: &HeaderMap) -> std::result::Result<Scope, Refusal> {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
        if let Some(sent) = bearer.filter(|_| !self.tokens.is_empty()) {
            return self.token_scope(sent);
        }
        let cookies = text(header::COOKIE).unwrap_or_default();
        let session = cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='));
        let known = session.map(|id| digest(id.as_bytes())).and_then(|id| {
            let sessions = lock(&self.sessions);
            let is_known =
                |(_, known, begun): &&(Scope, [u8; 32], Instant)| same(known, &id) && begun.elapsed() < SESSION;
            sessions.iter().find(is_known).map(|(scope, ..)| *scope)
        });
        match known {
            Some(scope) => Ok(scope),
            None => refuse(
                StatusCode::UNAUTHORIZED,
                "a token is needed: Authorization: Bearer TOKEN, or log in on the page",
            ),
        }
    }

    /// The host that the request names, without its port.
    fn check_host<B>(&self, request: &Request<B>, peer: Peer) -> std::result::Result<Option<String>, Refusal> {
        let mut named = request.headers().get_all(header::HOST).iter();
        let header = named.next().and_then(|host| host.to_str().ok());
        let host = request.uri().authority().map(|authority| authority.as_str()).or(header).map(host_of);
        if peer == Peer::Unix {
            return Ok(None);
        }
        match host {
            Some(host) if named.next().is_none() && (is_local_name(&host) || self.hosts.contains(&host)) => {
                Ok(Some(host))
            }
            _ => refuse(StatusCode::MISDIRECTED_REQUEST, "this host is not served here: add it to web.hosts"),
        }
    }
}

/// What no form and no foreign page can send.
fn check_write<B>(request: &Request<B>, host: Option<&str>) -> std::result::Result<(), Refusal> {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    if let Some(origin) = request.headers().get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let named = origin.split_once("://").map(|(_, authority)| host_of(authority));
        let ours = named.is_some() && (host.is_none() || named.as_deref() == host);
        if !ours {
            return refuse(StatusCode::FORBIDDEN, "another page's request");
        }
    }
    if text("x-cfvit") != Some("1") {
        return refuse(StatusCode::FORBIDDEN, "expected the header X-Cfvit: 1");
    }
    let kind = text("content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if request.method() != Method::DELETE && !kind.eq_ignore_ascii_case("application/json") {
        return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "expected application/json");
    }
    Ok(())
}

/// `host:port` without the port, in lower case.
fn host_of(authority: &str) -> String {
    let end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    let port = authority[end..].find(':').map_or(authority.len(), |colon| end + colon);
    authority[..port].to_ascii_lowercase()
}

fn is_local_name(host: &str) -> bool {
    matches!(host, "127.0.0.1" | "[::1]" | "localhost")
}

/// The first line of the file.
fn read_token(key: &str, path: &Path) -> Result<String> {
    let name = path.display();
    let fails = |cause| Error::caused(Kind::Config, format!("{key}: cannot read {name}"), cause);
    let size = std::fs::metadata(path).map_err(fails)?.len();
    let wrong = |what: String| {
        let message = format!("{key}: {name}: expected one line of at least {MIN_TOKEN} characters, found {what}");
        Error::new(Kind::Config, message)
    };
    if size > MAX_TOKEN {
        return Err(wrong(format!("{size} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(fails)?;
    let token = text.lines().next().unwrap_or_default().trim();
    match token.chars().count() {
        short @ ..MIN_TOKEN => Err(wrong(format!("{short}"))),
        _ => Ok(token.to_owned()),
    }
}

fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// In the same time, wherever they differ.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b))) == 0
}

/// 128 bits in hexadecimal digits.
fn random() -> Option<String> {
    use std::io::Read as _;
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom").ok()?.read_exact(&mut bytes).ok()?;
    Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// So many in so long a time.
#[derive(Debug)]
struct Limit {
    most: f64,
    per_s: f64,
    left: Mutex<(f64, Instant)>,
}

impl Limit {
    fn new(most: u32, time: Duration) -> Self {
        let most = f64::from(most);
        Self { most, per_s: most / time.as_secs_f64(), left: Mutex::new((most, Instant::now())) }
    }

    fn take(&self, what: &str) -> std::result::Result<(), Refusal> {
        match self.take_at(Instant::now()) {
            true => Ok(()),
            false => refuse(StatusCode::TOO_MANY_REQUESTS, format!("too many {what}: try again later")),
        }
    }

    fn take_at(&self, now: Instant) -> bool {
        let mut state = lock(&self.left);
        let (left, at) = *state;
        let left = (left + now.saturating_duration_since(at).as_secs_f64() * self.per_s).min(self.most);
        *state = if left >= 1.0 { (left - 1.0, now) } else { (left, now) };
        left >= 1.0
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
