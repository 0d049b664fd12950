//! The most that the FMA units can do: chains of fused multiply-adds that never leave the registers. What a stage achieves is
//! judged against this rate, timed in the same minute on the same threads.

use super::exec::Exec;
use super::simd::Simd;

/// Repetitions of the `CHAINS` steps in one round: the loop's counter and jump vanish beside them.
pub const UNROLL: usize = 4;

/// The most chains and lanes of any set.
const MOST_CHAINS: usize = 24;
const MOST_LANES: usize = 16;

/// What a set's peak loop is, and how much it does.
pub struct Peak {
    /// Runs so many rounds; the result only keeps the work from being optimised away.
    ///
    /// # Safety
    /// The CPU has the instruction set.
    pub run: unsafe fn(u64) -> f32,
    /// Floating-point operations of a round: a multiply-add counts as two.
    pub flops: u64,
}

/// Floating-point operations of one round of [`chains`] with `chains` registers of `lanes`.
pub const fn round_flops(lanes: usize, chains: usize) -> u64 {
    (2 * UNROLL * lanes * chains) as u64
}

/// `CHAINS` independent chains, as many as hide the latency of two FMA units (4 cycles each: 8 and more) and fit the registers
/// beside two operands. `THROUGH_SUM` chains through the addend, as NEON's instruction does, which overwrites it; else through a
/// factor, so that no product is the same twice and may be computed once (the portable set has no fused instruction).
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub unsafe fn chains<S: Simd, const CHAINS: usize, const THROUGH_SUM: bool>(rounds: u64) -> f32 {
    const { assert!(CHAINS <= MOST_CHAINS && S::LANES <= MOST_LANES) };
    // SAFETY: forwarded to the caller; `memory` holds every chain's lanes.
    unsafe {
        // Every chain tends to 2 (through a factor) or grows by little: no infinities, no slow subnormal numbers.
        let (x, w) = match THROUGH_SUM {
            true => (S::splat(std::hint::black_box(1e-3)), S::splat(std::hint::black_box(1e-3))),
            false => (S::splat(std::hint::black_box(0.5)), S::splat(std::hint::black_box(1.0))),
        };
        // Different starts: equal chains might be merged into one. Loaded and stored as they are: anything else that is done with the sums
        // may confine them to the lower half of the registers, and then they live in memory.
        let mut memory: [f32; MOST_CHAINS * MOST_LANES] = std::array::from_fn(|i| 1.0 + i as f32);
        let at = std::hint::black_box(&mut memory).as_mut_ptr();
        let mut sums = [x; CHAINS];
        macro_rules! load {
            ($($i:literal)*) => {
                $(if $i < CHAINS {
                    sums[$i] = S::load(at.add($i * S::LANES));
                })*
            };
        }
        load!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23);
        // Written out, because LLVM keeps the sums in registers only if no loop indexes them.
        macro_rules! step {
            ($($i:literal)*) => {
                $(if $i < CHAINS {
                    let sum = sums[$i];
                    sums[$i] = if THROUGH_SUM { x.mul_add(w, sum) } else { sum.mul_add(x, w) };
                })*
            };
        }
        for _ in 0..rounds {
            for _ in 0..UNROLL {
                step!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23);
            }
        }
        for (i, sum) in sums.into_iter().enumerate() {
            sum.store(at.add(i * S::LANES));
        }
        memory.iter().take(CHAINS * S::LANES).sum()
    }
}

impl Exec {
    /// Runs `rounds` rounds of `peak`, whose set the CPU has, on each thread; gives the floating-point operations of all.
    pub fn peak_flops(&mut self, peak: &Peak, rounds: u64) -> u64 {
        let &Peak { run, flops } = peak;
        let threads = self.pool.threads();
        self.pool.run(threads, |_| {
            // SAFETY: the CPU has the kernels' set.
            std::hint::black_box(unsafe { run(rounds) });
        });
        rounds.saturating_mul(flops).saturating_mul(threads as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::super::kernels::supported;

    #[test]
    fn every_set_runs_its_chains_to_a_finite_end() {
        for kernels in supported() {
            // SAFETY: `supported` says that the CPU has the set.
            let run = |rounds| unsafe { (kernels.peak.run)(rounds) };
            assert!(run(1).is_finite() && run(10_000).is_finite(), "{}", kernels.name);
            assert_ne!(run(0), run(3), "{}: the rounds do something", kernels.name);
            assert!(kernels.peak.flops >= 2 * 4 * 6 * 8, "{}: {}", kernels.name, kernels.peak.flops);
        }
    }
}
