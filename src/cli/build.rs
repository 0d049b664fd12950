//! `cfvit build`: TensorRT engines for a model on this device.

use std::path::{Path, PathBuf};

use super::{PrecisionArg, print};
use crate::build::{self, Request, child};
use crate::error::{Error, Kind, Result};
use crate::model::package::{self, ImportOptions};
use crate::model::{self, Model};

/// Scratch space of a layer where nothing else is asked for.
const DEFAULT_WORKSPACE_MIB: u64 = 512;

/// Build a model's TensorRT engines for this device, and prove them.
///
/// A checkpoint becomes an engine package first (see `cfvit import`). Both stages are then exported as ONNX, built (each in a process of its
/// own, as building takes much memory), compared with the CPU engine on the bundled photographs, and put into the package as coarse.plan and
/// fine.plan. They are tied to this device, its power mode and its TensorRT: elsewhere they are refused, and this command builds them anew.
///
/// FP16 logits may differ from the CPU engine's by 0.1, FP32 ones by 0.01, and the class must be the same wherever the CPU's lead is greater;
/// the class attention may be off by 5 % (FP32: 1 %) of its largest. If FP16 is not that exact here, FP32 is built; if that is not either,
/// nothing is installed and what was there stays.
#[derive(clap::Args)]
#[command(
    after_long_help = "Exit codes: 0 done, 1 the engines could not be built or are not exact, 2 wrong usage.\n\n\
    Environment: CFVIT_TENSORRT_DIR names the folder of TensorRT's libraries, where it is not a usual one. RUST_LOG=info,tensorrt=info shows \
    what TensorRT says.\n\n\
    Examples:\n  cfvit build --model my_checkpoint.pth\n  cfvit build --model engines/birds --precision fp32\n  \
    cfvit build --model random.safetensors --target sm86 --out /tmp/random"
)]
pub struct Args {
    /// A checkpoint (.pth, .safetensors) or an engine package folder [default: the bundled Imagenette model]
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Attention heads, where neither the file nor head_dim 64 says it right
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Number format; fp16 falls back to fp32 where it is not exact enough
    #[arg(long, value_name = "TYPE", default_value = "fp16")]
    precision: PrecisionArg,
    /// GPU memory in MiB that a layer may use as scratch space; less is tried where that is too much
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_WORKSPACE_MIB, value_parser = clap::value_parser!(u64).range(64..=65536))]
    workspace: u64,
    /// From 0 (fast build) to 5 (slow build, perhaps faster engines) [default: TensorRT's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=5))]
    optimisation_level: Option<u8>,
    /// Build for another machine's GPU, of this compute capability: sm75, sm80, sm86, sm89, sm120. Needs TensorRT-RTX and no GPU; the engines
    /// cannot be compared with the CPU engine then
    #[arg(long, value_name = "SM", value_parser = target)]
    target: Option<u32>,
    /// Also build static.plan: the same weights over all fine tokens in one pass, the baseline to measure against
    #[arg(long = "static")]
    with_static: bool,
    /// Build only where the package has no engines that run here: for a service that builds before its first start, and after each update
    /// of the system
    #[arg(long, conflicts_with = "target")]
    if_missing: bool,
    /// The package's folder, where the model is a checkpoint [default: engines/NAME]
    #[arg(long, value_name = "PACKAGE")]
    out: Option<PathBuf>,
}

/// Parses `sm86`.
pub fn target(text: &str) -> std::result::Result<u32, String> {
    let number = text.strip_prefix("sm").and_then(|digits| digits.parse().ok());
    let expected = "expected sm75, sm80, sm86, sm89 or sm120. Engines for a Jetson are built on the Jetson";
    number.filter(|number| [75, 80, 86, 89, 120].contains(number)).ok_or_else(|| expected.into())
}

/// Runs the subcommand.
///
/// # Errors
/// As [`crate::build::run`], or when the checkpoint cannot become a package.
pub fn run(args: Args) -> Result<()> {
    build::check_built_in()?;
    let package = package_of(&args)?;
    if args.if_missing && is_built(&package) {
        return print(format_args!("{}: the engines are built for this device", package.display()));
    }
    let mut builder = child::Builder::new(&package, args.target)?;
    let request = Request {
        package,
        precision: args.precision.into(),
        with_static: args.with_static,
        workspace_mib: args.workspace,
        optimisation_level: args.optimisation_level,
    };
    let report = build::run(&request, &mut builder, &mut |line| log::info!("{line}"))?;
    let device = &report.device;
    let gpu = if args.target.is_some() { "any GPU" } else { device.gpu.as_str() };
    print(format_args!(
        "{}: {} engines for {gpu} (SM {}, {})",
        request.package.display(),
        report.precision.as_str(),
        device.compute_capability,
        device.tensorrt
    ))
}

/// Whether the plans of `package` run here; if not, the reason is logged.
fn is_built(package: &Path) -> bool {
    match build::check_plans(package) {
        Ok(()) => true,
        Err(error) => {
            log::info!("building, because {error}");
            false
        }
    }
}

/// Builds the engines of `package` with the defaults of `cfvit build`, where it has none that run here.
///
/// # Errors
/// As [`crate::build::run`].
pub fn build_missing(package: &Path) -> Result<()> {
    build::check_built_in()?;
    if is_built(package) {
        return Ok(());
    }
    let mut builder = child::Builder::new(package, None)?;
    let request = Request {
        package: package.to_owned(),
        precision: PrecisionArg::Fp16.into(),
        with_static: false,
        workspace_mib: DEFAULT_WORKSPACE_MIB,
        optimisation_level: None,
    };
    build::run(&request, &mut builder, &mut |line| log::info!("{line}")).map(|_| ())
}

/// The package to build in: the model's own, or the one that its checkpoint becomes.
fn package_of(args: &Args) -> Result<PathBuf> {
    if let Some(package) = args.model.as_deref().filter(|path| path.is_dir()) {
        if args.heads.is_some() {
            let message = "--heads is for checkpoints: a package says its heads in its manifest";
            return Err(Error::new(Kind::Usage, message));
        }
        return match &args.out {
            None => Ok(package.into()),
            Some(_) => Err(Error::new(
                Kind::Usage,
                "--out is for checkpoints: a package gets its engines itself; copy its folder to build elsewhere",
            )),
        };
    }
    let model = model::open(args.model.as_deref(), args.heads)?;
    let out = args.out.clone().unwrap_or_else(|| Path::new("engines").join(&model.name));
    if out.join(package::MANIFEST).is_file() {
        check_same(&model, &out)?;
    } else {
        package::import(&model, &model.labels, &ImportOptions::default(), &out)?;
        log::info!(
            "{}: made from {}",
            out.display(),
            args.model.as_deref().map_or("the bundled model".into(), Path::to_string_lossy)
        );
    }
    Ok(out)
}

/// The package at `out` holds `model`.
fn check_same(model: &Model, out: &Path) -> Result<()> {
    let found = model::open(Some(out), None)?;
    if found.geometry == model.geometry && found.tensors == model.tensors {
        return Ok(());
    }
    let shown = out.display();
    let message = format!(
        "{shown} is the package of another model: choose another --out, or replace it with `cfvit import --force`"
    );
    Err(Error::new(Kind::Usage, message))
}
