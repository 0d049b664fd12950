//! `cfvit classify`: what is in these pictures, and which stage knew.

use std::path::PathBuf;

use super::session::{Failures, Session};
use super::{DecisionArgs, ModelArgs, pictures, print};
use crate::error::{Error, Kind, Result};
use crate::report::answer::{Answer, Detail, Tally};

/// Say what is in pictures, and which stage of the model knew
///
/// Every picture goes through the coarse stage. Where its confidence reaches the threshold, that is the answer; otherwise the
/// fine stage looks again at the informative half of the picture.
///
/// Pictures are JPEG, PNG, GIF, WebP, TIFF, BMP, PNM or TGA files, told apart by their content, or folders, which are searched with their
/// subfolders. A rotation noted in EXIF is not applied, because it was not in training.
#[derive(clap::Args)]
#[command(
    after_long_help = "Exit codes: 0 all pictures were classified, 1 a picture or the model could not be read (the other \
    pictures are classified all the same), 2 wrong usage.\n\n\
    Examples:\n  cfvit classify photo.jpg\n  cfvit classify --threshold 0.7 --top 5 photos/\n  \
    cfvit classify --json photos/ | jq -r 'select(.exit == \"fine\").image'"
)]
pub struct Args {
    /// Pictures, or folders of pictures
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub decision: DecisionArgs,
    /// How many of the most probable classes to list
    #[arg(long, value_name = "N", default_value = "3", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: u32,
    /// Print one JSON object per picture and line
    ///
    /// Keys: image, exit ("coarse" or "fine"), label, name, confidence, top (label, name, probability), timing_ms (preprocess,
    /// coarse, fine, total).
    #[arg(long)]
    pub json: bool,
    /// Add what happened inside to the JSON: logits, class attention, informative cells
    ///
    /// An object trace: coarse_logits, coarse_confidence, class_attention (one value per cell of the coarse grid, row by row),
    /// informative (the cells that the fine stage sees finer, or would have), fine_logits (null where the fine stage did not run).
    #[arg(long, requires = "json")]
    pub trace: bool,
    /// Take pictures as they are: they already have the model's size
    #[arg(long, conflicts_with = "crop")]
    pub no_crop: bool,
}

/// Classifies the pictures one after the other.
///
/// # Errors
/// [`Kind::Image`] at the end when a picture could not be read; whatever the model or the output report at once.
pub fn run(args: Args) -> Result<()> {
    let images = pictures::find(&args.images)?;
    let mut session = Session::open(&args.model, &args.decision)?;
    let trace = args.trace.then(|| session.geometry().informative());
    let detail = Detail { top: args.top as usize, trace };
    let mut tally = Tally::default();
    let mut failures = Failures::default();
    for image in &images {
        let Some(decision) = failures.note(session.decide(image, args.no_crop))? else { continue };
        tally.add(decision.verdict.stage, decision.timing);
        let path = image.to_string_lossy();
        let answer = Answer::new(&path, decision.verdict, decision.timing, decision.labels, detail);
        if args.json {
            let line = serde_json::to_string(&answer);
            print(line.map_err(|e| Error::caused(Kind::Io, "cannot write the answer as JSON", e))?)?;
        } else {
            print(&answer)?;
        }
    }
    if !args.json && tally.images() > 1 {
        print(tally)?;
    }
    failures.finish(images.len())
}
