//! Which devices were announced, on disk: one that is gone after a restart must still be taken back, or Home Assistant keeps it for ever.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::discovery::Platforms;
use crate::error::{Error, Kind, Result};
use crate::files;

/// The file in the service's folder.
pub const FILE: &str = "mqtt-devices.json";
/// A file that is larger is none of ours.
const MAX_BYTES: u64 = 1 << 20;

/// A device that was announced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// The camera's name.
    pub camera: String,
    /// Its components.
    pub components: Platforms,
}

/// Devices by the topic of their announcement.
pub type Known = BTreeMap<String, Device>;

/// The devices in the file at `path`; none where there is no file.
///
/// # Errors
/// When it cannot be read or is no such file.
pub fn read(path: &Path) -> Result<Known> {
    let damaged = |cause: Box<dyn std::error::Error + Send + Sync>| {
        Error::caused(Kind::Io, format!("cannot read {}", path.display()), cause)
    };
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Known::new()),
        Ok(file) if file.len() > MAX_BYTES => return Err(damaged(format!("{} bytes are too many", file.len()).into())),
        found => found.map_err(|error| damaged(error.into()))?,
    };
    let bytes = std::fs::read(path).map_err(|error| damaged(error.into()))?;
    let mut known: Known = serde_json::from_slice(&bytes).map_err(|error| damaged(error.into()))?;
    // What is published to must be a topic, and one of ours.
    let is_ours =
        |topic: &str| topic.ends_with("/config") && topic.contains("/cfvit_") && !topic.contains(['+', '#', '\0']);
    known.retain(|topic, _| is_ours(topic));
    Ok(known)
}

/// Writes `known` to the file at `path`.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, known: &Known) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(known)
        .map_err(|error| Error::caused(Kind::Io, format!("cannot write {}", path.display()), error))?;
    text.push(b'\n');
    files::write_atomic(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_not_ours_is_no_topic() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        assert_eq!(read(&path).unwrap(), Known::new());
        let device = Device {
            camera: "door".to_owned(),
            components: Platforms::from([("label".to_owned(), "sensor".to_owned())]),
        };
        let known = Known::from([("homeassistant/device/cfvit_1_door/config".to_owned(), device.clone())]);
        write(&path, &known).unwrap();
        assert_eq!(read(&path).unwrap(), known);
        write(&path, &Known::from([("homeassistant/#".to_owned(), device)])).unwrap();
        assert_eq!(read(&path).unwrap(), Known::new());
        for damage in ["", "[]", "{\"a\": 3}", "\u{0}", "{\"a\": {\"camera\": 1}}"] {
            std::fs::write(&path, damage).unwrap();
            assert!(read(&path).unwrap_err().to_string().contains(FILE), "{damage}");
        }
    }
}
