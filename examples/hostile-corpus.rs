//! Writes the hostile corpus to a folder, for fuzzers and for looking at: `cargo run --example hostile-corpus DIR`.

#[path = "../tests/hostile/mod.rs"]
mod hostile;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: hostile-corpus DIR");
        return ExitCode::from(2);
    };
    match write(Path::new(&folder)) {
        Ok(count) => {
            println!("{count} files in {}", Path::new(&folder).display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(folder: &Path) -> std::io::Result<usize> {
    std::fs::create_dir_all(folder)?;
    let corpus = hostile::corpus();
    for case in &corpus {
        std::fs::write(folder.join(&case.file), &case.bytes)?;
    }
    Ok(corpus.len())
}
