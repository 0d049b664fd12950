//! The result: its JSON keys and its tables.

use std::fmt;

use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};

use super::energy::{Draw, Energy};
use super::machine::{Change, Memory, State};
use super::measure::Samples;
use super::percentiles::Percentiles;
use super::schedule::Baseline;
use super::stats::{Summary, mean, paired_difference};
use super::verdict::{Saving, Verdict, break_even, sentence};
use super::windows::Window;
use crate::model::{Geometry, Macs};

/// Version of the JSON keys; a change of meaning raises it.
pub const SCHEMA: u32 = 1;

/// Under which conditions was measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Conditions {
    /// The program and its version.
    pub program: String,
    /// The commit that it was built from; `null` where that is not known.
    #[serde(default)]
    pub revision: Option<String>,
    /// The release of the Linux kernel.
    #[serde(default)]
    pub kernel: Option<String>,
    /// When the measurement ended (RFC 3339).
    pub time: String,
    /// The command line that measures again.
    pub rerun: String,
    /// The processor or board; `null` where Linux does not tell.
    pub cpu: Option<String>,
    /// Backend, instruction set, threads, arithmetic.
    pub engine: String,
    /// Compute threads.
    pub threads: usize,
    /// The model's name.
    pub model: String,
    /// The model's shape.
    pub geometry: String,
    /// η.
    pub threshold: f32,
    /// The crop ratio.
    pub crop: f64,
    /// The folder of pictures, or `synthetic`.
    pub source: String,
    /// Different pictures.
    pub pictures: usize,
    /// Frames a second on the fixed schedule; `null` is back to back.
    pub paced_fps: Option<f64>,
    /// Paced frames that started more than a period late.
    pub late_frames: u64,
    /// The seed of orders and synthetic pictures.
    pub seed: u64,
}

/// Times of the steps, in milliseconds: those of fine-always frames, and the static baseline's pass.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Steps {
    /// Reading and decoding a file, before the measurement; `null` for synthetic pictures.
    pub decode: Option<Summary>,
    /// Resize, crop, both tensors.
    pub preprocess: Summary,
    /// The coarse pass.
    pub coarse: Summary,
    /// The gate.
    pub gate: Summary,
    /// The choice of the informative cells.
    pub gather: Summary,
    /// The fine pass.
    pub fine: Summary,
    /// One full-resolution pass.
    pub r#static: Summary,
    /// The passes by the device's own clock (CUDA events); `null` on the CPU.
    pub device: Option<DeviceSteps>,
}

/// Times of the passes on the device, in milliseconds: without copies, launches and waiting on the host.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DeviceSteps {
    /// The coarse pass.
    pub coarse: Summary,
    /// The fine pass.
    pub fine: Summary,
    /// One full-resolution pass.
    pub r#static: Summary,
}

/// Times of whole frames, from the decoded picture to the decision, in milliseconds.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Frames {
    /// Preprocessing of the fine tensor, one full-resolution pass.
    pub r#static: Summary,
    /// Preprocessing, coarse pass, gate.
    pub coarse_only: Summary,
    /// Preprocessing, coarse pass, gate, gather, fine pass.
    pub fine_always: Summary,
    /// By the gate at η.
    pub adaptive: Summary,
}

impl Frames {
    /// The times of a series; `None` where it has no round.
    pub fn of(samples: &Samples) -> Option<Self> {
        let [full, coarse, fine, adaptive] = &samples.frames;
        Some(Self {
            r#static: Summary::of(full)?,
            coarse_only: Summary::of(coarse)?,
            fine_always: Summary::of(fine)?,
            adaptive: Summary::of(adaptive)?,
        })
    }

    /// All, as [`Baseline::ALL`] orders them.
    pub fn all(&self) -> [&Summary; 4] {
        [&self.r#static, &self.coarse_only, &self.fine_always, &self.adaptive]
    }
}

/// The arithmetic of one pass.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Arithmetic {
    /// Multiply-accumulates as the paper counts.
    pub paper_macs: u64,
    /// Multiply-accumulates that the engine executes.
    pub executed_macs: u64,
    /// 10^9 executed floating-point operations a second (two a multiply-accumulate), at the median time.
    pub gflops: f64,
    /// Of the peak of the same minute, in percent; `null` where the engine has no measure of it.
    pub peak_percent: Option<f64>,
}

