//! The 16-bit product against its definition, bit by bit: the tile on this CPU's instruction set where it has one, and everywhere on an
//! emulation of it, which also runs whole models in `tests.rs`.

use super::super::exec::Exec;
use super::super::kernels::portable;
use super::super::linear::{Epilogue, Linear, PackedHalf, Part};
use super::super::memory::{Arena, Matrix};
use super::super::peak::round_flops;
use super::super::pool::Pool;
use super::super::reference::Noise;
use super::super::simd::Portable;
use super::*;

/// Sixteen lanes in plain Rust, rounded as the instruction rounds: once for a multiply-add.
#[derive(Clone, Copy)]
struct Emulated([f16; 16]);

// SAFETY: plain Rust, no instruction set needed.
#[allow(clippy::undocumented_unsafe_blocks)] // the contract is the trait's, the same for each line
unsafe impl Half for Emulated {
    type Wide = Portable;
    type Steps = [f16; STEPS];
    const LANES: usize = 16;
    unsafe fn zero() -> Self {
        Self([f16::ZERO; 16])
    }
    unsafe fn load(p: *const f16) -> Self {
        Self(unsafe { p.cast::<[f16; 16]>().read_unaligned() })
    }
    unsafe fn narrow(p: *const f32) -> Self {
        Self(unsafe { p.cast::<[f32; 16]>().read_unaligned() }.map(f16::from_f32))
    }
    unsafe fn store(self, p: *mut f16) {
        unsafe { p.cast::<[f16; 16]>().write_unaligned(self.0) }
    }
    unsafe fn steps(p: *const f16) -> [f16; STEPS] {
        unsafe { p.cast::<[f16; STEPS]>().read_unaligned() }
    }
    unsafe fn add_product<const STEP: i32>(self, w: Self, x: [f16; STEPS]) -> Self {
        Self(std::array::from_fn(|i| multiply_add(w.0[i], x[STEP as usize], self.0[i])))
    }
    unsafe fn widen(self) -> [Portable; 2] {
        let wide = self.0.map(f16::to_f32);
        unsafe { [Portable::load(wide.as_ptr()), Portable::load(wide[8..].as_ptr())] }
    }
}

/// The emulation as a set.
pub static EMULATED: HalfKernels = HalfKernels {
    name: "emulated",
    panel_width: 2 * Emulated::LANES,
    panel: super::panel::<Emulated, 2, 5>,
    round: super::round::<Emulated>,
    peak: Peak { run: super::chains::<Emulated>, flops: round_flops(Emulated::LANES, CHAINS) },
};

/// The emulation, and this CPU's set if it has one.
pub fn sets() -> impl Iterator<Item = &'static HalfKernels> {
    std::iter::once(&EMULATED).chain(supported())
}

/// `a · b + c`, rounded once. In 64 bits it is exact: the product has 22 bits, and where it is so small beside the sum that 53 do not reach it, it
/// is too small to matter for the rounding to 11.
fn multiply_add(a: f16, b: f16, c: f16) -> f16 {
    let exact = f64::from(a) * f64::from(b) + f64::from(c);
    // Rounded to odd on the way through 32 bits, so that the second rounding sees on which side of a tie the number lies.
    let near = exact as f32;
    let odd = match f64::from(near).abs().total_cmp(&exact.abs()) {
        _ if near.to_bits() & 1 == 1 || !near.is_finite() => near,
        std::cmp::Ordering::Equal => near,
        std::cmp::Ordering::Greater => f32::from_bits(near.to_bits() - 1),
        std::cmp::Ordering::Less => f32::from_bits(near.to_bits() + 1),
    };
    f16::from_f32(odd)
}

#[test]
fn the_emulated_multiply_add_rounds_once() {
    let f = f16::from_f32;
    // 1 + 2⁻¹¹ is a tie and goes to the even 1; a little more, and it goes up: through 64 and 32 bits that little must not be lost.
    let (tie, little) = (f(2f32.powi(-11)), f(2f32.powi(-24)));
    assert_eq!(multiply_add(tie, f(1.0), f(1.0)), f(1.0));
    let above = f(1.0 + 2f32.powi(-10));
    assert_eq!(multiply_add(f(2f32.powi(-11) * (1.0 + 2f32.powi(-10))), f(1.0), f(1.0)), above);
    let just_above = f(2f32.powi(-5) * (1.0 + 2f32.powi(-10)));
    assert_eq!(multiply_add(just_above, f(2f32.powi(-6)), f(1.0)), above);
    // Subnormal numbers, the end of the range, and signs.
    assert_eq!(multiply_add(little, f(0.75), f16::ZERO), little);
    assert_eq!(multiply_add(little, f(0.5), f16::ZERO), f16::ZERO);
    assert_eq!(multiply_add(f(255.0), f(257.0), f16::ZERO), f16::INFINITY);
    assert_eq!(multiply_add(f(-2.0), f(3.0), f(1.0)), f(-5.0));
    // Two roundings would give 2⁻²⁴·(odd): the product alone is rounded down, together with the addend it is not.
    let mut noise = Noise(1);
    for _ in 0..10_000 {
        let [a, b, c] = [(); 3].map(|()| f(noise.next()));
        let exact = f64::from(a) * f64::from(b) + f64::from(c);
        let error = (f64::from(multiply_add(a, b, c)) - exact).abs();
        assert!(error <= exact.abs() * 2f64.powi(-11) + 2f64.powi(-25), "{a} · {b} + {c}");
    }
}

