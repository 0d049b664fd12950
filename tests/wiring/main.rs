//! What `cfvit run` tells other programs: MQTT at a real broker (mosquitto), lines from the events socket, requests to a receiver that
//! misbehaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[cfg(feature = "mqtt")]
mod broker;
mod events;
#[cfg(feature = "mqtt")]
mod mqtt;
mod service;
#[cfg(feature = "webhook")]
mod webhook;
