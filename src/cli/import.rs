//! `cfvit import`: a checkpoint becomes an engine package.

use std::path::PathBuf;

use super::print;
use crate::error::Result;
use crate::model::package::{self, ImportOptions};
use crate::model::{self, DType};

/// Turn a checkpoint into an engine package: a folder with the weights, the labels and a manifest.
///
/// The package appears whole or not at all. The commands that run a model take the folder with --model.
#[derive(clap::Args)]
pub struct Args {
    /// A checkpoint (.pth, .safetensors) or another package
    #[arg(value_name = "CHECKPOINT")]
    checkpoint: PathBuf,
    /// The classes, one a line in the model's order: id<TAB>name, or the id alone
    #[arg(long, value_name = "FILE")]
    labels: PathBuf,
    /// The package's folder, for example engines/birds
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Evaluation crop ratio: the shorter side is resized to fine side / R [default: the family's, 0.875 or 0.9]
    #[arg(long, value_name = "R")]
    crop: Option<f64>,
    /// Attention heads, where they are not 64 channels each
    #[arg(long, value_name = "N")]
    heads: Option<usize>,
    /// Default threshold η: a coarse answer of at least this confidence is final
    #[arg(long, value_name = "η")]
    threshold: Option<f32>,
    /// How to store the weights: f32 keeps an f32 checkpoint exact, f16 takes half the space and rounds
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: Stored,
    /// The model's name [default: the folder's]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// A line for the manifest: where the model comes from, whom to credit
    #[arg(long, value_name = "TEXT")]
    about: Option<String>,
    /// Replace a package that is there already; other files in its folder are kept
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Stored {
    F16,
    F32,
}

/// Runs the subcommand.
///
/// # Errors
/// As [`model::open`], [`package::read_labels`] and [`package::import`].
pub fn run(args: Args) -> Result<()> {
    let (model, details) = model::open_with_details(Some(&args.checkpoint), args.heads)?;
    let labels = package::read_labels(&args.labels)?;
    let options = ImportOptions {
        name: args.name,
        about: args.about.or(details.about),
        crop: args.crop,
        threshold: args.threshold,
        dtype: match args.dtype {
            Stored::F16 => DType::F16,
            Stored::F32 => DType::F32,
        },
        force: args.force,
    };
    package::import(&model, &labels, &options, &args.out)?;
    for note in details.notes {
        log::info!("{note}");
    }
    print(format_args!("{}: {}", args.out.display(), model.geometry))
}