/// The arithmetic of all passes.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
pub struct Compute {
    /// 10^9 floating-point operations a second that all threads reach with multiply-adds alone: the better of a measurement before
    /// and one after.
    pub peak_gflops: Option<f64>,
    /// The coarse pass.
    pub coarse: Arithmetic,
    /// The fine pass.
    pub fine: Arithmetic,
    /// The static baseline's pass.
    pub r#static: Arithmetic,
}

/// What the adaptive path saves against static.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Savings {
    /// In milliseconds.
    pub latency_ms: Saving,
    /// In millijoules; `null` where energy was not measured.
    pub energy_mj: Option<Saving>,
}

/// The machine around the series.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Machine {
    /// Before the series.
    pub before: State,
    /// After it.
    pub after: State,
    /// Between the two.
    pub change: Change,
    /// This program's memory at the end.
    pub memory: Memory,
}

/// Everything; the JSON file.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// [`SCHEMA`]
    pub schema: u32,
    /// Under which conditions was measured.
    pub conditions: Conditions,
    /// Rounds of the alternating series.
    pub rounds: usize,
    /// Milliseconds by step.
    pub steps_ms: Steps,
    /// Milliseconds by baseline.
    pub frames_ms: Frames,
    /// The distribution behind `frames_ms`; `null` in files of versions that did not keep it.
    #[serde(default)]
    pub percentiles_ms: Option<Percentiles>,
    /// The machine while the series ran, about second by second.
    #[serde(default)]
    pub windows: Vec<Window>,
    /// Work and rates.
    pub compute: Compute,
    /// Energy; `null` where it was not measured.
    pub energy: Option<Energy>,
    /// Share of the adaptive frames that the fine stage answered, 0 to 1.
    pub fine_share: f64,
    /// `p*`, from medians: see [`break_even`].
    pub break_even_fine_share: Option<f64>,
    /// What the adaptive path saves.
    pub saving: Savings,
    /// Whether that pays in latency.
    pub verdict: Verdict,
    /// The result in one sentence.
    pub sentence: String,
    /// The machine.
    pub machine: Machine,
    /// Why the numbers are to be taken with care; empty for a clean measurement.
    pub warnings: Vec<String>,
}

/// What was measured.
pub struct Measured {
    /// Under which conditions.
    pub conditions: Conditions,
    /// Milliseconds of each decoded file; empty for synthetic pictures.
    pub decode_ms: Vec<f64>,
    /// The alternating series.
    pub samples: Samples,
    /// The model's shape.
    pub geometry: Geometry,
    /// What the engine multiplies.
    pub executed: Macs,
    /// The machine's peak.
    pub peak_gflops: Option<f64>,
    /// The energy blocks.
    pub energy: Option<Energy>,
    /// The machine.
    pub machine: Machine,
    /// The machine while the series ran.
    pub windows: Vec<Window>,
}

