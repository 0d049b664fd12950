//! `[calibration]`: the certificate of a threshold η, in a package's manifest or in a file of its own.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::{is_hidden, shown};
use crate::error::{Error, Kind, Result};
use crate::files;

/// The longest certificate file that is read.
const MAX_BYTES: u64 = 64 << 10;

/// What a certificate promises a bound on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// The share of pictures on which stopping at the coarse stage turns a right answer into a wrong one.
    Loss,
    /// The share of pictures that get another answer than refining would give.
    Disagreement,
    /// The mean time of a frame, in milliseconds.
    Latency,
    /// The mean energy of a frame, in millijoules.
    Energy,
}

impl Target {
    /// The word in the manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Target::Loss => "loss",
            Target::Disagreement => "disagreement",
            Target::Latency => "latency",
            Target::Energy => "energy",
        }
    }

    /// Whether it bounds a cost and not an error.
    pub fn is_budget(self) -> bool {
        matches!(self, Target::Latency | Target::Energy)
    }
}

/// A threshold with what it promises, on what evidence, and for which engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Certificate {
    /// η, for people; [`Certificate::eta_bits`] decides.
    pub eta: f64,
    /// η as the bits of a 32-bit float: `0x3f5f851a`.
    pub eta_bits: String,
    /// What is bounded,
    pub target: Target,
    /// and by what: a share from 0 to 1, milliseconds or millijoules.
    pub limit: f64,
    /// Of the promise, 0 to 1, over the draw of the calibration frames.
    pub confidence: f64,
    /// Frames that it rests on,
    pub n: u64,
    /// and how many independent ones those are worth, as far as their autocorrelation tells (for reading only).
    pub n_eff: f64,
    /// Frames that could have broken the promise: the most that the bound allows,
    pub k_allowed: u64,
    /// and how many there were at this η.
    pub k_seen: u64,
    /// An upper bound of the same confidence on what is limited, as seen at this η.
    pub upper: f64,
    /// The share of frames with another answer than refining would give, 0 to 1, that is no alarm while frames run: the limit itself, or what the
    /// calibration frames bound it by.
    pub drift_limit: f64,
    /// Share of fine: lower bound, estimate, upper bound (for reading only).
    pub fine_share: [f64; 3],
    /// The engine, for people.
    pub engine: String,
    /// Sum over the weights, the backend, its precision and its plans.
    pub engine_sha256: String,
    /// Sum over how pictures become tensors.
    pub preprocess_sha256: String,
    /// Sum over the calibration frames.
    pub data_sha256: String,
    /// nvpmodel's, or `none`.
    pub power_mode: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Hours from the first to the last calibration frame, where they have times.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_h: Option<f64>,
    /// Seconds between audited frames, where it rests on an audit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot_s: Option<f64>,
    /// What must hold for the promise.
    pub assumption: String,
    /// How many different certificates were made from the same frames. Above 1, keeping the best of them weakens the promise.
    pub attempts: u32,
    /// The lowest η that keeps the limit, where the threshold was put above it: bits as in [`Certificate::eta_bits`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor_bits: Option<String>,
    /// The cost that η keeps, alone or besides the limit on errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetTerms>,
}

/// `[calibration.budget]`: mean costs of a frame, in milliseconds or millijoules.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetTerms {
    /// [`Target::Latency`] or [`Target::Energy`].
    pub target: Target,
    /// The budget.
    pub limit: f64,
    /// Preprocessing and the coarse stage: mean over blocks,
    pub coarse: f64,
    /// and its upper bound.
    pub coarse_upper: f64,
    /// The choice of cells and the fine stage: mean over blocks,
    pub fine: f64,
    /// and its upper bound.
    pub fine_upper: f64,
    /// The share of fine that the budget allows.
    pub share: f64,
}

/// A certificate in a file of its own, under the same heading as in a manifest.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateFile {
    calibration: Certificate,
}

/// The text of `value`'s bits: `0x3f5f851a`.
pub fn bits(value: f32) -> String {
    format!("{:#010x}", value.to_bits())
}

/// The number whose bits `text` says, if it can be a threshold.
fn from_bits(text: &str) -> Option<f32> {
    let value = f32::from_bits(u32::from_str_radix(text.strip_prefix("0x")?, 16).ok()?);
    (value.is_finite() && (0.0..=2.0).contains(&value)).then_some(value)
}

