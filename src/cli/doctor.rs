//! `cfvit doctor`: what this machine has.

use std::path::{Path, PathBuf};

use super::print;
use crate::doctor;
use crate::error::Result;
use crate::report::text::printable;

/// Show what this machine has of what cfvit can use, and what to do about the rest.
///
/// GPU, driver, TensorRT, L4T release, power mode, power meter, cameras, and engine packages with whether their engines would load. Each line
/// begins with ok, - (absent, the program does without) or ! (does not work). Nothing is changed, and nothing absent is a failure.
#[derive(clap::Args)]
#[command(after_long_help = "Exit codes: 0 done, whatever was found; 2 wrong usage.")]
pub struct Args {
    /// An engine package to look at; can be given more than once [default: all in engines/]
    #[arg(long = "model", value_name = "PACKAGE")]
    packages: Vec<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(args: Args) -> Result<()> {
    let packages = match args.packages.is_empty() {
        true => doctor::packages_in(Path::new("engines")),
        false => args.packages,
    };
    print(format_args!("cfvit {} on {}", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH))?;
    for finding in doctor::examine(Path::new("/"), &packages) {
        print(format_args!("{:<2} {:<15} {}", finding.state.as_str(), finding.what, printable(&finding.found)))?;
        if let Some(advice) = finding.advice {
            print(format_args!("   {:<15} → {advice}", ""))?;
        }
    }
    Ok(())
}
