//! Choosing the threshold η with a guarantee, and watching whether it still holds.
//!
//! A calibration frame says the coarse stage's confidence `c` and both stages' answers. A frame is *bad* when stopping at the coarse stage
//! would be wrong: under [`Risk::Disagreement`] where the answers differ, under [`Risk::Loss`] where only the fine one is right. The
//! cascade stops iff `c ≥ η`, so a bad frame costs something iff `c ≥ η`: per frame a step that falls with η. One exact binomial bound on
//! the whole curve is therefore enough ([`rule`]), and every run-time rule that stays at or above η keeps the promise.
//!
//! Accuracy of fine-always less that of the cascade is at most the share of stopped frames where only the fine answer is right, which is at
//! most the share of stopped frames with two answers: a bound without labels also bounds the loss.
//!
//! Before the frames come, [`solve`] finds η from [`Observation`]s, [`cost`] measures what the stages cost, [`Keys`] says for which engine it holds.
//! While they come, [`audit`] keeps what both stages said of one frame per slot, [`drift`] watches it, and [`budget`] steers the share of fine.

pub mod audit;
pub mod binomial;
pub mod budget;
pub mod certificate;
pub mod correlation;
pub mod cost;
pub mod drift;
mod force;
mod keys;
pub mod labels;
mod observation;
pub mod plan;
pub mod report;
pub mod rule;
mod solve;

pub use force::{ALWAYS_REFINE, InForce, Standing, in_force};
pub use keys::{Keys, weights_sha256};
pub use observation::{Observation, Risk};
pub use solve::{Accuracy, Budget, Ceiling, Floor, Prefer, Request, Solution, share_of_fine, solve};

#[cfg(test)]
mod guarantee_tests;
#[cfg(test)]
pub(crate) mod halves_tests;
