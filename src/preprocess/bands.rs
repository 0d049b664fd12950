//! A picture becomes tensors in two bands of rows, which two threads can make at the same time.
//!
//! A band needs nothing of the other: a coarse row is made of two fine rows, and bands have an even number of them. Where only one thread
//! works the bands are made one after the other, so that the pixels do not depend on who makes them.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::resize::{Bicubic, CropBox};
use super::tensors::{Halver, Normalizer};
use crate::error::Result;
use crate::frame::{Inputs, Picture};

/// How many; each costs a few rows that are resampled twice.
const BANDS: usize = 2;

/// Does a job once for each number below the first argument, in any order or at the same time, and comes back when all are done.
pub type ForEach<'a> = &'a mut dyn FnMut(usize, &(dyn Fn(usize) + Sync));

/// What depends on the sizes only.
pub(super) struct Tables {
    /// `S`
    pub(super) side: usize,
    pub(super) normalizer: Normalizer,
    pub(super) halver: Halver,
}

/// The memory of a band that lasts from one picture to the next.
pub(super) struct Band {
    rows: Range<usize>,
    bicubic: Bicubic,
    /// `[S]`
    row: Vec<f32>,
}

impl Band {
    /// The bands of a picture with `side` rows, an even number: a single one, where there are only two rows.
    pub(super) fn of(side: usize) -> Vec<Self> {
        let most = 2 * (side / 2).div_ceil(BANDS);
        let rows = |first| first..side.min(first + most);
        let band = |first| Self { rows: rows(first), bicubic: Bicubic::default(), row: vec![0.0; side] };
        (0..side).step_by(most).map(band).collect()
    }

    /// Rows that it makes.
    pub(super) fn height(&self) -> usize {
        self.rows.len()
    }

    /// Resizes and crops into the band's rows of the cropped picture.
    pub(super) fn crop(&mut self, side: usize, picture: &Picture, part: CropBox, cropped: &mut [u8]) -> Result<()> {
        let part = part.rows(self.rows.clone(), side);
        self.bicubic.resample(picture, part, cropped, (side, self.rows.len()))
    }
}

/// One band's share of one picture.
struct Work<'a> {
    band: &'a mut Band,
    cropped: &'a mut [u8],
    fine: [&'a mut [f32]; 3],
    coarse: [&'a mut [f32]; 3],
    result: Result<()>,
}

/// Resizes, crops and normalises the `part` of `picture` into `cropped` (`[S, S, 3]`) and both tensors of `inputs`, which have their lengths.
///
/// # Errors
/// As [`Bicubic::resample`].
pub(super) fn make(
    bands: &mut [Band],
    tables: &Tables,
    (picture, part): (&Picture, CropBox),
    (mut cropped, inputs): (&mut [u8], &mut Inputs),
    for_each: ForEach<'_>,
) -> Result<()> {
    let side = tables.side;
    let mut fine = planes(&mut inputs.fine);
    let mut coarse = planes(&mut inputs.coarse);
    let mut works = Vec::with_capacity(bands.len());
    for band in bands {
        let rows = band.rows.len();
        works.push(Mutex::new(Work {
            cropped: front(&mut cropped, rows * side * 3),
            fine: fine.each_mut().map(|plane| front(plane, rows * side)),
            coarse: coarse.each_mut().map(|plane| front(plane, rows * side / 4)),
            result: Ok(()),
            band,
        }));
    }
    for_each(works.len(), &|index| {
        // Each number comes once: nobody ever waits for this lock.
        let mut work = works[index].lock().unwrap_or_else(PoisonError::into_inner);
        work.run(tables, picture, part);
    });
    works.into_iter().try_for_each(|work| work.into_inner().unwrap_or_else(PoisonError::into_inner).result)
}

/// The three planes of a tensor.
fn planes(tensor: &mut [f32]) -> [&mut [f32]; 3] {
    let (red, rest) = tensor.split_at_mut(tensor.len() / 3);
    let (green, blue) = rest.split_at_mut(rest.len() / 2);
    [red, green, blue]
}

/// Takes the first `count` elements off `slice`.
fn front<'a, T>(slice: &mut &'a mut [T], count: usize) -> &'a mut [T] {
    let (front, rest) = std::mem::take(slice).split_at_mut(count);
    *slice = rest;
    front
}

impl Work<'_> {
    fn run(&mut self, tables: &Tables, picture: &Picture, part: CropBox) {
        self.result = self.band.crop(tables.side, picture, part, self.cropped);
        if self.result.is_err() {
            return;
        }
        tables.normalizer.apply_to(self.cropped, self.fine.each_mut().map(|plane| &mut **plane));
        for (fine, coarse) in self.fine.iter().zip(&mut self.coarse) {
            tables.halver.rows(self.band.rows.start / 2, fine, coarse, &mut self.band.row);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Family, Geometry};
    use crate::preprocess::Preprocess;

    fn noise(width: usize, height: usize, seed: u64) -> Picture {
        let mut state = seed | 1;
        let bytes = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 56) as u8
        });
        Picture { width, height, rgb: bytes.take(width * height * 3).collect() }
    }

    #[test]
    fn bands_cover_all_rows_once_and_have_an_even_number_of_them() {
        for side in (2..300).step_by(2) {
            let bands = Band::of(side);
            let rows: Vec<usize> = bands.iter().flat_map(|band| band.rows.clone()).collect();
            assert_eq!(rows, (0..side).collect::<Vec<_>>());
            assert!(bands.iter().all(|band| band.height() > 0 && band.height() % 2 == 0), "{side}");
            assert_eq!(bands.len(), if side == 2 { 1 } else { 2 });
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        /// In whatever order the bands are made, the tensors are those of the whole cropped picture, and that is the one of a single call,
        /// up to the library's roundings, which follow the largest weight of a call.
        #[test]
        fn bands_make_the_whole(
            width in 1usize..300, height in 1usize..300, patch in 1usize..9, crop in 0.4f64..1.0, seed in any::<u64>(),
        ) {
            let geometry = Geometry { patch, ..Geometry::published(Family::Deit, 7, 10) };
            let picture = noise(width, height, seed);
            let mut preprocess = Preprocess::new(&geometry, crop).unwrap();
            let (mut inputs, mut backwards) = (Inputs::default(), Inputs::default());
            preprocess.run(&picture, &mut inputs).unwrap();
            preprocess.run_on(&picture, &mut backwards, &mut |jobs, job| (0..jobs).rev().for_each(job)).unwrap();
            prop_assert_eq!(&inputs, &backwards);
            let cropped = preprocess.cropped().to_vec();
            preprocess.run_fine(&picture, &mut backwards).unwrap();
            prop_assert_eq!(preprocess.cropped(), &cropped[..]);
            prop_assert_eq!(&inputs.fine, &backwards.fine);
            let (side, mut coarse) = (preprocess.side(), vec![f32::NAN; inputs.coarse.len()]);
            Halver::new(side).apply(&inputs.fine, &mut coarse);
            prop_assert_eq!(&coarse, &inputs.coarse);

            let mut whole = vec![0; cropped.len()];
            let part = CropBox::centred(width, height, (side as f64 / crop) as usize, side);
            Bicubic::default().resample(&picture, part, &mut whole, (side, side)).unwrap();
            let differing = cropped.iter().zip(&whole).filter(|(a, b)| a != b).count();
            prop_assert!(cropped.iter().zip(&whole).all(|(a, b)| a.abs_diff(*b) <= 1));
            prop_assert!(differing <= 3 + whole.len() / 20, "{} of {}", differing, whole.len());
        }
    }
}
