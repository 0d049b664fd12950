//! Delivers events one after the other, and tries again what the receiver cannot take now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, after, select};
use ureq::Agent;

use super::event::Event;
use super::watch::Cameras;
use crate::clock::Stop;
use crate::episode::Episode;
use crate::operator::board::Board;
use crate::operator::messages::{Fate, Output};
use crate::operator::{sandbox, secret};

/// How often cameras are looked at.
const TICK: Duration = Duration::from_secs(1);
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
    agent: Agent,
    url: String,
    secret: Option<String>,
    device: String,
    board: Arc<Board>,
    failing: Episode,
}

impl Sender {
    /// To `url`, signed with the secret if there is one, on behalf of `device`.
    pub fn new((url, secret, device): (String, Option<String>, String), board: Arc<Board>) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .max_idle_connections(0)
            // The configuration says where to, not the environment.
            .proxy(None)
            .user_agent(concat!("cfvit/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), url, secret, device, board, failing: Episode::default() }
    }

    /// Tries to deliver `event` once.
    fn deliver(&mut self, event: &Event) -> Verdict {
        let body = event.json(&self.device).to_string();
        let mut request = self
            .agent
            .post(&self.url)
            .header("Content-Type", "application/json")
            .header("X-Cfvit-Event", event.id(&self.device));
        if let Some(secret) = &self.secret {
            let signature = secret::hmac_sha256(secret.as_bytes(), body.as_bytes());
            request = request.header("X-Cfvit-Signature", format!("sha256={signature}"));
        }
        match request.send(body.as_bytes()) {
            Ok(response) => {
                let status = response.status().as_u16();
                let verdict = Verdict::of(status);
                match verdict {
                    Verdict::Delivered => self.recovers(),
                    Verdict::Later => self.fails(&format!("it answers {status}; trying again for an hour")),
                    Verdict::Refused => {
                        self.fails(&format!("it answers {status}, which is a refusal (redirects are not followed)"))
                    }
                }
                verdict
            }
            Err(error) => {
                let cause = if let ureq::Error::Io(cause) = &error { Some(cause) } else { None };
                let hint = sandbox::hint(cause).map(|hint| format!(": {hint}")).unwrap_or_default();
                self.fails(&format!("{error}{hint}; trying again for an hour"));
                Verdict::Later
            }
        }
    }

    fn fails(&mut self, how: &str) {
        if self.failing.fails() {
            log::warn!("webhook: {}: {how}; frames go on", self.url);
        }
    }

    fn recovers(&mut self) {
        if let Some(failures) = self.failing.recovers() {
            log::info!("webhook: delivered again after {failures} failed requests");
        }
    }

    /// What becomes of `event` after its `failures`th failure; `None` if it was delivered or given up.
    fn attempt(&mut self, event: &Event, failures: u32) -> Option<Duration> {
        let (fate, next) = match self.deliver(event) {
            Verdict::Delivered => (Fate::Sent, None),
            Verdict::Later if event.since.elapsed() < PERSISTENCE => return Some(pause(failures + 1)),
            Verdict::Later | Verdict::Refused => (Fate::Failed, None),
        };
        self.board.messages.count(Output::Webhook, fate, 1);
        next
    }
}

/// Until `stop`.
pub fn run(mut sender: Sender, mut cameras: Cameras, events: &Receiver<Event>, stop: &Stop) {
    while !stop.is_requested() {
        cameras.look(Instant::now());
        let event = select! {
            recv(stop.receiver()) -> _ => return,
            recv(events) -> event => event.map_err(|_| RecvTimeoutError::Disconnected),
            recv(after(TICK)) -> _ => Err(RecvTimeoutError::Timeout),
        };
        match event {
            Ok(event) => persist(&mut sender, &mut cameras, &event, stop),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Tries until `event` is delivered or given up, or until `stop`; cameras are looked at meanwhile.
fn persist(sender: &mut Sender, cameras: &mut Cameras, event: &Event, stop: &Stop) {
    let mut failures = 0;
    while let Some(pause) = sender.attempt(event, failures) {
        failures += 1;
        let next = Instant::now() + pause;
        while Instant::now() < next {
            cameras.look(Instant::now());
            if stop.wait_until(next.min(Instant::now() + TICK)) {
                return;
            }
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