/// The product's definition: both factors rounded to 16 bits, sums of at most [`SUM`] steps in 16 bits, those added in 32 bits in their order
/// to the bias and what was there.
fn defined(x: &[f32], w: &[f32], bias: f32, old: Option<f32>) -> f32 {
    let rounded = |values: &[f32]| -> Vec<f16> { values.iter().map(|&v| f16::from_f32(v)).collect() };
    let (x, w) = (rounded(x), rounded(w));
    let sum =
        |(x, w): (&[f16], &[f16])| x.iter().zip(w).fold(f16::ZERO, |sum, (&x, &w)| multiply_add(w, x, sum)).to_f32();
    let mut sums = x.chunks(SUM).zip(w.chunks(SUM)).map(sum);
    let first = sums.next().unwrap() + bias;
    sums.fold(old.map_or(first, |old| first + old), |total, sum| sum + total)
}

#[test]
fn the_product_is_its_definition_bit_by_bit() {
    let mut noise = Noise(5);
    for (m, k, n) in [(25, 384, 96), (6, 1536, 64), (1, 384, 100), (17, 21, 33), (29, 97, 5), (2, 64, 32), (3, 8, 1)] {
        let (x, bias, old) = (noise.vec(m * k), noise.vec(n), noise.vec(m * n));
        // As large as a trained layer's: sums near one.
        let w: Vec<f32> = noise.vec(n * k).into_iter().map(|w| w * 3.0 / (k as f32).sqrt()).collect();
        let mut input = Matrix::new(m, k);
        (0..m).for_each(|i| input.row_mut(i).copy_from_slice(&x[i * k..][..k]));
        for half in sets() {
            for (how, scale) in [(Epilogue::STORE, 1.0), (Epilogue::ADD, 0.5), (Epilogue::RELU, 1.0)] {
                let mut exec = Exec::new(Pool::new(2).unwrap(), portable(), 1, 1);
                let part = Part { weight: &w, bias: Some(&bias), scale };
                let layer = PackedHalf::new(&mut Arena::default(), half, k, &[part]).unwrap();
                let layer = Linear::Half(layer);
                let mut out = Matrix::new(m, layer.columns());
                (0..m).for_each(|i| out.row_mut(i)[..n].copy_from_slice(&old[i * n..][..n]));
                exec.linear(&layer, input.rows(0..m), out.rows_mut(0..m), how, Some(&layer));
                let scaled: Vec<f32> = w.iter().map(|w| w * scale).collect();
                for (at, &old) in old.iter().enumerate() {
                    let (i, j) = (at / n, at % n);
                    let old = how.accumulate.then_some(old);
                    let mut expected = defined(&x[i * k..][..k], &scaled[j * k..][..k], bias[j] * scale, old);
                    expected = if how.activation == Activation::Relu { expected.max(0.0) } else { expected };
                    assert_eq!(out.row(i)[j], expected, "{} {m}×{k}×{n}, {scale} [{i}, {j}]", half.name);
                }
                assert!((0..m).all(|i| out.row(i)[n..].iter().all(|&pad| pad == 0.0)), "the padding stays zero");
            }
        }
    }
}

#[test]
fn rounding_is_to_the_nearest_and_fills_up_with_zeros() {
    let x: Vec<f32> =
        [1.0, 1.0 + 2f32.powi(-11), 1.0 + 3.0 * 2f32.powi(-11), -65504.0, 65519.9, 65520.0, 1e-8, -1e30].to_vec();
    let x: Vec<f32> = x.iter().cycle().copied().take(29).collect();
    for half in sets() {
        let mut out = [f16::ONE; 33];
        // SAFETY: `x` holds 29 floats and `out` 32; the CPU has the set.
        unsafe { (half.round)(x.as_ptr(), 29, out.as_mut_ptr(), 32) };
        for (i, (&x, &got)) in x.iter().zip(&out).enumerate() {
            assert_eq!(got.to_bits(), f16::from_f32(x).to_bits(), "{} [{i}]: {x}", half.name);
        }
        assert_eq!((&out[29..32], out[32]), (&[f16::ZERO; 3][..], f16::ONE), "{}", half.name);
    }
}

#[test]
fn a_weight_beyond_the_range_is_found_as_it_would_be_packed() {
    let mut arena = Arena::default();
    let mut pack = |w: f32, scale: f32| {
        let weight = [0.5, w, -1.0, 2.0];
        PackedHalf::new(&mut arena, &EMULATED, 2, &[Part { weight: &weight, bias: None, scale }]).err()
    };
    assert_eq!(pack(65504.0, 1.0), None);
    assert_eq!(pack(-70000.0, 1.0), Some(-70000.0));
    assert_eq!(pack(-70000.0, 0.5), None);
    assert!(pack(f32::NAN, 1.0).is_some_and(f32::is_nan));
}

#[test]
fn the_peak_s_chains_end_finite_and_do_something() {
    for half in sets() {
        // SAFETY: the CPU has the set.
        let run = |rounds| unsafe { (half.peak.run)(rounds) };
        assert!(run(1).is_finite() && run(1000).is_finite(), "{}", half.name);
        assert_ne!(run(0), run(3), "{}", half.name);
        assert!(half.peak.flops >= 2 * 4 * 24 * 8, "{}: {}", half.name, half.peak.flops);
    }
}
