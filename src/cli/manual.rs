//! `cfvit manual`: the manual pages and shell completions that a package ships, from the same text as the help.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use crate::error::{Error, Kind, Result};

/// Write manual pages and shell completions into a folder
///
/// One page for the program and one for each subcommand (cfvit.1, cfvit-run.1, ...), and completions for bash, zsh and fish under the names
/// that their shells look for. The Debian package is made with it.
#[derive(clap::Args)]
pub struct Args {
    /// The folder; it is made where there is none
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Writes the files.
///
/// # Errors
/// [`Kind::Io`] when they cannot be written.
pub fn run(args: Args) -> Result<()> {
    let fails = |cause| Error::caused(Kind::Io, format!("cannot write into {}", args.dir.display()), cause);
    std::fs::create_dir_all(&args.dir).map_err(fails)?;
    // Hidden subcommands have no page; `help` would only repeat the others.
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, &args.dir).map_err(fails)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "cfvit", &args.dir).map_err(fails)?;
    }
    Ok(())
}
