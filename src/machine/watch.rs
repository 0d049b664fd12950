//! Follows the machine while it works: the power mode, and what holds its clocks back.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::State;
use crate::clock::{Clock, Stop};
use crate::episode::Episode;

/// How often the machine is looked at: heat moves slowly, and looking costs some dozens of small reads.
const PERIOD: Duration = Duration::from_secs(10);

/// The state that was seen last; [`Watcher::run`] keeps it new and needs a thread of its own, as nodes may hang. Clones see the same.
#[derive(Clone, Debug)]
pub struct Watcher {
    root: PathBuf,
    latest: Arc<Mutex<Option<State>>>,
}

impl Watcher {
    /// Of the machine beneath `root` (`/`).
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), latest: Arc::default() }
    }

    /// What was seen last; `None` before the first look.
    pub fn latest(&self) -> Option<State> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks every ten seconds until the stop. The state at the start, a change of the power mode, and the begin and end of throttling are
    /// logged.
    pub fn run(&self, clock: &dyn Clock, stop: &Stop) {
        let (mut due, mut counters) = (clock.now(), Counters::default());
        while !clock.sleep_until(due, stop) {
            let (before, now) = (self.latest(), State::read(&self.root));
            let mut lines = changes(before.as_ref(), &now);
            lines.extend(before.into_iter().flat_map(|before| counters.changes(&before, &now)));
            for (level, line) in lines {
                log::log!(level, "{line}");
            }
            *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
            due = (due + PERIOD).max(clock.now());
        }
    }
}

/// What is worth a line of the log.
fn changes(before: Option<&State>, now: &State) -> Vec<(log::Level, String)> {
    let mut lines = Vec::new();
    let summary = now.summary();
    let Some(before) = before else {
        let level = if now.limited_by.is_empty() { log::Level::Info } else { log::Level::Warn };
        lines.push((level, format!("machine: {summary}")));
        return lines;
    };
    if before.power_mode != now.power_mode {
        lines.push((log::Level::Warn, format!("the power mode has changed: {summary}")));
    }
    match (before.limited_by.is_empty(), now.limited_by.is_empty()) {
        (true, false) => {
            lines.push((log::Level::Warn, format!("clocks are held back ({summary})")));
        }
        (false, true) => lines.push((log::Level::Info, format!("clocks are no longer held back ({summary})"))),
        _ => {}
    }
    lines
}

/// Counters that rise while something is wrong: one line when they begin to, and one when they stop.
#[derive(Default)]
struct Counters {
    over_current: Episode,
    heat: Episode,
}

impl Counters {
    fn changes(&mut self, before: &State, now: &State) -> Vec<(log::Level, String)> {
        let current = super::more(before.over_current, now.over_current);
        let heat = super::more(before.throttled, now.throttled);
        let counters = [
            (&mut self.over_current, current, "supplies with too high a current throttle the clocks"),
            (&mut self.heat, heat, "processors are throttled for heat"),
        ];
        let mut lines = Vec::new();
        for (episode, events, what) in counters {
            match events {
                Some(1..) if episode.fails() => lines.push((log::Level::Warn, format!("{what} ({})", now.summary()))),
                Some(0) if episode.recovers().is_some() => {
                    lines.push((log::Level::Info, format!("over: {what} ({})", now.summary())));
                }
                _ => {}
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Tree;
    use super::*;
    use crate::clock::Simulated;

    #[test]
    fn throttling_is_told_when_it_begins_and_when_it_ends() {
        let tree = Tree::board("orin-nano");
        let state = || State::read(tree.root());
        let calm = state();
        let lines = changes(None, &calm);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].1.contains("MAXN_SUPER") && lines[0].1.contains("GPU 1020 MHz"), "{lines:?}");
        assert!(changes(Some(&calm), &calm).is_empty());
        tree.line("sys/class/thermal/cooling_device3/cur_state", 2);
        let hot = state();
        let lines = changes(Some(&calm), &hot);
        assert!(lines.len() == 1 && lines[0].1.contains("gpu-throttle-alert"), "{lines:?}");
        assert!(changes(Some(&hot), &hot).is_empty(), "one line for each episode");
        assert!(changes(Some(&hot), &calm)[0].1.starts_with("clocks are no longer"));
        tree.line("var/lib/nvpmodel/status", "pmode:0000");
        assert!(changes(Some(&hot), &state())[0].1.starts_with("the power mode has changed"));
    }

    #[test]
    fn counters_that_rise_are_an_episode() {
        let mut counters = Counters::default();
        let state = |over_current: u64| State { over_current: Some(over_current), ..State::default() };
        assert!(counters.changes(&state(7), &state(7)).is_empty());
        assert!(counters.changes(&state(7), &state(9))[0].1.starts_with("supplies with too high a current"));
        assert!(counters.changes(&state(9), &state(12)).is_empty(), "told already");
        assert!(counters.changes(&state(12), &state(12))[0].1.starts_with("over: "));
        assert!(counters.changes(&State::default(), &state(12)).is_empty());
    }

    #[test]
    fn the_watcher_looks_until_it_is_stopped() {
        let (tree, clock, stop) = (Tree::board("nano"), Simulated::new(), Stop::new());
        let watcher = Watcher::new(tree.root());
        assert_eq!(watcher.latest(), None);
        std::thread::scope(|scope| {
            scope.spawn(|| watcher.run(&clock, &stop));
            while watcher.latest().is_none() {
                std::thread::yield_now();
            }
            stop.request();
        });
        assert_eq!(watcher.latest().and_then(|state| state.power_mode).as_deref(), Some("MAXN (mode 0)"));
    }
}
