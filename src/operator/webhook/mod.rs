//! An HTTP request when the steadied label of a camera changes, and when a camera is lost or comes back. In a thread of its own: a
//! receiver that hangs holds nobody.
//!
//! `POST` of a JSON object (see [`event`]), with the headers `X-Cfvit-Event` (its id; the same at every retry) and, where there is a secret,
//! `X-Cfvit-Signature: sha256=` and the HMAC-SHA256 of the body. Redirects are not followed. What the receiver cannot take now is tried
//! again for an hour, in order; what it refuses is not.

mod delivery;
pub mod event;
mod watch;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::board::Board;
use super::messages::{Fate, Messages, Output};
use super::secret;
use crate::clock::Stop;
use crate::config::WebhookSettings;
use crate::error::Result;
use crate::pipeline::Observer;
use event::Event;

/// So many events wait; of more the oldest are dropped.
pub const QUEUE: usize = 256;
/// So long the thread may take to end; then it is left behind.
const GRACE: Duration = Duration::from_secs(1);

/// The thread, until it is dropped.
#[derive(Debug)]
pub struct Webhook {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Webhook {
    /// Tells the changes of `board`, and what the observer sees; `None` where there is no URL, or no thread (logged).
    ///
    /// # Errors
    /// [`crate::error::Kind::Config`] when the secret cannot be read.
    pub fn start(board: &Arc<Board>, settings: &WebhookSettings) -> Result<Option<(Self, Box<dyn Observer>)>> {
        let Some(url) = settings.url.clone() else { return Ok(None) };
        let secret =
            settings.secret_file.as_deref().map(|path| secret::read("webhook.secret_file", path)).transpose()?;
        board.messages.show(Output::Webhook);
        let (queue, events) = Queue::new(Arc::clone(board));
        let observer = watch::Labels::new(board.facts.labels.clone(), queue.clone());
        let cameras = watch::Cameras::new(Arc::clone(board), queue);
        let device = secret::device_id(Path::new("/"));
        let sender = delivery::Sender::new((url.clone(), secret, device), Arc::clone(board));
        let stop = Stop::new();
        let stopped = stop.clone();
        let run = move || delivery::run(sender, cameras, &events, &stopped);
        match std::thread::Builder::new().name("webhook".to_owned()).spawn(run) {
            Ok(thread) => {
                log::info!("webhook: {url}");
                Ok(Some((Self { stop, thread: Some(thread) }, Box::new(observer))))
            }
            Err(error) => {
                log::warn!("no webhook: cannot start a thread: {error}; frames go on");
                Ok(None)
            }
        }
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.stop.request();
        let (Some(thread), end) = (self.thread.take(), Instant::now() + GRACE) else { return };
        while !thread.is_finished() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        if thread.is_finished() {
            // A panic of it has been printed.
            let _ = thread.join();
        }
    }
}

/// Events on their way to the thread. Whoever puts one there never waits: where it is full, the oldest makes room.
#[derive(Clone, Debug)]
pub struct Queue {
    near: Sender<Event>,
    /// Takes the oldest away.
    far: Receiver<Event>,
    board: Arc<Board>,
}

impl Queue {
    /// An empty one, and where events come out.
    fn new(board: Arc<Board>) -> (Self, Receiver<Event>) {
        let (near, far) = bounded(QUEUE);
        (Self { near, far: far.clone(), board }, far)
    }

    fn messages(&self) -> &Messages {
        &self.board.messages
    }

    /// Puts `event` behind all others.
    pub fn push(&self, event: Event) {
        let mut event = Some(event);
        // Others put events there too, so one free place may not be enough.
        for _ in 0..QUEUE {
            let Some(next) = event.take() else { return };
            match self.near.try_send(next) {
                Ok(()) => return,
                Err(TrySendError::Full(back)) => event = Some(back),
                Err(TrySendError::Disconnected(_)) => break,
            }
            if self.far.try_recv().is_ok() {
                self.messages().count(Output::Webhook, Fate::Dropped, 1);
            }
        }
        self.messages().count(Output::Webhook, Fate::Dropped, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::event::Change;
    use super::*;
    use crate::operator::Facts;

    #[test]
    fn a_full_queue_drops_the_oldest_and_counts_them() {
        let board = Arc::new(Board::new(Facts::default()));
        let (queue, events) = Queue::new(Arc::clone(&board));
        for number in 0..QUEUE + 3 {
            queue.push(Event::now(&number.to_string(), Change::Camera { online: true }));
        }
        let cameras: Vec<String> = events.try_iter().map(|event| event.camera).collect();
        assert_eq!((cameras.len(), cameras[0].as_str()), (QUEUE, "3"));
        assert_eq!(cameras.last(), Some(&(QUEUE + 2).to_string()));
        assert_eq!(board.messages.counted(Output::Webhook, Fate::Dropped), 3);
    }
}
