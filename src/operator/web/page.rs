//! The page's own files, compiled in.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Response, StatusCode};
use sha2::{Digest, Sha256};

use super::respond::{Body, whole};

/// A file of the page.
#[derive(Clone, Copy, Debug)]
pub struct File {
    /// Its path in a URL.
    pub path: &'static str,
    kind: &'static str,
    text: &'static str,
}

/// All of them.
pub const FILES: [File; 4] = [
    File { path: "/", kind: "text/html; charset=utf-8", text: include_str!("../page/index.html") },
    File { path: "/app.css", kind: "text/css; charset=utf-8", text: include_str!("../page/app.css") },
    File { path: "/app.js", kind: "text/javascript; charset=utf-8", text: include_str!("../page/app.js") },
    File { path: "/icon.svg", kind: "image/svg+xml", text: include_str!("../page/icon.svg") },
];

impl File {
    /// The file, or 304 where the browser has it.
    pub fn respond(self, headers: &HeaderMap) -> Response<Body> {
        let digest = Sha256::digest(self.text.as_bytes());
        let tag = digest[..8].iter().fold(String::from("\""), |tag, byte| format!("{tag}{byte:02x}")) + "\"";
        let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
        let mut response = Response::new(whole(if known { "" } else { self.text }));
        if known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_asks_for_nothing_elsewhere() {
        assert!(FILES.iter().map(|file| file.text.len()).sum::<usize>() <= 60 << 10);
        for File { path, text, .. } in FILES {
            for word in [
                "://",
                "//fonts",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
                "<style",
                " style=",
                " onclick",
            ] {
                // The name of a namespace is asked for by nobody.
                let text = text.replace("http://www.w3.org/2000/svg", "");
                assert!(!text.contains(word), "{path} contains {word}");
            }
        }
        let [html, ..] = FILES;
        assert!(html.text.matches("<script").count() == 1 && html.text.contains("<script src=\"app.js\""));
    }

    #[test]
    fn a_browser_that_has_the_file_gets_it_not_again() {
        let first = FILES[1].respond(&HeaderMap::new());
        let tag = first.headers()[header::ETAG].clone();
        let again = FILES[1].respond(&HeaderMap::from_iter([(header::IF_NONE_MATCH, tag.clone())]));
        assert_eq!((first.status(), again.status()), (StatusCode::OK, StatusCode::NOT_MODIFIED));
        let other = FILES[2].respond(&HeaderMap::from_iter([(header::IF_NONE_MATCH, tag)]));
        assert_eq!(other.status(), StatusCode::OK);
    }
}