impl Certificate {
    /// η, exactly. 2 (always refine) for a certificate that [`Certificate::check`] would refuse.
    pub fn threshold(&self) -> f32 {
        from_bits(&self.eta_bits).unwrap_or(2.0)
    }

    /// The lowest η that keeps the limit on errors; 0 where only a budget was asked for.
    pub fn floor(&self) -> f32 {
        match (&self.floor_bits, self.target.is_budget()) {
            (Some(bits), _) => from_bits(bits).unwrap_or(2.0),
            (None, true) => 0.0,
            (None, false) => self.threshold(),
        }
    }

    /// The certificate makes sense: its numbers are in range and η is what its bits say.
    ///
    /// # Errors
    /// [`Kind::Model`] naming the key.
    pub fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::new(Kind::Model, format!("[calibration]: {what}")));
        let Some(eta) = from_bits(&self.eta_bits) else {
            let found = shown(&self.eta_bits);
            return wrong(&format!("`eta_bits` is `{found}`, expected the bits of a number from 0 to 2: 0x3f000000"));
        };
        // Half a unit of the sixth digit: people may have shortened it, not changed it.
        if (self.eta - f64::from(eta)).abs() > 5e-7 || self.eta.is_nan() {
            return wrong(&format!("`eta` is {}, its bits say {eta}: calibrate anew instead of editing", self.eta));
        }
        if self.floor_bits.as_ref().is_some_and(|bits| from_bits(bits).is_none_or(|floor| floor > eta)) {
            return wrong("`floor_bits` is no number from 0 to η");
        }
        let share = |value: f64| (0.0..=1.0).contains(&value);
        if !(self.limit.is_finite() && self.limit > 0.0 && (self.target.is_budget() || share(self.limit))) {
            return wrong(&format!("`limit` is {}, expected a share up to 1, or a cost above 0", self.limit));
        }
        if !share(self.confidence)
            || !self.fine_share.into_iter().chain([self.drift_limit]).all(share)
            || self.k_allowed > self.n
        {
            return wrong(
                "expected `confidence`, `drift_limit` and `fine_share` from 0 to 1, and `k_allowed` up to `n`",
            );
        }
        if !(self.n_eff.is_finite() && self.upper.is_finite()) || self.budget.is_some_and(|b| !b.is_finite()) {
            return wrong("expected finite numbers");
        }
        let texts = [&self.engine, &self.power_mode, &self.created, &self.assumption];
        match texts.into_iter().find(|text| text.chars().any(is_hidden)) {
            Some(text) => wrong(&format!("`{}` has control characters", shown(text))),
            None => Ok(()),
        }
    }

    /// The certificate in a file of its own.
    ///
    /// # Errors
    /// [`Kind::Io`] when it cannot be read, [`Kind::Model`] when it is none.
    pub fn read(path: &Path) -> Result<Self> {
        let within = |e: Error| e.within(format!("cannot read the certificate {}", path.display()));
        let (mut file, len) = super::open_regular(path).map_err(within)?;
        if len > MAX_BYTES {
            let message = format!("it has {len} bytes, a certificate at most {MAX_BYTES}");
            return Err(within(Error::new(Kind::Model, message)));
        }
        let text = super::read_text(&mut file, MAX_BYTES).map_err(within)?;
        Self::parse(&text).map_err(within)
    }

    fn parse(text: &str) -> Result<Self> {
        let file: CertificateFile = toml::from_str(text).map_err(|e| super::manifest::syntax_error(text, &e))?;
        file.calibration.check()?;
        Ok(file.calibration)
    }

    /// Writes it to a file of its own, in one step.
    ///
    /// # Errors
    /// As [`files::write_atomic`].
    pub fn write(&self, path: &Path) -> Result<()> {
        files::write_atomic(path, self.to_toml()?.as_bytes())
    }

    /// `[calibration]` and what stands under it.
    ///
    /// # Errors
    /// [`Kind::Io`] when a value has no form in TOML.
    pub(super) fn to_toml(&self) -> Result<String> {
        let file = CertificateFile { calibration: self.clone() };
        toml::to_string(&file).map_err(|e| Error::caused(Kind::Io, "cannot write the certificate", e))
    }
}

impl BudgetTerms {
    fn is_finite(&self) -> bool {
        let Self { target: _, limit, coarse, coarse_upper, fine, fine_upper, share } = *self;
        [limit, coarse, coarse_upper, fine, fine_upper, share].into_iter().all(f64::is_finite)
    }
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
pub(crate) mod tests;
