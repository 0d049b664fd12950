//! The command line: one file per subcommand, no logic of its own. Raw arguments are turned into what they mean once, here.

mod import;
mod inspect;

use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Error, Kind, Result};

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

#[derive(Subcommand)]
enum Command {
    /// Show what a model is: family, geometry, cost of each stage, labels, stored results
    Inspect(inspect::Args),
    /// Turn a checkpoint into an engine package
    Import(import::Args),
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
}

/// Parses the command line, runs the subcommand, prints its error, and gives the exit code: 0 done, 1 failed, 2 wrong usage or
/// configuration.
pub fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    report(match Cli::parse().command {
        Command::Inspect(args) => inspect::run(args),
        Command::Import(args) => import::run(args),
    })
}

/// Prints an error to standard error, as `error: …`, and turns it into the exit code.
fn report(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.kind() != Kind::Closed {
                eprintln!("error: {error}");
            }
            ExitCode::from(error.exit_code())
        }
    }
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
