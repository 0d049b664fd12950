//! Which folder a source's name means.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::{Error, Kind, Result};

/// The folder that `uri` names: a plain path as it is, `file:///path` with its `%20`s undone.
pub(super) fn folder(uri: &OsStr) -> Result<PathBuf> {
    let Some((scheme, rest)) = uri.to_str().and_then(split) else {
        let path = PathBuf::from(uri);
        if uri.as_encoded_bytes().starts_with(b"/dev/v") {
            // /dev/video0, /dev/v4l/by-id/…; /dev/shm is a folder like others.
            let message = format!(
                "cannot open source `{}`: this version reads no camera, only a folder's path or file:///path",
                path.display()
            );
            return Err(Error::new(Kind::Usage, message));
        }
        return Ok(path);
    };
    if !scheme.eq_ignore_ascii_case("file") {
        let message = format!("cannot open source `{scheme}://{rest}`: expected a folder's path or file:///path");
        return Err(Error::new(Kind::Usage, message));
    }
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    if !path.starts_with('/') {
        let message = format!(
            "cannot open source `{scheme}://{rest}`: expected file:///path with an absolute path on this machine (three slashes)"
        );
        return Err(Error::new(Kind::Usage, message));
    }
    Ok(PathBuf::from(OsString::from_vec(percent_decode(path.as_bytes()))))
}

/// Splits `scheme://rest`; `None` for what does not look like a URI.
fn split(text: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let first = scheme.chars().next()?;
    let valid = first.is_ascii_alphabetic()
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'));
    valid.then_some((scheme, rest))
}

/// Undoes `%XX`; a `%` that no two hexadecimal digits follow stays as it is.
fn percent_decode(bytes: &[u8]) -> Vec<u8> {
    let digit = |at: usize| bytes.get(at).and_then(|&b| (b as char).to_digit(16));
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            (byte, ..) => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(uri: &str) -> Result<PathBuf> {
        folder(OsStr::new(uri))
    }

    #[test]
    fn paths_and_file_uris_name_folders() {
        assert_eq!(of("pictures/x y").unwrap(), PathBuf::from("pictures/x y"));
        assert_eq!(of("/a%20b").unwrap(), PathBuf::from("/a%20b"), "a plain path is taken as it is");
        assert_eq!(of("file:///a%20b/%C3%A4%zz").unwrap(), PathBuf::from("/a b/ä%zz"));
        assert_eq!(of("FILE://localhost/a").unwrap(), PathBuf::from("/a"));
    }

    #[test]
    fn other_schemes_are_refused_by_name_and_told_what_works() {
        for uri in ["/dev/video0", "v4l2:///dev/video0", "rtsp://camera/1", "file://relative/dir", "file://"] {
            let error = of(uri).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().contains(uri) && error.to_string().contains("file:///path"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_or_an_error(text in "(file://)?\\PC{0,30}") {
            let _ = of(&text);
        }
    }
}
