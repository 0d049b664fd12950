//! An HTTP request when the steadied label of a camera changes, and when a camera is lost or comes back. A receiver that hangs holds
//! nobody.
//!
//! `POST` of a JSON object (see [`event`]), with the headers `X-Cfvit-Event` (its id; the same at every retry) and, where there is a secret,
//! `X-Cfvit-Signature: sha256=` and the HMAC-SHA256 of the body. Redirects are not followed. What the receiver cannot take now is tried
//! again for an hour, in order; what it refuses is not.

mod delivery;
pub mod event;
mod post;
mod watch;

use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tokio::sync::Notify;

use super::board::Board;
use super::host::{Stopping, Task};
use super::messages::{Fate, Messages, Output};
use super::secret;
use crate::config::WebhookSettings;
use crate::error::{Error, Kind, Result};
use crate::pipeline::Observer;
use event::Event;
use post::Address;

/// So many events wait; of more the oldest are dropped.
pub const QUEUE: usize = 256;

/// Tells the changes of `board`, and what the observer sees, until it is `stopping`; `None` where there is no URL.
///
/// # Errors
/// [`Kind::Config`] when the secret cannot be read, or the URL has no such parts as can be asked.
pub fn start(
    board: &Arc<Board>,
    settings: &WebhookSettings,
    stopping: Stopping,
) -> Result<Option<(Task, Box<dyn Observer>)>> {
    let Some(url) = &settings.url else { return Ok(None) };
    let Some(address) = Address::of(url) else {
        let message = format!("webhook.url: expected http://HOST, http://HOST:PORT, and perhaps a path, found {url}");
        return Err(Error::new(Kind::Config, message));
    };
    let secret = settings.secret_file.as_deref().map(|path| secret::read("webhook.secret_file", path)).transpose()?;
    board.messages.show(Output::Webhook);
    let (queue, events) = Queue::new(Arc::clone(board));
    let observer = watch::Labels::new(board.facts.labels.clone(), queue.clone());
    let cameras = watch::Cameras::new(Arc::clone(board), queue);
    let device = secret::device_id(Path::new("/"));
    log::info!("webhook: {address}");
    let sender = delivery::Sender::new((address, secret, device), Arc::clone(board));
    let task = delivery::run(sender, cameras, events, stopping);
    Ok(Some((Box::pin(task), Box::new(observer))))
}

/// Events on their way to the task. Whoever puts one there never waits: where it is full, the oldest makes room.
#[derive(Clone, Debug)]
pub struct Queue {
    near: Sender<Event>,
    /// Takes the oldest away.
    far: Receiver<Event>,
    waker: Arc<Notify>,
    board: Arc<Board>,
}

/// Where events come out.
#[derive(Debug)]
pub struct QueueEnd(Receiver<Event>, Arc<Notify>);

impl QueueEnd {
    /// Waits for the oldest event.
    pub async fn next(&self) -> Event {
        loop {
            match self.0.try_recv() {
                Ok(event) => return event,
                // What was put there meanwhile has left a permit, so that this ends at once.
                Err(_) => self.1.notified().await,
            }
        }
    }
}

impl Queue {
    /// An empty one, and its other end.
    fn new(board: Arc<Board>) -> (Self, QueueEnd) {
        let ((near, far), waker) = (bounded(QUEUE), Arc::<Notify>::default());
        let end = QueueEnd(far.clone(), Arc::clone(&waker));
        (Self { near, far, waker, board }, end)
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
                Ok(()) => return self.waker.notify_one(),
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
        let cameras: Vec<String> = events.0.try_iter().map(|event| event.camera).collect();
        assert_eq!((cameras.len(), cameras[0].as_str()), (QUEUE, "3"));
        assert_eq!(cameras.last(), Some(&(QUEUE + 2).to_string()));
        assert_eq!(board.messages.counted(Output::Webhook, Fate::Dropped), 3);
    }
}