impl Report {
    /// The report on `measured`; `None` for fewer than two rounds, which tell nothing.
    pub fn new(measured: Measured) -> Option<Self> {
        let Measured { conditions, decode_ms, samples, geometry, executed, peak_gflops, energy, machine, windows } =
            measured;
        let steps_ms = steps(&samples, &decode_ms)?;
        let frames_ms = Frames::of(&samples)?;
        let [full, .., adaptive] = &samples.frames;
        let latency_ms = Saving::new(paired_difference(full, adaptive)?, mean(full)?);
        let saving = Savings { latency_ms, energy_mj: energy.as_ref().and_then(|energy| energy.saving) };
        let fine_ms = steps_ms.gather.median + steps_ms.fine.median;
        let limit = break_even(frames_ms.r#static.median, frames_ms.coarse_only.median, fine_ms);
        let fine_share = samples.fine_share();
        Some(Self {
            schema: SCHEMA,
            rounds: samples.rounds(),
            percentiles_ms: Some(Percentiles::of(&samples.frames)),
            windows,
            compute: compute(&geometry, &executed, &steps_ms, peak_gflops),
            fine_share,
            break_even_fine_share: limit,
            verdict: Verdict::of(&latency_ms.per_frame),
            sentence: sentence(&latency_ms, saving.energy_mj.as_ref(), fine_share, limit),
            warnings: warnings(&machine.change, &steps_ms, &conditions),
            conditions,
            steps_ms,
            frames_ms,
            energy,
            saving,
            machine,
        })
    }
}

fn steps(samples: &Samples, decode_ms: &[f64]) -> Option<Steps> {
    let step = |of: fn(&crate::frame::Timing) -> f64| Summary::of(&samples.steps.iter().map(of).collect::<Vec<_>>());
    Some(Steps {
        decode: Summary::of(decode_ms),
        preprocess: step(|timing| timing.preprocess_ms)?,
        coarse: step(|timing| timing.coarse_ms)?,
        gate: step(|timing| timing.gate_ms)?,
        gather: step(|timing| timing.gather_ms)?,
        fine: step(|timing| timing.fine_ms)?,
        r#static: Summary::of(&samples.full)?,
        device: device_steps(samples),
    })
}

/// `None` where the device has no clock.
fn device_steps(samples: &Samples) -> Option<DeviceSteps> {
    let step = |of: fn(&crate::frame::Timing) -> Option<f32>| {
        Summary::of(&samples.steps.iter().filter_map(|timing| of(timing).map(f64::from)).collect::<Vec<_>>())
    };
    Some(DeviceSteps {
        coarse: step(|timing| timing.device_coarse_ms)?,
        fine: step(|timing| timing.device_fine_ms)?,
        r#static: Summary::of(&samples.device_full)?,
    })
}

fn compute(geometry: &Geometry, executed: &Macs, steps: &Steps, peak_gflops: Option<f64>) -> Compute {
    let paper = geometry.macs();
    let of = |paper_macs, executed_macs: u64, time: &Summary| {
        let gflops = 2.0 * executed_macs as f64 / (time.median * 1e6).max(1e-9);
        let peak_percent = peak_gflops.map(|peak| 100.0 * gflops / peak);
        Arithmetic { paper_macs, executed_macs, gflops, peak_percent }
    };
    Compute {
        peak_gflops,
        coarse: of(paper.coarse, executed.coarse, &steps.coarse),
        fine: of(paper.fine, executed.fine, &steps.fine),
        r#static: of(paper.full, executed.full, &steps.r#static),
    }
}

/// The scatter is that of the passes: steps of microseconds scatter always, and adaptive frames are of two kinds.
fn warnings(change: &Change, steps: &Steps, conditions: &Conditions) -> Vec<String> {
    let mut warnings = change.warnings();
    let passes = [("coarse", &steps.coarse), ("fine", &steps.fine), ("static", &steps.r#static)];
    warnings.extend(passes.into_iter().filter_map(|(name, times)| super::machine::scatter_warning(name, times)));
    if conditions.late_frames > 0 {
        warnings
            .push(format!("{} frames started late: this machine is slower than --paced asks", conditions.late_frames));
    }
    warnings
}

/// What a person reads, at most 100 columns wide but for the sentence.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Conditions { cpu, engine, model, geometry, threshold, crop, source, pictures, .. } = &self.conditions;
        writeln!(f, "{}; {engine}", cpu.as_deref().unwrap_or("unknown processor"))?;
        writeln!(f, "model {model}: {geometry}")?;
        let pace =
            self.conditions.paced_fps.map_or("back to back".to_owned(), |fps| format!("paced at {fps} frames/s"));
        writeln!(f, "η = {threshold}, crop {crop}, {pictures} pictures ({source}), {} rounds {pace}\n", self.rounds)?;
        writeln!(f, "{}\n", self.times())?;
        writeln!(f, "{}", self.work())?;
        if let Some(peak) = self.compute.peak_gflops {
            writeln!(f, "peak of multiply-adds alone, in the same minute: {peak:.0} GFLOP/s")?;
        }
        writeln!(f, "\n{}", self.draws())?;
        writeln!(f, "{}", self.state())?;
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        write!(f, "\n{}", self.sentence)?;
        if self.conditions.source == "synthetic" {
            write!(f, "\nThe share of fine on synthetic pictures means nothing; real pictures need --source.")?;
        }
        Ok(())
    }
}

impl Report {
    fn times(&self) -> Table {
        let (steps, frames) = (&self.steps_ms, &self.frames_ms);
        let mut table = Table::new();
        let header = ["ms", "min", "mean", "median", "p90", "p95", "p99", "p99.9", "CV %"];
        table.load_style(presets::NOTHING).set_header(header);
        let mut row = |name: &str, s: &Summary| {
            let times = [s.min, s.mean, s.median, s.p90, s.p95, s.p99, s.p99_9].map(|ms| format!("{ms:.3}"));
            table.add_row([name.to_owned()].into_iter().chain(times).chain([format!("{:.1}", s.cv_percent)]));
        };
        if let Some(decode) = &steps.decode {
            row("decode (not in frames)", decode);
        }
        row("preprocess", &steps.preprocess);
        row("coarse", &steps.coarse);
        row("gate", &steps.gate);
        row("gather", &steps.gather);
        row("fine", &steps.fine);
        row("static pass", &steps.r#static);
        if let Some(device) = &steps.device {
            row("coarse, on the device", &device.coarse);
            row("fine, on the device", &device.fine);
            row("static pass, on the device", &device.r#static);
        }
        let baselines = [&frames.r#static, &frames.coarse_only, &frames.fine_always, &frames.adaptive];
        for (baseline, times) in Baseline::ALL.into_iter().zip(baselines) {
            row(&format!("frame: {}", baseline.name()), times);
        }
        align_right(&mut table);
        table
    }

    fn work(&self) -> Table {
        let mut table = Table::new();
        let header = ["", "GMAC, as in the paper", "GMAC executed", "GFLOP/s", "% of peak"];
        table.load_style(presets::NOTHING).set_header(header);
        let passes =
            [("coarse", &self.compute.coarse), ("fine", &self.compute.fine), ("static", &self.compute.r#static)];
        for (name, pass) in passes {
            table.add_row([
                name.to_owned(),
                format!("{:.4}", pass.paper_macs as f64 / 1e9),
                format!("{:.4}", pass.executed_macs as f64 / 1e9),
                format!("{:.1}", pass.gflops),
                pass.peak_percent.map_or("-".to_owned(), |percent| format!("{percent:.1}")),
            ]);
        }
        align_right(&mut table);
        table
    }

    fn draws(&self) -> String {
        let Some(energy) = &self.energy else { return "energy: not measured".to_owned() };
        let draws = [energy.r#static, energy.coarse_only, energy.fine_always, energy.adaptive];
        let draws = Baseline::ALL.into_iter().zip(draws).map(|(baseline, Draw { mean_mw, mj_per_frame, .. })| {
            format!("\n  {:<12} {mj_per_frame:9.1} mJ a frame, {:.2} W", baseline.name(), mean_mw / 1e3)
        });
        format!("energy by {}, {} blocks of each:{}", energy.meter, energy.blocks, draws.collect::<String>())
    }

    fn state(&self) -> String {
        let Machine { before, after, change, memory } = &self.machine;
        let mib = |kib: Option<u64>| kib.map_or("?".to_owned(), |kib| format!("{:.1}", kib as f64 / 1024.0));
        let pair = |of: fn(&State) -> Option<f64>| match (of(before), of(after)) {
            (Some(before), Some(after)) => format!("{before:.0} → {after:.0}"),
            _ => "?".to_owned(),
        };
        let percent = |value: Option<f64>| value.map_or("?".to_owned(), |value| format!("{value:.1} %"));
        format!(
            "memory: {} MiB, at most {} MiB\nclock before → after {} MHz, hottest zone {} °C\nsteal {}, other programs {} of a processor",
            mib(memory.resident_kib),
            mib(memory.peak_kib),
            pair(|state| state.clock_mhz),
            pair(|state| state.hottest_celsius),
            percent(change.steal_percent),
            percent(change.others_percent),
        )
    }
}

fn align_right(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}
