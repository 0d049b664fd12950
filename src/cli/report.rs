//! `cfvit report`: the page of a measurement, or of two side by side, from their JSON files.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::print;
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::html::{self, Measurement};
use crate::report::text::printable;

/// Make a report for people, one HTML page, from what `bench --json` or `eval --json` wrote; or compare two of them
///
/// The page needs nothing but itself: no script, no other file, no network. It is readable on paper and in black and white. The same JSON
/// makes the same bytes on every machine, so measure on the device and write the page wherever it is read.
///
/// With --compare both files must come from the same command. Differences are B − A with 95 % intervals: Welch's for times, Newcombe's for
/// shares, both for runs that have nothing in common, so they are wider than need be where both saw the same pictures.
#[derive(clap::Args)]
#[command(
    after_long_help = "Exit codes: 0 written, 1 a file could not be read or written, 2 wrong usage, also where a file holds no report.\n\n\
    Examples:\n  cfvit report bench.json --html bench.html\n  cfvit report --compare before.json after.json --html change.html"
)]
pub struct Args {
    /// What `bench --json` or `eval --json` wrote
    #[arg(value_name = "JSON", required_unless_present = "compare", conflicts_with = "compare")]
    report: Option<PathBuf>,
    /// Compare two of the same kind
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    compare: Option<Vec<PathBuf>>,
    /// Where the page is written
    #[arg(long, value_name = "FILE")]
    html: PathBuf,
}

/// No report is larger.
const MAX_BYTES: u64 = 64 << 20;

/// Runs the subcommand.
///
/// # Errors
/// When a file cannot be read or written ([`Kind::Io`]), or holds no report, or two differ in kind ([`Kind::Usage`]).
pub fn run(args: Args) -> Result<()> {
    let page = match (&args.report, args.compare.as_deref()) {
        (_, Some([a, b])) => {
            let names = [a, b].map(|path| printable(&path.display().to_string()));
            html::compare([read(a)?, read(b)?], names)?
        }
        (Some(path), _) => read(path)?.page(),
        _ => return Err(Error::new(Kind::Usage, "expected a JSON file, or --compare with two")),
    };
    files::write_atomic(&args.html, page.as_bytes())?;
    print(format_args!("{}: {} KiB", args.html.display(), page.len().div_ceil(1024)))
}

fn read(path: &Path) -> Result<Measurement> {
    let failed = |e| Error::caused(Kind::Io, format!("cannot read {}", path.display()), e);
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("{} is larger than any report, {} MiB", path.display(), MAX_BYTES >> 20);
        return Err(Error::new(Kind::Usage, message));
    }
    Measurement::parse(&bytes).map_err(|e| e.within(format!("cannot use {}", path.display())))
}
