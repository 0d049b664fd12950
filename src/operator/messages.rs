//! How many messages went out, and how many did not.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// What sends messages to other programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Lines of JSON from the socket; one for each client.
    Events,
    /// What is published at the broker.
    Mqtt,
    /// HTTP requests.
    Webhook,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was handed over.
    Sent,
    /// There was no room for it: its reader was too slow, or not there.
    Dropped,
    /// It was refused, or tried for too long.
    Failed,
}

const OUTPUTS: [(Output, &str); 3] = [(Output::Events, "events"), (Output::Mqtt, "mqtt"), (Output::Webhook, "webhook")];
const FATES: [(Fate, &str); 3] = [(Fate::Sent, "sent"), (Fate::Dropped, "dropped"), (Fate::Failed, "failed")];

/// Counts messages by output and fate.
#[derive(Debug, Default)]
pub struct Messages {
    counts: [[AtomicU64; FATES.len()]; OUTPUTS.len()],
    in_use: [AtomicBool; OUTPUTS.len()],
}

impl Messages {
    /// From now on `output` is shown, be it with zeros.
    pub fn show(&self, output: Output) {
        self.in_use[output as usize].store(true, Relaxed);
    }

    /// Counts `number` messages of `output`.
    pub fn count(&self, output: Output, fate: Fate, number: u64) {
        self.counts[output as usize][fate as usize].fetch_add(number, Relaxed);
    }

    /// How many messages of `output` had this `fate`.
    pub fn counted(&self, output: Output, fate: Fate) -> u64 {
        self.counts[output as usize][fate as usize].load(Relaxed)
    }

    /// Output, fate and number, of all outputs in use.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let in_use = OUTPUTS.into_iter().filter(|(output, _)| self.in_use[*output as usize].load(Relaxed));
        in_use.flat_map(|(output, name)| FATES.map(|(fate, word)| (name, word, self.counted(output, fate))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_outputs_in_use_are_shown_each_with_its_own_numbers() {
        let messages = Messages::default();
        assert_eq!(messages.all().count(), 0);
        messages.show(Output::Mqtt);
        messages.count(Output::Mqtt, Fate::Dropped, 3);
        messages.count(Output::Webhook, Fate::Sent, 1);
        let all: Vec<_> = messages.all().collect();
        assert_eq!(all, [("mqtt", "sent", 0), ("mqtt", "dropped", 3), ("mqtt", "failed", 0)]);
    }
}
