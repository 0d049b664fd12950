//! What a plan is tied to.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::model::package::Weights;

/// The device and the libraries that a plan is tied to. Two that differ in any field cannot share a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceKey {
    /// With its build number: `TensorRT 10.3.0.30`.
    pub tensorrt: String,
    /// The newest CUDA that the driver knows: `12.6`; `none` for a build without a GPU.
    pub driver: String,
    /// The Jetson's L4T release: `36.4.3`; `none` elsewhere.
    pub l4t: String,
    /// As the driver calls it: `Orin`; `any` for a build without a GPU.
    pub gpu: String,
    /// `8.7`
    pub compute_capability: String,
    /// Streaming multiprocessors that are on. Power modes switch some off; 0 for a build without a GPU.
    pub sm_count: u32,
    /// The number of the interface between this program and TensorRT.
    pub shim_abi: u32,
}

impl DeviceKey {
    /// A device for tests.
    #[cfg(test)]
    pub(crate) fn sample() -> Self {
        Self {
            tensorrt: "TensorRT 10.3.0.30".into(),
            driver: "12.6".into(),
            l4t: "36.4.3".into(),
            gpu: "Orin".into(),
            compute_capability: "8.7".into(),
            sm_count: 8,
            shim_abi: 1,
        }
    }

    /// The first difference to `other`, as a person would say it: what, ours, theirs.
    fn difference(&self, other: &Self) -> Option<(&'static str, String, String)> {
        let fields = [
            ("the library", &self.tensorrt, &other.tensorrt),
            ("GPU", &self.gpu, &other.gpu),
            ("compute capability", &self.compute_capability, &other.compute_capability),
            ("L4T", &self.l4t, &other.l4t),
            ("CUDA driver", &self.driver, &other.driver),
        ];
        let text = fields.into_iter().find(|(_, ours, theirs)| ours != theirs);
        let text = text.map(|(what, ours, theirs)| (what, ours.clone(), theirs.clone()));
        let number =
            |what, ours: u32, theirs: u32| (ours != theirs).then(|| (what, ours.to_string(), theirs.to_string()));
        text.or_else(|| {
            number("number of multiprocessors (it changes with the power mode)", self.sm_count, other.sm_count)
        })
        .or_else(|| number("interface number", self.shim_abi, other.shim_abi))
    }
}

/// Everything that decides what is in a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// `coarse`, `fine` or `static`.
    pub graph: String,
    /// `fp16` or `fp32`.
    pub precision: String,
    /// The builder's settings, for people.
    pub options: String,
    /// SHA-256 of the ONNX file.
    pub onnx_sha256: String,
    /// SHA-256 of the weights' file in the package.
    pub weights_sha256: String,
    /// Attention heads: the one part of the geometry that is not in the weights' shapes.
    pub heads: usize,
    /// The version of the program that exported the graph.
    pub program: String,
    /// What it was built for.
    pub device: DeviceKey,
}

impl Key {
    /// The plan may run `weights` on `device`. The ONNX file's sum is not compared: weights, heads and program decide its bytes.
    ///
    /// # Errors
    /// [`Kind::Model`] naming what differs, with both values.
    pub fn check(&self, graph: &str, weights: &Weights, device: &DeviceKey) -> Result<()> {
        let differs = |what: &str, built: &str, found: &str| {
            Err(Error::new(Kind::Model, format!("built for {what} {built}, expected {found}")))
        };
        if self.graph != graph {
            return differs("the graph", &self.graph, graph);
        }
        if self.weights_sha256 != weights.sha256 {
            return differs("weights of sha256", &self.weights_sha256, &weights.sha256);
        }
        if self.heads != weights.heads {
            return differs("number of heads", &self.heads.to_string(), &weights.heads.to_string());
        }
        if self.program != env!("CARGO_PKG_VERSION") {
            return differs("cfvit", &self.program, env!("CARGO_PKG_VERSION"));
        }
        match self.device.difference(device) {
            Some((what, built, found)) => differs(what, &built, &found),
            None => Ok(()),
        }
    }
}

/// The L4T release beneath `root` (`/`): `36.4.3`; `None` where this is no Jetson.
pub fn l4t_release(root: &Path) -> Option<String> {
    parse_l4t(&std::fs::read_to_string(root.join("etc/nv_tegra_release")).ok()?)
}

/// Its first line reads `# R36 (release), REVISION: 4.3, GCID: …`.
fn parse_l4t(text: &str) -> Option<String> {
    let line = text.lines().next()?;
    let major = line.split_once("# R")?.1.split_whitespace().next()?;
    let revision = line.split_once("REVISION:")?.1.split(',').next()?.trim();
    let numeric = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == '.');
    (numeric(major) && numeric(revision)).then(|| format!("{major}.{revision}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_l4t_release_is_read_from_its_file() {
        let text = "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8\n";
        assert_eq!(parse_l4t(text).as_deref(), Some("36.4.3"));
        for text in ["", "R36", "# R (release), REVISION: 4.3", "# R36 (release)", "# R36 (release), REVISION: x"] {
            assert_eq!(parse_l4t(text), None);
        }
        assert_eq!(l4t_release(Path::new("/nonexistent")), None);
    }
}
