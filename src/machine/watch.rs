//! Follows the machine while it works: the power mode, and what holds its clocks back.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::State;
use crate::clock::{Clock, Stop};

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
        let mut due = clock.now();
        while !clock.sleep_until(due, stop) {
            let (before, now) = (self.latest(), State::read(&self.root));
            for line in changes(before.as_ref(), &now) {
                log::log!(line.0, "{}", line.1);
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
        lines.push((log::Level::Info, format!("machine: {summary}")));
        if !now.limited_by.is_empty() {
            lines.push((log::Level::Warn, format!("clocks are held back by {}", now.limited_by.join(", "))));
        }
        return lines;
    };
    if before.power_mode != now.power_mode {
        lines.push((log::Level::Warn, format!("the power mode has changed: {summary}")));
    }
    match (before.limited_by.is_empty(), now.limited_by.is_empty()) {
        (true, false) => {
            lines
                .push((log::Level::Warn, format!("clocks are held back by {} ({summary})", now.limited_by.join(", "))));
        }
        (false, true) => lines.push((log::Level::Info, format!("clocks are no longer held back ({summary})"))),
        _ => {}
    }
    if let Some(events @ 1..) = super::more(before.over_current, now.over_current) {
        lines.push((
            log::Level::Warn,
            format!("a supply's current was too high {events} times, which throttles ({summary})"),
        ));
    }
    if let (Some(events @ 1..), true) = (super::more(before.throttled, now.throttled), before.throttled == Some(0)) {
        lines.push((log::Level::Warn, format!("processors were throttled for heat {events} times ({summary})")));
    }
    lines
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
        tree.line("var/lib/nvpmodel/status", "pmode:0000").line("sys/class/hwmon/hwmon2/oc1_event_cnt", 3);
        let lines = changes(Some(&hot), &state());
        assert!(lines.len() == 2 && lines[1].1.contains("too high 3 times"), "{lines:?}");
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
