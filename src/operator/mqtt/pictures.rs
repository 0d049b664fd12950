//! Pictures of a camera when its label changes: taken by watching it for a moment, so that nothing is encoded otherwise.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;

use crate::operator::board::Board;
use crate::operator::pictures::{Shot, Viewer};

/// No two pictures of a camera are published in less time.
const PERIOD: Duration = Duration::from_secs(10);
/// A picture that has not come after so long never does.
const PATIENCE: Duration = Duration::from_secs(5);

/// Watches for changes.
#[derive(Debug, Default)]
pub struct Pictures {
    cameras: HashMap<String, Camera>,
}

#[derive(Debug, Default)]
struct Camera {
    label: Option<String>,
    published: Option<Instant>,
    awaited: Option<Awaited>,
}

/// A picture that was asked for.
#[derive(Debug)]
struct Awaited {
    /// Without somebody who watches there are no pictures.
    _viewer: Viewer,
    shots: watch::Receiver<Option<Arc<Shot>>>,
    asked: Instant,
}

impl Pictures {
    /// The picture of `camera` that is due, after its label was `label` at the moment `now`. It is asked for at the change and comes with a
    /// later call.
    pub fn due(&mut self, board: &Arc<Board>, camera: &str, label: &str, now: Instant) -> Option<Bytes> {
        let Camera { label: known, published, awaited } = self.cameras.entry(camera.to_owned()).or_default();
        let is_open = published.is_none_or(|published| now.saturating_duration_since(published) >= PERIOD);
        if awaited.is_none() && is_open && known.as_deref().is_some_and(|known| known != label) {
            let channel = board.find(camera)?;
            let shots = channel.easel.subscribe();
            *awaited = Some(Awaited { _viewer: Viewer::new(board, channel), shots, asked: now });
        }
        if (awaited.is_none() && is_open) || known.is_none() {
            *known = Some(label.to_owned());
        }
        let Awaited { shots, asked, .. } = awaited.as_mut()?;
        let shot = shots.has_changed().unwrap_or(false).then(|| shots.borrow_and_update().clone()).flatten();
        if shot.is_none() && now.saturating_duration_since(*asked) < PATIENCE {
            return None;
        }
        (*awaited, *published, *known) = (None, Some(now), Some(label.to_owned()));
        shot.map(|shot| shot.jpeg.clone())
    }
}
