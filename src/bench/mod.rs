//! `cfvit bench`: what a frame costs on this machine, and what deciding adaptively saves against one full-resolution pass.
//!
//! The four baselines run in one alternating series on the same pictures (`measure`, `schedule`), so that what the machine does
//! meanwhile meets all of them; the verdict (`verdict`) rests on differences within a round. `machine` tells whether the
//! measurement can be trusted, `report` is the JSON and the tables.

pub mod energy;
pub mod measure;
pub mod peak;
pub mod percentiles;
pub mod report;
pub mod schedule;
pub mod synthetic;
pub mod verdict;
pub mod windows;

pub use crate::{machine, stats};

/// The seed of everything random: the order of rounds and pictures, and synthetic pictures.
pub const SEED: u64 = 0x0cf1;
