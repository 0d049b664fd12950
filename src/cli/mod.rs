//! The command line: one file per subcommand, no logic of its own. Raw arguments are turned into what they mean once, here.

mod bench;
mod build;
mod build_plan;
mod calibrate;
mod classify;
mod config;
mod doctor;
mod eval;
mod examples;
mod export;
mod import;
mod init;
mod inspect;
mod manual;
mod outputs;
mod pictures;
mod report;
mod run;
mod serve;
mod session;
mod visualize;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand};

use crate::engine::Backend;
use crate::error::{Error, Kind, Result};
use crate::logging;
use crate::model::onnx::Precision;
use crate::preprocess::MIN_CROP;
use crate::report::text::printable;

/// Classify pictures and camera frames with a vision transformer that thinks twice only when it must.
///
/// A coarse pass looks at a small picture cut into few patches. Where it is not sure (confidence below the threshold),
/// the informative patches are cut again and a fine pass runs the same weights on them.
#[derive(Parser)]
#[command(name = "cfvit", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The help of each is the documentation of its `Args`.
#[derive(Subcommand)]
enum Command {
    Classify(classify::Args),
    Run(run::Args),
    Config(config::Args),
    Eval(eval::Args),
    Calibrate(calibrate::Args),
    Bench(bench::Args),
    Report(report::Args),
    Visualize(visualize::Args),
    Inspect(inspect::Args),
    Import(import::Args),
    Export(export::Args),
    Init(init::Args),
    Build(build::Args),
    BuildPlan(build_plan::Args),
    Examples(examples::Args),
    Doctor(doctor::Args),
    #[command(hide = true)]
    Manual(manual::Args),
}

/// Which model to use; shared by the subcommands that run one.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// A checkpoint (.pth, .safetensors) or an engine package folder [default: the bundled Imagenette model]
    #[arg(long, value_name = "MODEL")]
    pub model: Option<PathBuf>,
    /// Attention heads, where neither the file nor head_dim 64 says it right
    #[arg(long, value_name = "N")]
    pub heads: Option<usize>,
    /// Compute threads [default: one per physical core]
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
    /// What computes: tensorrt, cpu, or auto: TensorRT where it works, else the CPU, with a warning that says why [default: auto
    /// where TensorRT is built in, else cpu]
    #[arg(long, value_parser = backend())]
    pub backend: Option<Backend>,
    /// What it multiplies in: fp32 or fp16 [default: fp32 on the CPU; with TensorRT what the plans were built in]
    ///
    /// On the CPU fp16 needs an aarch64 processor that computes in 16-bit floats, as those of Jetson Orin do. Measured: the
    /// same label on 60 of 60 photographs, coarse confidences within 0.001, other informative cells on 2 of the 60 (near ties)
    #[arg(long, value_parser = precision())]
    pub precision: Option<Precision>,
}

/// How pictures are decided; shared by the subcommands that do.
#[derive(clap::Args)]
pub struct DecisionArgs {
    /// Confidence from which the coarse answer is final: 0 never refines, above 1 always does [default: the certificate's,
    /// else the model's, else 0.5]
    #[arg(long, value_name = "η", value_parser = threshold, allow_negative_numbers = true)]
    pub threshold: Option<f32>,
    /// A certificate that `cfvit calibrate --out` wrote: its η, where it holds for this engine [default: the package's own]
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// Use the certificate's η also where it was made for another engine, crop or power mode; the default is to refine every frame
    /// then
    #[arg(long)]
    pub allow_uncertified: bool,
    /// Evaluation crop ratio: the share of the picture's shorter side that the network sees [default: the model's]
    #[arg(long, value_name = "R", value_parser = crop, allow_negative_numbers = true)]
    pub crop: Option<f64>,
}

/// The words for a [`Backend`].
fn backend() -> impl TypedValueParser<Value = Backend> {
    PossibleValuesParser::new(Backend::ALL.map(Backend::as_str))
        .map(|word| Backend::ALL.into_iter().find(|backend| backend.as_str() == word).unwrap_or_default())
}

/// The words for a [`Precision`].
fn precision() -> impl TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(Precision::ALL.map(Precision::as_str))
        .map(|word| if word == Precision::Fp16.as_str() { Precision::Fp16 } else { Precision::Fp32 })
}

/// A number format on the command line.
#[derive(Clone, Copy, clap::ValueEnum)]
pub enum PrecisionArg {
    /// Half the size and the fastest, with islands of 32-bit floats where 16 would lose too much
    Fp16,
    /// As exact as the CPU engine
    Fp32,
}

impl From<PrecisionArg> for Precision {
    fn from(precision: PrecisionArg) -> Self {
        match precision {
            PrecisionArg::Fp16 => Precision::Fp16,
            PrecisionArg::Fp32 => Precision::Fp32,
        }
    }
}

/// A number for which `valid` holds; otherwise what was `expected`.
fn number<T: FromStr>(text: &str, valid: impl Fn(&T) -> bool, expected: &str) -> std::result::Result<T, String> {
    text.parse().ok().filter(valid).ok_or_else(|| format!("expected {expected}"))
}

/// Up to 2, so that 60 for 60 % is an error and not a camera that always refines.
fn threshold(text: &str) -> std::result::Result<f32, String> {
    number(text, |eta| (0.0..=2.0).contains(eta), "a number from 0 to 2 (0.6 is 60 %; above 1 always refines)")
}

fn crop(text: &str) -> std::result::Result<f64, String> {
    number(text, |crop: &f64| (MIN_CROP..=1.0).contains(crop), "a number from 0.01 to 1")
}

/// Parses the command line, runs the subcommand, prints its error, and gives the exit code: 0 done, 1 failed, 2 wrong usage or
/// configuration.
pub fn main() -> ExitCode {
    logging::init();
    finish(match Cli::parse().command {
        Command::Classify(args) => classify::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Calibrate(args) => calibrate::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Report(args) => report::run(args),
        Command::Visualize(args) => visualize::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Import(args) => import::run(args),
        Command::Export(args) => export::run(args),
        Command::Init(args) => init::run(args),
        Command::Build(args) => build::run(args),
        Command::Examples(args) => examples::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Manual(args) => manual::run(args),
        Command::BuildPlan(args) => build_plan::run(args),
        Command::Run(args) => run::run(args),
        Command::Config(args) => config::run(args),
    })
}

/// Prints an error to standard error, as `error: …`, and turns it into the exit code.
fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.kind() != Kind::Closed {
                logging::print_error(&error);
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// This program's command line, fit for a shell.
pub fn command_line() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quoted = |arg: String| match !arg.is_empty() && arg.chars().all(plain) {
        true => arg,
        false => format!("'{}'", printable(&arg).replace('\'', r"'\''")),
    };
    let args = std::env::args_os().skip(1).map(|arg| quoted(arg.to_string_lossy().into_owned()));
    std::iter::once("cfvit".to_owned()).chain(args).collect::<Vec<_>>().join(" ")
}

/// Writes one line to standard output.
///
/// # Errors
/// [`Kind::Closed`] when the reader has gone, [`Kind::Io`] when it cannot be written.
pub fn print(line: impl Display) -> Result<()> {
    writeln!(std::io::stdout().lock(), "{line}").map_err(output_error)
}

/// What a failed write to standard output means.
pub fn output_error(cause: std::io::Error) -> Error {
    match cause.kind() {
        std::io::ErrorKind::BrokenPipe => Error::new(Kind::Closed, "standard output was closed"),
        _ => Error::caused(Kind::Io, "cannot write to standard output", cause),
    }
}
