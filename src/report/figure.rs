//! The figure of one decision, like the ones in the paper: the picture that the network saw, what the fine stage did not look at
//! again greyed, the informative cells outlined, and a caption beneath.

use image::{Rgb, RgbImage};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};

use crate::error::{Error, Kind, Result};
use crate::frame::Picture;
use crate::preprocess::resize::{Bicubic, CropBox};
use crate::report::text::shorten;

/// The picture is enlarged by a whole number, so that cells stay on pixel borders, to about this many pixels.
const TARGET_SIDE: usize = 672;
/// Space around the caption's lines.
const MARGIN: u32 = 12;
const BACKGROUND: Rgb<u8> = Rgb([24, 26, 30]);
const TITLE: Rgb<u8> = Rgb([245, 245, 245]);
const DETAIL: Rgb<u8> = Rgb([170, 176, 186]);
const OUTLINE: Rgb<u8> = Rgb([255, 196, 64]);

/// What is drawn.
pub struct Figure<'a> {
    /// Pixels on a side of the fine image.
    pub side: usize,
    /// The pixels that the network saw: `[side, side, 3]` bytes.
    pub pixels: &'a [u8],
    /// Cells on a side of the coarse grid; `side` is a multiple of it.
    pub grid: usize,
    /// The cells that the fine stage saw finer; `None` where it did not run.
    pub informative: Option<&'a [u32]>,
    /// The large line of the caption, from the left and, never shortened, from the right.
    pub title: (&'a str, &'a str),
    /// The small line of the caption.
    pub detail: &'a str,
}

/// A font: its weight and height.
#[derive(Clone, Copy)]
struct Font(FontWeight, RasterHeight);

const TITLE_FONT: Font = Font(FontWeight::Bold, RasterHeight::Size24);
const DETAIL_FONT: Font = Font(FontWeight::Regular, RasterHeight::Size20);

impl Font {
    fn height(self) -> u32 {
        self.1.val() as u32
    }

    fn advance(self) -> u32 {
        get_raster_width(self.0, self.1) as u32
    }
}

/// Draws `figure`.
///
/// # Errors
/// [`Kind::Image`] when the pixels do not fit the side, or the side is too large to be drawn.
pub fn draw(figure: &Figure<'_>) -> Result<RgbImage> {
    let factor = (TARGET_SIDE / figure.side.max(1)).clamp(1, 8);
    let mut image = enlarge(figure, figure.side * factor)?;
    if let Some(informative) = figure.informative {
        let cell = (figure.side * factor / figure.grid.max(1)) as u32;
        for index in 0..figure.grid * figure.grid {
            let corner = ((index % figure.grid) as u32 * cell, (index / figure.grid) as u32 * cell);
            match informative.contains(&(index as u32)) {
                true => outline(&mut image, corner, cell),
                false => grey(&mut image, corner, cell),
            }
        }
    }
    caption(&mut image, figure);
    Ok(image)
}

/// The picture at `side × side` pixels, with room for the caption beneath.
fn enlarge(figure: &Figure<'_>, side: usize) -> Result<RgbImage> {
    let picture = Picture { width: figure.side, height: figure.side, rgb: figure.pixels.to_vec() };
    let all = CropBox { left: 0.0, top: 0.0, width: figure.side as f64, height: figure.side as f64 };
    let mut rgb = vec![0; side * side * 3];
    Bicubic::default().resample(&picture, all, &mut rgb, (side, side))?;
    let height = side + caption_height() as usize;
    for _ in 0..side * (height - side) {
        rgb.extend_from_slice(&BACKGROUND.0);
    }
    RgbImage::from_raw(side as u32, height as u32, rgb)
        .ok_or_else(|| Error::new(Kind::Image, format!("cannot draw a figure of {side}×{height} pixels")))
}

/// Pixels down that the caption takes.
fn caption_height() -> u32 {
    MARGIN + TITLE_FONT.height() + MARGIN / 2 + DETAIL_FONT.height() + MARGIN
}

/// Takes the colour and most of the light from a cell.
fn grey(image: &mut RgbImage, (left, top): (u32, u32), cell: u32) {
    for y in top..top + cell {
        for x in left..left + cell {
            let Some(pixel) = image.get_pixel_mut_checked(x, y) else { continue };
            let [r, g, b] = pixel.0.map(u32::from);
            // Rec. 601 luma, then half of it on a dark ground.
            let luma = (299 * r + 587 * g + 114 * b) / 1000;
            *pixel = Rgb([(36 + luma * 2 / 5) as u8; 3]);
        }
    }
}

/// A thin, half transparent line just inside a cell's border.
fn outline(image: &mut RgbImage, (left, top): (u32, u32), cell: u32) {
    let last = cell.saturating_sub(1);
    for i in 0..cell {
        for (x, y) in [(i, 0), (i, last), (0, i), (last, i)] {
            blend(image, (left + x, top + y), OUTLINE, 96);
        }
    }
}

