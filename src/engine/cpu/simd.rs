//! Vector registers: one trait, one implementation per instruction set. Kernels are written once over the trait and compiled
//! once per set (`kernels.rs`), so that every operation is inlined into a function that has the set enabled.

/// A register of f32 lanes.
///
/// # Safety
/// Every method may be called only on a CPU that has the implementation's instruction set; `load` and `store` need `LANES`
/// valid floats at the pointer (no alignment).
pub unsafe trait Simd: Copy {
    /// Lanes in a register.
    const LANES: usize;
    /// All lanes `x`.
    unsafe fn splat(x: f32) -> Self;
    /// Reads `LANES` floats.
    unsafe fn load(p: *const f32) -> Self;
    /// Writes `LANES` floats.
    unsafe fn store(self, p: *mut f32);
    /// `self + b`
    unsafe fn add(self, b: Self) -> Self;
    /// `self − b`
    unsafe fn sub(self, b: Self) -> Self;
    /// `self · b`
    unsafe fn mul(self, b: Self) -> Self;
    /// `self / b`, to one or two units in the last place; `b` and its reciprocal are normal numbers.
    unsafe fn div(self, b: Self) -> Self;
    /// The larger of each lane.
    unsafe fn max(self, b: Self) -> Self;
    /// The smaller of each lane.
    unsafe fn min(self, b: Self) -> Self;
    /// `self · b + c`
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    /// The nearest integer.
    unsafe fn round(self) -> Self;
    /// `2^self`, for whole `self` in −126 ..= 127.
    unsafe fn exp2_whole(self) -> Self;
    /// The sum of the lanes.
    unsafe fn sum(self) -> f32;
    /// The largest lane.
    unsafe fn largest(self) -> f32;
}

/// Eight lanes in plain Rust: works everywhere, and is the oracle for the others.
#[derive(Clone, Copy)]
pub struct Portable([f32; 8]);

macro_rules! lanewise {
    ($a:expr, $b:expr, $f:expr) => {{
        let mut out = [0.0; 8];
        for i in 0..8 {
            out[i] = $f($a.0[i], $b.0[i]);
        }
        Portable(out)
    }};
}

