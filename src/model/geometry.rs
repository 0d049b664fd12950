//! What shape a CF-ViT has, and what it costs (sections 2, 3 and 7 of the paper's model; every number derived from the
//! tensors' shapes but the head count).

use std::fmt;

use crate::error::{Error, Kind, Result};

/// The first block (0-based) whose attention enters the global class attention.
pub const FIRST_ATTENTION_BLOCK: usize = 3;
/// β: the weight of the past in the exponential moving average of the attention.
pub const ATTENTION_DECAY: f32 = 0.99;
/// The `head_dim` that gives the head count when nothing else says it.
pub const DEFAULT_HEAD_DIM: usize = 64;
/// Channels of LV-ViT's auxiliary logits are weighted with this in the sum.
pub const AUX_HEAD_WEIGHT: f32 = 0.25;
/// LV-ViT's coarse logits are divided by this.
pub const LVVIT_COARSE_DIVISOR: f32 = 1.25;

/// The two published backbones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// DeiT: one patch convolution, qkv bias, `head(cls)`.
    Deit,
    /// LV-ViT: convolution stem, no qkv bias, residuals divided by 2, auxiliary head.
    Lvvit,
}

impl Family {
    /// `"cf_deit"` or `"cf_lvvit"`: the word in manifests and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Family::Deit => "cf_deit",
            Family::Lvvit => "cf_lvvit",
        }
    }

    /// The family called `name`.
    ///
    /// # Errors
    /// [`Kind::Model`] for any other word.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "cf_deit" => Ok(Family::Deit),
            "cf_lvvit" => Ok(Family::Lvvit),
            _ => Err(Error::new(Kind::Model, format!("unknown family `{name}`, expected cf_deit or cf_lvvit"))),
        }
    }

    /// Epsilon of every LayerNorm.
    pub fn layer_norm_eps(self) -> f32 {
        match self {
            Family::Deit => 1e-6,
            Family::Lvvit => 1e-5,
        }
    }

    /// `skip_lam`: residual branches are divided by this.
    pub fn residual_divisor(self) -> f32 {
        match self {
            Family::Deit => 1.0,
            Family::Lvvit => 2.0,
        }
    }

    /// The crop ratio of the published evaluation.
    pub fn default_crop(self) -> f64 {
        match self {
            Family::Deit => 0.875,
            Family::Lvvit => 0.9,
        }
    }
}

/// The shape of one CF-ViT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The backbone.
    pub family: Family,
    /// `g`: cells on a side of the coarse grid (7 or 9 in the published models).
    pub grid: usize,
    /// `P`: pixels on a side of a patch.
    pub patch: usize,
    /// `C`: embedding width.
    pub width: usize,
    /// `L`: number of blocks.
    pub depth: usize,
    /// `H`: attention heads; `width` is a multiple of it.
    pub heads: usize,
    /// Hidden width of the blocks' MLPs and of the reuse block.
    pub hidden: usize,
    /// Number of classes.
    pub classes: usize,
    /// Channels inside LV-ViT's convolution stem (64 in the published models); 0 for DeiT.
    pub stem: usize,
}

/// Multiply-accumulates of the two stages and of the static baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Macs {
    /// The coarse stage.
    pub coarse: u64,
    /// The fine stage alone, without the coarse one before it.
    pub fine: u64,
    /// The static baseline: one pass over all fine tokens.
    pub full: u64,
}

impl Geometry {
    /// Side of the coarse image in pixels, `g·P`.
    pub fn coarse_side(&self) -> usize {
        self.grid * self.patch
    }

    /// Side of the fine image in pixels, `2·g·P`.
    pub fn fine_side(&self) -> usize {
        2 * self.coarse_side()
    }

    /// Cells of the coarse grid, `g²`.
    pub fn cells(&self) -> usize {
        self.grid * self.grid
    }

    /// Coarse sequence length, `1 + g²`.
    pub fn coarse_tokens(&self) -> usize {
        1 + self.cells()
    }

    /// `k = ceil(α·g²)` with α = 0.5: cells that are cut again.
    pub fn informative(&self) -> usize {
        self.cells().div_ceil(2)
    }

    /// Fine sequence length, `1 + 4k + (g² − k)`.
    pub fn fine_tokens(&self) -> usize {
        1 + 4 * self.informative() + self.cells() - self.informative()
    }

    /// Sequence length of the static baseline, which sees every fine patch: `1 + 4g²`.
    pub fn full_tokens(&self) -> usize {
        1 + 4 * self.cells()
    }

    /// Channels of one head.
    pub fn head_dim(&self) -> usize {
        self.width / self.heads
    }

