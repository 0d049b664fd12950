//! The numbers of one window, of every camera and of the run: for the log, and in one line for whoever watches a service.

use std::fmt::Write as _;
use std::iter;

use super::line::{Frames, Used};
use super::text::printable;
use super::{Line, Power};
use crate::capture::status::Counts;

/// The smoothed label of a camera.
#[derive(Clone, Debug, PartialEq)]
pub struct Label {
    /// What people call it.
    pub name: String,
    /// Its average probability, 0 to 1.
    pub confidence: f32,
}

/// One camera in one window.
#[derive(Clone, Debug, PartialEq)]
pub struct CameraReport {
    /// The camera.
    pub name: String,
    /// Its numbers; their energy is `None`.
    pub line: Line,
    /// The label that holds; `None` before the first decision.
    pub label: Option<Label>,
    /// What was promised of its answers no longer holds.
    pub degraded: bool,
    /// Whether frames come.
    pub state: CameraState,
    /// What the source has counted since its start, where it can be lost.
    pub counts: Option<Counts>,
}

/// Whether a camera gives frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CameraState {
    /// It does.
    Up,
    /// It has given none so far, or none for a while.
    Waiting,
    /// It was there, is away, and is being looked for.
    Lost,
    /// It will give nothing more.
    Ended,
}

impl CameraState {
    /// What is to be said of it instead of a label; `None` while all is well.
    pub fn says(self) -> Option<&'static str> {
        match self {
            CameraState::Up => None,
            CameraState::Waiting => Some("waiting for camera"),
            CameraState::Lost => Some("camera lost, waiting for it"),
            CameraState::Ended => Some("ended"),
        }
    }
}

/// One window of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Each camera.
    pub cameras: Vec<CameraReport>,
    /// All of them, with the energy.
    pub whole: Line,
    /// What stands beside the energy.
    pub power: Power,
}

impl Report {
    /// The lines for the log: one where there is one camera, else one for each and one for the whole.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let alone = self.cameras.len() == 1;
        let each = self.cameras.iter().map(move |camera| {
            let (label, promise) = (camera.label_text(), camera.promise_text());
            match (alone, camera.state.says()) {
                (true, None) => format!("{}{promise}{label}", self.whole),
                (true, Some(state)) => format!("{}{promise}, {state}", self.whole),
                (false, None) => format!("{}: {}{promise}{label}", camera.name, Frames(&camera.line)),
                (false, Some(state)) => format!("{}: {}{promise}, {state}", camera.name, Frames(&camera.line)),
            }
        });
        let whole = (!alone).then(|| format!("all: {:.1} frames/s, {}", self.whole.frames_per_s(), Used(&self.whole)));
        each.chain(iter::once(whole).flatten())
    }

    /// One line: `cam front: 14.9 frames/s, p99 38 ms, fine 27 %, church (98 %); 5.1 W, 340 mJ/frame`.
    pub fn status(&self) -> String {
        let mut parts: Vec<String> = self.cameras.iter().map(CameraReport::status).collect();
        parts.push(match (self.whole.energy, self.whole.mj_per_frame()) {
            (Some(energy), Some(mj)) => format!("{:.1} W, {mj:.0} mJ/frame", energy.mean_mw / 1e3),
            (Some(energy), None) => format!("{:.1} W", energy.mean_mw / 1e3),
            (None, _) => "energy not measured".to_owned(),
        });
        parts.join("; ") + &self.power.remarks()
    }
}

impl CameraReport {
    /// `, label church (98 %)`; empty before the first decision.
    fn label_text(&self) -> String {
        self.label.as_ref().map_or_else(String::new, |label| format!(", label {label}"))
    }

