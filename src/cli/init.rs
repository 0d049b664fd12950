//! `cfvit init`: a full-size checkpoint of random weights.

use std::path::PathBuf;

use super::print;
use crate::error::Result;
use crate::model::{self, Family, Geometry};

/// Make a checkpoint of a published model's size with random weights: for builds and benchmarks without a download.
///
/// Every command takes it like a trained checkpoint, and it costs what a trained one costs. What it answers means nothing. The
/// same arguments make the same bytes on every machine, so a measurement can be repeated elsewhere.
#[derive(clap::Args)]
#[command(after_long_help = "Exit codes: 0 done, 1 the file could not be written, 2 wrong usage.\n\n\
    Examples:\n  cfvit init --arch cf_deit_small --out random.safetensors\n  cfvit inspect random.safetensors\n  \
    cfvit init --arch cf_lvvit_small --grid 9 --classes 10 --seed 5 --out lvvit.safetensors")]
pub struct Args {
    /// The model
    #[arg(long, value_name = "MODEL")]
    arch: Arch,
    /// Cells on a side of the coarse grid: 7 reads pictures of 224×224 pixels, 9 of 288×288
    #[arg(long, value_name = "G", default_value = "7", value_parser = ["7", "9"])]
    grid: String,
    /// Number of classes
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    classes: u32,
    /// Other seeds make other weights
    #[arg(long, value_name = "N", default_value = "0")]
    seed: u64,
    /// The file to write (.safetensors); one that is there is replaced
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// The published models.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Arch {
    /// DeiT-S, 23 M parameters with 1000 classes
    #[value(name = "cf_deit_small")]
    Deit,
    /// LV-ViT-S, 27 M parameters
    #[value(name = "cf_lvvit_small")]
    Lvvit,
}

/// Runs the subcommand.
///
/// # Errors
/// As [`model::write_random`].
pub fn run(args: Args) -> Result<()> {
    let family = match args.arch {
        Arch::Deit => Family::Deit,
        Arch::Lvvit => Family::Lvvit,
    };
    let grid = if args.grid == "9" { 9 } else { 7 };
    let geometry = Geometry::published(family, grid, args.classes as usize);
    model::write_random(&args.out, &geometry, args.seed)?;
    print(format_args!("{}: {geometry}, random weights of seed {}", args.out.display(), args.seed))
}