    /// The published model that has this shape (`cf_deit_small`, `cf_lvvit_small`), if one has, whatever its grid and classes.
    pub fn published_name(&self) -> Option<&'static str> {
        match (self.family, self.width, self.depth, self.heads, self.hidden, self.patch) {
            (Family::Deit, 384, 12, 6, 1536, 16) => Some("cf_deit_small"),
            (Family::Lvvit, 384, 16, 6, 1152, 16) => Some("cf_lvvit_small"),
            _ => None,
        }
    }

    /// Multiply-accumulates as the paper counts them: every patch embedded, the whole reuse block, every row of every block, no
    /// exact savings. Convolutions, linear layers and the two attention products; not softmax, norms and activations.
    /// The 7×7 DeiT-S gives 1.10 G and 2.91 G.
    pub fn macs(&self) -> Macs {
        let (cells, width, hidden) = (self.cells() as u64, self.width as u64, self.hidden as u64);
        let reuse = cells * 2 * width * hidden;
        Macs {
            coarse: self.embed_macs(self.coarse_side()) + self.trunk_macs(self.coarse_tokens()),
            fine: self.embed_macs(self.fine_side()) + reuse + self.trunk_macs(self.fine_tokens()),
            full: self.embed_macs(self.fine_side()) + self.trunk_macs(self.full_tokens()),
        }
    }

    /// The patch embedding of a `side × side` picture.
    fn embed_macs(&self, side: usize) -> u64 {
        let patch = self.patch as u64;
        let width = self.width as u64;
        let patches = (side as u64 / patch).pow(2);
        match self.family {
            Family::Deit => patches * 3 * patch * patch * width,
            Family::Lvvit => {
                let stem = self.stem as u64;
                let half = (side as u64 / 2).pow(2);
                let convolutions = half * stem * (3 * 49 + 2 * 9 * stem);
                convolutions + patches * stem * (patch / 2).pow(2) * width
            }
        }
    }

    /// All blocks and the head(s) over `tokens` tokens.
    fn trunk_macs(&self, tokens: usize) -> u64 {
        let (n, c, hidden) = (tokens as u64, self.width as u64, self.hidden as u64);
        let block = n * c * 3 * c + 2 * n * n * c + n * c * c + 2 * n * c * hidden;
        let head_rows = match self.family {
            Family::Deit => 1,
            Family::Lvvit => n,
        };
        self.depth as u64 * block + head_rows * c * self.classes as u64
    }
}

/// `cf_deit 7×7, patch 16, width 384, depth 12, 6 heads, mlp 1536, 1000 classes`.
impl fmt::Display for Geometry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { grid, patch, width, depth, heads, hidden, classes, .. } = self;
        let family = self.family.as_str();
        write!(f, "{family} {grid}×{grid}, patch {patch}, width {width}, depth {depth}, {heads} heads, ")?;
        write!(f, "mlp {hidden}, {classes} classes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deit_small(grid: usize) -> Geometry {
        let family = Family::Deit;
        Geometry { family, grid, patch: 16, width: 384, depth: 12, heads: 6, hidden: 1536, classes: 1000, stem: 0 }
    }

    #[test]
    fn sequence_lengths_of_the_published_grids() {
        let (seven, nine) = (deit_small(7), deit_small(9));
        assert_eq!((seven.coarse_tokens(), seven.informative(), seven.fine_tokens()), (50, 25, 125));
        assert_eq!((nine.coarse_tokens(), nine.informative(), nine.fine_tokens()), (82, 41, 205));
        assert_eq!((nine.coarse_side(), nine.fine_side()), (144, 288));
        assert_eq!(seven.published_name(), Some("cf_deit_small"));
    }

    /// 1.10 G, 2.91 G: section 7 of the model's description; 1.57 G and 6.18 G together: the authors' curves for LV-ViT-S.
    #[test]
    fn multiply_accumulates_match_the_published_counts() {
        let macs = deit_small(7).macs();
        assert_eq!((macs.coarse as f64 / 1e7).round(), 110.0);
        assert_eq!((macs.fine as f64 / 1e7).round(), 291.0);
        assert_eq!((macs.full as f64 / 1e7).round(), 460.0, "DeiT-S itself");
        let nine = deit_small(9).macs();
        assert_eq!((nine.coarse as f64 / 1e7).round(), 183.0);
        let family = Family::Lvvit;
        let lvvit = Geometry { family, depth: 16, hidden: 1152, stem: 64, ..deit_small(7) }.macs();
        assert!((lvvit.coarse as f64 / 1e9 - 1.57).abs() < 0.03, "{}", lvvit.coarse);
        assert!(((lvvit.coarse + lvvit.fine) as f64 / 1e9 - 6.18).abs() < 0.1, "{}", lvvit.coarse + lvvit.fine);
    }
}
