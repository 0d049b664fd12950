//! Whether a camera counts as there. One that has nothing to give for a moment, as a slow source between two pictures, is not gone.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::report::CameraState;

/// A camera that gives nothing for so long is gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// Remembers when each camera was there last.
#[derive(Debug, Default)]
pub struct Presence {
    /// A camera that was never there gets the time to come.
    trusting: bool,
    seen: HashMap<String, Instant>,
}

impl Presence {
    /// One to whom a camera counts as there until it has had the time to come.
    #[cfg_attr(not(feature = "webhook"), allow(dead_code, reason = "only the webhook trusts"))]
    pub fn trusting() -> Self {
        Self { trusting: true, ..Self::default() }
    }

    /// Whether `camera`, whose frames come as `state` says, is there at the moment `now`.
    pub fn is_there(&mut self, camera: &str, state: CameraState, now: Instant) -> bool {
        let is_new = self.trusting && !self.seen.contains_key(camera);
        if state == CameraState::Up || is_new {
            self.seen.insert(camera.to_owned(), now);
        }
        let lately = || self.seen.get(camera).is_some_and(|&seen| now.saturating_duration_since(seen) < PATIENCE);
        match state {
            CameraState::Up => true,
            CameraState::Waiting => lately(),
            CameraState::Lost | CameraState::Ended => is_new,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_no_absence_and_a_lost_camera_is_gone_at_once() {
        let (mut presence, start) = (Presence::default(), Instant::now());
        let mut at = |s: u64, state| presence.is_there("a", state, start + Duration::from_secs(s));
        assert!(!at(0, CameraState::Waiting), "never seen");
        assert!(at(1, CameraState::Up) && at(5, CameraState::Waiting) && !at(6, CameraState::Waiting));
        assert!(at(7, CameraState::Up) && !at(8, CameraState::Lost) && at(9, CameraState::Up));
        assert!(!at(10, CameraState::Ended));
        let mut presence = Presence::trusting();
        let mut at = |s: u64, state| presence.is_there("a", state, start + Duration::from_secs(s));
        assert!(at(0, CameraState::Waiting) && at(4, CameraState::Waiting) && !at(5, CameraState::Waiting));
    }
}
