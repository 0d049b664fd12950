//! The `cfvit` program: [`cfvit::cli`] does the work.

use std::process::ExitCode;

fn main() -> ExitCode {
    cfvit::cli::main()
}
