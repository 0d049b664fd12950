//! The matrix product in 16-bit floats: register tile, short sums, epilogue, and the instruction set that has it.
//!
//! Weights are rounded to 16 bits when they are packed, activations when a layer begins; `FMLA` then multiplies and adds eight at a time, twice
//! as many as in 32 bits. A 16-bit sum loses what falls below its 11 significant bits, the more the longer it grows, and it ends at 65504.
//! So it runs over [`SUM`] steps of the depth only and is then added to the output in 32 bits. Panels, tiles and epilogue are otherwise those of
//! `gemm.rs`.

use half::f16;

use super::gemm::{Activation, Ahead, activate};
use super::peak::{Peak, UNROLL};
use super::simd::Simd;

/// Steps of the depth that one 16-bit sum runs over. Rounding the factors alone costs what sums of 8 cost; from there the error grows with the
/// square root of the length. Root mean square over the logits of a random model (`cf_deit`, logits up to 9.1), coarse / fine: 8 steps
/// 0.008 / 0.009, 16: 0.010 / 0.015, 32: 0.012 / 0.018, 64: 0.020 / 0.023, 128: 0.030 / 0.035. From 64 on one of 27 pictures of such
/// models got other informative cells. Adding a tile's sums to the output takes as many vector operations (half of them loads and
/// stores) as eight steps, so shorter sums cost more than they gain.
pub const SUM: usize = 32;
/// Steps that a register of activations holds. Depths are padded with zeros to a multiple of it.
pub const STEPS: usize = 8;

/// One panel's work, as raw as a kernel needs it.
pub struct HalfTask {
    /// First row of the activations.
    pub a: *const f16,
    /// 16-bit floats from a row to the next.
    pub a_stride: usize,
    /// Rows.
    pub rows: usize,
    /// The panel: `[depth, panel width]`.
    pub b: *const f16,
    /// A multiple of [`STEPS`], above 0.
    pub depth: usize,
    /// `[panel width]`.
    pub bias: *const f32,
    /// First output row, at the panel's first column.
    pub out: *mut f32,
    /// Floats from an output row to the next.
    pub out_stride: usize,
    /// Whether the output's old content is added (residual connection).
    pub accumulate: bool,
    /// What is applied at the end.
    pub activation: Activation,
    /// What the thread will need next: this many 32-bit floats from here are prefetched meanwhile.
    pub next: *const f32,
    /// See `next`.
    pub next_len: usize,
}

/// What a set offers for products in 16 bits.
pub struct HalfKernels {
    /// The set's name, as `describe` prints it.
    pub name: &'static str,
    /// Columns of a weight panel; [`super::kernels::WIDEST_PANEL`] is a multiple of it.
    pub panel_width: usize,
    /// [`panel`].
    ///
    /// # Safety
    /// As there.
    pub panel: unsafe fn(&HalfTask),
    /// [`round`].
    ///
    /// # Safety
    /// As there.
    pub round: unsafe fn(*const f32, usize, *mut f16, usize),
    /// [`chains`].
    pub peak: Peak,
}

/// The set of this CPU, if it has 16-bit arithmetic.
pub fn supported() -> Option<&'static HalfKernels> {
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("fp16") {
        return Some(&neon::KERNELS);
    }
    None
}

/// A register of 16-bit floats.
///
/// # Safety
/// Every method may be called only on a CPU that has the implementation's instruction set; pointers are valid for as many floats as the method
/// says (no alignment).
pub unsafe trait Half: Copy {
    /// Half as many lanes in 32 bits.
    type Wide: Simd;
    /// [`STEPS`] steps of one row of activations.
    type Steps: Copy;
    /// Lanes in a register.
    const LANES: usize;
    /// All lanes 0.
    unsafe fn zero() -> Self;
    /// Reads `LANES` 16-bit floats.
    unsafe fn load(p: *const f16) -> Self;
    /// Reads `LANES` 32-bit floats, each rounded to the nearest.
    unsafe fn narrow(p: *const f32) -> Self;
    /// Writes `LANES` 16-bit floats.
    unsafe fn store(self, p: *mut f16);
    /// Reads [`STEPS`] 16-bit floats.
    unsafe fn steps(p: *const f16) -> Self::Steps;
    /// `self + w · x[STEP]`, rounded once.
    unsafe fn add_product<const STEP: i32>(self, w: Self, x: Self::Steps) -> Self;
    /// The lower and the upper half of the lanes.
    unsafe fn widen(self) -> [Self::Wide; 2];
}

/// `out = x` rounded to 16 bits, `n` floats, and zeros from there to `padded`. What is beyond ±65504 becomes infinite.
///
/// # Safety
/// As [`Half`]; `x` holds `n` floats, `out` holds `padded`, at least `n`.
#[inline(always)]
pub unsafe fn round<H: Half>(x: *const f32, n: usize, out: *mut f16, padded: usize) {
    let whole = n / H::LANES * H::LANES;
    // SAFETY: every access stays below `n` or `padded`; the rest is the caller's.
    unsafe {
        for i in (0..whole).step_by(H::LANES) {
            H::narrow(x.add(i)).store(out.add(i));
        }
        for i in whole..n {
            *out.add(i) = f16::from_f32(*x.add(i));
        }
        for i in n..padded {
            *out.add(i) = f16::ZERO;
        }
    }
}

