//! What a source's name means: a folder, a camera or the test card, with its options.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::Options;
use super::formats::PixelFormat;
use crate::error::{Error, Kind, Result};
use crate::preprocess::decode::MAX_SIDE;

/// What works, for everybody who asked for something else.
const EXPECTED: &str = "expected a folder's path, file:///path, /dev/video0, v4l2:///dev/video0?size=640x480&fps=30&format=YUYV, \
                        or pattern://?size=640x480&fps=30";

/// What a source's name means.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The pictures of a folder.
    Folder(PathBuf),
    /// A V4L2 camera.
    Camera(CameraRequest),
    /// The test card.
    Pattern(PatternRequest),
}

/// Which camera, and what was asked of it. What is `None` is chosen by the program.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraRequest {
    /// The device node, or a link to it (`/dev/v4l/by-id/…`, which stays the same when the node's number changes).
    pub node: PathBuf,
    /// Width and height in pixels.
    pub size: Option<(usize, usize)>,
    /// Frames per second.
    pub fps: Option<f64>,
    /// How the camera stores pixels.
    pub format: Option<PixelFormat>,
}

/// What was asked of the test card.
#[derive(Clone, Debug, PartialEq)]
pub struct PatternRequest {
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// Frames per second; `None` is as fast as they are taken.
    pub fps: Option<f64>,
}

/// Reads `uri`. A path beneath `/dev/v4l/` or that begins with `/dev/video`, and every path of a character device, is a camera; all other
/// plain paths are folders.
///
/// # Errors
/// [`Kind::Usage`] for an unknown scheme, an unknown or repeated option, or a value that is not allowed, with what is.
pub fn parse(uri: &OsStr) -> Result<Target> {
    let Some((scheme, rest)) = uri.to_str().and_then(split) else {
        let path = PathBuf::from(uri);
        // What other programs call a camera.
        if !uri.is_empty() && uri.as_bytes().iter().all(u8::is_ascii_digit) && !path.exists() {
            let number = path.display();
            let message = format!(
                "cannot open source `{number}`: there is no such folder; the camera is called /dev/video{number}"
            );
            return Err(Error::new(Kind::Usage, message));
        }
        return Ok(if is_camera(&path) { Target::Camera(CameraRequest::any(path)) } else { Target::Folder(path) });
    };
    let parsed = match scheme.to_ascii_lowercase().as_str() {
        "file" => folder(rest).map(Target::Folder),
        "v4l2" => camera(rest).map(Target::Camera),
        "pattern" => pattern(rest).map(Target::Pattern),
        _ => Err(Error::new(Kind::Usage, EXPECTED)),
    };
    parsed.map_err(|e| e.within(format!("cannot open source `{scheme}://{rest}`")))
}

impl CameraRequest {
    /// The camera at `node`, however it is.
    pub fn any(node: PathBuf) -> Self {
        Self { node, size: None, fps: None, format: None }
    }
}

/// Whether a plain path is a camera's. One that is away has no file that could tell.
fn is_camera(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    let named = bytes.starts_with(b"/dev/video") || bytes.starts_with(b"/dev/v4l/");
    named || path.metadata().is_ok_and(|metadata| metadata.file_type().is_char_device())
}

/// `///path` with its `%20`s undone.
fn folder(rest: &str) -> Result<PathBuf> {
    absolute(rest.strip_prefix("localhost").unwrap_or(rest), "file:///path")
}

/// `///dev/video0?size=640x480&fps=30&format=YUYV`
fn camera(rest: &str) -> Result<CameraRequest> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut request = CameraRequest::any(absolute(path, "v4l2:///dev/video0")?);
    for (key, value) in options(query, "size, fps, format")? {
        match key {
            "size" => request.size = Some(size(&value, MAX_SIDE)?),
            "fps" => request.fps = Some(fps(&value)?),
            "format" => request.format = Some(format(&value)?),
            _ => return Err(unknown(key, "size, fps, format")),
        }
    }
    Ok(request)
}

/// `?size=640x480&fps=30`
fn pattern(rest: &str) -> Result<PatternRequest> {
    const MAX: usize = 4096;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !matches!(path, "" | "/") {
        return Err(Error::new(Kind::Usage, format!("the test card has no path, found `{path}`: expected pattern://")));
    }
    let mut request = PatternRequest { size: (640, 480), fps: None };
    for (key, value) in options(query, "size, fps")? {
        match key {
            "size" => request.size = size(&value, MAX)?,
            "fps" => request.fps = Some(fps(&value)?),
            _ => return Err(unknown(key, "size, fps")),
        }
    }
    Ok(request)
}

/// The absolute path after `scheme://`, decoded.
fn absolute(path: &str, example: &str) -> Result<PathBuf> {
    if !path.starts_with('/') {
        let message = format!("expected {example} with an absolute path on this machine (three slashes)");
        return Err(Error::new(Kind::Usage, message));
    }
    let decoded = percent_decode(path.as_bytes());
    if decoded.contains(&0) {
        return Err(Error::new(Kind::Usage, "a path cannot hold a zero byte (%00)"));
    }
    Ok(PathBuf::from(OsString::from_vec(decoded)))
}

/// The `key=value`s of a query, values decoded. `known` is what an error offers.
fn options<'a>(query: &'a str, known: &str) -> Result<Vec<(&'a str, String)>> {
    let mut found: Vec<(&str, String)> = Vec::new();
    for part in query.split('&').filter(|part| !part.is_empty()) {
        let Some((key, value)) = part.split_once('=') else {
            return Err(Error::new(Kind::Usage, format!("option `{part}` has no value: expected {part}=… ({known})")));
        };
        if found.iter().any(|(other, _)| *other == key) {
            return Err(Error::new(Kind::Usage, format!("option `{key}` is given twice")));
        }
        found.push((key, String::from_utf8_lossy(&percent_decode(value.as_bytes())).into_owned()));
    }
    Ok(found)
}

