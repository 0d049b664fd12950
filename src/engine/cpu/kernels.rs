//! The kernels as data: what each instruction set offers (tile, panel width), and where it is chosen.
//!
//! Every function of a set is a whole operation compiled with that set enabled, so that nothing inside is called through a
//! pointer. [`portable`] is always there and is the oracle of the tests.

use super::attention::{self, HeadTask};
use super::gemm::{self, PanelTask};
use super::norm;
use super::peak::{self, Peak};
use super::simd;

/// The widest panel of any set: activations are padded to a multiple of it, so that a kernel never needs a partial store.
pub const WIDEST_PANEL: usize = 32;

/// The arguments of [`norm::layer_norm`]: x, out, gamma, beta, n, eps.
type LayerNorm = unsafe fn(*const f32, *mut f32, *const f32, *const f32, usize, f32);

/// One shape of the register tile.
pub struct Tile {
    /// Columns of a weight panel; [`WIDEST_PANEL`] is a multiple of the last tile's.
    pub panel_width: usize,
    /// Depth of a block: a panel's block should stay in the L1 cache beside the rows.
    pub depth_block: usize,
    /// [`gemm::panel`].
    ///
    /// # Safety
    /// As there.
    pub panel: unsafe fn(&PanelTask),
}

/// One instruction set's operations.
pub struct Kernels {
    /// The set's name, as `describe` prints it.
    pub name: &'static str,
    /// The tiles for linear layers, the preferred one first; a layer takes the first whose width its columns allow ([`Kernels::tile`]).
    pub tiles: &'static [Tile],
    /// Columns of a panel of keys or values in [`attention::head`]: the last tile's.
    pub head_panel: usize,
    /// [`norm::layer_norm`].
    ///
    /// # Safety
    /// As there.
    pub layer_norm: LayerNorm,
    /// [`attention::head`].
    ///
    /// # Safety
    /// As there.
    pub head: unsafe fn(&HeadTask),
    /// [`peak::chains`].
    pub peak: Peak,
}

/// Compiles the operations for one set: its register; for each tile the registers across a panel, the rows and the block's depth (the
/// last one is attention's too); chains of the peak loop and whether they go through the addend; and the features to enable.
macro_rules! kernels {
    ($module:ident, $title:literal, $register:ident, [$($wide:ident: $wide_across:literal, $wide_rows:literal, $wide_depth:literal;)?
     $across:literal, $rows:literal, $depth:literal], $chains:literal, $through_sum:literal $(, $features:literal)?) => {
        mod $module {
            use super::*;
            use simd::Simd;

            pub static KERNELS: Kernels = Kernels {
                name: $title,
                tiles: &[
                    $(Tile { panel_width: $wide_across * simd::$register::LANES, depth_block: $wide_depth, panel: $wide },)?
                    Tile { panel_width: $across * simd::$register::LANES, depth_block: $depth, panel },
                ],
                head_panel: $across * simd::$register::LANES,
                layer_norm,
                head,
                peak: Peak { run: chains, flops: peak::round_flops(simd::$register::LANES, $chains) },
            };

            kernels!(@panel panel, $register, $across, $rows $(, $features)?);
            $(kernels!(@wide $wide, $register, $wide_across, $wide_rows);)?

            $(#[target_feature(enable = $features)])?
            unsafe fn layer_norm(x: *const f32, out: *mut f32, gamma: *const f32, beta: *const f32, n: usize, eps: f32) {
                // SAFETY: as in `panel`.
                unsafe { norm::layer_norm::<simd::$register>(x, out, gamma, beta, n, eps) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn head(task: &HeadTask) {
                // SAFETY: as in `panel`.
                unsafe { attention::head::<simd::$register, $across, $rows>(task) }
            }

            $(#[target_feature(enable = $features)])?
            unsafe fn chains(rounds: u64) -> f32 {
                // SAFETY: as in `panel`.
                unsafe { peak::chains::<simd::$register, $chains, $through_sum>(rounds) }
            }
        }
    };
    (@panel $name:ident, $register:ident, $across:literal, $rows:literal $(, $features:literal)?) => {
        $(#[target_feature(enable = $features)])?
        unsafe fn $name(task: &PanelTask) {
            // SAFETY: the caller has the features (`supported` looked) and vouches for the task.
            unsafe { gemm::panel::<simd::$register, $across, $rows>(task) }
        }
    };
    // Only AVX-512 has registers for a second tile.
    (@wide $name:ident, $register:ident, $across:literal, $rows:literal) => {
        kernels!(@panel $name, $register, $across, $rows, "avx512f,avx2,fma");
    };
}

// Sixteen 256-bit registers hold 6 × 2 sums, 2 weights and a broadcast. AVX-512 has registers for more. On weights that come from beyond the
// L2 cache, Intel's cores (Sapphire Rapids) were fastest with 7 × 3 of 2 to 4 registers by 5 to 13 rows at 25, 50 and 125 rows, 8 × 2 next, for
// layers whose width is not a multiple of 48. AMD's (Zen 5) were faster with 13 × 2 over twice the depth, where a panel just fills the L1
// cache: 2 to 4 % at 50 rows, nothing at 125. Attention, whose depth is small, prefers the lower tile there too.
kernels!(plain, "portable", Portable, [2, 4, 384], 6, false);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, "AVX2+FMA", Avx2, [2, 6, 384], 12, false, "avx2,fma");
#[cfg(target_arch = "x86_64")]
kernels!(avx512, "AVX-512", Avx512, [wide: 3, 7, 192; 2, 8, 192], 24, false, "avx512f,avx2,fma");
#[cfg(target_arch = "x86_64")]
kernels!(avx512_tall, "AVX-512 (13×2)", Avx512, [wide: 2, 13, 384; 2, 8, 192], 24, false, "avx512f,avx2,fma");
#[cfg(target_arch = "aarch64")]
kernels!(neon, "NEON", Neon, [4, 5, 384], 24, true, "neon");

impl Kernels {
    /// The tile for a layer of parts so many columns wide: the first whose panels fit each part, else the last.
    pub fn tile(&self, widths: impl Iterator<Item = usize> + Clone) -> &'static Tile {
        let [tiles @ .., last] = self.tiles else { unreachable!("every set has a tile") };
        tiles.iter().find(|tile| widths.clone().all(|width| width.is_multiple_of(tile.panel_width))).unwrap_or(last)
    }
}

/// The kernels in plain Rust.
pub fn portable() -> &'static Kernels {
    &plain::KERNELS
}

/// Whether AMD made this processor.
#[cfg(target_arch = "x86_64")]
fn is_amd() -> bool {
    let std::arch::x86_64::CpuidResult { ebx, edx, ecx, .. } = std::arch::x86_64::__cpuid(0);
    [ebx, edx, ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
}

/// Every set that this CPU has, the best first; the portable one last.
pub fn supported() -> Vec<&'static Kernels> {
    let mut sets = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            let mut both = [&avx512::KERNELS, &avx512_tall::KERNELS];
            if is_amd() {
                both.reverse();
            }
            sets.extend(both);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            sets.push(&avx2::KERNELS);
        }
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        sets.push(&neon::KERNELS);
    }
    sets.push(portable());
    sets
}
