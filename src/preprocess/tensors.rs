//! From pixels to the network's two tensors. Everything that depends only on the sizes is computed once.

/// Mean of the training pictures per channel (red, green, blue), in units of the full scale.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Standard deviation of the training pictures per channel, in units of the full scale.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Scales 8-bit pixels to `[0, 1]` and normalises them: one table look-up per sample, with exactly the values of
/// `(x / 255 − mean) / std` in 32-bit floats.
pub struct Normalizer {
    /// Per channel the normalised value of every byte.
    tables: Box<[[f32; 256]; 3]>,
}

impl Default for Normalizer {
    /// Fills the tables.
    fn default() -> Self {
        let table = |c: usize| std::array::from_fn(|byte| (byte as f32 / 255.0 - MEAN[c]) / STD[c]);
        Self { tables: Box::new(std::array::from_fn(table)) }
    }
}

impl Normalizer {
    /// Normalises `rgb` (`[S, S, 3]` bytes) into `planes` (`[3, S, S]`).
    pub fn apply(&self, rgb: &[u8], planes: &mut [f32]) {
        let (red, rest) = planes.split_at_mut(planes.len() / 3);
        let (green, blue) = rest.split_at_mut(rest.len() / 2);
        self.apply_to(rgb, [red, green, blue]);
    }

    /// The same for some pixels, into their parts of the three planes.
    pub fn apply_to(&self, rgb: &[u8], [red, green, blue]: [&mut [f32]; 3]) {
        let [reds, greens, blues] = &*self.tables;
        for (((pixel, r), g), b) in rgb.chunks_exact(3).zip(red).zip(green).zip(blue) {
            *r = reds[usize::from(pixel[0])];
            *g = greens[usize::from(pixel[1])];
            *b = blues[usize::from(pixel[2])];
        }
    }
}

/// Between which two source samples a target sample lies, and how far on the way to the second.
#[derive(Clone, Copy)]
struct Tap {
    first: usize,
    second: usize,
    weight: f32,
}

/// Halves the side of square planes: bilinear, aligned corners, no antialiasing (the training's reduction from the fine to the
/// coarse image).
pub struct Halver {
    side: usize,
    /// `[S/2]`; the same for rows and columns.
    taps: Vec<Tap>,
}

impl Halver {
    /// From `side × side` to `side/2 × side/2`; `side ≥ 2`.
    pub fn new(side: usize) -> Self {
        let half = side / 2;
        // Aligned corners: the first and last samples of both sides coincide. A single target sample sits on the first.
        // Positions are rounded as the training framework rounds them: their errors of 1e-5 pixels are systematic, and exact ones would
        // move the class attention by 4e-5 of its maximum.
        let step = if half > 1 { (side - 1) as f32 / (half - 1) as f32 } else { 0.0 };
        let tap = |i: usize| {
            let position = step * i as f32;
            let first = (position as usize).min(side - 1);
            Tap { first, second: (first + 1).min(side - 1), weight: position - first as f32 }
        };
        Self { side, taps: (0..half).map(tap).collect() }
    }

    /// Resamples `fine` (`[3, S, S]`) into `coarse` (`[3, S/2, S/2]`).
    pub fn apply(&self, fine: &[f32], coarse: &mut [f32]) {
        let (side, half) = (self.side, self.taps.len());
        let mut row = vec![0.0; side];
        for (plane, target) in fine.chunks_exact(side * side).zip(coarse.chunks_exact_mut(half * half)) {
            self.rows(0, plane, target, &mut row);
        }
    }

    /// The rows from `first` on of a coarse plane into `coarse`, as many as fit. `fine` holds the fine plane from row `2 · first` on; a coarse
    /// row needs its two fine rows and no other. `row` (`[S]`) is scratch memory.
    pub fn rows(&self, first: usize, fine: &[f32], coarse: &mut [f32], row: &mut [f32]) {
        let (side, half) = (self.side, self.taps.len());
        for (tap, target) in self.taps[first..].iter().zip(coarse.chunks_exact_mut(half)) {
            let upper = &fine[(tap.first - 2 * first) * side..][..side];
            let lower = &fine[(tap.second - 2 * first) * side..][..side];
            for ((row, &a), &b) in row.iter_mut().zip(upper).zip(lower) {
                *row = a + (b - a) * tap.weight;
            }
            for (tap, value) in self.taps.iter().zip(target) {
                let (a, b) = (row[tap.first], row[tap.second]);
                *value = a + (b - a) * tap.weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn normalising_separates_the_channels_and_uses_their_own_statistics() {
        let mut planes = [0.0; 6];
        Normalizer::default().apply(&[255, 0, 51, 0, 255, 102], &mut planes);
        let expected = [
            (1.0 - 0.485) / 0.229,
            -0.485 / 0.229,
            -0.456 / 0.224,
            (1.0 - 0.456) / 0.224,
            (0.2 - 0.406) / 0.225,
            (0.4 - 0.406) / 0.225,
        ];
        for (found, expected) in planes.iter().zip(expected) {
            assert!((found - expected as f32).abs() < 1e-6, "{found} {expected}");
        }
    }

    /// Written from the definition, one target sample at a time, in double precision.
    fn oracle(plane: &[f32], side: usize, row: usize, column: usize) -> f64 {
        let half = side / 2;
        let position = |i: usize| if half == 1 { 0.0 } else { i as f64 * (side as f64 - 1.0) / (half as f64 - 1.0) };
        let (y, x) = (position(row), position(column));
        let mut sum = 0.0;
        for sy in 0..side {
            for sx in 0..side {
                let weight = (1.0 - (y - sy as f64).abs()).max(0.0) * (1.0 - (x - sx as f64).abs()).max(0.0);
                sum += weight * f64::from(plane[sy * side + sx]);
            }
        }
        sum
    }

    proptest! {
        #[test]
        fn halving_matches_the_definition(half in 1usize..9, seed in prop::collection::vec(-2.7f32..2.7, 3 * 256)) {
            let side = 2 * half;
            let fine: Vec<f32> = seed.into_iter().take(3 * side * side).collect();
            let mut coarse = vec![f32::NAN; 3 * half * half];
            Halver::new(side).apply(&fine, &mut coarse);
            for (i, &found) in coarse.iter().enumerate() {
                let (channel, row, column) = (i / (half * half), i / half % half, i % half);
                let expected = oracle(&fine[channel * side * side..][..side * side], side, row, column);
                prop_assert!((f64::from(found) - expected).abs() < 1e-5, "{} {}", found, expected);
            }
        }
    }
}
