//! What the machine can do at most: fused multiply-adds on registers, nothing from memory.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// Rounds of each measurement: some 10 ms.
const ROUNDS: usize = 1_000_000;

/// A dense loop of the best instruction set, and the floating-point operations of one round.
struct Loop {
    run: fn(usize) -> f32,
    flop_per_round: usize,
}

/// GFLOP/s of `threads` threads together.
pub fn gflops(threads: usize) -> f64 {
    let Loop { run, flop_per_round } = best();
    let barrier = Barrier::new(threads);
    let work = || {
        black_box(run(black_box(ROUNDS / 20)));
        barrier.wait();
        let start = Instant::now();
        black_box(run(black_box(ROUNDS)));
        start.elapsed().as_secs_f64()
    };
    let seconds: f64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).fold(0.0, f64::max)
    });
    (threads * ROUNDS * flop_per_round) as f64 / seconds / 1e9
}

#[cfg(target_arch = "x86_64")]
fn best() -> Loop {
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the CPU has AVX-512F.
        Loop { run: |rounds| unsafe { avx512(rounds) }, flop_per_round: 24 * 16 * 2 }
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the CPU has AVX2 and FMA.
        Loop { run: |rounds| unsafe { avx2(rounds) }, flop_per_round: 12 * 8 * 2 }
    } else {
        PORTABLE
    }
}

#[cfg(target_arch = "aarch64")]
fn best() -> Loop {
    // SAFETY: every aarch64 CPU has NEON.
    Loop { run: |rounds| unsafe { neon(rounds) }, flop_per_round: 24 * 4 * 2 }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn best() -> Loop {
    PORTABLE
}

/// What a compiler makes of it without any instruction set beyond the target's: multiply and add.
#[allow(dead_code, reason = "some targets always have something better")]
const PORTABLE: Loop = Loop {
    run: |rounds| {
        let mut sums = [0f32; 32];
        let (a, b) = (black_box(0.999f32), black_box(0.001f32));
        for _ in 0..rounds {
            sums.iter_mut().for_each(|sum| *sum = *sum * a + b);
        }
        sums.iter().sum()
    },
    flop_per_round: 64,
};

/// The loop over `$count` independent accumulators: enough to cover the latency of the units, few enough to stay in registers.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! fma_loop {
    ($(#[$doc:meta])* $name:ident, $feature:literal, $count:literal, $splat:expr, $fma:expr, $sum:expr) => {
        $(#[$doc])*
        #[target_feature(enable = $feature)]
        unsafe fn $name(rounds: usize) -> f32 {
            let (a, b) = ($splat(black_box(0.999f32)), $splat(black_box(0.001f32)));
            let mut sums = [$splat(0.0); $count];
            for _ in 0..rounds {
                for sum in &mut sums {
                    *sum = $fma(*sum, a, b);
                }
            }
            let total = sums.into_iter().map(|sum| $sum(sum)).sum();
            total
        }
    };
}

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

#[cfg(target_arch = "x86_64")]
fma_loop!(
    /// 24 of the 32 registers.
    avx512, "avx512f", 24, _mm512_set1_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps
);

#[cfg(target_arch = "x86_64")]
fma_loop!(
    /// 12 of the 16 registers.
    avx2, "avx2,fma", 12, _mm256_set1_ps, _mm256_fmadd_ps, |x| _mm_cvtss_f32(_mm256_castps256_ps128(x))
);

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;

#[cfg(target_arch = "aarch64")]
fma_loop!(
    /// 24 of the 32 registers.
    neon, "neon", 24, vdupq_n_f32, |sum, a, b| vfmaq_f32(b, sum, a), vaddvq_f32
);
