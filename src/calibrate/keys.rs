//! For which engine, preprocessing and power mode a certificate holds.

use sha2::{Digest, Sha256};

use crate::engine::Engine;
use crate::model::package::Certificate;
use crate::model::{Geometry, Model};

/// What a certificate is tied to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// The engine, for people; it names the number of threads, on which times depend.
    pub engine: String,
    /// Sum over the weights and what computes with them.
    pub engine_sha256: String,
    /// Sum over how pictures become tensors.
    pub preprocess_sha256: String,
    /// nvpmodel's, or `none`.
    pub power_mode: String,
}

impl Keys {
    /// Of `engine`, which runs the weights of sum `weights` (from [`weights_sha256`]), on pictures cut by the ratio `crop`.
    pub fn new(weights: &str, engine: &dyn Engine, crop: f64, power_mode: String) -> Self {
        let engine_sha256 = sum(&format!("weights {weights}\nengine {}\n", engine.identity()));
        let preprocess_sha256 = sum(&preprocessing(engine.geometry(), crop));
        Self { engine: engine.describe(), engine_sha256, preprocess_sha256, power_mode }
    }

    /// What keeps `certificate` from holding here, as a person would say it: what it was made for and what is here.
    pub fn difference(&self, certificate: &Certificate) -> Option<String> {
        let differs =
            |what: &str, theirs: &str, ours: &str| Some(format!("it was made for {what} {theirs}, here is {ours}"));
        let short = |sum: &str| sum.get(..12).unwrap_or(sum).to_owned();
        if certificate.engine_sha256 != self.engine_sha256 {
            return match certificate.engine == self.engine {
                true => {
                    let (theirs, ours) = (short(&certificate.engine_sha256), short(&self.engine_sha256));
                    differs("other weights or plans, with the key", &theirs, &ours)
                }
                false => differs("the engine", &certificate.engine, &self.engine),
            };
        }
        if certificate.preprocess_sha256 != self.preprocess_sha256 {
            let (theirs, ours) = (short(&certificate.preprocess_sha256), short(&self.preprocess_sha256));
            return differs("another crop or picture size, with the key", &theirs, &ours);
        }
        // Times and energies also depend on the threads and on the clocks.
        if certificate.target.is_budget() || certificate.budget.is_some() {
            if certificate.engine != self.engine {
                return differs("the engine", &certificate.engine, &self.engine);
            }
            if certificate.power_mode != self.power_mode {
                return differs("power mode", &certificate.power_mode, &self.power_mode);
            }
        }
        None
    }
}

/// The sum over the weights and the geometry of `model`, whatever file they came from.
pub fn weights_sha256(model: &Model) -> String {
    let mut hasher = Sha256::new();
    hasher.update(format!("{}\n", model.geometry));
    let mut bytes = Vec::new();
    for (name, tensor) in &model.tensors {
        hasher.update(format!("{name} {:?}\n", tensor.shape));
        for values in tensor.data.chunks(16 << 10) {
            bytes.clear();
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            hasher.update(&bytes);
        }
    }
    hex(&hasher.finalize())
}

/// How pictures become tensors. To be changed whenever the pixels of the same picture change.
fn preprocessing(geometry: &Geometry, crop: f64) -> String {
    let side = geometry.fine_side();
    format!(
        "shorter side {} by Pillow's bicubic filter, centre {side}, ImageNet's mean and deviation, half by bilinear with aligned corners\n",
        (side as f64 / crop) as usize
    )
}

fn sum(text: &str) -> String {
    crate::files::sha256(text.as_bytes())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::package::{Target, certificate_sample};
    use crate::{engine, model};

    fn keys(change: impl FnOnce(&mut Model), threads: usize, crop: f64) -> Keys {
        let mut model = model::open(None, None).unwrap();
        change(&mut model);
        let weights = weights_sha256(&model);
        Keys::new(&weights, engine::open(model, Some(threads)).unwrap().as_ref(), crop, "15W".into())
    }

    #[test]
    fn whatever_changes_the_answers_changes_the_keys_and_is_named() {
        let ours = keys(|_| {}, 1, 0.875);
        let certificate = Certificate {
            engine: ours.engine.clone(),
            engine_sha256: ours.engine_sha256.clone(),
            preprocess_sha256: ours.preprocess_sha256.clone(),
            power_mode: "15W".into(),
            ..certificate_sample()
        };
        assert_eq!(ours.difference(&certificate), None);
        let weights = keys(|model| model.tensors.values_mut().next().unwrap().data[0] += 1e-3, 1, 0.875);
        assert!(weights.difference(&certificate).unwrap().contains("weights"));
        assert!(keys(|_| {}, 1, 0.9).difference(&certificate).unwrap().contains("crop"));
        let heads = keys(|model| model.geometry.heads = 6, 1, 0.875);
        assert!(heads.difference(&certificate).unwrap().contains("weights"), "another split into heads");

        let threads = keys(|_| {}, 2, 0.875);
        assert_eq!(threads.difference(&certificate), None, "threads change the time only");
        let budget = Certificate { target: Target::Latency, limit: 20.0, ..certificate };
        assert!(threads.difference(&budget).unwrap().contains("2 threads"));
        let mode = Keys { power_mode: "MAXN".into(), ..ours };
        assert!(mode.difference(&budget).unwrap().contains("power mode 15W, here is MAXN"));
    }
}
