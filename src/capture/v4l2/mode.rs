//! Which of a camera's modes is taken. Pure.

use std::fmt;

use crate::capture::formats::PixelFormat;

/// Frames per second that are wanted where nobody asked for a rate.
const USUAL_FPS: f64 = 30.0;

/// The time from one frame to the next: `numerator / denominator` seconds, both above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Over the denominator.
    pub numerator: u32,
    /// Under the numerator.
    pub denominator: u32,
}

impl Interval {
    /// `None` for what is no time.
    pub fn new([numerator, denominator]: [u32; 2]) -> Option<Self> {
        (numerator > 0 && denominator > 0).then_some(Self { numerator, denominator })
    }

    /// The interval of `fps` frames per second, as closely as thousandths tell it.
    pub fn of_fps(fps: f64) -> Option<Self> {
        // Rates are at most 1000 (`Options::FPS`).
        if fps.fract() == 0.0 { Self::new([1, fps as u32]) } else { Self::new([1000, (fps * 1000.0).round() as u32]) }
    }

    /// Frames per second.
    pub fn fps(self) -> f64 {
        f64::from(self.denominator) / f64::from(self.numerator)
    }
}

/// The rates that a camera has for one format and size.
#[derive(Clone, Debug, PartialEq)]
pub enum Rates {
    /// It does not tell.
    Unknown,
    /// These.
    These(Vec<Interval>),
    /// Everything between the shortest and the longest.
    Between(Interval, Interval),
}

impl Rates {
    /// The interval to ask for: the slowest rate that has `wanted` frames per second, else the fastest.
    pub fn nearest(&self, wanted: f64) -> Option<Interval> {
        // Half a percent less is meant too: 29.97 for 30.
        let enough = |interval: &&Interval| interval.fps() >= wanted * 0.995;
        let by_rate = |a: &&Interval, b: &&Interval| a.fps().total_cmp(&b.fps());
        match self {
            Self::Unknown => Interval::of_fps(wanted),
            Self::These(all) => {
                let slowest = all.iter().filter(enough).min_by(by_rate);
                slowest.or_else(|| all.iter().max_by(by_rate)).copied()
            }
            Self::Between(shortest, _) if shortest.fps() <= wanted => Some(*shortest),
            Self::Between(_, longest) if longest.fps() >= wanted => Some(*longest),
            Self::Between(..) => Interval::of_fps(wanted),
        }
    }
}

/// One format and size that a camera has.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// How pixels are stored.
    pub format: PixelFormat,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// How many a second.
    pub rates: Rates,
}

/// What is wanted of a camera. What is `None` may be anything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wish {
    /// Width and height in pixels.
    pub size: Option<(usize, usize)>,
    /// Frames per second.
    pub fps: Option<f64>,
    /// How pixels are stored.
    pub format: Option<PixelFormat>,
    /// The shorter side, in pixels, that the model's input needs.
    pub side: usize,
}

impl Wish {
    /// Frames per second to go for.
    pub fn target_fps(&self) -> f64 {
        self.fps.unwrap_or(USUAL_FPS)
    }
}

/// The mode that is taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Mode {
    /// How pixels are stored.
    pub format: PixelFormat,
    /// Width and height in pixels.
    pub size: (usize, usize),
    /// The time between frames to ask for.
    pub interval: Option<Interval>,
    /// Why this one, for a person.
    pub why: String,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (width, height) = self.size;
        write!(f, "{} {width}×{height}", self.format.name())?;
        match self.interval {
            Some(interval) => write!(f, " at {}/s", rounded(interval.fps())),
            None => Ok(()),
        }
    }
}

/// A rate with at most two decimals.
pub fn rounded(fps: f64) -> f64 {
    (fps * 100.0).round() / 100.0
}

/// The best of `offers`: those that fit the wish and whose shorter side covers the model's input before those that do not, colour before
/// grey, fast enough before too slow, then what is least work.
///
/// # Errors
/// What to tell when none fits the wish.
pub fn choose(offers: &[Offer], wish: &Wish) -> Result<Mode, String> {
    let fits = |offer: &&Offer| {
        wish.format.is_none_or(|format| format == offer.format) && wish.size.is_none_or(|size| size == offer.size)
    };
    let best = offers.iter().filter(fits).min_by_key(|offer| rank(offer, wish)).ok_or_else(|| refusal(offers, wish))?;
    Ok(Mode {
        format: best.format,
        size: best.size,
        interval: best.rates.nearest(wish.target_fps()),
        why: reason(best, offers.iter().filter(fits).count(), wish),
    })
}

