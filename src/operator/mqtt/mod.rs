//! MQTT 3.1.1, and Home Assistant's discovery over it. Below `T`, which is `cfvit/` and this machine's digits:
//!
//! | topic | payload | QoS, retained |
//! |---|---|---|
//! | `T/status` (also the will) | `online`, `offline` | 1, yes |
//! | `T/CAMERA/status` | the same: whether frames come | 1, yes |
//! | `T/CAMERA/state` | JSON: label, confidence, stage, threshold; on a change at most once a second, else a heartbeat | 0, yes |
//! | `T/CAMERA/stats` | JSON: frames/s, share of fine, latency, power, energy, temperature | 0, yes |
//! | `T/CAMERA/decision` | JSON of each decision, where `mqtt.decisions` | 0, no |
//! | `T/CAMERA/image` | a JPEG when the label changes, where `mqtt.images` | 0, no |
//! | `T/CAMERA/threshold/set` | a number, obeyed where `mqtt.control`; never a retained one | 1 |
//! | `PREFIX/device/cfvit_DIGITS_CAMERA/config` | Home Assistant's discovery | 1, yes |
//!
//! What is said, and when, is pure: [`topics`], [`payload`], [`discovery`], [`publisher`].

pub mod discovery;
pub mod known;
mod link;
mod look;
pub mod payload;
mod pictures;
pub mod publisher;
pub mod topics;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::board::Board;
use super::host::{Stopping, Task};
use super::lines::Subscribe;
use super::secret;
use crate::config::MqttSettings;
use crate::error::Result;
use topics::Topics;

/// Publishes what `board` shows until it is `stopping`; `None` where there is no broker. Decisions come through `subscribe`; which devices
/// were announced is kept in `folder`, so that those that are gone can be taken back after a restart.
///
/// # Errors
/// [`crate::error::Kind::Config`] when the password cannot be read.
pub fn start(
    board: Arc<Board>,
    settings: &MqttSettings,
    (folder, subscribe): (Option<PathBuf>, &Subscribe),
    stopping: Stopping,
) -> Result<Option<Task>> {
    let Some(broker) = settings.broker.clone() else { return Ok(None) };
    let password =
        settings.password_file.as_deref().map(|path| secret::read("mqtt.password_file", path)).transpose()?;
    let topics = Topics::new(&secret::device_id(Path::new("/")), settings.discovery_prefix.as_deref());
    board.messages.show(super::Output::Mqtt);
    let decisions = settings.decisions.then(|| link::decisions(subscribe));
    let login = (settings.user.clone(), password);
    let link = link::Link::new(board, (broker, login), (settings, topics), folder, decisions);
    Ok(Some(Box::pin(link.run(stopping))))
}