    /// `, degraded` where a promise no longer holds.
    fn promise_text(&self) -> &'static str {
        if self.degraded { ", degraded" } else { "" }
    }

    fn status(&self) -> String {
        let mut text = format!("cam {}: ", self.name);
        if let Some(state) = self.state.says() {
            text.push_str(state);
            text.push_str(self.promise_text());
            return text;
        }
        // Writing into a string cannot fail.
        let _ = write!(text, "{:.1} frames/s", self.line.frames_per_s());
        if let Some(latency) = self.line.latency {
            let _ = write!(text, ", p99 {:.0} ms", latency.p99_ms);
        }
        if let Some(fine) = self.line.tally.fine_fraction() {
            let _ = write!(text, ", fine {:.0} %", 100.0 * fine);
        }
        text.push_str(self.promise_text());
        if let Some(label) = &self.label {
            let _ = write!(text, ", {label}");
        }
        text
    }
}

/// `church (98 %)`.
impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:.0} %)", printable(&self.name), 100.0 * self.confidence)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::power::Energy;
    use crate::report::{Percentiles, Tally};

    fn report(names: &[&str]) -> Report {
        let tally = Tally { captured: 30, decided: 20, dropped: 8, failed: 2, fine: 5, short: 1, ..Tally::default() };
        let latency = Percentiles { count: 20, p50_ms: 10.0, p95_ms: 20.0, p99_ms: 38.4, max_ms: 41.0 };
        let line = Line { tally, elapsed: Duration::from_secs(2), latency: Some(latency), energy: None, net_mj: None };
        let camera = |name: &&str| CameraReport {
            name: (*name).to_owned(),
            line,
            label: Some(Label { name: "church\n".to_owned(), confidence: 0.984 }),
            degraded: false,
            state: CameraState::Up,
            counts: None,
        };
        let energy = Energy { mean_mw: 5100.0, energy_mj: 10_200.0 };
        Report {
            cameras: names.iter().map(camera).collect(),
            whole: Line { energy: Some(energy), ..line },
            power: Power::default(),
        }
    }

    #[test]
    fn one_camera_is_one_line_and_several_have_one_each() {
        let lines: Vec<String> = report(&["front"]).lines().collect();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("captured 30, dropped 8, decided 20, failed 2 (0 corrupt, 1 short), fine 25.0 %"));
        assert!(lines[0].ends_with("5100 mW, 510.0 mJ/frame, label church\u{fffd} (98 %)"), "{}", lines[0]);
        let mut report = report(&["front", "rear"]);
        report.cameras[1].state = CameraState::Waiting;
        let lines: Vec<String> = report.lines().collect();
        assert!(lines[0].starts_with("front: captured 30") && lines[0].contains("label church"), "{lines:?}");
        assert!(lines[1].starts_with("rear: captured 30") && lines[1].ends_with("waiting for camera"), "{lines:?}");
        assert_eq!(lines[2], "all: 10.0 frames/s, 5100 mW, 510.0 mJ/frame");
        report.cameras.iter_mut().for_each(|camera| camera.degraded = true);
        let lines: Vec<String> = report.lines().collect();
        assert!(lines[0].contains(", degraded, label church"), "{lines:?}");
        assert!(lines[1].ends_with(", degraded, waiting for camera"), "{lines:?}");
        report.cameras.truncate(1);
        assert!(report.lines().next().unwrap().ends_with("510.0 mJ/frame, degraded, label church\u{fffd} (98 %)"));
    }

    #[test]
    fn a_status_holds_what_matters_in_one_line() {
        let mut report = report(&["front", "rear"]);
        report.cameras[1].state = CameraState::Ended;
        assert_eq!(
            report.status(),
            "cam front: 10.0 frames/s, p99 38 ms, fine 25 %, church\u{fffd} (98 %); cam rear: ended; 5.1 W, 510 mJ/frame"
        );
        report.cameras.iter_mut().for_each(|camera| camera.degraded = true);
        assert_eq!(
            report.status(),
            "cam front: 10.0 frames/s, p99 38 ms, fine 25 %, degraded, church\u{fffd} (98 %); cam rear: ended, degraded; 5.1 W, 510 mJ/frame"
        );
        report.whole.energy = None;
        assert!(report.status().ends_with("; energy not measured"));
    }
}
