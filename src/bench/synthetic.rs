//! Pictures that need no files: for timing only, because no class is in them.

use super::schedule::Random;
use crate::frame::Picture;

/// Width and height: those of a small camera.
const SIZE: (usize, usize) = (640, 480);
/// Rectangles in a picture.
const SHAPES: usize = 24;

/// `count` different pictures of coloured rectangles over a gradient, the same for the same seed.
pub fn pictures(count: usize, seed: u64) -> Vec<Picture> {
    let mut random = Random(seed);
    (0..count).map(|_| picture(&mut random)).collect()
}

fn picture(random: &mut Random) -> Picture {
    let (width, height) = SIZE;
    let base = random.next_u64();
    let mut rgb = Vec::with_capacity(width * height * 3);
    for y in 0..height {
        for x in 0..width {
            rgb.extend(
                [base as usize + x / 3, (base >> 8) as usize + y / 2, (base >> 16) as usize + (x + y) / 5]
                    .map(|v| v as u8),
            );
        }
    }
    for _ in 0..SHAPES {
        let (left, top) = (random.below(width), random.below(height));
        let (right, bottom) =
            (width.min(left + 1 + random.below(width / 3)), height.min(top + 1 + random.below(height / 3)));
        let colour = random.next_u64().to_le_bytes();
        for row in rgb.chunks_exact_mut(3 * width).take(bottom).skip(top) {
            row[3 * left..3 * right].chunks_exact_mut(3).for_each(|pixel| pixel.copy_from_slice(&colour[..3]));
        }
    }
    Picture { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seed_decides_the_pictures_and_they_differ() {
        let made = pictures(3, 5);
        assert_eq!(made, pictures(3, 5));
        assert_ne!(made, pictures(3, 6));
        assert!(made[0] != made[1] && made[1] != made[2]);
        assert!(made.iter().all(|picture| picture.rgb.len() == picture.width * picture.height * 3));
    }
}
