//! Notices changes: of labels in the decision thread, of cameras once a second in the webhook's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::Queue;
use super::event::{Change, Event};
use crate::cascade::Cascade;
use crate::operator::board::Board;
use crate::operator::presence::Presence;
use crate::pipeline::{Decision, Observer};

/// The observer of labels. Only a change allocates.
pub struct Labels {
    names: Vec<String>,
    queue: Queue,
    /// The label of each camera.
    known: Vec<(String, usize)>,
}

impl Labels {
    /// Puts changes into `queue`; `names` are the classes'.
    pub fn new(names: Vec<String>, queue: Queue) -> Self {
        Self { names, queue, known: Vec::new() }
    }
}

impl Observer for Labels {
    fn decided(&mut self, decision: &Decision<'_>, _: &mut Cascade) {
        let (camera, label) = (decision.camera_name, decision.smooth.label);
        let known = self.known.iter_mut().find(|(name, _)| name == camera);
        let previous = match known {
            Some((_, known)) if *known == label => return,
            Some((_, known)) => Some(std::mem::replace(known, label)),
            None => {
                self.known.push((camera.to_owned(), label));
                None
            }
        };
        let name = |label: usize| self.names.get(label).cloned().unwrap_or_default();
        let change =
            Change::Label { name: name(label), previous: previous.map(name), confidence: decision.smooth.confidence };
        self.queue.push(Event::now(camera, change));
    }
}

/// Looks whether cameras are there.
pub struct Cameras {
    board: Arc<Board>,
    queue: Queue,
    presence: Presence,
    known: HashMap<String, bool>,
}

impl Cameras {
    /// Puts changes into `queue`.
    pub fn new(board: Arc<Board>, queue: Queue) -> Self {
        Self { board, queue, presence: Presence::trusting(), known: HashMap::new() }
    }

    /// Looks now.
    pub fn look(&mut self, now: Instant) {
        let cameras = self.board.view().map(|view| view.cameras()).unwrap_or_default();
        for camera in &cameras {
            let online = self.presence.is_there(&camera.name, camera.state, now);
            // At first a camera counts as there.
            let known = self.known.entry(camera.name.clone()).or_insert(true);
            if std::mem::replace(known, online) != online {
                self.queue.push(Event::now(&camera.name, Change::Camera { online }));
            }
        }
        self.known.retain(|name, _| cameras.iter().any(|camera| camera.name == *name));
    }
}
