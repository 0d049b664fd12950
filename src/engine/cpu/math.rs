//! Elementary functions on registers.

use super::simd::Simd;

/// `e^x` for `x ≤ 0` or moderate, to about 2 units in the last place; below −87 it stays at `e^−87` (about 1e-38).
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub unsafe fn exp<S: Simd>(x: S) -> S {
    // SAFETY: forwarded to the caller.
    unsafe {
        let x = x.max(S::splat(-87.0)).min(S::splat(88.0));
        // x = n·ln 2 + r, with ln 2 in two parts so that n·(first part) is exact (Cody and Waite); |r| ≤ ln 2 / 2.
        let n = x.mul(S::splat(std::f32::consts::LOG2_E)).round();
        let r = n.mul_add(S::splat(-0.693_359_4), x);
        let r = n.mul_add(S::splat(2.121_944_4e-4), r);
        // The polynomial of Cephes' expf.
        let mut p = S::splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = p.mul_add(r, S::splat(c));
        }
        p.mul_add(r.mul(r), r.add(S::splat(1.0))).mul(n.exp2_whole())
    }
}

/// The exact GELU, `x · (1 + erf(x / √2)) / 2` (Hendrycks and Gimpel, arXiv 1606.08415), with erf as a rational function on
/// −4 ..= 4, beyond which it is ±1 in 32 bits. Absolute error below 1e-6 relative to `max(1, |x|)`.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub unsafe fn gelu<S: Simd>(x: S) -> S {
    // SAFETY: forwarded to the caller.
    unsafe {
        let t = x.mul(S::splat(std::f32::consts::FRAC_1_SQRT_2)).min(S::splat(4.0)).max(S::splat(-4.0));
        let square = t.mul(t);
        let mut p = S::splat(-2.726_142_3e-10);
        for c in [2.770_681_4e-8, -2.101_024e-6, -5.692_506_5e-5, -7.349_906e-4, -2.954_6e-3, -1.609_603_3e-2] {
            p = p.mul_add(square, S::splat(c));
        }
        let mut q = S::splat(-1.456_607_2e-5);
        for c in [-2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2] {
            q = q.mul_add(square, S::splat(c));
        }
        let erf = t.mul(p).div(q);
        let half = x.mul(S::splat(0.5));
        half.mul_add(erf, half)
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::Portable;
    use super::*;

    fn lanes(f: impl Fn(Portable) -> Portable, x: f32) -> f32 {
        let mut out = [0.0; 8];
        // SAFETY: `Portable` runs anywhere; `out` has its 8 lanes.
        unsafe { f(Portable::splat(x)).store(out.as_mut_ptr()) };
        out[0]
    }

    /// erf by its Maclaurin series in 64 bits, exact enough below 4.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn gelu_equals_the_exact_function() {
        for i in -5000..=5000 {
            let x = i as f32 * 1e-3;
            let exact = 0.5 * x as f64 * (1.0 + erf(x as f64 / 2f64.sqrt()));
            // SAFETY: `Portable` runs anywhere.
            let error = (lanes(|x| unsafe { gelu(x) }, x) as f64 - exact).abs();
            assert!(error < 1e-6 * (x.abs() as f64).max(1.0), "x {x} error {error}");
        }
        // SAFETY: as above.
        let gelu = |x| lanes(|x| unsafe { gelu(x) }, x);
        assert_eq!(gelu(0.0), 0.0);
        assert!((gelu(50.0) - 50.0).abs() < 1e-4 && gelu(-50.0).abs() < 1e-4);
    }

    #[test]
    fn exp_equals_the_exact_function() {
        for i in -86_999..=20_000 {
            let x = i as f32 * 1e-3;
            // SAFETY: `Portable` runs anywhere.
            let (got, exact) = (lanes(|x| unsafe { exp(x) }, x) as f64, (x as f64).exp());
            assert!((got / exact - 1.0).abs() < 4e-7, "x {x}: {got} {exact}");
        }
        // SAFETY: as above.
        assert!(lanes(|x| unsafe { exp(x) }, -1e9) < 1e-37);
    }
}
