//! What the machine can do at most: fused multiply-adds on registers, nothing from memory.

use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// Rounds of each measurement: some 10 ms.
const ROUNDS: usize = 1_000_000;

/// A dense loop of the best instruction set, and the floating-point operations of one round.
struct Loop {
    run: fn(usize),
    flop_per_round: usize,
}

/// GFLOP/s of `threads` threads together.
pub fn gflops(threads: usize) -> f64 {
    let Loop { run, flop_per_round } = best();
    let barrier = Barrier::new(threads);
    let work = || {
        run(ROUNDS / 20);
        barrier.wait();
        let start = Instant::now();
        run(ROUNDS);
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
    Loop { run: neon, flop_per_round: 24 * 4 * 2 }
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
        black_box(sums);
    },
    flop_per_round: 64,
};

/// `acc = acc · a + b` on independent accumulators, enough to cover the latency of the units. In assembly, because a compiler may
/// keep some of the accumulators in memory, and then it is the memory that is measured.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! fma_loop {
    ($rounds:ident, [$($instruction:expr),*], $count:literal, $branch:literal, $($operands:tt)*) => {
        // SAFETY: the loop writes registers only, all of them declared.
        unsafe {
            std::arch::asm!(
                "2:", $($instruction,)* $count, $branch,
                n = inout(reg) $rounds.max(1) => _, $($operands)* clobber_abi("C"), options(nomem, nostack),
            )
        }
    };
}

#[cfg(target_arch = "x86_64")]
macro_rules! x86_loop {
    ($rounds:ident, $register:literal, $a:literal = $a_value:expr, $b:literal = $b_value:expr, [$($i:literal)*]) => {
        fma_loop!(
            $rounds, [$(concat!("vfmadd213ps ", $register, $i, ", ", $a, ", ", $b)),*], "dec {n}", "jnz 2b",
            in($a) $a_value, in($b) $b_value,
        )
    };
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(rounds: usize) {
    use std::arch::x86_64::_mm512_set1_ps;
    x86_loop!(
        rounds, "zmm", "zmm30" = _mm512_set1_ps(0.999), "zmm31" = _mm512_set1_ps(0.001),
        [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23]
    );
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(rounds: usize) {
    use std::arch::x86_64::_mm256_set1_ps;
    x86_loop!(
        rounds, "ymm", "ymm14" = _mm256_set1_ps(0.999), "ymm15" = _mm256_set1_ps(0.001),
        [0 1 2 3 4 5 6 7 8 9 10 11]
    );
}

/// `acc += a · b`: the form that NEON has.
#[cfg(target_arch = "aarch64")]
fn neon(rounds: usize) {
    use std::arch::aarch64::vdupq_n_f32;
    // SAFETY: every aarch64 CPU has NEON.
    let (a, b) = unsafe { (vdupq_n_f32(0.999), vdupq_n_f32(0.001)) };
    macro_rules! neon_loop {
        ([$($i:literal)*]) => {
            fma_loop!(
                rounds, [$(concat!("fmla v", $i, ".4s, v30.4s, v31.4s")),*], "subs {n}, {n}, #1", "b.ne 2b",
                in("v30") a, in("v31") b,
            )
        };
    }
    neon_loop!([0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23]);
}