/// `out = activation(a · b + bias [+ out])` for one panel of `NV` registers' width, in tiles of at most `MAX` rows.
///
/// # Safety
/// As [`Half`]; `task`'s pointers are valid for what their comments say, and nobody else touches the output meanwhile.
#[inline(always)]
pub unsafe fn panel<H: Half, const NV: usize, const MAX: usize>(task: &HalfTask) {
    const { assert!(MAX <= 5 && SUM.is_multiple_of(STEPS)) };
    let tiles = task.rows.div_ceil(MAX).max(1);
    let (height, higher) = (task.rows / tiles, task.rows % tiles);
    let mut ahead = Ahead::new(task.next, task.next_len, tiles * task.depth / STEPS);
    for start in (0..task.depth).step_by(SUM) {
        let mut row = 0;
        for tile in 0..tiles {
            let rows = height + usize::from(tile < higher);
            macro_rules! pick {
                ($($n:literal)*) => {
                    match rows {
                        // SAFETY: forwarded to the caller; `row + rows ≤ task.rows` and `start < task.depth`.
                        $($n if $n <= MAX => unsafe { self::tile::<H, NV, $n>(task, row, start, &mut ahead) },)*
                        _ => {}
                    }
                };
            }
            pick!(1 2 3 4 5);
            row += rows;
        }
    }
}

/// `ROWS × NV` registers of sums over the steps from `start` on, at most [`SUM`], added to the output.
#[inline(always)]
unsafe fn tile<H: Half, const NV: usize, const ROWS: usize>(
    task: &HalfTask,
    row: usize,
    start: usize,
    ahead: &mut Ahead,
) {
    let width = NV * H::LANES;
    let depth = SUM.min(task.depth - start);
    // SAFETY: the caller vouches for the task's pointers: rows `row .. row + ROWS`, the depth from `start` on, the panel's width.
    unsafe {
        let mut a = task.a.add(row * task.a_stride + start);
        let mut b = task.b.add(start * width);
        let mut sums = [[H::zero(); NV]; ROWS];
        // The rows are written out, because LLVM keeps the sums in registers only if no loop indexes them.
        macro_rules! step {
            ($x:ident, $step:literal, $($row:literal)*) => {{
                let mut weights = [H::zero(); NV];
                for (v, w) in weights.iter_mut().enumerate() {
                    *w = H::load(b.add($step * width + v * H::LANES));
                }
                $(if $row < ROWS {
                    for (sum, w) in sums[$row].iter_mut().zip(weights) {
                        *sum = sum.add_product::<$step>(w, $x[$row]);
                    }
                })*
            }};
        }
        for _ in 0..depth / STEPS {
            ahead.step();
            let mut x = [H::steps(a); ROWS];
            for (r, x) in x.iter_mut().enumerate() {
                *x = H::steps(a.add(r * task.a_stride));
            }
            step!(x, 0, 0 1 2 3 4);
            step!(x, 1, 0 1 2 3 4);
            step!(x, 2, 0 1 2 3 4);
            step!(x, 3, 0 1 2 3 4);
            step!(x, 4, 0 1 2 3 4);
            step!(x, 5, 0 1 2 3 4);
            step!(x, 6, 0 1 2 3 4);
            step!(x, 7, 0 1 2 3 4);
            a = a.add(STEPS);
            b = b.add(STEPS * width);
        }
        let (out, first) = (task.out.add(row * task.out_stride), start == 0);
        macro_rules! write {
            ($($row:literal)*) => {
                $(if $row < ROWS {
                    for (v, sum) in sums[$row].into_iter().enumerate() {
                        for (part, mut x) in sum.widen().into_iter().enumerate() {
                            let column = v * H::LANES + part * H::Wide::LANES;
                            let to = out.add($row * task.out_stride + column);
                            if first {
                                x = x.add(H::Wide::load(task.bias.add(column)));
                            }
                            if !first || task.accumulate {
                                x = x.add(H::Wide::load(to));
                            }
                            x.store(to);
                        }
                    }
                })*
            };
        }
        write!(0 1 2 3 4);
        if start + depth == task.depth {
            activate::<H::Wide>(task.activation, out, task.out_stride, ROWS, width);
        }
    }
}

/// Chains of multiply-adds that never leave the registers, as [`super::peak::chains`].
const CHAINS: usize = 24;

