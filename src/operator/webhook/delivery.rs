//! Delivers events one after the other, and tries again what the receiver cannot take now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::header::HeaderName;
use tokio::time::{sleep, timeout};

use super::QueueEnd;
use super::event::Event;
use super::post::{Address, Fault};
use super::watch::Cameras;
use crate::episode::Episode;
use crate::operator::board::Board;
use crate::operator::host::Stopping;
use crate::operator::messages::{Fate, Output};
use crate::operator::seconds::Seconds;
use crate::operator::{sandbox, secret};

/// A request, from the look-up of the name to the answer's head.
const PATIENCE: Duration = Duration::from_secs(5);
/// An event is tried for so long.
const PERSISTENCE: Duration = Duration::from_secs(3600);
/// The pauses between tries are twice as long each time, from a second to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What an answer means for the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Delivered,
    /// Another time may be better.
    Later,
    /// It would be refused again.
    Refused,
}

impl Verdict {
    fn of(status: u16) -> Self {
        match status {
            200..=299 => Verdict::Delivered,
            // Too slow, too early, too many, and the receiver's own failures.
            408 | 425 | 429 | 500..=599 => Verdict::Later,
            _ => Verdict::Refused,
        }
    }
}

/// The pause after the `failures`th failure of an event, of which it has had at least one.
fn pause(failures: u32) -> Duration {
    Duration::from_secs(1 << failures.saturating_sub(1).min(6)).min(LONGEST_PAUSE)
}

/// Makes requests.
pub struct Sender {
    address: Address,
    secret: Option<String>,
    device: String,
    board: Arc<Board>,
    failing: Episode,
}

impl Sender {
    /// To `address`, signed with the secret if there is one, on behalf of `device`.
    pub fn new((address, secret, device): (Address, Option<String>, String), board: Arc<Board>) -> Self {
        Self { address, secret, device, board, failing: Episode::default() }
    }

    /// Tries to deliver `event` once.
    async fn deliver(&mut self, event: &Event) -> Verdict {
        let body = event.json(&self.device).to_string();
        let mut headers = vec![(HeaderName::from_static("x-cfvit-event"), event.id(&self.device))];
        if let Some(secret) = &self.secret {
            let signature = secret::hmac_sha256(secret.as_bytes(), body.as_bytes());
            headers.push((HeaderName::from_static("x-cfvit-signature"), format!("sha256={signature}")));
        }
        // Where nothing comes in time the connection is dropped.
        let status = match timeout(PATIENCE, self.address.post(body, headers)).await {
            Ok(Ok(status)) => status,
            Ok(Err(fault)) => return self.unreached(&fault.to_string(), Some(&fault)),
            Err(_) => return self.unreached(&format!("no answer within {} s", PATIENCE.as_secs()), None),
        };
        let verdict = Verdict::of(status);
        match verdict {
            Verdict::Delivered => self.recovers(),
            Verdict::Later => self.fails(&format!("it answers {status}; trying again for an hour")),
            Verdict::Refused => {
                self.fails(&format!("it answers {status}, which is a refusal (redirects are not followed)"));
            }
        }
        verdict
    }

    fn unreached(&mut self, how: &str, fault: Option<&Fault>) -> Verdict {
        let cause = if let Some(Fault::Connection(cause)) = fault { Some(cause) } else { None };
        let hint = sandbox::hint(cause).map(|hint| format!(": {hint}")).unwrap_or_default();
        self.fails(&format!("{how}{hint}; trying again for an hour"));
        Verdict::Later
    }

    fn fails(&mut self, how: &str) {
        if self.failing.fails() {
            log::warn!("webhook: {}: {how}; frames go on", self.address);
        }
    }

    fn recovers(&mut self) {
        if let Some(failures) = self.failing.recovers() {
            log::info!("webhook: delivered again after {failures} failed requests");
        }
    }

    /// What becomes of `event` after its `failures`th failure; `None` if it was delivered or given up.
    async fn attempt(&mut self, event: &Event, failures: u32) -> Option<Duration> {
        let (fate, next) = match self.deliver(event).await {
            Verdict::Delivered => (Fate::Sent, None),
            Verdict::Later if event.since.elapsed() < PERSISTENCE => return Some(pause(failures + 1)),
            Verdict::Later | Verdict::Refused => (Fate::Failed, None),
        };
        self.board.messages.count(Output::Webhook, fate, 1);
        next
    }
}

/// Looks at cameras and delivers events, until it is `stopping`.
pub async fn run(sender: Sender, cameras: Cameras, events: QueueEnd, mut stopping: Stopping) {
    tokio::select! {
        () = stopping.wait() => {}
        () = look(cameras) => {}
        () = deliver(sender, events) => {}
    }
}

/// Looks at cameras once a second, for ever.
async fn look(mut cameras: Cameras) {
    let mut seconds = Seconds::new();
    loop {
        seconds.next().await;
        cameras.look(Instant::now());
    }
}

/// Tries each event until it is delivered or given up, for ever.
async fn deliver(mut sender: Sender, events: QueueEnd) {
    loop {
        let (event, mut failures) = (events.next().await, 0);
        while let Some(pause) = sender.attempt(&event, failures).await {
            failures += 1;
            sleep(pause).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_is_not_tried_again_and_pauses_grow_to_a_minute() {
        for (status, verdict) in [
            (200, Verdict::Delivered),
            (204, Verdict::Delivered),
            (302, Verdict::Refused),
            (307, Verdict::Refused),
            (400, Verdict::Refused),
            (404, Verdict::Refused),
            (408, Verdict::Later),
            (429, Verdict::Later),
            (500, Verdict::Later),
            (503, Verdict::Later),
        ] {
            assert_eq!(Verdict::of(status), verdict, "{status}");
        }
        let pauses: Vec<u64> = [1, 2, 3, 6, 7, 8, u32::MAX].map(|failures| pause(failures).as_secs()).into();
        assert_eq!(pauses, [1, 2, 4, 32, 60, 60, 60]);
    }
}