/// Mixes `colour` into a pixel: 0 leaves it, 255 replaces it. Nothing happens outside of the image.
fn blend(image: &mut RgbImage, (x, y): (u32, u32), colour: Rgb<u8>, share: u8) {
    let Some(pixel) = image.get_pixel_mut_checked(x, y) else { return };
    let share = u32::from(share);
    for (below, above) in pixel.0.iter_mut().zip(colour.0) {
        *below = ((u32::from(*below) * (255 - share) + u32::from(above) * share + 127) / 255) as u8;
    }
}

/// Writes the caption's two lines beneath the picture.
fn caption(image: &mut RgbImage, figure: &Figure<'_>) {
    let width = image.width().saturating_sub(2 * MARGIN);
    let top = image.height() - caption_height() + MARGIN;
    let (title, right) = figure.title;
    let columns = (width / TITLE_FONT.advance()) as usize;
    let right_columns = right.chars().count();
    // A blank column between the two.
    let title = shorten(title, columns.saturating_sub(right_columns + 1));
    write(image, (MARGIN, top), &title, TITLE_FONT, TITLE);
    let right_width = right_columns as u32 * TITLE_FONT.advance();
    write(image, (image.width().saturating_sub(MARGIN + right_width), top), right, TITLE_FONT, TITLE);
    let detail = shorten(figure.detail, (width / DETAIL_FONT.advance()) as usize);
    write(image, (MARGIN, top + TITLE_FONT.height() + MARGIN / 2), &detail, DETAIL_FONT, DETAIL);
}

/// Writes `text` from `(left, top)` on; what the font doesn't have becomes `?`.
fn write(image: &mut RgbImage, (left, top): (u32, u32), text: &str, font: Font, colour: Rgb<u8>) {
    let Font(weight, height) = font;
    let mut start = left;
    for c in text.chars() {
        if let Some(glyph) = get_raster(c, weight, height).or_else(|| get_raster('?', weight, height)) {
            for (y, row) in (top..).zip(glyph.raster()) {
                for (x, &share) in (start..).zip(*row) {
                    blend(image, (x, y), colour, share);
                }
            }
        }
        start = start.saturating_add(font.advance());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A red picture of 32×32 pixels on a 2×2 grid.
    fn figure<'a>(pixels: &'a [u8], informative: Option<&'a [u32]>, title: (&'a str, &'a str)) -> RgbImage {
        draw(&Figure { side: 32, pixels, grid: 2, informative, title, detail: "" }).unwrap()
    }

    #[test]
    fn only_uninformative_cells_are_greyed_and_only_where_the_fine_stage_ran() {
        let pixels = [200, 10, 10].repeat(32 * 32);
        let coarse = figure(&pixels, None, ("", ""));
        assert_eq!((coarse.width(), coarse.height()), (256, 256 + caption_height()));
        assert!((0..256).all(|i| *coarse.get_pixel(i, i) == Rgb([200, 10, 10])));

        let fine = figure(&pixels, Some(&[0, 3]), ("", ""));
        let is_grey = |x, y| fine.get_pixel(x, y).0.windows(2).all(|pair| pair[0] == pair[1]);
        assert_eq!(*fine.get_pixel(64, 64), Rgb([200, 10, 10]));
        assert_eq!(*fine.get_pixel(192, 192), Rgb([200, 10, 10]));
        assert!(is_grey(192, 64) && is_grey(64, 192));
        assert_ne!(*fine.get_pixel(0, 64), Rgb([200, 10, 10]), "the border of an informative cell is marked");
    }

    #[test]
    fn the_caption_is_written_and_never_runs_out_of_the_image() {
        let pixels = [0; 32 * 32 * 3];
        let lit = |image: &RgbImage| image.rows().skip(256).flatten().filter(|pixel| pixel.0[0] > 128).count();
        let empty = figure(&pixels, None, ("", ""));
        let short = figure(&pixels, None, ("tench", "9 %"));
        let long = figure(&pixels, None, (&"cassette player, ".repeat(40), "100.0 %"));
        assert_eq!(lit(&empty), 0);
        assert!(lit(&short) > 100 && lit(&long) > lit(&short));
        let right_edge = |image: &RgbImage| image.rows().skip(256).all(|mut row| row.next_back() == Some(&BACKGROUND));
        assert!(right_edge(&short) && right_edge(&long));
    }

    #[test]
    fn unknown_glyphs_become_question_marks() {
        let pixels = [0; 32 * 32 * 3];
        assert_eq!(figure(&pixels, None, ("鯉", "")), figure(&pixels, None, ("?", "")));
    }

    #[test]
    fn pixels_that_do_not_fit_the_side_are_an_error() {
        let figure = Figure { side: 32, pixels: &[0; 7], grid: 2, informative: None, title: ("", ""), detail: "" };
        assert_eq!(draw(&figure).unwrap_err().kind(), Kind::Image);
    }
}
