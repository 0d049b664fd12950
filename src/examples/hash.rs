//! Which pictures look alike: a difference hash of 64 bits.

use crate::frame::Picture;

/// Cells of a row, each compared with the one to its right.
const ACROSS: usize = 9;
const DOWN: usize = 8;
/// So many levels of grey must lie between two cells: an even wall has noise.
const MARGIN: u64 = 2;
/// Of a cell's side at most so many pixels are looked at.
const SAMPLES: usize = 16;
/// Luma is counted in thousandths of a level.
const LEVEL: u64 = 1000;

/// The picture as 9 × 8 means; a bit is set where a mean is darker than its right neighbour. Brightness does not change it. 0 for a
/// picture without pixels.
pub fn difference_hash(picture: &Picture) -> u64 {
    let Picture { width, height, ref rgb } = *picture;
    if width == 0
        || height == 0
        || width.checked_mul(height).and_then(|n| n.checked_mul(3)).is_none_or(|n| rgb.len() < n)
    {
        return 0;
    }
    let mut hash = 0;
    for row in 0..DOWN {
        let mut left = cell(picture, 0, row);
        for column in 1..ACROSS {
            let right = cell(picture, column, row);
            let ((left_sum, left_count), (right_sum, right_count)) = (left, right);
            // Means are compared without a division: sum / count < sum / count.
            let is_darker = left_sum * right_count + MARGIN * LEVEL * left_count * right_count < right_sum * left_count;
            hash = hash << 1 | u64::from(is_darker);
            left = right;
        }
    }
    hash
}

/// In how many bits two hashes differ, 0 to 64.
pub fn distance(a: u64, b: u64) -> u32 {
    (a ^ b).count_ones()
}

/// Sum of luma and number of the pixels looked at.
fn cell(picture: &Picture, column: usize, row: usize) -> (u64, u64) {
    let range = |at: usize, cells: usize, side: usize| {
        let start = (at * side / cells).min(side - 1);
        start..((at + 1) * side / cells).clamp(start + 1, side)
    };
    let (columns, rows) = (range(column, ACROSS, picture.width), range(row, DOWN, picture.height));
    let step = |range: &std::ops::Range<usize>| range.len().div_ceil(SAMPLES);
    let (step_x, step_y) = (step(&columns), step(&rows));
    let (mut sum, mut count) = (0, 0);
    for y in rows.step_by(step_y) {
        for x in columns.clone().step_by(step_x) {
            let at = (y * picture.width + x) * 3;
            let [r, g, b] = [0, 1, 2].map(|channel| u64::from(picture.rgb[at + channel]));
            sum += 299 * r + 587 * g + 114 * b;
            count += 1;
        }
    }
    (sum, count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn picture(width: usize, height: usize, pixel: impl Fn(usize, usize) -> u8) -> Picture {
        let rgb = (0..width * height).flat_map(|at| [pixel(at % width, at / width); 3]).collect();
        Picture { width, height, rgb }
    }

    #[test]
    fn slopes_are_all_or_nothing_and_a_noisy_wall_is_a_wall() {
        let rising = picture(180, 80, |x, _| x as u8);
        let falling = picture(180, 80, |x, _| 200 - x as u8);
        assert_eq!((difference_hash(&rising), difference_hash(&falling)), (u64::MAX, 0));
        assert_eq!(distance(u64::MAX, 0), 64);
        let wall = |seed: usize| picture(320, 240, move |x, y| 120 + ((x * 7919 + y * 104_729 + seed * 31) % 7) as u8);
        assert_eq!(distance(difference_hash(&wall(1)), difference_hash(&wall(2))), 0);
    }

    #[test]
    fn something_that_moved_is_seen() {
        let scene =
            |at: usize| picture(640, 360, move |x, y| if (at..at + 150).contains(&x) && y > 90 { 220 } else { 60 });
        assert!(distance(difference_hash(&scene(100)), difference_hash(&scene(400))) > 8);
        assert!(distance(difference_hash(&scene(100)), difference_hash(&scene(101))) <= 2);
    }

    #[test]
    fn damaged_pictures_are_no_panic() {
        for (width, height, bytes) in [(0, 0, 0), (5, 0, 9), (4, 4, 3), (usize::MAX, usize::MAX, 12)] {
            assert_eq!(difference_hash(&Picture { width, height, rgb: vec![7; bytes] }), 0);
        }
    }

    proptest! {
        #[test]
        fn brightness_changes_nothing(width in 1usize..40, height in 1usize..40, pixels in prop::collection::vec(0u8..200, 1600), more in 0u8..55) {
            let dark = picture(width, height, |x, y| pixels[y * 40 + x]);
            let bright = picture(width, height, |x, y| pixels[y * 40 + x] + more);
            prop_assert_eq!(difference_hash(&dark), difference_hash(&bright));
        }

        #[test]
        fn distance_is_a_metric(a: u64, b: u64, c: u64) {
            prop_assert_eq!(distance(a, a), 0);
            prop_assert_eq!(distance(a, b), distance(b, a));
            prop_assert!(distance(a, c) <= distance(a, b) + distance(b, c));
        }
    }
}
