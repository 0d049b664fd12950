//! Plans: what TensorRT built for one model on one device, in the model's engine package beside its weights.
//!
//! A plan file carries its own key: the model, the graph, how it was built, and the device and libraries it was built for. TensorRT's own
//! checks are not enough, as a plan for other weights or another power mode would load. A plan whose key does not match is never given
//! out; one that is damaged is put aside as `….bad`.
//!
//! Plans are installed together and belong together: what goes from the coarse engine to the fine one has the build's number format.

mod file;
mod key;
mod store;

pub use key::{DeviceKey, Key, l4t_release};
pub use store::{Plan, Plans, install, load, load_all, path, quarantine, state};

#[cfg(test)]
mod tests;