fn unknown(key: &str, known: &str) -> Error {
    Error::new(Kind::Usage, format!("unknown option `{key}`: expected {known}"))
}

/// `640x480`
fn size(text: &str, max: usize) -> Result<(usize, usize)> {
    let side = |text: &str| text.parse().ok().filter(|side| (16..=max).contains(side));
    let sides = text.split_once(['x', 'X', '×']).and_then(|(width, height)| Some((side(width)?, side(height)?)));
    sides.ok_or_else(|| {
        let message = format!("size is `{text}`: expected WIDTHxHEIGHT, both from 16 to {max}, as in size=640x480");
        Error::new(Kind::Usage, message)
    })
}

fn fps(text: &str) -> Result<f64> {
    text.parse().ok().filter(|fps| Options::FPS.contains(fps)).ok_or_else(|| {
        let (low, high) = (Options::FPS.start(), Options::FPS.end());
        Error::new(
            Kind::Usage,
            format!("fps is `{text}`: expected frames per second from {low} to {high}, as in fps=30"),
        )
    })
}

fn format(text: &str) -> Result<PixelFormat> {
    PixelFormat::named(text).ok_or_else(|| {
        let known = PixelFormat::ALL.map(PixelFormat::name).join(", ");
        Error::new(Kind::Usage, format!("format is `{text}`: expected one of {known}"))
    })
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

    fn of(uri: &str) -> Result<Target> {
        parse(OsStr::new(uri))
    }

    fn folder_of(uri: &str) -> PathBuf {
        match of(uri).unwrap() {
            Target::Folder(path) => path,
            other => panic!("{uri} is {other:?}"),
        }
    }

    fn camera_of(uri: &str) -> CameraRequest {
        match of(uri).unwrap() {
            Target::Camera(request) => request,
            other => panic!("{uri} is {other:?}"),
        }
    }

    #[test]
    fn a_cameras_number_is_told_its_name() {
        let error = of("0").unwrap_err();
        assert!(error.kind() == Kind::Usage && error.to_string().contains("/dev/video0"), "{error}");
        assert_eq!(folder_of("7seas"), PathBuf::from("7seas"));
    }

    #[test]
    fn paths_and_file_uris_name_folders() {
        assert_eq!(folder_of("pictures/x y"), PathBuf::from("pictures/x y"));
        assert_eq!(folder_of("/a%20b"), PathBuf::from("/a%20b"), "a plain path is taken as it is");
        assert_eq!(folder_of("file:///a%20b/%C3%A4%zz"), PathBuf::from("/a b/ä%zz"));
        assert_eq!(folder_of("FILE://localhost/a"), PathBuf::from("/a"));
        assert_eq!(folder_of("/dev/shm"), PathBuf::from("/dev/shm"), "a folder like others");
        assert_eq!(folder_of("file:///dev/video0"), PathBuf::from("/dev/video0"), "who says file means it");
    }

    #[test]
    fn nodes_name_cameras_whether_they_are_there_or_not() {
        for node in ["/dev/video77", "/dev/v4l/by-id/usb-cam", "/dev/null"] {
            assert_eq!(camera_of(node), CameraRequest::any(node.into()));
        }
        assert_eq!(camera_of("v4l2:///dev/cam%2Fusb").node, PathBuf::from("/dev/cam/usb"));
        let expected = CameraRequest {
            node: "/dev/video0".into(),
            size: Some((640, 480)),
            fps: Some(29.97),
            format: Some(PixelFormat::Yuyv),
        };
        assert_eq!(camera_of("v4l2:///dev/video0?size=640x480&fps=29.97&format=yuyv"), expected);
        assert_eq!(camera_of("v4l2:///dev/video0?format=I420").format, Some(PixelFormat::I420));
    }

    #[test]
    fn the_test_card_has_a_size_and_a_rate() {
        assert_eq!(of("pattern://").unwrap(), Target::Pattern(PatternRequest { size: (640, 480), fps: None }));
        let expected = PatternRequest { size: (320, 241), fps: Some(30.0) };
        assert_eq!(of("pattern://?size=320x241&fps=30").unwrap(), Target::Pattern(expected));
    }

    #[test]
    fn what_is_not_known_is_refused_with_what_is() {
        for (uri, says) in [
            ("rtsp://camera/1", "file:///path"),
            ("file://relative/dir", "file:///path"),
            ("file://", "file:///path"),
            ("v4l2://video0", "v4l2:///dev/video0"),
            ("v4l2:///dev/video%00", "zero byte"),
            ("v4l2:///dev/video0?speed=3", "size, fps, format"),
            ("v4l2:///dev/video0?size", "size=…"),
            ("v4l2:///dev/video0?size=640", "WIDTHxHEIGHT"),
            ("v4l2:///dev/video0?size=8x8", "from 16 to"),
            ("v4l2:///dev/video0?size=640x480&size=640x480", "twice"),
            ("v4l2:///dev/video0?fps=0", "0.001 to 1000"),
            ("v4l2:///dev/video0?fps=nan", "0.001 to 1000"),
            ("v4l2:///dev/video0?format=BA81", "YUYV"),
            ("pattern://?format=YUYV", "expected size, fps"),
            ("pattern://card", "no path"),
            ("pattern://?size=5000x50", "to 4096"),
        ] {
            let error = of(uri).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage, "{uri}");
            assert!(error.to_string().contains(uri) && error.to_string().contains(says), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_target_or_an_error(text in "((file|v4l2|pattern)://)?\\PC{0,30}") {
            let _ = of(&text);
        }
    }
}
