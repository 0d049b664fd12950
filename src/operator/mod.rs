//! What people and other programs see of a run: one page, metrics, a small HTTP interface, MQTT, a socket, requests at a change.
//!
//! The decision thread fills a [`Board`] through its [`Feed`] and never waits for whoever reads it. Pictures are copied and encoded only
//! while somebody watches. The page, MQTT and the webhook share one thread, the [`host`]; whatever goes wrong there, frames go on.

mod board;
mod feed;
mod histogram;
pub mod history;
#[cfg(any(feature = "web", feature = "mqtt", feature = "webhook"))]
pub mod host;
mod lines;
mod messages;
#[cfg(feature = "web")]
pub mod metrics;
#[cfg(feature = "mqtt")]
pub mod mqtt;
#[cfg(any(feature = "web", feature = "mqtt"))]
pub mod pictures;
#[cfg(any(feature = "mqtt", feature = "webhook"))]
mod presence;
pub mod sampler;
#[cfg(any(feature = "mqtt", feature = "webhook"))]
mod sandbox;
#[cfg(any(feature = "web", feature = "mqtt", feature = "webhook"))]
mod seconds;
#[cfg(any(feature = "mqtt", feature = "webhook"))]
pub mod secret;
mod socket;
#[cfg(feature = "web")]
pub mod web;
#[cfg(feature = "webhook")]
pub mod webhook;

pub use board::{Board, Channel, Facts, STEPS, Snapshot, Threshold};
pub use feed::Feed;
pub use histogram::{Counted, Histogram};
pub use lines::{Line, Lines, Offer, Subscribe, Subscriber};
pub use messages::{Fate, Messages, Output};
pub use socket::EventsSocket;
