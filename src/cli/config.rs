//! `cfvit config`: looking at configuration files of `cfvit run`.

use std::path::PathBuf;

use crate::config::{SHIPPED, Settings};
use crate::error::Result;

/// Check the configuration file of a service, or print the one with every default
///
/// `cfvit run --config FILE` reads it, and again on SIGHUP (`systemctl reload cfvit`).
#[derive(clap::Args)]
#[command(after_long_help = "Exit codes: 0 the file is right, 2 it is wrong or cannot be read.\n\n\
    Examples:\n  cfvit config check /etc/cfvit/cfvit.toml\n  cfvit config show > cfvit.toml")]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print what FILE puts in force, with every default that it leaves out; or what is wrong, and in which line
    Check {
        /// A configuration file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print a configuration file with every key, what it means, and its default
    Show,
}

/// Checks or shows.
///
/// # Errors
/// [`crate::error::Kind::Config`] for a file that is wrong, with its line.
pub fn run(args: Args) -> Result<()> {
    match args.command {
        Command::Check { file } => super::print(Settings::read(&file)?),
        Command::Show => super::print(SHIPPED.trim_end()),
    }
}
