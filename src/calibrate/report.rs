//! What is said about a calibration: one sentence, the curve, what is not promised, and what a tighter promise would take.

use std::fmt::Write;

use serde::Serialize;

use super::{Observation, Risk, Solution, binomial, plan, rule, share_of_fine};
use crate::model::package::{Certificate, Target};

/// A point of the curve from a limit to what it costs. Each row is a promise of its own: keeping the nicest of several is none.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The share of bad frames, 0 to 1.
    pub limit: f64,
    /// η; `None` where there are too few frames.
    pub eta: Option<f32>,
    /// Estimated share of fine, 0 to 1.
    pub fine_share: Option<f64>,
    /// The fewest frames that the limit takes.
    pub fewest: u64,
}

/// Accuracy of fine-always less that of the cascade, with a normal interval: reported, not promised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// In points.
    pub mean: f64,
    /// Half the width of the interval, in points.
    pub half: f64,
    /// Frames with a known right class.
    pub labelled: usize,
}

/// The curve over the limits that people ask for, and `asked`.
pub fn curve(observations: &[Observation], risk: Risk, delta: f64, asked: Option<f64>) -> Vec<Row> {
    let mut limits: Vec<f64> = plan::LIMITS.into_iter().chain(asked).collect();
    limits.sort_unstable_by(|a, b| b.total_cmp(a));
    limits.dedup();
    let n = observations.len() as u64;
    let row = |limit: f64| {
        let mut bad = observations.iter().filter(|o| o.is_bad(risk)).map(|o| o.confidence).collect();
        let eta = rule::floor(&mut bad, n, limit, delta).map(|bound| bound.eta);
        let fine_share = eta.map(|eta| share_of_fine(observations, eta, delta)[1]);
        Row { limit, eta, fine_share, fewest: binomial::fewest(limit, delta) }
    };
    limits.into_iter().map(row).collect()
}

/// The gap at `eta`; `None` where the right class of a frame with two answers is not known, and for fewer than two frames. Frames with one
/// answer add nothing to it, whatever is right.
pub fn gap(observations: &[Observation], eta: f32) -> Option<Gap> {
    let difference = |o: &Observation| match o.label {
        _ if !o.differs() => Some(0.0),
        Some(label) => {
            let answer = if o.stops(eta) { o.coarse } else { o.fine };
            Some(f64::from(u8::from(o.fine == label)) - f64::from(u8::from(answer == label)))
        }
        None => None,
    };
    let differences = observations.iter().map(difference).collect::<Option<Vec<f64>>>()?;
    let n = differences.len() as f64;
    let labelled = observations.iter().filter(|o| o.label.is_some()).count();
    if differences.len() < 2 || labelled == 0 {
        return None;
    }
    let mean = differences.iter().sum::<f64>() / n;
    let variance = differences.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some(Gap { mean: 100.0 * mean, half: 196.0 * (variance / n).sqrt(), labelled })
}

/// What a certificate promises, in one sentence.
pub fn sentence(certificate: &Certificate) -> String {
    let c = certificate;
    let percent = 100.0 * c.confidence;
    let promise = match c.target {
        Target::Loss => {
            format!("at most {} of frames lose a right answer that refining would have given", points(c.limit))
        }
        Target::Disagreement => {
            format!("at most {} of frames get another answer than refining would give", points(c.limit))
        }
        Target::Latency => format!("a frame takes at most {} ms on average", c.limit),
        Target::Energy => format!("a frame takes at most {} mJ on average", c.limit),
    };
    let budget = match (&c.budget, c.target.is_budget()) {
        (Some(budget), false) => {
            let unit = if budget.target == Target::Latency { "ms" } else { "mJ" };
            format!(" and at most {} {unit} on average", budget.limit)
        }
        _ => String::new(),
    };
    let mut text = format!(
        "With {percent:.4} % confidence {promise}{budget}, at η = {}; {:.0} % go fine; {} frames",
        c.threshold(),
        100.0 * c.fine_share[1],
        c.n
    )
    .replace(".0000 %", " %");
    if let Some(hours) = c.span_h {
        let _ = write!(text, ", {hours:.1} h");
    }
    text + "."
}

/// `1 %`, `0.5 %`: a share as people write it.
pub fn points(share: f64) -> String {
    format!("{} %", (share * 1e6).round() / 1e4)
}

/// Everything below the sentence: counts, curve, gap, what is not promised, and what comes next.
pub fn details(certificate: &Certificate, solution: &Solution, curve: &[Row], gap: Option<Gap>, delta: f64) -> String {
    let mut text = String::new();
    let c = certificate;
    if let Some(floor) = &solution.floor {
        let _ = writeln!(
            text,
            "  errors   {} of {} frames are bad at η = {} ({} allowed), so at most {:.3} % of all such frames",
            floor.bound.seen,
            c.n,
            floor.bound.eta,
            floor.bound.allowed,
            100.0 * floor.upper
        );
    }
    if let Some(ceiling) = &solution.ceiling {
        let unit = ceiling.budget.unit.as_str();
        let _ = writeln!(
            text,
            "  cost     {:.3} {unit} without refining (at most {:.3}), {:.3} for refining (at most {:.3}): {:.1} % may be refined, η ≤ {}",
            ceiling.means[0],
            ceiling.uppers[0],
            ceiling.means[1],
            ceiling.uppers[1],
            100.0 * ceiling.share,
            ceiling.bound.eta
        );
    }
    let [low, estimate, high] = solution.fine_share.map(|share| 100.0 * share);
    let _ = writeln!(text, "  fine     {estimate:.1} % ({low:.1} to {high:.1})");
    if let Some(gap) = gap {
        let _ = writeln!(
            text,
            "  gap      fine-always is {:+.2} points more accurate (± {:.2}, {} frames with labels; reported, not promised)",
            gap.mean, gap.half, gap.labelled
        );
    }
    text.push_str(&curve_text(curve));
    text.push_str(&not_promised(c));
    if let Some((limit, fewest, good)) =
        solution.floor.as_ref().and_then(|floor| plan::tighter(floor.accuracy.limit, delta))
    {
        let have = c.n;
        let _ = writeln!(
            text,
            "  tighter  {} takes {fewest} frames at least ({} more), {good} to leave room for {:.0} % of it ({} more)",
            points(limit),
            fewest.saturating_sub(have),
            100.0 * plan::ROOM,
            good.saturating_sub(have)
        );
    }
    text
}

