//! `cfvit build`: from an engine package's weights to plans that are proven on this device.
//!
//! Export → build each graph in a process of its own → compare with the CPU engine on the bundled pictures → install. Where FP16 is not exact
//! enough, FP32 is tried; where that is not either, nothing is installed and the last good plans stay.

pub mod child;
#[cfg_attr(not(feature = "tensorrt"), path = "no_device.rs")]
mod device;
pub mod fusion;
mod pictures;
pub mod selftest;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};

pub use device::{check_built_in, check_plans};
use selftest::{Bounds, Outcome};

use crate::engine::{self, Engine};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::model::onnx::{self, Graph, Options, Precision};
use crate::model::{self, Model, package};
use crate::plan::{self, DeviceKey, Key};

/// Less scratch space than this is not tried.
pub const MIN_WORKSPACE_MIB: u64 = 64;

/// What to build.
#[derive(Clone, Debug)]
pub struct Request {
    /// The engine package: its weights are read, its plans are replaced.
    pub package: PathBuf,
    /// The number format to try first.
    pub precision: Precision,
    /// Whether to build the static baseline as well.
    pub with_static: bool,
    /// GPU memory that one layer may use as scratch space, in MiB; halved down to [`MIN_WORKSPACE_MIB`] where a build fails.
    pub workspace_mib: u64,
    /// 0 (fast build) to 5 (slow build); TensorRT's own default when `None`.
    pub optimisation_level: Option<u8>,
}

/// One graph to build.
#[derive(Clone, Debug)]
pub struct Job<'a> {
    /// Which.
    pub graph: Graph,
    /// Its file.
    pub onnx: &'a Path,
    /// What it was exported in.
    pub precision: Precision,
    /// Scratch space in MiB.
    pub workspace_mib: u64,
    /// As in [`Request`].
    pub optimisation_level: Option<u8>,
}

/// A plan, and what it cost.
#[derive(Clone, Debug)]
pub struct Made {
    /// TensorRT's bytes.
    pub plan: Vec<u8>,
    /// What it was built for.
    pub device: DeviceKey,
    /// How long the build took, in seconds.
    pub seconds: f64,
    /// The most memory that the building process had, in MiB.
    pub peak_mib: u64,
}

/// Why a build failed, and whether less scratch space may help.
#[derive(Debug)]
pub struct Failure {
    /// What happened.
    pub error: Error,
    /// Whether it may have been for lack of memory.
    pub retry: bool,
}

/// What builds plans and runs them. The real one is [`child::Builder`]; tests have their own.
pub trait Builder {
    /// Builds one plan.
    ///
    /// # Errors
    /// When it cannot be built.
    fn build(&mut self, job: &Job<'_>) -> std::result::Result<Made, Failure>;

    /// An engine of these plans of `model`, to be tested; `None` where the device they are for is not here.
    ///
    /// # Errors
    /// When they do not load.
    fn open(&mut self, plans: &[(Graph, &[u8])], model: &Model) -> Result<Option<Box<dyn Engine>>>;
}

/// What was built.
#[derive(Clone, Debug)]
pub struct Report {
    /// The number format of the installed plans.
    pub precision: Precision,
    /// What they were built for.
    pub device: DeviceKey,
    /// The self-test's figures; `None` where the device is not here.
    pub tested: Option<Outcome>,
}

/// Builds, tests and installs the plans of a package. `tell` gets a line for each step.
///
/// # Errors
/// Whatever a step reports; the message of a failed self-test has its numbers. The plans that are there stay as they are.
pub fn run(request: &Request, builder: &mut dyn Builder, tell: &mut dyn FnMut(String)) -> Result<Report> {
    let model = model::open(Some(&request.package), None)?;
    let scratch = scratch_folder(&request.package)?;
    let mut refused = Vec::new();
    for precision in [request.precision, Precision::Fp32] {
        if refused.iter().any(|(tried, _)| *tried == precision) {
            continue;
        }
        let built = build_all(request, precision, &model, scratch.path(), builder, tell)?;
        let outcome = test(&built, precision, model.clone(), builder)?;
        match outcome {
            Some(outcome) if !outcome.is_within(&Bounds::of(precision)) => {
                tell(format!("{}: refused: {outcome}; the bounds: {}", precision.as_str(), Bounds::of(precision)));
                refused.push((precision, outcome));
            }
            tested => return install(request, precision, built, tested, scratch.path(), tell),
        }
    }
    Err(refusal(&refused))
}

/// A folder inside the package, so that what is made there can be renamed into it. It goes when it is dropped.
fn scratch_folder(package: &Path) -> Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix(package::SCRATCH).tempdir_in(package);
    folder.map_err(|e| Error::caused(Kind::Io, format!("cannot write to {}", package.display()), e))
}

fn refusal(refused: &[(Precision, Outcome)]) -> Error {
    let tries: Vec<_> = refused
        .iter()
        .map(|(precision, outcome)| {
            format!("{}: {outcome} (the bounds: {})", precision.as_str(), Bounds::of(*precision))
        })
        .collect();
    let message = format!(
        "the engines do not compute what the CPU engine computes, so nothing was installed. {}. Another TensorRT release may help, or \
         --optimisation-level; the CPU engine still runs (--backend cpu)",
        tries.join("; ")
    );
    Error::new(Kind::Engine, message)
}

