//! What this engine multiplies: the counts of `stages.rs`, step by step, so that its speed is judged by the work that it does and
//! not by the work that it saves.

use crate::model::{Family, Geometry, Macs};

/// Multiply-accumulates that a pass executes, in the units of [`Geometry::macs`] (convolutions, linear layers and the two attention
/// products; not padding to whole registers, softmax, norms and activations). The fine pass includes what the coarse one
/// left to it.
pub fn executed_macs(geometry: &Geometry) -> Macs {
    let (cells, k) = (geometry.cells(), geometry.informative());
    let (coarse, fine, full) = (geometry.coarse_tokens(), geometry.fine_tokens(), geometry.full_tokens());
    let reuse = 2 * product(k, geometry.width, geometry.hidden);
    Macs {
        coarse: embedding(geometry, geometry.coarse_side(), cells) + trunk(geometry, coarse),
        fine: finish_coarse(geometry)
            + reuse
            + embedding(geometry, geometry.fine_side(), 4 * k)
            + trunk(geometry, fine),
        full: embedding(geometry, geometry.fine_side(), 4 * cells) + trunk(geometry, full),
    }
}

/// `[rows, depth] · [depth, columns]`.
fn product(rows: usize, depth: usize, columns: usize) -> u64 {
    rows as u64 * depth as u64 * columns as u64
}

/// `patches` tokens of a picture of `side` pixels. LV-ViT's convolutions run over the whole picture whatever is chosen.
fn embedding(geometry: &Geometry, side: usize, patches: usize) -> u64 {
    let &Geometry { stem, width, patch, .. } = geometry;
    match geometry.family {
        Family::Deit => product(patches, 3 * patch * patch, width),
        Family::Lvvit => {
            let pixels = (side / 2).pow(2);
            let convolutions = product(pixels, 3 * 49, stem) + 2 * product(pixels, 9 * stem, stem);
            convolutions + product(patches, stem * (patch / 2).pow(2), width)
        }
    }
}

/// All blocks and the head(s). DeiT's last block: keys and values of all tokens, everything else for the cls row.
fn trunk(geometry: &Geometry, tokens: usize) -> u64 {
    let whole = block(geometry, tokens, tokens);
    match geometry.family {
        Family::Deit => {
            let blocks = geometry.depth.saturating_sub(1) as u64 * whole;
            let last = if geometry.depth > 0 { block(geometry, tokens, 1) } else { 0 };
            blocks + last + product(1, geometry.width, geometry.classes)
        }
        Family::Lvvit => geometry.depth as u64 * whole + product(tokens, geometry.width, geometry.classes),
    }
}

/// One block over `tokens` tokens that is finished for `rows` of them.
fn block(geometry: &Geometry, tokens: usize, rows: usize) -> u64 {
    product(tokens, geometry.width, 2 * geometry.width) + rest_of_block(geometry, tokens, rows)
}

/// Queries, attention, projection and MLP of `rows` rows over `tokens` keys.
fn rest_of_block(geometry: &Geometry, tokens: usize, rows: usize) -> u64 {
    let &Geometry { width, hidden, .. } = geometry;
    2 * product(rows, width, width) + 2 * product(rows, tokens, width) + 2 * product(rows, width, hidden)
}

/// DeiT: the coarse pass's last block for the informative rows, which waits for a fine pass.
fn finish_coarse(geometry: &Geometry) -> u64 {
    match geometry.family {
        Family::Deit if geometry.depth > 0 => rest_of_block(geometry, geometry.coarse_tokens(), geometry.informative()),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deit_small() -> Geometry {
        let family = Family::Deit;
        Geometry { family, grid: 7, patch: 16, width: 384, depth: 12, heads: 6, hidden: 1536, classes: 1000, stem: 0 }
    }

    #[test]
    fn the_published_deit_does_less_than_the_paper_counts() {
        let (lean, paper) = (executed_macs(&deit_small()), deit_small().macs());
        assert_eq!((lean.coarse as f64 / 1e6).round(), 1025.0);
        // 2663 M, and 38 M that the coarse pass left to it.
        assert_eq!((lean.fine as f64 / 1e6).round(), 2701.0);
        assert_eq!((finish_coarse(&deit_small()) as f64 / 1e6).round(), 38.0);
        assert!(lean.coarse < paper.coarse && lean.fine < paper.fine && lean.full < paper.full);
    }

    /// LV-ViT runs every row of every block: what is saved is the projection and the reuse block of the cells that are not chosen.
    #[test]
    fn lvvit_saves_projection_and_reuse_only() {
        let geometry = Geometry { family: Family::Lvvit, depth: 16, hidden: 1152, stem: 64, ..deit_small() };
        let (lean, paper) = (executed_macs(&geometry), geometry.macs());
        let kept = (geometry.cells() - geometry.informative()) as u64;
        assert_eq!((lean.coarse, lean.full), (paper.coarse, paper.full));
        assert_eq!(paper.fine - lean.fine, kept * (2 * 384 * 1152 + 4 * 64 * 64 * 384));
    }
}
