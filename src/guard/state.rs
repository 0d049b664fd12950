//! What survives a restart: the detector, whether the promise is broken, and a threshold that was certified on the device.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::calibrate::drift::Detector;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::model::package::Certificate;

/// The longest state that is read.
const MAX_BYTES: u64 = 4096;

/// One camera's state, under one certificate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Which certificate it belongs to.
    pub(super) certificate: String,
    /// Alarms since that was made.
    pub(super) alarms: u32,
    /// Since when the promise is broken, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) degraded_since_ms: Option<u64>,
    /// η as certified on the device after an alarm, as the bits of a 32-bit float.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) eta_bits: Option<u32>,
    /// The detector.
    pub(super) detector: Detector,
}

/// What tells one certificate from another.
pub(super) fn key(certificate: &Certificate) -> String {
    let Certificate { eta_bits, engine_sha256, data_sha256, created, .. } = certificate;
    files::sha256(format!("{eta_bits} {engine_sha256} {data_sha256} {created}").as_bytes())
}

impl State {
    /// Of a certificate that was just put in force.
    pub(super) fn new(certificate: &Certificate, detector: Detector) -> Self {
        Self { certificate: key(certificate), alarms: 0, degraded_since_ms: None, eta_bits: None, detector }
    }

    /// The threshold certified here, if it is one.
    pub(super) fn threshold(&self) -> Option<f32> {
        self.eta_bits.map(f32::from_bits).filter(|eta| (0.0..=2.0).contains(eta))
    }

    /// Reads the state at `path`; `None` where there is none for `certificate` and a detector like `fresh`. A damaged one is logged: what it
    /// knew is lost, and the watch begins anew.
    pub(super) fn read(path: &Path, certificate: &Certificate, fresh: &Detector) -> Option<Self> {
        if !path.exists() {
            return None;
        }
        let state = read(path).map_err(|error| log::warn!("{error}: the watch for drift begins anew")).ok()?;
        let fits = state.certificate == key(certificate) && state.detector.is_like(fresh);
        fits.then_some(state)
    }

    /// Writes it, in one step.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let text = toml::to_string(self);
        let text = text.map_err(|e| Error::caused(Kind::Io, format!("cannot write {}", path.display()), e))?;
        files::write_atomic(path, text.as_bytes())
    }
}

fn read(path: &Path) -> Result<State> {
    let within = |e: std::io::Error| Error::caused(Kind::Io, format!("cannot read {}", path.display()), e);
    if path.metadata().map_err(within)?.len() > MAX_BYTES {
        return Err(Error::new(Kind::Io, format!("{} is no state of a camera", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(within)?;
    toml::from_str(&text)
        .map_err(|e| Error::new(Kind::Io, format!("{} is damaged: {}", path.display(), e.message().replace('\n', " "))))
}
