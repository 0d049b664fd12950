//! The hostile corpus: files that must each give an error, never a panic, and never much memory. Generated, always the same.
//! `cargo run --example hostile-corpus DIR` writes it to a folder; `tests/hostile_inputs.rs` replays it.

#![allow(dead_code, reason = "each user of this module needs another part of it")]
#![allow(clippy::unwrap_used, reason = "test code, which clippy does not see where an example includes it")]

pub mod images;
pub mod models;
pub mod models_package;
pub mod models_pickle;
pub mod torch;

/// One hostile file.
pub struct Case {
    /// What is wrong with it; no two cases share a name.
    pub name: String,
    /// Its file name; the extension says what it claims to be.
    pub file: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// What the error must say; empty for any error; [`MAY_BE_VALID`].
    pub expect: &'static str,
}

/// For damage that by chance leaves a valid file: an error or a sound result, but no panic.
pub const MAY_BE_VALID: &str = "\0may be valid";

/// Everything: one corpus per kind of file.
pub fn corpus() -> Vec<Case> {
    let corpora = [models::corpus(), images::corpus()];
    corpora.into_iter().flatten().collect()
}

/// SplitMix64: small, seeded, the same on every machine.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
