//! What people and other programs see of a run: one page, metrics, a small HTTP interface.
//!
//! The decision thread fills a [`Board`] through its [`Feed`] and never waits for whoever reads it. Pictures are copied and encoded only
//! while somebody watches. Everything else happens in one thread of [`web`], and whatever goes wrong there, frames go on.

mod board;
mod feed;
mod histogram;
pub mod history;
pub mod metrics;
pub mod pictures;
pub mod web;

pub use board::{Board, Channel, Facts, STEPS, Snapshot, Threshold};
pub use feed::Feed;
pub use histogram::{Counted, Histogram};
