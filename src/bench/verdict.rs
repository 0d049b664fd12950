//! What the numbers mean: does deciding adaptively pay against one full-resolution pass, and up to which share of fine?

use serde::{Deserialize, Serialize};

use super::stats::Interval;

/// Whether the adaptive path is cheaper than the static one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The whole confidence interval of the saving lies above zero.
    Pays,
    /// It lies below zero.
    DoesNotPay,
    /// It holds zero: this run cannot tell.
    Undecided,
}

impl Verdict {
    /// The verdict on a saving.
    pub fn of(saving: &Interval) -> Self {
        match saving {
            saving if saving.low > 0.0 => Self::Pays,
            saving if saving.high < 0.0 => Self::DoesNotPay,
            _ => Self::Undecided,
        }
    }
}

/// `p* = (t_static − t_coarse − t_gate) / t_fine`: the share of frames that may need the fine stage before the cascade costs more
/// than one static pass. `static_ms` and `coarse_ms` are whole frames (coarse with its gate), each with its own
/// preprocessing; `fine_ms` holds the gather step. Above 1 the cascade always pays, below 0 never. `None` where `fine_ms` is not above 0.
pub fn break_even(static_ms: f64, coarse_ms: f64, fine_ms: f64) -> Option<f64> {
    (fine_ms > 0.0).then(|| (static_ms - coarse_ms) / fine_ms)
}

/// What one quantity of the adaptive path saves per frame.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Saving {
    /// Static minus adaptive, per frame: the mean over rounds and its 95 % confidence interval.
    pub per_frame: Interval,
    /// The mean in percent of the static mean.
    pub percent: f64,
}

impl Saving {
    /// A saving of `per_frame` where the static path takes `static_mean`.
    pub fn new(per_frame: Interval, static_mean: f64) -> Self {
        let percent = if static_mean > 0.0 { 100.0 * per_frame.mean / static_mean } else { 0.0 };
        Self { per_frame, percent }
    }

    /// `saves 12.3 ms (45.0 %; 95 % interval 12.1 to 12.5 ms)`, or what it costs more.
    fn phrase(&self, unit: &str) -> String {
        let Interval { mean, low, high } = self.per_frame;
        let percent = self.percent.abs();
        match mean >= 0.0 {
            true => format!("saves {mean:.2} {unit} ({percent:.1} %; 95 % interval {low:.2} to {high:.2} {unit})"),
            false => {
                let (mean, low, high) = (-mean, -high, -low);
                format!("costs {mean:.2} {unit} more ({percent:.1} %; 95 % interval {low:.2} to {high:.2} {unit})")
            }
        }
    }
}

/// The result in one sentence.
pub fn sentence(latency: &Saving, energy: Option<&Saving>, fine_share: f64, break_even: Option<f64>) -> String {
    let verdict = match Verdict::of(&latency.per_frame) {
        Verdict::Pays => "The adaptive path pays",
        Verdict::DoesNotPay => "The adaptive path does not pay",
        Verdict::Undecided => "Whether the adaptive path pays cannot be told from this run",
    };
    let latency = latency.phrase("ms");
    let energy = energy.map_or("energy was not measured".to_owned(), |saving| format!("it {}", saving.phrase("mJ")));
    let share = 100.0 * fine_share;
    let limit = match break_even {
        Some(limit) if limit <= 0.0 => {
            "the coarse stage alone costs as much as static, so no share would pay".to_owned()
        }
        Some(limit) if limit >= 1.0 => format!("break-even is {:.1} %, above any share", 100.0 * limit),
        Some(limit) => format!("break-even is {:.1} %", 100.0 * limit),
        None => "break-even is unknown".to_owned(),
    };
    format!(
        "{verdict}: per frame it {latency} against static, {energy}; {share:.1} % of the frames were fine, {limit}."
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn saving(mean: f64, low: f64, high: f64) -> Saving {
        Saving::new(Interval { mean, low, high }, 20.0)
    }

    #[test]
    fn a_saving_is_said_with_its_interval_and_the_break_even_share() {
        let energy = saving(50.0, 40.0, 60.0);
        let text = sentence(&saving(5.0, 4.0, 6.0), Some(&energy), 0.27, break_even(20.0, 8.0, 16.0));
        for part in ["adaptive path pays", "saves 5.00 ms (25.0 %; 95 % interval 4.00 to 6.00 ms)", "saves 50.00 mJ"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(text.contains("27.0 % of the frames were fine, break-even is 75.0 %"), "{text}");
    }

    #[test]
    fn a_loss_is_said_plainly() {
        let loss = saving(-2.0, -3.0, -1.0);
        assert_eq!(Verdict::of(&loss.per_frame), Verdict::DoesNotPay);
        let text = sentence(&loss, None, 0.9, break_even(20.0, 8.0, 16.0));
        assert!(text.starts_with("The adaptive path does not pay: per frame it costs 2.00 ms more"), "{text}");
        assert!(text.contains("95 % interval 1.00 to 3.00 ms") && text.contains("energy was not measured"), "{text}");
    }

    #[test]
    fn an_interval_around_zero_decides_nothing() {
        let text = sentence(&saving(0.1, -0.2, 0.4), None, 0.7, Some(0.71));
        assert!(text.starts_with("Whether the adaptive path pays cannot be told"), "{text}");
    }

    #[test]
    fn break_even_at_its_edges() {
        assert_eq!(break_even(20.0, 20.0, 5.0), Some(0.0));
        assert_eq!(break_even(20.0, 8.0, 0.0), None);
        let at = |limit| sentence(&saving(1.0, 0.5, 1.5), None, 0.5, limit);
        assert!(at(Some(1.2)).contains("above any share") && at(Some(-0.1)).contains("no share would pay"));
    }

    proptest! {
        /// At the break-even share both paths cost the same; below it the cascade is the cheaper one.
        #[test]
        fn the_break_even_share_is_where_the_costs_meet(
            full in 1.0f64..100.0, coarse in 0.1f64..50.0, fine in 0.1f64..100.0, share in 0.0f64..=1.0,
        ) {
            let limit = break_even(full, coarse, fine).unwrap();
            prop_assert!((coarse + limit * fine - full).abs() < 1e-9 * full.max(coarse));
            prop_assume!((share - limit).abs() > 1e-9);
            prop_assert_eq!(share < limit, coarse + share * fine < full);
        }
    }
}