/// Less is better, first things first.
fn rank(offer: &Offer, wish: &Wish) -> (usize, bool, u64, u64) {
    let (width, height) = offer.size;
    let missing = wish.side.saturating_sub(width.min(height));
    let fps = offer.rates.nearest(wish.target_fps()).map_or(0.0, Interval::fps);
    // Whole frames per second: a hundredth decides nothing.
    let slowness = (wish.target_fps() - fps).max(0.0).round() as u64;
    (missing, offer.format == PixelFormat::Grey, slowness, work(offer))
}

/// What a frame costs, in units of a byte read: measured relations of conversions, with JPEG's decoder in its place.
fn work(offer: &Offer) -> u64 {
    use PixelFormat::*;
    let per_pixel = match offer.format {
        Grey => 2,
        Nv12 | Nv21 | I420 | Yv12 => 3,
        Yuyv | Uyvy => 4,
        Rgb24 | Bgr24 => 5,
        Mjpeg | Jpeg => 40,
    };
    (offer.size.0 * offer.size.1) as u64 * per_pixel
}

fn reason(best: &Offer, fitting: usize, wish: &Wish) -> String {
    let covers = best.size.0.min(best.size.1) >= wish.side;
    match (wish.size.is_some() && wish.format.is_some(), covers) {
        (true, _) => "as asked".to_owned(),
        (false, true) => {
            format!("of {fitting} modes the least work that covers the {} pixels of the model's input", wish.side)
        }
        (false, false) => {
            format!(
                "of {fitting} modes the closest to the {} pixels of the model's input, which none covers",
                wish.side
            )
        }
    }
}

/// Says what is there instead of what was asked for.
fn refusal(offers: &[Offer], wish: &Wish) -> String {
    let mut asked = Vec::new();
    asked.extend(wish.format.map(|format| format.name().to_owned()));
    asked.extend(wish.size.map(|(width, height)| format!("{width}x{height}")));
    let mut there: Vec<String> =
        offers.iter().map(|offer| format!("{} {}x{}", offer.format.name(), offer.size.0, offer.size.1)).collect();
    there.dedup();
    const SHOWN: usize = 24;
    let more = if there.len() > SHOWN { ", …" } else { "" };
    there.truncate(SHOWN);
    format!("it does not offer {}: expected one of {}{more}", asked.join(" "), there.join(", "))
}

