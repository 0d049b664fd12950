//! The embedded CPU engine: both stages in f32, or with the linear layers' products in 16 bits.
//!
//! Where to look: tile, depth blocks and epilogue in `gemm.rs` (16-bit products: `fp16.rs`), packing of layers in `linear.rs`, one head's attention in
//! `attention.rs`, the registers of each instruction set in `simd.rs`, which set has which tile in `kernels.rs`, the schedule in
//! `pool.rs`, and the model itself in `stages.rs`.

mod attention;
mod cost;
mod exec;
// Without an instruction set for it only the tests' emulation makes use of the tile.
#[cfg_attr(not(any(test, target_arch = "aarch64")), allow(dead_code))]
mod fp16;
mod gemm;
mod kernels;
mod linear;
mod math;
mod memory;
mod norm;
mod peak;
mod pool;
mod simd;
mod stages;
mod stem;
mod trunk;
mod weights;

#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use stages::CpuEngine;

/// The number of physical cores this process may use, as Linux tells; all processors where it does not.
pub fn physical_cores() -> usize {
    let logical = std::thread::available_parallelism().map_or(1, usize::from);
    let topology = |cpu: usize, file: &str| {
        std::fs::read_to_string(format!("/sys/devices/system/cpu/cpu{cpu}/topology/{file}")).ok()
    };
    let mut cores: Vec<(String, String)> =
        (0..1024).map_while(|cpu| Some((topology(cpu, "physical_package_id")?, topology(cpu, "core_id")?))).collect();
    cores.sort();
    cores.dedup();
    if cores.is_empty() { logical } else { cores.len().min(logical) }
}
