//! `manifest.toml`: what an engine package is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::{Family, Geometry, StoredResults, is_hidden, shown};
use super::Certificate;
use crate::error::{Error, Kind, Result};

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.toml";

/// The layout of the manifest that this program reads and writes.
const SCHEMA: u32 = 1;

/// The file as it stands on disk. Keys that it does not know are errors, so that a misspelt one is not silently without effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What the model is called; the folder's name when missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where the model comes from, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// `cf_deit` or `cf_lvvit`.
    pub family: String,
    /// The evaluation crop ratio.
    pub crop: f64,
    /// The weights' file, a `.safetensors`.
    pub weights: String,
    /// The labels' file: a class a line, `id<TAB>name`.
    pub labels: String,
    /// The shape.
    pub geometry: GeometryTable,
    /// The gate's settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<GateTable>,
    /// A threshold with a guarantee.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Certificate>,
    /// The authors' results.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub results: Option<ResultsTable>,
    /// The SHA-256 sum of every file of the package, by name.
    pub sha256: BTreeMap<String, String>,
}

/// `[geometry]`: the fields of [`Geometry`] without the family.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub(in super::super) struct GeometryTable {
    pub grid: usize,
    pub patch: usize,
    pub width: usize,
    pub depth: usize,
    pub heads: usize,
    pub hidden: usize,
    pub classes: usize,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stem: usize,
}

/// `[gate]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct GateTable {
    /// η: a coarse answer of at least this confidence is final.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
}

/// `[results]`: [`StoredResults`], the pairs as two lists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct ResultsTable {
    /// GFLOPs (multiply-accumulates) at each exit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flop: Option<Vec<f64>>,
    /// Top-1 in percent of each stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub anytime_top1: Option<Vec<f64>>,
    /// Mean GFLOPs over the thresholds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budgeted_gflops: Option<Vec<f64>>,
    /// Top-1 in percent over the same thresholds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budgeted_top1: Option<Vec<f64>>,
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

impl Manifest {
    /// Describes a model whose files are `sha256`'s.
    pub fn new(geometry: &Geometry, crop: f64, weights: &str, labels: &str, sha256: BTreeMap<String, String>) -> Self {
        let Geometry { family, grid, patch, width, depth, heads, hidden, classes, stem } = *geometry;
        Self {
            schema: SCHEMA,
            name: None,
            about: None,
            family: family.as_str().into(),
            crop,
            weights: weights.into(),
            labels: labels.into(),
            geometry: GeometryTable { grid, patch, width, depth, heads, hidden, classes, stem },
            gate: None,
            calibration: None,
            results: None,
            sha256,
        }
    }

    /// Reads a manifest.
    ///
    /// # Errors
    /// [`Kind::Model`] with the line, for an unknown or missing key, a wrong type, another schema, or a file name that is not a
    /// plain one.
    pub fn parse(text: &str) -> Result<Self> {
        let manifest: Self = toml::from_str(text).map_err(|e| syntax_error(text, &e))?;
        if manifest.schema != SCHEMA {
            let found = manifest.schema;
            let message = format!("schema {found}, this program reads {SCHEMA}: import the checkpoint anew");
            return Err(Error::new(Kind::Model, message));
        }
        for name in manifest.sha256.keys().chain([&manifest.weights, &manifest.labels]) {
            check_file_name(name)?;
        }
        if let Some(text) = [&manifest.name, &manifest.about].into_iter().flatten().find(|t| t.chars().any(is_hidden)) {
            return Err(Error::new(Kind::Model, format!("`{}` has control characters", shown(text))));
        }
        manifest.geometry()?;
        manifest.check_results()?;
        manifest.calibration.as_ref().map_or(Ok(()), Certificate::check)?;
        Ok(manifest)
    }

    /// TOML has infinities and can have lists of two lengths; results have neither.
    fn check_results(&self) -> Result<()> {
        let Some(ResultsTable { flop, anytime_top1, budgeted_gflops, budgeted_top1 }) = &self.results else {
            return Ok(());
        };
        let lists = [flop, anytime_top1, budgeted_gflops, budgeted_top1];
        let finite = lists.into_iter().flatten().flatten().all(|v| v.is_finite());
        let length = |list: &Option<Vec<f64>>| list.as_ref().map(Vec::len);
        if finite && length(budgeted_gflops) == length(budgeted_top1) {
            return Ok(());
        }
        let message = "[results]: expected finite numbers, as many in `budgeted_gflops` as in `budgeted_top1`";
        Err(Error::new(Kind::Model, message))
    }

    /// The manifest as TOML.
    ///
    /// # Errors
    /// [`Kind::Io`] when a value has no form in TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::caused(Kind::Io, "cannot write the manifest", e))
    }

    /// The geometry that the manifest claims.
    ///
    /// # Errors
    /// [`Kind::Model`] for an unknown family.
    pub fn geometry(&self) -> Result<Geometry> {
        let GeometryTable { grid, patch, width, depth, heads, hidden, classes, stem } = self.geometry;
        let family = Family::parse(&self.family)?;
        Ok(Geometry { family, grid, patch, width, depth, heads, hidden, classes, stem })
    }

    /// The threshold that the package asks for.
    pub fn threshold(&self) -> Option<f32> {
        self.gate.as_ref()?.threshold.map(|t| t as f32)
    }

    /// The authors' results.
    pub fn results(&self) -> StoredResults {
        let ResultsTable { flop, anytime_top1, budgeted_gflops, budgeted_top1 } =
            self.results.clone().unwrap_or_default();
        let budgeted = budgeted_gflops.zip(budgeted_top1);
        StoredResults {
            flop,
            anytime: anytime_top1,
            budgeted: budgeted.map(|(gflops, top1)| gflops.into_iter().zip(top1).collect()),
        }
    }

    /// Sets the authors' results, rounded: GFLOPs to four digits, percent to three. Nothing measured is finer.
    pub fn set_results(&mut self, results: &StoredResults) {
        let rounded =
            |values: &Vec<f64>, unit: f64| values.iter().map(|v| (v * unit).round() / unit).collect::<Vec<_>>();
        let budgeted = results.budgeted.as_ref().map(|pairs| pairs.iter().copied().unzip::<f64, f64, Vec<_>, Vec<_>>());
        let table = ResultsTable {
            flop: results.flop.as_ref().map(|v| rounded(v, 1e4)),
            anytime_top1: results.anytime.as_ref().map(|v| rounded(v, 1e3)),
            budgeted_gflops: budgeted.as_ref().map(|(gflops, _)| rounded(gflops, 1e4)),
            budgeted_top1: budgeted.as_ref().map(|(_, top1)| rounded(top1, 1e3)),
        };
        self.results = (table != ResultsTable::default()).then_some(table);
    }
}

/// The parser's message on one line, behind the number of the line that it is about.
pub(super) fn syntax_error(text: &str, error: &toml::de::Error) -> Error {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or("");
    let line = before.matches('\n').count() + 1;
    Error::new(Kind::Model, format!("line {line}: {}", shown(error.message())))
}

/// A plain name in the same folder: nothing that could lead out of it.
fn check_file_name(name: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.is_empty() && name.len() <= 100 && !name.starts_with('.') && name.chars().all(plain) {
        return Ok(());
    }
    let message = format!("`{}` is not the plain name of a file in the package's folder", shown(name));
    Err(Error::new(Kind::Model, message))
}
