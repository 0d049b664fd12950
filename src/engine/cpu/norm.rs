//! LayerNorm of one row.

use super::simd::Simd;

/// `out = (x − mean(x)) / √(var(x) + eps) · gamma + beta` over `n` floats (Ba et al., arXiv 1607.06450; the variance is the biased one).
/// `out` may be `x`.
///
/// # Safety
/// As [`Simd`]; all pointers are valid for `n` floats.
#[inline(always)]
pub unsafe fn layer_norm<S: Simd>(
    x: *const f32,
    out: *mut f32,
    gamma: *const f32,
    beta: *const f32,
    n: usize,
    eps: f32,
) {
    let whole = n / S::LANES * S::LANES;
    // SAFETY: every access stays below `n`; the rest is the caller's.
    unsafe {
        let mut sums = S::splat(0.0);
        for i in (0..whole).step_by(S::LANES) {
            sums = sums.add(S::load(x.add(i)));
        }
        let mean = (sums.sum() + (whole..n).map(|i| *x.add(i)).sum::<f32>()) / n as f32;
        let mut squares = S::splat(0.0);
        for i in (0..whole).step_by(S::LANES) {
            let d = S::load(x.add(i)).sub(S::splat(mean));
            squares = d.mul_add(d, squares);
        }
        let rest = (whole..n).map(|i| (*x.add(i) - mean).powi(2)).sum::<f32>();
        let scale = 1.0 / ((squares.sum() + rest) / n as f32 + eps).sqrt();
        for i in (0..whole).step_by(S::LANES) {
            let d = S::load(x.add(i)).sub(S::splat(mean)).mul(S::splat(scale));
            d.mul_add(S::load(gamma.add(i)), S::load(beta.add(i))).store(out.add(i));
        }
        for i in whole..n {
            *out.add(i) = (*x.add(i) - mean) * scale * *gamma.add(i) + *beta.add(i);
        }
    }
}
