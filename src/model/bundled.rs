//! The default model, inside the program so that it works from any folder.

use super::package::{Files, MANIFEST};

/// `engines/imagenette`.
const FILES: [(&str, &[u8]); 3] = [
    (MANIFEST, include_bytes!("../../engines/imagenette/manifest.toml")),
    ("model.safetensors", include_bytes!("../../engines/imagenette/model.safetensors")),
    ("labels.txt", include_bytes!("../../engines/imagenette/labels.txt")),
];

/// The bundled package.
pub(super) fn files() -> Files {
    Files::Embedded(&FILES)
}
