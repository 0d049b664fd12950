//! The gather step: which coarse cells are informative, and which fine patches they cover. Pure functions, shared by
//! every backend.

use crate::frame::Choice;

/// Splits the cells of the coarse grid by their global class attention (`[grid²]`): the `informative` largest are chosen, the
/// rest is kept. Equal values are taken in the order of their index. Reuses the memory of `choice`.
pub fn choose(class_attention: &[f32], informative: usize, choice: &mut Choice) {
    let cells = class_attention.len();
    let order = &mut choice.kept;
    order.clear();
    order.extend(0..cells as u32);
    // `total_cmp` orders any bit pattern, so a NaN cannot make the order inconsistent.
    order
        .sort_unstable_by(|&a, &b| class_attention[b as usize].total_cmp(&class_attention[a as usize]).then(a.cmp(&b)));
    choice.informative.clear();
    choice.informative.extend(order.drain(..informative.min(cells)));
    choice.informative.sort_unstable();
    choice.kept.sort_unstable();
}

/// The four fine patches (row-major in the `2·grid × 2·grid` fine grid) that coarse cell `cell` covers: upper left, upper right,
/// lower left, lower right.
pub fn fine_patches(cell: u32, grid: u32) -> [u32; 4] {
    let (row, column) = (cell / grid, cell % grid);
    let first = 2 * row * 2 * grid + 2 * column;
    [first, first + 1, first + 2 * grid, first + 2 * grid + 1]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn equal_attention_is_taken_in_index_order() {
        let mut choice = Choice::default();
        choose(&[0.5; 4], 2, &mut choice);
        assert_eq!(choice, Choice { informative: vec![0, 1], kept: vec![2, 3] });
    }

    #[test]
    fn a_cell_covers_its_two_by_two_block() {
        assert_eq!(fine_patches(0, 7), [0, 1, 14, 15]);
        assert_eq!(fine_patches(48, 7), [180, 181, 194, 195]);
    }

    proptest! {
        #[test]
        fn the_choice_is_a_partition_and_takes_the_largest(
            attention in prop::collection::vec(any::<f32>(), 1..120), share in 0.0f64..=1.0,
        ) {
            let k = (attention.len() as f64 * share).ceil() as usize;
            let mut choice = Choice::default();
            choose(&attention, k, &mut choice);
            let mut all: Vec<u32> = choice.informative.iter().chain(&choice.kept).copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..attention.len() as u32).collect::<Vec<_>>());
            prop_assert_eq!(choice.informative.len(), k);
            prop_assert!(choice.informative.is_sorted() && choice.kept.is_sorted());
            for &i in &choice.informative {
                for &j in &choice.kept {
                    prop_assert!(attention[i as usize].total_cmp(&attention[j as usize]).is_ge());
                }
            }
        }

        #[test]
        fn every_fine_patch_belongs_to_exactly_one_cell(grid in 1u32..20) {
            let mut patches: Vec<u32> = (0..grid * grid).flat_map(|c| fine_patches(c, grid)).collect();
            patches.sort_unstable();
            prop_assert_eq!(patches, (0..4 * grid * grid).collect::<Vec<_>>());
        }
    }
}
