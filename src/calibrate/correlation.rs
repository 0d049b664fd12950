//! Frames of a scene resemble the ones before: how far that reaches, and how many independent frames a series is worth.

use super::Observation;

/// Lags with a smaller correlation count as independent.
const NEGLIGIBLE: f64 = 0.05;
/// Thinned until a series is worth at least this part of its length.
pub const ENOUGH: f64 = 0.8;
/// A series shorter than this tells nothing about its correlation.
const SHORTEST: usize = 8;
/// No longer memory is looked for: what has one is far from enough anyway.
const LONGEST_LAG: usize = 2000;

/// How a series hangs together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Correlation {
    /// τ: the first lag at which neither confidences nor disagreements are correlated any more, in frames of the series; 1 where neighbours
    /// are independent already.
    pub lag: usize,
    /// How many independent frames it is worth: for reading, never put into a bound as if it were exact.
    pub n_eff: f64,
}

/// The correlation of `observations`, the larger of that of the confidences and of the disagreements.
pub fn of(observations: &[Observation]) -> Correlation {
    let confidences: Vec<f64> =
        observations.iter().map(|o| if o.confidence.is_nan() { 0.0 } else { f64::from(o.confidence) }).collect();
    let differs: Vec<f64> = observations.iter().map(|o| f64::from(u8::from(o.differs()))).collect();
    let [a, b] = [of_series(&confidences), of_series(&differs)];
    Correlation { lag: a.lag.max(b.lag), n_eff: a.n_eff.min(b.n_eff) }
}

/// `n / (1 + 2 Σ ρ_k)` over the lags up to the first negligible one.
fn of_series(values: &[f64]) -> Correlation {
    let n = values.len();
    let independent = Correlation { lag: 1, n_eff: n as f64 };
    if n < SHORTEST {
        return independent;
    }
    let mean = values.iter().sum::<f64>() / n as f64;
    let covariance =
        |lag: usize| values.iter().zip(&values[lag..]).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>() / n as f64;
    let variance = covariance(0);
    // What is constant, but for rounding, has no correlation.
    if variance <= 1e-12 * (1.0 + mean * mean) {
        return independent;
    }
    let (mut sum, mut lag) = (0.0, 1);
    while lag < (n / 2).min(LONGEST_LAG) {
        let rho = covariance(lag) / variance;
        if rho < NEGLIGIBLE {
            break;
        }
        sum += rho;
        lag += 1;
    }
    Correlation { lag, n_eff: n as f64 / (1.0 + 2.0 * sum) }
}

/// Takes every `step`-th of `items`, with the smallest step at which what is left is worth [`ENOUGH`] of its length; gives the step and the
/// correlation that is left. `observation` says what an item is.
pub fn thin<T: Copy>(items: &[T], observation: impl Fn(&T) -> Observation) -> (Vec<T>, usize, Correlation) {
    let mut step = 1;
    loop {
        let kept: Vec<T> = items.iter().copied().step_by(step).collect();
        let observations: Vec<Observation> = kept.iter().map(&observation).collect();
        let correlation = of(&observations);
        if correlation.n_eff >= ENOUGH * kept.len() as f64 || kept.len() < SHORTEST {
            return (kept, step, correlation);
        }
        // By what is missing, at least by one.
        let factor = kept.len() as f64 / correlation.n_eff.max(1.0);
        step = (step + 1).max((step as f64 * factor.sqrt()) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::schedule::Random;

    /// Confidences of an AR(1) series with correlation time `tau`; 0 for none.
    fn series(n: usize, tau: f64, seed: u64) -> Vec<Observation> {
        let keep = if tau > 0.0 { (-1.0 / tau).exp() } else { 0.0 };
        let mut random = Random(seed);
        let mut uniform = move || random.next_u64() as f64 / u64::MAX as f64 - 0.5;
        let mut state = 0.0;
        (0..n)
            .map(|_| {
                state = keep * state + (1.0 - keep * keep).sqrt() * uniform();
                let confidence = (0.5 + state / 2.0).clamp(0.0, 1.0) as f32;
                Observation { confidence, coarse: usize::from(confidence < 0.3), fine: 0, label: None }
            })
            .collect()
    }

    #[test]
    fn independent_frames_are_worth_themselves_and_a_stream_far_less() {
        let independent = of(&series(4000, 0.0, 1));
        assert!(independent.lag == 1 && independent.n_eff > 3900.0, "{independent:?}");
        // Σ ρ_k of AR(1) is ρ / (1 − ρ): n_eff = n (1 − ρ) / (1 + ρ) = n · 0.05 at τ = 10.
        let stream = of(&series(20_000, 10.0, 2));
        assert!((600.0..1500.0).contains(&stream.n_eff), "{stream:?}");
        assert!((15..60).contains(&stream.lag), "{stream:?}: ρ falls below 0.05 at 3 τ");
        let constant = vec![Observation { confidence: 1.0, coarse: 0, fine: 0, label: None }; 100];
        assert_eq!(of(&constant), Correlation { lag: 1, n_eff: 100.0 });
        assert_eq!(of(&[]), Correlation { lag: 1, n_eff: 0.0 });
    }

    #[test]
    fn a_stream_is_thinned_until_what_is_left_counts() {
        let (kept, step, correlation) = thin(&series(20_000, 10.0, 3), |o| *o);
        assert!((10..60).contains(&step), "{step}");
        assert_eq!(kept.len(), 20_000_usize.div_ceil(step));
        assert!(correlation.n_eff >= ENOUGH * kept.len() as f64);
        assert_eq!(thin(&series(4000, 0.0, 4), |o| *o).1, 1);
        // One long trend: nothing is left that could be counted.
        let trend: Vec<_> =
            (0..1000).map(|i| Observation { confidence: i as f32 / 1000.0, coarse: 0, fine: 0, label: None }).collect();
        assert!(thin(&trend, |o| *o).0.len() < 20);
    }
}
