//! One HTTP request on a connection of its own.

use std::fmt;
use std::io;
use std::pin::pin;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Where requests go to: an `http://` URL in parts. Shown without a user's name and password.
#[derive(Debug)]
pub struct Address {
    /// The host, and the port where the URL names one.
    authority: String,
    /// Without the brackets of an IPv6 address.
    host: String,
    port: u16,
    /// The path and the query.
    path: Uri,
    /// The header that the URL's `user:password@` stands for (RFC 7617).
    login: Option<HeaderValue>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

impl Address {
    /// The parts of `url`; `None` where it is none that can be asked.
    pub fn of(url: &str) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        let authority = url.authority()?;
        let (login, named) = match authority.as_str().rsplit_once('@') {
            Some((login, named)) => (Some(format!("Basic {}", STANDARD.encode(login))), named),
            None => (None, authority.as_str()),
        };
        let port = match authority.port_u16() {
            Some(port) => port,
            None if named == authority.host() => 80,
            // What is there is no port.
            None => return None,
        };
        let path = url.path_and_query().map_or("/", |path| path.as_str());
        Some(Self {
            authority: named.to_owned(),
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            path: path.parse().ok()?,
            login: login.map(HeaderValue::try_from).transpose().ok()?,
        })
    }

    /// Sends `body` of JSON with `headers`, and gives the status of the answer. The connection ends with it. Waits as long as it takes.
    ///
    /// # Errors
    /// What went wrong, in words, and the system's error where it was one.
    pub async fn post(&self, body: String, headers: Vec<(HeaderName, String)>) -> Result<u16, Fault> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(Fault::Connection)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::post(self.path.clone())
            .header(header::HOST, &self.authority)
            .header(header::USER_AGENT, concat!("cfvit/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close");
        if let Some(login) = &self.login {
            request = request.header(header::AUTHORIZATION, login);
        }
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let request = request.body(Full::new(Bytes::from(body))).map_err(|error| Fault::Other(error.to_string()))?;
        let mut answer = pin!(sender.send_request(request));
        // The connection works for the answer; where it ends first, the answer knows why.
        tokio::select! {
            biased;
            answer = &mut answer => return Ok(answer?.status().as_u16()),
            _ = connection => {}
        }
        Ok(answer.await?.status().as_u16())
    }
}

/// Why there was no answer.
#[derive(Debug)]
pub enum Fault {
    /// The receiver was not reached.
    Connection(io::Error),
    /// Anything later.
    Other(String),
}

impl From<hyper::Error> for Fault {
    fn from(error: hyper::Error) -> Self {
        // By itself it only says at what: the cause says what.
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Other(format!("{error}{cause}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => error.fmt(f),
            Self::Other(error) => f.write_str(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_its_parts_and_its_password_is_not_shown() {
        for (url, shown, port, login) in [
            ("http://a", "http://a/", 80, None),
            ("http://8:88", "http://8:88/", 88, None),
            ("http://a.b:8080/c?d=e", "http://a.b:8080/c?d=e", 8080, None),
            ("http://[::1]:81/a?b=c", "http://[::1]:81/a?b=c", 81, None),
            ("http://[::1]", "http://[::1]/", 80, None),
            // The example of RFC 7617, section 2.
            ("http://Aladdin:open@sesame@a/b", "http://a/b", 80, Some("Basic QWxhZGRpbjpvcGVuQHNlc2FtZQ==")),
        ] {
            let address = Address::of(url);
            let found = address.as_ref().map(|address| (address.to_string(), address.port, address.login.clone()));
            let login = login.map(HeaderValue::from_static);
            assert_eq!(found, Some((shown.to_owned(), port, login)), "{url}");
        }
        for url in ["http://a:99999/", "http://a:b/", "http://", "http://[::1", "/a"] {
            assert!(Address::of(url).is_none(), "{url}");
        }
    }
}
