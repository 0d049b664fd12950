//! `cfvit build-plan`: the process in which `cfvit build` builds one plan. Not for people.

use std::path::PathBuf;

use super::PrecisionArg;
use super::build::target;
use super::print;
use crate::build::child;
use crate::error::{Error, Kind, Result};

/// Build one plan (called by `cfvit build`).
#[derive(clap::Args)]
#[command(hide = true)]
pub struct Args {
    #[arg(long)]
    onnx: PathBuf,
    #[arg(long)]
    plan: PathBuf,
    #[arg(long)]
    caches: PathBuf,
    #[arg(long)]
    precision: PrecisionArg,
    #[arg(long)]
    workspace: u64,
    #[arg(long)]
    optimisation_level: Option<u8>,
    #[arg(long, value_parser = target)]
    target: Option<u32>,
}

/// Runs the subcommand: prints one line of JSON, a [`crate::build::child::Answer`].
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Args) -> Result<()> {
    let answer = child::serve(&child::Order {
        onnx: args.onnx,
        plan: args.plan,
        caches: args.caches,
        precision: args.precision.into(),
        workspace_mib: args.workspace,
        optimisation_level: args.optimisation_level,
        target: args.target,
    });
    print(serde_json::to_string(&answer).map_err(|e| Error::caused(Kind::Io, "cannot write the answer", e))?)
}