/// The most that the units can do in 16 bits: [`super::peak::chains`] with such registers. Chained through the addend, which the
/// instruction overwrites.
///
/// # Safety
/// As [`Half`].
#[inline(always)]
pub unsafe fn chains<H: Half>(rounds: u64) -> f32 {
    const { assert!(H::LANES <= 16) };
    // SAFETY: forwarded to the caller; `memory` holds every chain's lanes.
    unsafe {
        // A step adds 1/1024 until the sums are so large that it rounds away: no infinities, no slow subnormal numbers.
        let factors = std::hint::black_box([f16::from_f32_const(1.0 / 32.0); 16]);
        let (w, x) = (H::load(factors.as_ptr()), H::steps(factors.as_ptr()));
        // Different starts: equal chains might be merged into one.
        let mut memory: [f16; CHAINS * 16] = std::array::from_fn(|i| f16::from_f32(1.0 + i as f32 / 1024.0));
        let at = std::hint::black_box(&mut memory).as_mut_ptr();
        let mut sums = [H::zero(); CHAINS];
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = H::load(at.add(i * H::LANES));
        }
        macro_rules! step {
            ($($i:literal)*) => {
                $(sums[$i] = sums[$i].add_product::<0>(w, x);)*
            };
        }
        for _ in 0..rounds {
            for _ in 0..UNROLL {
                step!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23);
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            sum.store(at.add(i * H::LANES));
        }
        memory.iter().map(|x| x.to_f32()).sum()
    }
}

#[cfg(target_arch = "aarch64")]
mod neon {
    use std::arch::aarch64::*;

    use super::super::peak::round_flops;
    use super::super::simd::Neon;
    use super::*;

    /// Registers across a panel and rows of a tile: 20 sums, 4 weights and 5 rows of steps, of 32 registers.
    const ACROSS: usize = 4;
    const ROWS: usize = 5;

    pub static KERNELS: HalfKernels = HalfKernels {
        name: "NEON FP16",
        panel_width: ACROSS * Neon16::LANES,
        panel,
        round,
        peak: Peak { run: chains, flops: round_flops(Neon16::LANES, CHAINS) },
    };

    #[target_feature(enable = "neon,fp16")]
    unsafe fn panel(task: &HalfTask) {
        // SAFETY: the caller has the features (`supported` looked) and vouches for the task.
        unsafe { super::panel::<Neon16, ACROSS, ROWS>(task) }
    }

    #[target_feature(enable = "neon,fp16")]
    unsafe fn round(x: *const f32, n: usize, out: *mut f16, padded: usize) {
        // SAFETY: as in `panel`.
        unsafe { super::round::<Neon16>(x, n, out, padded) }
    }

    #[target_feature(enable = "neon,fp16")]
    unsafe fn chains(rounds: u64) -> f32 {
        // SAFETY: as in `panel`.
        unsafe { super::chains::<Neon16>(rounds) }
    }

    #[inline]
    #[target_feature(enable = "neon,fp16")]
    fn add_product<const STEP: i32>(sum: float16x8_t, w: float16x8_t, x: float16x8_t) -> float16x8_t {
        vfmaq_laneq_f16::<STEP>(sum, w, x)
    }

    /// Eight lanes of NEON with the 16-bit extension.
    #[derive(Clone, Copy)]
    struct Neon16(float16x8_t);

    // SAFETY: each method is one intrinsic (or a few) of the set, called under the trait's contract.
    #[allow(clippy::undocumented_unsafe_blocks)] // the contract is the trait's, the same for each line
    unsafe impl Half for Neon16 {
        type Wide = Neon;
        type Steps = float16x8_t;
        const LANES: usize = 8;
        #[inline(always)]
        unsafe fn zero() -> Self {
            Self(unsafe { vreinterpretq_f16_u16(vdupq_n_u16(0)) })
        }
        #[inline(always)]
        unsafe fn load(p: *const f16) -> Self {
            Self(unsafe { Self::steps(p) })
        }
        #[inline(always)]
        unsafe fn narrow(p: *const f32) -> Self {
            Self(unsafe { vcvt_high_f16_f32(vcvt_f16_f32(vld1q_f32(p)), vld1q_f32(p.add(4))) })
        }
        #[inline(always)]
        unsafe fn store(self, p: *mut f16) {
            unsafe { vst1q_u16(p.cast(), vreinterpretq_u16_f16(self.0)) }
        }
        #[inline(always)]
        unsafe fn steps(p: *const f16) -> float16x8_t {
            unsafe { vreinterpretq_f16_u16(vld1q_u16(p.cast())) }
        }
        #[inline(always)]
        unsafe fn add_product<const STEP: i32>(self, w: Self, x: float16x8_t) -> Self {
            Self(unsafe { add_product::<STEP>(self.0, w.0, x) })
        }
        #[inline(always)]
        unsafe fn widen(self) -> [Neon; 2] {
            unsafe { [Neon(vcvt_f32_f16(vget_low_f16(self.0))), Neon(vcvt_high_f32_f16(self.0))] }
        }
    }
}

#[cfg(test)]
#[path = "fp16_tests.rs"]
pub mod tests;