fn curve_text(curve: &[Row]) -> String {
    let mut text = String::from("  limit    η (each row by itself; choosing the nicest row is a promise of none)\n");
    for row in curve {
        let _ = match (row.eta, row.fine_share) {
            (Some(eta), Some(share)) => {
                writeln!(text, "  {:>6}   {eta:.6}  {:>5.1} % fine", points(row.limit), 100.0 * share)
            }
            _ => writeln!(text, "  {:>6}   too few frames: {} at least", points(row.limit), row.fewest),
        };
    }
    text
}

/// What the certificate does not say, and what weakens it.
fn not_promised(c: &Certificate) -> String {
    let mut text = format!("  assumes  {}, and frames like these\n", c.assumption);
    match c.target.is_budget() {
        true => text.push_str(
            "  not      promised: any error rate; single frames; another power mode, thermal state or load\n",
        ),
        false => text.push_str(
            "  not      promised: single classes; other scenes, light or cameras; frames that fool both stages alike\n",
        ),
    }
    if c.budget.is_some() {
        text.push_str("           the bounds on mean costs are Student's over blocks, so approximate\n");
    }
    if c.budget.is_some_and(|budget| budget.target == Target::Energy) {
        text.push_str("           energy is the machine's while it computes, idle power included; not what it draws between frames\n");
    }
    if let Some(hours) = c.span_h.filter(|&hours| hours < 24.0) {
        let _ = writeln!(
            text,
            "  warning  the frames cover {hours:.1} h: less than a day knows little of the night, or of the other daylight"
        );
    }
    if c.attempts > 1 {
        let _ = writeln!(
            text,
            "  warning  the {} promises made from these frames do not all hold together: for that each needs --confidence {:.2}, or new frames",
            c.attempts,
            100.0 * (1.0 - (1.0 - c.confidence) / f64::from(c.attempts))
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::package::certificate_sample;

    #[test]
    fn the_sentence_says_limit_confidence_share_frames_and_hours() {
        let text = sentence(&certificate_sample());
        let expected = "With 95 % confidence at most 1 % of frames get another answer than refining would give, at η = 0.8731247; \
                        71 % go fine; 3000 frames, 26.0 h.";
        assert_eq!(text, expected);
        let latency = Certificate { target: Target::Latency, limit: 20.0, span_h: None, ..certificate_sample() };
        assert!(sentence(&latency).contains("a frame takes at most 20 ms on average, at η"));
    }

    #[test]
    fn the_curve_falls_and_says_where_frames_are_missing() {
        let frame = |i: usize| Observation {
            confidence: i as f32 / 400.0,
            coarse: usize::from(i.is_multiple_of(7)),
            fine: 0,
            label: Some(0),
        };
        let frames: Vec<_> = (0..400).map(frame).collect();
        let curve = curve(&frames, Risk::Loss, 0.05, Some(0.03));
        assert!(curve.iter().any(|row| row.limit == 0.03));
        assert!(
            curve
                .windows(2)
                .all(|rows| rows[0].limit > rows[1].limit && rows[1].eta.is_none_or(|eta| rows[0].eta.unwrap() <= eta))
        );
        assert!(curve.last().unwrap().eta.is_none() && curve_text(&curve).contains("too few frames: 2995 at least"));
        let gap = gap(&frames, 0.0).unwrap();
        assert!((gap.mean - 100.0 * 58.0 / 400.0).abs() < 1e-9 && gap.half > 0.0 && gap.labelled == 400);
        // Labels of the disagreements alone say the same; one that is missing leaves the gap unknown.
        let only = |o: &Observation| Observation { label: o.label.filter(|_| o.differs()), ..*o };
        let mut disagreements: Vec<_> = frames.iter().map(only).collect();
        assert_eq!(super::gap(&disagreements, 0.0).unwrap(), Gap { labelled: 58, ..gap });
        disagreements[0].label = None;
        assert_eq!(super::gap(&disagreements, 0.0), None);
    }

    #[test]
    fn what_weakens_a_promise_is_said() {
        let short = Certificate { span_h: Some(3.0), attempts: 5, ..certificate_sample() };
        let text = not_promised(&short);
        assert!(text.contains("cover 3.0 h") && text.contains("--confidence 99.00"), "{text}");
        assert!(!not_promised(&certificate_sample()).contains("warning"));
    }
}