// SAFETY: plain Rust, no instruction set needed.
unsafe impl Simd for Portable {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        // SAFETY: the caller gives 8 valid floats.
        Self(unsafe { p.cast::<[f32; 8]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        // SAFETY: the caller gives 8 valid floats.
        unsafe { p.cast::<[f32; 8]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        lanewise!(self, b, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        lanewise!(self, b, |x, y| x - y)
    }
    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        lanewise!(self, b, |x, y| x * y)
    }
    #[inline(always)]
    unsafe fn div(self, b: Self) -> Self {
        lanewise!(self, b, |x, y| x / y)
    }
    #[inline(always)]
    unsafe fn max(self, b: Self) -> Self {
        lanewise!(self, b, |x: f32, y| if x > y { x } else { y })
    }
    #[inline(always)]
    unsafe fn min(self, b: Self) -> Self {
        lanewise!(self, b, |x: f32, y| if x < y { x } else { y })
    }
    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        // Not `f32::mul_add`: without the instruction that is a slow library call.
        lanewise!(lanewise!(self, b, |x, y| x * y), c, |x, y| x + y)
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        lanewise!(self, self, |x: f32, _| x.round_ties_even())
    }
    #[inline(always)]
    unsafe fn exp2_whole(self) -> Self {
        lanewise!(self, self, |x, _| f32::from_bits(((x as i32 + 127) << 23) as u32))
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        self.0.iter().sum()
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        self.0.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }
}

/// A register of an instruction set by its intrinsics, one method a line.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! register {
    ($(#[$doc:meta])* $name:ident($reg:ty, $lanes:literal) {
        splat $splat:expr; load $load:expr; store $store:expr; add $add:expr; sub $sub:expr; mul $mul:expr; div $div:expr;
        max $max:expr; min $min:expr; mul_add $fma:expr; round $round:expr; exp2 $exp2:expr; sum $sum:expr; largest $largest:expr;
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub struct $name(pub(in super::super) $reg);

        // SAFETY: each method is one intrinsic (or a few) of the set, called under the trait's contract.
        #[allow(clippy::undocumented_unsafe_blocks)] // the contract is the trait's, the same for each line
        unsafe impl Simd for $name {
            const LANES: usize = $lanes;
            #[inline(always)]
            unsafe fn splat(x: f32) -> Self { Self(unsafe { $splat(x) }) }
            #[inline(always)]
            unsafe fn load(p: *const f32) -> Self { Self(unsafe { $load(p) }) }
            #[inline(always)]
            unsafe fn store(self, p: *mut f32) { unsafe { $store(p, self.0) } }
            #[inline(always)]
            unsafe fn add(self, b: Self) -> Self { Self(unsafe { $add(self.0, b.0) }) }
            #[inline(always)]
            unsafe fn sub(self, b: Self) -> Self { Self(unsafe { $sub(self.0, b.0) }) }
            #[inline(always)]
            unsafe fn mul(self, b: Self) -> Self { Self(unsafe { $mul(self.0, b.0) }) }
            #[inline(always)]
            unsafe fn div(self, b: Self) -> Self { Self(unsafe { $div(self.0, b.0) }) }
            #[inline(always)]
            unsafe fn max(self, b: Self) -> Self { Self(unsafe { $max(self.0, b.0) }) }
            #[inline(always)]
            unsafe fn min(self, b: Self) -> Self { Self(unsafe { $min(self.0, b.0) }) }
            #[inline(always)]
            unsafe fn mul_add(self, b: Self, c: Self) -> Self { Self(unsafe { $fma(self.0, b.0, c.0) }) }
            #[inline(always)]
            unsafe fn round(self) -> Self { Self(unsafe { $round(self.0) }) }
            #[inline(always)]
            unsafe fn exp2_whole(self) -> Self { Self(unsafe { $exp2(self.0) }) }
            #[inline(always)]
            unsafe fn sum(self) -> f32 { unsafe { $sum(self.0) } }
            #[inline(always)]
            unsafe fn largest(self) -> f32 { unsafe { $largest(self.0) } }
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

    register! {
        /// Eight lanes of AVX2 with FMA.
        Avx2(__m256, 8) {
            splat _mm256_set1_ps; load _mm256_loadu_ps; store _mm256_storeu_ps;
            add _mm256_add_ps; sub _mm256_sub_ps; mul _mm256_mul_ps; div _mm256_div_ps;
            max _mm256_max_ps; min _mm256_min_ps; mul_add _mm256_fmadd_ps; round _mm256_round_ps::<NEAREST>;
            exp2 exp2_256; sum sum_256; largest largest_256;
        }
    }

    register! {
        /// Sixteen lanes of AVX-512 (F).
        Avx512(__m512, 16) {
            splat _mm512_set1_ps; load _mm512_loadu_ps; store _mm512_storeu_ps;
            add _mm512_add_ps; sub _mm512_sub_ps; mul _mm512_mul_ps; div div_512;
            max _mm512_max_ps; min _mm512_min_ps; mul_add _mm512_fmadd_ps; round _mm512_roundscale_ps::<NEAREST>;
            exp2 exp2_512; sum _mm512_reduce_add_ps; largest _mm512_reduce_max_ps;
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn exp2_256(n: __m256) -> __m256 {
        let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn sum_256(v: __m256) -> f32 {
        let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }

    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn largest_256(v: __m256) -> f32 {
        let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }

    /// By an estimated reciprocal and one step of Newton's: the division of 16 lanes holds up its unit for 16 cycles, which the GELU of
    /// an MLP's hidden layer feels.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn div_512(a: __m512, b: __m512) -> __m512 {
        let estimate = _mm512_rcp14_ps(b);
        let error = _mm512_fnmadd_ps(b, estimate, _mm512_set1_ps(1.0));
        _mm512_mul_ps(a, _mm512_fmadd_ps(estimate, error, estimate))
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn exp2_512(n: __m512) -> __m512 {
        let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
        _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
    }
}
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::Simd;
    use std::arch::aarch64::*;

    register! {
        /// Four lanes of NEON.
        Neon(float32x4_t, 4) {
            splat vdupq_n_f32; load vld1q_f32; store vst1q_f32;
            add vaddq_f32; sub vsubq_f32; mul vmulq_f32; div vdivq_f32;
            max vmaxq_f32; min vminq_f32; mul_add fma; round vrndnq_f32;
            exp2 exp2; sum vaddvq_f32; largest vmaxvq_f32;
        }
    }

    /// `a · b + c`; the intrinsic takes the addend first.
    #[inline]
    #[target_feature(enable = "neon")]
    fn fma(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        vfmaq_f32(c, a, b)
    }

    #[inline]
    #[target_feature(enable = "neon")]
    fn exp2(n: float32x4_t) -> float32x4_t {
        let exponent = vaddq_s32(vcvtnq_s32_f32(n), vdupq_n_s32(127));
        vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
    }
}
#[cfg(target_arch = "aarch64")]
pub use arm::Neon;

/// Asks for the cache line at `p` to be brought near. A hint: any address is allowed.
#[inline(always)]
pub fn prefetch(p: *const f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch never faults, and SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a prefetch never faults, and changes neither memory nor flags.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) p, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = p;
}

/// Asks for the cache line at `p` to be brought near as this core's own, because it will be written: another core that has read it
/// gives it up meanwhile, not when the store waits for it. A hint: any address is allowed.
#[inline(always)]
pub fn prefetch_to_write(p: *const f32) {
    // SAFETY: a prefetch never faults and changes neither memory nor flags; processors without PREFETCHW do nothing.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) p, options(nostack, preserves_flags, readonly));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{}]", in(reg) p, options(nostack, preserves_flags, readonly));
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = p;
}
