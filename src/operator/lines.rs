//! Decisions as lines of JSON, for whoever subscribes. Without subscribers none is made; a subscriber that is slow misses some and is told
//! how many. The decision thread waits for nobody.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TrySendError, unbounded};

use super::board::Board;
use super::messages::{Fate, Messages, Output};
use crate::cascade::Cascade;
use crate::pipeline::{Decision, Observer};

/// So many lines wait for a subscriber; more are lost.
pub const WAITING: usize = 64;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    /// Whose decision it is; empty for a line that says how many are lost.
    pub camera: Box<str>,
    /// A JSON object and a newline.
    pub json: Box<[u8]>,
}

/// What became of a line that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It waits for the subscriber.
    Taken,
    /// Too many wait already.
    Full,
    /// The subscriber is gone.
    Gone,
}

/// The near end of a subscription.
pub trait Subscriber: Send {
    /// Which output it belongs to.
    fn output(&self) -> Output;

    /// Offers a line. Must not wait.
    fn offer(&self, line: &Arc<Line>) -> Offer;
}

/// A client of the events socket.
impl Subscriber for Sender<Arc<Line>> {
    fn output(&self) -> Output {
        Output::Events
    }

    fn offer(&self, line: &Arc<Line>) -> Offer {
        match self.try_send(Arc::clone(line)) {
            Ok(()) => Offer::Taken,
            Err(TrySendError::Full(_)) => Offer::Full,
            Err(TrySendError::Disconnected(_)) => Offer::Gone,
        }
    }
}

/// Where to subscribe.
pub type Subscribe = Sender<Box<dyn Subscriber>>;

/// The observer that makes the lines.
pub struct Lines {
    board: Arc<Board>,
    newcomers: Receiver<Box<dyn Subscriber>>,
    /// Each with the lines that it has missed and not been told of.
    subscribers: Vec<(Box<dyn Subscriber>, u64)>,
    json: Vec<u8>,
}

impl Lines {
    /// With the names of `board`; and where to subscribe.
    pub fn new(board: Arc<Board>) -> (Self, Subscribe) {
        let (subscribe, newcomers) = unbounded();
        (Self { board, newcomers, subscribers: Vec::new(), json: Vec::new() }, subscribe)
    }

    fn tell(&mut self, line: Line) {
        let (line, messages) = (Arc::new(line), &self.board.messages);
        self.subscribers.retain_mut(|(subscriber, lost)| tell(subscriber.as_ref(), lost, &line, messages));
    }
}

/// Offers `line`, and before it how many were lost; false where nobody is there any more.
fn tell(subscriber: &dyn Subscriber, lost: &mut u64, line: &Arc<Line>, messages: &Messages) -> bool {
    if *lost > 0 {
        let json = format!("{{\"lost\":{lost}}}\n").into_bytes().into();
        match subscriber.offer(&Arc::new(Line { camera: "".into(), json })) {
            Offer::Taken => *lost = 0,
            Offer::Full => {}
            Offer::Gone => return false,
        }
    }
    // Nothing may come before the number of those that are lost.
    let offer = if *lost > 0 { Offer::Full } else { subscriber.offer(line) };
    if offer == Offer::Full {
        *lost += 1;
        messages.count(subscriber.output(), Fate::Dropped, 1);
    }
    offer != Offer::Gone
}

impl Observer for Lines {
    fn decided(&mut self, decision: &Decision<'_>, cascade: &mut Cascade) {
        self.subscribers.extend(self.newcomers.try_iter().map(|subscriber| (subscriber, 0)));
        if self.subscribers.is_empty() {
            return;
        }
        let record = decision.record(cascade.verdict(), &self.board.facts.labels);
        // No value of a record's types can cause an error.
        if record.write_to(&mut self.json).is_ok() {
            let line = Line { camera: decision.camera_name.into(), json: self.json.as_slice().into() };
            self.tell(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operator::Facts;
    use crossbeam_channel::bounded;

    fn line(text: &str) -> Line {
        Line { camera: "a".into(), json: text.as_bytes().into() }
    }

    #[test]
    fn a_slow_subscriber_is_told_how_many_it_missed_and_a_gone_one_is_forgotten() {
        let board = Arc::new(Board::new(Facts::default()));
        let (mut lines, _) = Lines::new(Arc::clone(&board));
        let ((near, far), (gone, _)) = (bounded(2), bounded(2));
        lines.subscribers.push((Box::new(near), 0));
        lines.subscribers.push((Box::new(gone), 0));
        (0..5).for_each(|number| lines.tell(line(&number.to_string())));
        assert_eq!(lines.subscribers.len(), 1);
        let text = |line: Arc<Line>| String::from_utf8(line.json.to_vec()).unwrap();
        assert_eq!(far.try_iter().map(text).collect::<Vec<_>>(), ["0", "1"]);
        lines.tell(line("5"));
        lines.tell(line("6"));
        assert_eq!(far.try_iter().map(text).collect::<Vec<_>>(), ["{\"lost\":3}\n", "5"]);
        lines.tell(line("7"));
        assert_eq!(far.try_iter().map(text).collect::<Vec<_>>(), ["{\"lost\":1}\n", "7"]);
        assert_eq!(board.messages.counted(Output::Events, Fate::Dropped), 4);
    }
}