/// The sizes to consider of a camera that takes any between `least` and `most` in steps: the one asked for, VGA, and the smallest 4:3 one
/// that covers the model's input.
pub fn sizes_between(
    least: (usize, usize),
    most: (usize, usize),
    step: (usize, usize),
    wish: &Wish,
) -> Vec<(usize, usize)> {
    let fit = |value: usize, least: usize, most: usize, step: usize| {
        let step = step.max(1);
        let up = least + value.saturating_sub(least).div_ceil(step).saturating_mul(step);
        if up <= most { up } else { most }
    };
    let mut sizes = Vec::new();
    for (width, height) in wish.size.into_iter().chain([(640, 480), (wish.side.saturating_mul(4) / 3, wish.side)]) {
        let size = (fit(width, least.0, most.0, step.0), fit(height, least.1, most.1, step.1));
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    }
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WISH: Wish = Wish { size: None, fps: None, format: None, side: 256 };

    fn offer(format: PixelFormat, size: (usize, usize), fps: &[u32]) -> Offer {
        let rates = match fps {
            [] => Rates::Unknown,
            fps => Rates::These(fps.iter().filter_map(|&fps| Interval::new([1, fps])).collect()),
        };
        Offer { format, size, rates }
    }

    fn chosen(offers: &[Offer], wish: Wish) -> String {
        choose(offers, &wish).unwrap().to_string()
    }

    /// The modes of a usual webcam.
    fn webcam() -> Vec<Offer> {
        use PixelFormat::*;
        vec![
            offer(Mjpeg, (1280, 720), &[30]),
            offer(Mjpeg, (640, 480), &[30]),
            offer(Yuyv, (1280, 720), &[10, 5]),
            offer(Yuyv, (640, 480), &[30, 20, 15, 5]),
            offer(Yuyv, (320, 240), &[30]),
        ]
    }

    #[test]
    fn the_cheapest_mode_that_covers_the_input_is_taken() {
        assert_eq!(chosen(&webcam(), WISH), "YUYV 640×480 at 30/s");
        assert_eq!(chosen(&webcam(), Wish { side: 224, ..WISH }), "YUYV 320×240 at 30/s", "240 rows cover 224");
    }

    #[test]
    fn speed_counts_before_work_and_coverage_before_speed() {
        assert_eq!(chosen(&webcam(), Wish { side: 500, ..WISH }), "MJPEG 1280×720 at 30/s", "YUYV has 10 there");
        assert_eq!(chosen(&webcam(), Wish { side: 500, fps: Some(8.0), ..WISH }), "YUYV 1280×720 at 10/s");
        assert_eq!(chosen(&webcam(), Wish { side: 5000, ..WISH }), "MJPEG 1280×720 at 30/s", "none covers it");
        assert!(choose(&webcam(), &Wish { side: 5000, ..WISH }).unwrap().why.contains("none covers"));
    }

    #[test]
    fn what_is_asked_for_is_taken_or_refused_with_what_there_is() {
        let asked = Wish { size: Some((1280, 720)), format: Some(PixelFormat::Yuyv), fps: Some(15.0), side: 256 };
        assert_eq!(chosen(&webcam(), asked), "YUYV 1280×720 at 10/s");
        assert_eq!(choose(&webcam(), &asked).unwrap().why, "as asked");
        assert_eq!(chosen(&webcam(), Wish { format: Some(PixelFormat::Mjpeg), ..WISH }), "MJPEG 640×480 at 30/s");
        let refused = choose(&webcam(), &Wish { size: Some((800, 600)), ..WISH }).unwrap_err();
        assert!(refused.contains("800x600") && refused.contains("YUYV 640x480"), "{refused}");
        assert!(choose(&[], &WISH).is_err());
    }

    #[test]
    fn colour_comes_before_grey_and_fewer_bytes_before_more() {
        use PixelFormat::*;
        let offers = [Grey, Yuyv, Nv12, Rgb24].map(|format| offer(format, (640, 480), &[]));
        assert_eq!(chosen(&offers, WISH), "NV12 640×480 at 30/s");
        assert_eq!(chosen(&offers[..1], WISH), "GREY 640×480 at 30/s");
    }

    #[test]
    fn the_rate_is_the_slowest_that_is_enough() {
        let rates = Rates::These([5, 15, 25, 60].iter().filter_map(|&fps| Interval::new([1, fps])).collect());
        for (wanted, expected) in [(1.0, 5.0), (15.0, 15.0), (15.05, 15.0), (16.0, 25.0), (30.0, 60.0), (90.0, 60.0)] {
            assert_eq!(rates.nearest(wanted).unwrap().fps(), expected, "{wanted}");
        }
        let between = Rates::Between(Interval::new([1, 50]).unwrap(), Interval::new([1, 2]).unwrap());
        for (wanted, expected) in [(1.0, 2.0), (30.0, 30.0), (29.97, 29.97), (90.0, 50.0)] {
            assert_eq!(between.nearest(wanted).unwrap().fps(), expected, "{wanted}");
        }
        assert_eq!(Rates::These(Vec::new()).nearest(30.0), None);
    }

    #[test]
    fn of_a_range_of_sizes_a_few_are_considered() {
        let sizes = sizes_between((48, 32), (1920, 1080), (16, 16), &Wish { size: Some((800, 600)), ..WISH });
        assert_eq!(sizes, [(800, 608), (640, 480), (352, 256)]);
        assert_eq!(sizes_between((100, 100), (200, 200), (1, 1), &WISH), [(200, 200)]);
    }

    proptest! {
        /// Drivers can say anything.
        #[test]
        fn any_range_gives_sizes_inside_it(a: (u32, u32), b: (u32, u32), step: (u32, u32), side in 0usize..20000) {
            let wide = |(w, h): (u32, u32)| (w as usize, h as usize);
            let (a, b) = (wide(a), wide(b));
            let (least, most) = ((a.0.min(b.0), a.1.min(b.1)), (a.0.max(b.0), a.1.max(b.1)));
            for (width, height) in sizes_between(least, most, wide(step), &Wish { side, ..WISH }) {
                prop_assert!((least.0..=most.0).contains(&width) && (least.1..=most.1).contains(&height));
            }
        }

        #[test]
        fn any_interval_has_a_rate(numerator: u32, denominator: u32, wanted in 0.001f64..1000.0) {
            let rates = Rates::These(Interval::new([numerator, denominator]).into_iter().collect());
            prop_assert!(rates.nearest(wanted).is_none_or(|interval| interval.fps().is_finite() && interval.fps() > 0.0));
            prop_assert!(Rates::Unknown.nearest(wanted).is_none_or(|interval| (interval.fps() - wanted).abs() < 0.001 + wanted * 0.5));
        }
    }
}
