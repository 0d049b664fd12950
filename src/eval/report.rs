//! The JSON file of `cfvit eval`.

use serde::{Deserialize, Serialize};

use super::detail::{ClassCounts, Mistake, Reliabilities};
use super::{Accuracy, Dynamic, SweepPoint};
use crate::bench::energy::Energy;
use crate::bench::report::Frames;
use crate::machine::State;

/// Everything; percentages in percent, fractions 0 to 1, cost in 1e9 multiply-accumulates. What was not measured is `null` or absent.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// The model's name.
    pub model: String,
    /// Pictures that were read.
    pub images: usize,
    /// Pictures that could not be.
    pub unreadable: usize,
    /// The crop ratio.
    pub crop: f64,
    /// η.
    pub threshold: f32,
    /// The cost of the stages.
    pub gmacs: Gmacs,
    /// The coarse stage alone.
    pub coarse: Accuracy,
    /// The fine stage on every picture.
    pub fine: Accuracy,
    /// The cascade at η.
    pub dynamic: Dynamic,
    /// One full-resolution pass for every picture.
    #[serde(default)]
    pub r#static: Option<Accuracy>,
    /// The curve over all thresholds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Vec<SweepPoint>>,
    /// Under which conditions this was made.
    #[serde(default)]
    pub conditions: Option<Conditions>,
    /// The classes' names, in class order.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The classes that have pictures.
    #[serde(default)]
    pub classes: Vec<ClassCounts>,
    /// `[right class, answered class, pictures]` of the cascade.
    #[serde(default)]
    pub confusion: Vec<[usize; 3]>,
    /// How far confidences can be believed.
    #[serde(default)]
    pub reliability: Option<Reliabilities>,
    /// The wrong answers that the cascade was surest of, the surest first.
    #[serde(default)]
    pub worst: Vec<Mistake>,
    /// What frames cost on this machine.
    #[serde(default)]
    pub cost: Option<Cost>,
}

/// Multiply-accumulates of a picture, in units of 1e9, counted as the paper does.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Gmacs {
    /// The coarse stage.
    pub coarse: f64,
    /// What the fine stage adds.
    pub fine: f64,
}

/// Under which conditions a report was made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Conditions {
    /// The program and its version.
    pub program: String,
    /// The commit that it was built from.
    pub revision: Option<String>,
    /// The release of the Linux kernel.
    pub kernel: Option<String>,
    /// When the evaluation ended (RFC 3339).
    pub time: String,
    /// The command line that evaluates again.
    pub rerun: String,
    /// The processor or board.
    pub cpu: Option<String>,
    /// Backend, instruction set, threads, arithmetic.
    pub engine: String,
    /// The model's shape.
    pub geometry: String,
    /// The folder of pictures.
    pub source: String,
    /// The machine at the end.
    pub machine: State,
}

/// What frames cost, measured on some of the pictures after the evaluation: from the decoded picture to the decision.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Cost {
    /// Rounds, each of which runs every baseline once.
    pub rounds: usize,
    /// Milliseconds by baseline.
    pub frames_ms: Frames,
    /// Energy; `null` where it was not measured.
    pub energy: Option<Energy>,
    /// Why the numbers are to be taken with care.
    pub warnings: Vec<String>,
}

impl Cost {
    /// The mean milliseconds of a frame where the share `fine` (0 to 1) is refined.
    pub fn ms(&self, fine: f64) -> f64 {
        let (coarse, both) = (self.frames_ms.coarse_only.mean, self.frames_ms.fine_always.mean);
        coarse + fine * (both - coarse)
    }

    /// The mean millijoules of a frame where the share `fine` (0 to 1) is refined; `None` where energy was not measured.
    pub fn mj(&self, fine: f64) -> Option<f64> {
        let energy = self.energy.as_ref()?;
        let (coarse, both) = (energy.coarse_only.mj_per_frame, energy.fine_always.mj_per_frame);
        Some(coarse + fine * (both - coarse))
    }
}

impl Report {
    /// The result in one sentence.
    pub fn sentence(&self) -> String {
        let Dynamic { top1, fine_fraction, .. } = self.dynamic;
        let loss = self.fine.top1 - top1;
        let against = match loss {
            loss if loss > 0.05 => format!("{loss:.1} points below"),
            loss if loss < -0.05 => format!("{:.1} points above", -loss),
            _ => "as good as".to_owned(),
        };
        let interval = crate::stats::share(top1 / 100.0 * self.images as f64, self.images)
            .map_or(String::new(), |i| format!(" (95 % interval {:.1} to {:.1} %)", 100.0 * i.low, 100.0 * i.high));
        let cost = self.cost.as_ref().map_or("what that takes here was not measured".to_owned(), |cost| {
            let (ms, fine) = (cost.ms(fine_fraction), cost.ms(1.0));
            format!("a frame takes {ms:.2} ms on average here, refining all of them {fine:.2} ms")
        });
        format!(
            "At η = {} the cascade is right on {top1:.1} % of {} pictures{interval}, {against} refining every one; {:.1} % are refined, and {cost}.",
            self.threshold,
            self.images,
            100.0 * fine_fraction
        )
    }
}
