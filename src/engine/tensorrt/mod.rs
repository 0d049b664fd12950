//! TensorRT: building plans and running them. NVIDIA's libraries are loaded when they are asked for, so the program starts without them.

pub mod build;
pub mod cuda;
mod device;
pub mod execution;
pub mod library;
mod log;
mod search;
mod sys;
mod version;

pub use device::{device_key, target_key};
pub use version::{Flavour, Version};
