//! A moving test card: a source that needs neither camera nor pictures. What frame `n` shows depends on `n` alone.

use std::fmt::Write;

use super::schedule::{self, Schedule};
use super::uri::PatternRequest;
use super::{Event, Options, Pace, Source, Wait};
use crate::error::{Error, Kind, Result};
use crate::frame::{Frame, Picture};

/// White, yellow, cyan, green, magenta, red, blue, black: the order of falling brightness.
const BARS: [[u8; 3]; 8] =
    [[255, 255, 255], [255, 255, 0], [0, 255, 255], [0, 255, 0], [255, 0, 255], [255, 0, 0], [0, 0, 255], [0, 0, 0]];
/// Pixels that the card moves from one frame to the next.
const STEP: usize = 4;

/// Colour bars that move to the left above a grey ramp that moves to the right, and a square that moves across both.
pub struct Pattern {
    width: usize,
    height: usize,
    schedule: Option<Schedule>,
    number: u64,
    /// A row of the bars, twice: every part of `width` pixels is a row that has moved.
    bars: Vec<u8>,
    /// The same of the ramp.
    ramp: Vec<u8>,
}

impl Pattern {
    /// The card that `request` asks for; `options` may give the rate instead.
    ///
    /// # Errors
    /// [`Kind::Usage`] for `options` that contradict the request or mean nothing here.
    pub fn open(request: &PatternRequest, options: &Options) -> Result<Self> {
        options.refuse_repeat("the test card")?;
        let fps = options.agreed_fps(request.fps)?;
        let (width, height) = request.size;
        if width == 0 || height == 0 {
            return Err(Error::new(Kind::Usage, format!("a test card of {width}×{height} pixels shows nothing")));
        }
        let twice = |pixel: fn(usize, usize) -> [u8; 3]| (0..2 * width).flat_map(|x| pixel(x % width, width)).collect();
        let bars = twice(|x, width| BARS[x * BARS.len() / width]);
        let ramp = twice(|x, width| [(x * 255 / width.max(2)) as u8; 3]);
        Ok(Self { width, height, schedule: fps.map(Schedule::new).transpose()?, number: 0, bars, ramp })
    }

    /// Draws frame `number` into `picture`, whose memory is reused.
    pub fn draw(&self, number: u64, picture: &mut Picture) {
        let (width, height) = (self.width, self.height);
        (picture.width, picture.height) = (width, height);
        picture.rgb.resize(width * height * 3, 0);
        // Reduced first, so that the product cannot overflow.
        let moved = (number % width as u64) as usize * STEP % width;
        let bars = &self.bars[3 * moved..][..3 * width];
        let ramp = &self.ramp[3 * (width - moved)..][..3 * width];
        let (above, below) = picture.rgb.split_at_mut(height * 3 / 4 * width * 3);
        above.chunks_exact_mut(3 * width).for_each(|row| row.copy_from_slice(bars));
        below.chunks_exact_mut(3 * width).for_each(|row| row.copy_from_slice(ramp));
        let side = width.min(height) / 4;
        let along = |length: usize| (number % (length - side + 1) as u64) as usize;
        let (left, top) = (along(width), along(height));
        for row in picture.rgb.chunks_exact_mut(3 * width).skip(top).take(side) {
            row[3 * left..][..3 * side].fill(128);
        }
    }
}

impl Source for Pattern {
    fn next(&mut self, frame: &mut Frame, wait: &Wait<'_>) -> Result<Event> {
        if let Some(schedule) = &mut self.schedule
            && !schedule.wait(wait)
        {
            return Ok(Event::Idle);
        }
        self.draw(self.number, &mut frame.picture);
        frame.name.clear();
        // Writing to a string cannot fail.
        let _ = write!(frame.name, "pattern {}", self.number);
        frame.captured = wait.clock.now();
        self.number = self.number.wrapping_add(1);
        Ok(Event::Frame)
    }

    fn pace(&self) -> Pace {
        schedule::pace(self.schedule.as_ref())
    }

    fn describe(&self) -> String {
        let pace = schedule::describe(self.schedule.as_ref());
        format!("test card, {}×{} ({pace})", self.width, self.height)
    }

    fn name(&self) -> &str {
        "pattern"
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::clock::{Clock, Simulated, Stop};

    fn card(width: usize, height: usize) -> Pattern {
        Pattern::open(&PatternRequest { size: (width, height), fps: None }, &Options::default()).unwrap()
    }

    #[test]
    fn every_frame_follows_from_its_number_and_differs_from_the_last() {
        let card = card(64, 48);
        let draw = |number| {
            let mut picture = Picture::default();
            card.draw(number, &mut picture);
            picture
        };
        for number in [0, 1, 15, 16, 1000, u64::MAX] {
            let picture = draw(number);
            assert_eq!(picture.rgb.len(), 64 * 48 * 3);
            assert_eq!(picture, draw(number));
            assert_ne!(picture, draw(number.wrapping_add(1)), "{number}");
        }
        // The square covers the left upper corner of frame 0; right of it there are the bars.
        let first = draw(0);
        assert_eq!(first.rgb[..3], [128; 3]);
        let bars: Vec<&[u8]> = (0..8).map(|bar| &first.rgb[(20 * 64 + bar * 8) * 3..][..3]).collect();
        assert_eq!(bars, BARS.iter().map(|bar| &bar[..]).collect::<Vec<_>>());
    }

    #[test]
    fn odd_and_tiny_cards_are_drawn() {
        let mut picture = Picture::default();
        for (width, height) in [(16, 16), (17, 31), (4096, 16), (1, 1), (3, 200)] {
            let card = card(width, height);
            (0..300).for_each(|number| card.draw(number, &mut picture));
            assert_eq!(picture.rgb.len(), width * height * 3);
        }
    }

    #[test]
    fn without_a_rate_it_can_wait_and_with_one_it_is_live() {
        assert_eq!(card(16, 16).pace(), Pace::Pull);
        let request = PatternRequest { size: (16, 16), fps: Some(10.0) };
        let mut live = Pattern::open(&request, &Options::default()).unwrap();
        assert_eq!(live.pace(), Pace::Live);
        let clock = Simulated::new();
        let mut frame = Frame { seq: 0, name: String::new(), captured: Instant::now(), picture: Picture::default() };
        let start = clock.now();
        for number in 0..30 {
            let wait = Wait { clock: &clock, stop: &Stop::new(), deadline: start + Duration::from_secs(9) };
            assert_eq!(live.next(&mut frame, &wait).unwrap(), Event::Frame);
            assert_eq!(frame.name, format!("pattern {number}"));
        }
        assert!((frame.captured - start).abs_diff(Duration::from_millis(2900)) < Duration::from_micros(1));
    }

    #[test]
    fn contradictions_are_refused() {
        let request = PatternRequest { size: (16, 16), fps: Some(10.0) };
        let open = |options: Options| Pattern::open(&request, &options).map(|_| ()).map_err(|e| e.to_string());
        assert!(open(Options { fps: Some(10.0), ..Options::default() }).is_ok());
        assert!(open(Options { fps: Some(20.0), ..Options::default() }).unwrap_err().contains("10"));
        assert!(open(Options { repeat: true, ..Options::default() }).unwrap_err().contains("loop"));
    }
}
