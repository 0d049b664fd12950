//! The exported graphs, run by engines that share nothing with this project: tract in this process, ONNX Runtime in Python's. Both must
//! come to what the CPU engine computes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::explicit_write,
    reason = "test code outside of #[test] functions"
)]

mod cases;
mod files;
mod onnx_runtime;
mod tract;
