//! `cfvit visualize`: a figure for each picture, showing where the fine stage looked.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::ImageFormat;

use super::session::{Decision, Failures, Session};
use super::{DecisionArgs, ModelArgs, pictures, print};
use crate::error::{Error, Kind, Result};
use crate::files;
use crate::frame::Stage;
use crate::gate;
use crate::model::Geometry;
use crate::report::answer::{name, percent};
use crate::report::figure::{self, Figure};
use crate::report::text::printable;

/// Draw what the model looked at: a PNG per picture
///
/// Each figure shows the picture as the network saw it. Where the fine stage ran, the cells that it saw finer are outlined and the
/// others greyed. The caption gives the label, its confidence, and the stage that answered.
#[derive(clap::Args)]
#[command(
    after_long_help = "A figure is called like its picture, NAME.png, and NAME-2.png and so on where several pictures are \
    called the same. Figures of an earlier run are replaced.\n\n\
    Examples:\n  cfvit visualize --out figures photos/\n  \
    cfvit visualize --out figures --threshold 1.1 photo.jpg    the fine stage for every picture"
)]
pub struct Args {
    /// Pictures, or folders of pictures
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<PathBuf>,
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub decision: DecisionArgs,
    /// Folder for the figures; it is made where it is missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Draws the pictures one after the other.
///
/// # Errors
/// [`Kind::Io`] when a figure cannot be written; [`Kind::Image`] at the end when a picture could not be read; what the model
/// reports.
pub fn run(args: Args) -> Result<()> {
    let images = pictures::find(&args.images)?;
    let mut session = Session::open(&args.model, &args.decision)?;
    std::fs::create_dir_all(&args.out)
        .map_err(|e| Error::caused(Kind::Io, format!("cannot make the folder {}", args.out.display()), e))?;
    let (geometry, threshold) = (*session.cascade.engine().geometry(), session.cascade.threshold());
    let mut names = Names::default();
    let mut failures = Failures::default();
    for image in &images {
        let Some(decision) = failures.note(session.decide(image, false))? else { continue };
        let target = args.out.join(names.next(image));
        write_png(&target, &draw(&decision, &geometry, threshold)?)?;
        print(printable(&target.to_string_lossy()))?;
    }
    failures.finish(images.len())
}

/// The figure of one decision.
fn draw(decision: &Decision<'_>, geometry: &Geometry, threshold: f32) -> Result<image::RgbImage> {
    let verdict = decision.verdict;
    let fine = verdict.stage == Stage::Fine;
    let label = printable(name(decision.labels, verdict.label));
    let detail = if fine {
        let coarse = printable(name(decision.labels, gate::argmax(&verdict.coarse.logits).0));
        let confidence = percent(verdict.coarse_confidence);
        format!("fine stage (coarse: {coarse}, {confidence}, below {})", percent(threshold))
    } else {
        format!("coarse stage (needed {})", percent(threshold))
    };
    figure::draw(&Figure {
        side: geometry.fine_side(),
        pixels: decision.cropped,
        grid: geometry.grid,
        informative: fine.then_some(&verdict.choice.informative),
        title: (&label, &percent(verdict.confidence)),
        detail: &detail,
    })
}

/// Gives every picture of one run a figure name of its own.
#[derive(Default)]
struct Names {
    taken: HashSet<OsString>,
}

impl Names {
    /// `photo.png` for `…/photo.jpg`; `photo-2.png`, … when that is taken.
    fn next(&mut self, picture: &Path) -> OsString {
        let stem = picture.file_stem().unwrap_or("picture".as_ref());
        let numbered = |n: usize| {
            let mut name = stem.to_owned();
            name.push(if n == 1 { ".png".to_owned() } else { format!("-{n}.png") });
            name
        };
        // One of the first `taken + 1` numbers is free.
        let free = (1..=self.taken.len() + 1).map(numbered).find(|name| !self.taken.contains(name));
        let name = free.unwrap_or_else(|| numbered(self.taken.len() + 2));
        self.taken.insert(name.clone());
        name
    }
}

/// Writes `image` to `target`, whole or not at all.
fn write_png(target: &Path, image: &image::RgbImage) -> Result<()> {
    let mut png = Cursor::new(Vec::new());
    image
        .write_to(&mut png, ImageFormat::Png)
        .map_err(|e| Error::caused(Kind::Io, format!("cannot encode {}", target.display()), e))?;
    files::write_atomic(target, png.get_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_pictures_share_a_figure() {
        let mut names = Names::default();
        let found = ["a.jpg", "b/a.png", "a-2.jpg", "c/a.gif", "b.jpg"].map(|path| names.next(Path::new(path)));
        assert_eq!(found, ["a.png", "a-2.png", "a-2-2.png", "a-3.png", "b.png"].map(OsString::from));
    }
}