/// The plans of one precision, with what they are tied to.
type BuiltPlans = Vec<(Graph, Key, Vec<u8>)>;

fn build_all(
    request: &Request,
    precision: Precision,
    model: &Model,
    scratch: &Path,
    builder: &mut dyn Builder,
    tell: &mut dyn FnMut(String),
) -> Result<BuiltPlans> {
    let mut graphs = vec![Graph::Coarse, Graph::Fine];
    graphs.extend(request.with_static.then_some(Graph::Static));
    let weights = package::weights(&request.package)?;
    let mut built = Vec::new();
    for graph in graphs {
        let onnx = scratch.join(graph.file_name());
        onnx::export_to_file(model, Options { precision, batch: 1 }, graph, &onnx)?;
        let bytes =
            fs::read(&onnx).map_err(|e| Error::caused(Kind::Io, format!("cannot read {}", onnx.display()), e))?;
        let onnx_sha256 = files::sha256(&bytes);
        drop(bytes);
        let mut job = Job {
            graph,
            onnx: &onnx,
            precision,
            workspace_mib: request.workspace_mib,
            optimisation_level: request.optimisation_level,
        };
        let made = build_one(&mut job, builder, tell)?;
        let level = job.optimisation_level.map_or("default".into(), |level| level.to_string());
        let key = Key {
            graph: graph.as_str().into(),
            precision: precision.as_str().into(),
            options: format!("workspace {} MiB, optimisation level {level}", job.workspace_mib),
            onnx_sha256,
            weights_sha256: weights.sha256.clone(),
            heads: weights.heads,
            program: env!("CARGO_PKG_VERSION").into(),
            device: made.device,
        };
        built.push((graph, key, made.plan));
    }
    Ok(built)
}

/// Builds one plan, with less and less scratch space where memory is short. `job` says at the end with how much it was.
fn build_one(job: &mut Job<'_>, builder: &mut dyn Builder, tell: &mut dyn FnMut(String)) -> Result<Made> {
    let what = format!("{} {}", job.graph.as_str(), job.precision.as_str());
    loop {
        tell(format!("{what}: building, scratch space {} MiB; this can take minutes", job.workspace_mib));
        match builder.build(job) {
            Ok(made) => {
                let mib = made.plan.len() as f64 / f64::from(1 << 20);
                let (seconds, peak) = (made.seconds, made.peak_mib);
                tell(format!("{what}: {mib:.1} MiB in {seconds:.1} s, the builder's memory peaked at {peak} MiB"));
                match fusion::in_rtx_plan(&made.plan) {
                    0 => {}
                    fused => tell(format!("{what}: {fused} fused attention kernels")),
                }
                return Ok(made);
            }
            Err(Failure { error, retry: true }) if job.workspace_mib / 2 >= MIN_WORKSPACE_MIB => {
                job.workspace_mib /= 2;
                tell(format!("{what}: {error}; trying again with less scratch space"));
            }
            Err(Failure { error, .. }) => {
                return Err(error.within(format!("cannot build the {} engine", job.graph.as_str())));
            }
        }
    }
}

/// Compares the plans with the CPU engine; `None` where their device is not here.
fn test(built: &BuiltPlans, precision: Precision, model: Model, builder: &mut dyn Builder) -> Result<Option<Outcome>> {
    let plans: Vec<_> = built.iter().map(|(graph, _, plan)| (*graph, plan.as_slice())).collect();
    let Some(mut candidate) = builder.open(&plans, &model)? else { return Ok(None) };
    let inputs = pictures::inputs(&model)?;
    let mut reference = engine::open(model, None)?;
    let has_static = plans.iter().any(|(graph, _)| *graph == Graph::Static);
    let outcome = selftest::run(reference.as_mut(), candidate.as_mut(), &inputs, &Bounds::of(precision), has_static);
    outcome.map(Some).map_err(|e| e.within("the self-test"))
}

fn install(
    request: &Request,
    precision: Precision,
    built: BuiltPlans,
    tested: Option<Outcome>,
    scratch: &Path,
    tell: &mut dyn FnMut(String),
) -> Result<Report> {
    let device = built.first().map(|(_, key, _)| key.device.clone());
    let device = device.ok_or_else(|| Error::new(Kind::Engine, "nothing was built"))?;
    match &tested {
        Some(outcome) => tell(format!("self-test passed: {outcome}; the bounds: {}", Bounds::of(precision))),
        None => tell("self-test skipped: the GPU that these plans are for is not here".into()),
    }
    plan::install(&request.package, &built)?;
    // The graphs stay beside the plans for whoever wants to look; no plan needs them.
    for (graph, ..) in &built {
        let (from, to) = (scratch.join(graph.file_name()), request.package.join(graph.file_name()));
        fs::rename(from, &to).map_err(|e| Error::caused(Kind::Io, format!("cannot write {}", to.display()), e))?;
    }
    Ok(Report { precision, device, tested })
}
