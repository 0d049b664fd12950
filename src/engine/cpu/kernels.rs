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

/// One instruction set's operations.
pub struct Kernels {
    /// The set's name, as `describe` prints it.
    pub name: &'static str,
    /// Columns of a weight panel: two (NEON: four) registers.
    pub panel_width: usize,
    /// Depth of a block: a panel's block should stay in the L1 cache beside the rows.
    pub depth_block: usize,
    /// [`gemm::panel`].
    ///
    /// # Safety
    /// As there.
    pub panel: unsafe fn(&PanelTask),
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

/// Compiles the operations for one set: its register, registers across a panel, rows of a tile, depth of a
/// block, chains of the peak loop and whether they go through the addend, and the features to enable.
macro_rules! kernels {
    ($module:ident, $title:literal, $register:ident, $across:literal, $rows:literal, $depth:literal,
     $chains:literal, $through_sum:literal $(, $features:literal)?) => {
        mod $module {
            use super::*;
            use simd::Simd;

            pub static KERNELS: Kernels = Kernels {
                name: $title,
                panel_width: $across * simd::$register::LANES,
                depth_block: $depth,
                panel,
                layer_norm,
                head,
                peak: Peak { run: chains, flops: peak::round_flops(simd::$register::LANES, $chains) },
            };

            $(#[target_feature(enable = $features)])?
            unsafe fn panel(task: &PanelTask) {
                // SAFETY: the caller has the features (`best` looked) and vouches for the task.
                unsafe { gemm::panel::<simd::$register, $across, $rows>(task) }
            }

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
}

// Sixteen 256-bit registers hold 6 × 2 sums, 2 weights and a broadcast. AVX-512 has registers for 14 rows, but 8 were the
// fastest of 8 to 14 (measured at 50 and 125 rows): what is saved in loads of weights is lost in the prefetching's rhythm.
kernels!(plain, "portable", Portable, 2, 4, 384, 6, false);
#[cfg(target_arch = "x86_64")]
kernels!(avx2, "AVX2+FMA", Avx2, 2, 6, 384, 12, false, "avx2,fma");
#[cfg(target_arch = "x86_64")]
kernels!(avx512, "AVX-512", Avx512, 2, 8, 192, 24, false, "avx512f,avx2,fma");
#[cfg(target_arch = "aarch64")]
kernels!(neon, "NEON", Neon, 4, 5, 384, 24, true, "neon");

/// The kernels in plain Rust.
pub fn portable() -> &'static Kernels {
    &plain::KERNELS
}

/// Every set that this CPU has, the best first; the portable one last.
pub fn supported() -> Vec<&'static Kernels> {
    let mut sets = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            sets.push(&avx512::KERNELS);
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
