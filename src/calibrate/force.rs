//! Which threshold is in force: what was asked for, the certificate's where it holds, else the model's.

use super::Keys;
use crate::model::package::Certificate;

/// η that refines every frame, whatever its confidence.
pub const ALWAYS_REFINE: f32 = 2.0;

/// Whether what was promised still holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing was promised.
    Uncertified,
    /// The threshold is the certificate's, or a higher one that keeps its limit on errors.
    Certified,
    /// Another threshold was asked for, and it breaks the promise.
    Overridden,
    /// The certificate was made for something else: what, in words.
    Mismatch(String),
}

/// A threshold, and what it rests on.
#[derive(Clone, Debug, PartialEq)]
pub struct InForce {
    /// η
    pub threshold: f32,
    /// What it rests on.
    pub standing: Standing,
}

/// The threshold in force: `asked` stands above everything; then the `certificate`, if `keys` are those that it was made for, else every
/// frame is refined, unless `allow_uncertified`; then `other`.
pub fn in_force(
    asked: Option<f32>,
    certificate: Option<(&Certificate, &Keys)>,
    other: f32,
    allow_uncertified: bool,
) -> InForce {
    let Some((certificate, keys)) = certificate else {
        return InForce { threshold: asked.unwrap_or(other), standing: Standing::Uncertified };
    };
    let difference = keys.difference(certificate);
    let has_budget = certificate.target.is_budget() || certificate.budget.is_some();
    let standing = match (&difference, asked) {
        (Some(difference), _) => Standing::Mismatch(difference.clone()),
        (None, None) => Standing::Certified,
        // Raising η keeps a limit on errors; a budget holds for one η only.
        (None, Some(asked)) if !has_budget && asked >= certificate.floor() => Standing::Certified,
        (None, Some(_)) => Standing::Overridden,
    };
    let threshold = asked.unwrap_or(match difference.is_some() && !allow_uncertified {
        true => ALWAYS_REFINE,
        false => certificate.threshold(),
    });
    InForce { threshold, standing }
}

impl InForce {
    /// What an operator must know, if anything.
    pub fn warning(&self) -> Option<String> {
        match &self.standing {
            Standing::Uncertified | Standing::Certified => None,
            Standing::Overridden => Some(format!(
                "uncertified: the threshold {} that was asked for breaks what the certificate promises",
                self.threshold
            )),
            Standing::Mismatch(difference) if self.threshold == ALWAYS_REFINE => Some(format!(
                "the certificate does not hold here, so every frame is refined: {difference}. `cfvit calibrate` makes one that does; \
                 --allow-uncertified uses its threshold without a promise"
            )),
            Standing::Mismatch(difference) => {
                Some(format!("uncertified: the certificate does not hold here: {difference}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::package::{Target, certificate_sample};

    fn keys(certificate: &Certificate) -> Keys {
        Keys {
            engine: certificate.engine.clone(),
            engine_sha256: certificate.engine_sha256.clone(),
            preprocess_sha256: certificate.preprocess_sha256.clone(),
            power_mode: certificate.power_mode.clone(),
        }
    }

    #[test]
    fn a_certificate_stands_above_the_model_s_threshold_and_below_what_is_asked() {
        let certificate = certificate_sample();
        let keys = keys(&certificate);
        let of = |asked| in_force(asked, Some((&certificate, &keys)), 0.5, false);
        assert_eq!(of(None), InForce { threshold: certificate.threshold(), standing: Standing::Certified });
        assert_eq!(of(Some(0.95)).standing, Standing::Certified, "a higher threshold keeps a limit on errors");
        assert_eq!(of(Some(0.3)), InForce { threshold: 0.3, standing: Standing::Overridden });
        assert!(of(Some(0.3)).warning().unwrap().contains("uncertified"));
        assert_eq!(in_force(None, None, 0.5, false), InForce { threshold: 0.5, standing: Standing::Uncertified });
        let budget = Certificate { target: Target::Latency, limit: 20.0, budget: None, ..certificate.clone() };
        assert_eq!(in_force(Some(0.0), Some((&budget, &keys)), 0.5, false).standing, Standing::Overridden);
    }

    #[test]
    fn a_certificate_for_something_else_refines_every_frame_unless_that_is_allowed() {
        let certificate = certificate_sample();
        let other = Keys {
            engine: "CPU, portable, 2 threads, f32".into(),
            engine_sha256: "other".into(),
            ..keys(&certificate)
        };
        let refused = in_force(None, Some((&certificate, &other)), 0.5, false);
        assert_eq!(refused.threshold, ALWAYS_REFINE);
        let warning = refused.warning().unwrap();
        assert!(
            warning.contains("AVX-512") && warning.contains("portable") && warning.contains("every frame is refined"),
            "{warning}"
        );
        let allowed = in_force(None, Some((&certificate, &other)), 0.5, true);
        assert_eq!(allowed.threshold, certificate.threshold());
        assert!(allowed.warning().unwrap().starts_with("uncertified"));
        assert_eq!(in_force(Some(0.4), Some((&certificate, &other)), 0.5, false).threshold, 0.4);
    }
}
