//! TensorRT: building plans and running them. NVIDIA's libraries are loaded when they are asked for, so the program starts without them.

pub mod build;
pub mod cuda;
pub mod execution;
pub mod library;
mod log;
mod open;
pub mod runtime;
mod search;
mod sys;
mod version;

pub use open::{device_key, open, open_plans, target_key};
pub use version::{Flavour, Version};
