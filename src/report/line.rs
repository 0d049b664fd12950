//! The numbers of a window or a run, for people.

use std::fmt;
use std::time::Duration;

use super::{Percentiles, Power, RecordsCount, Tally};
use crate::power::Energy;

/// What happened in one window: the log line of each second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line {
    /// The frames of the window.
    pub tally: Tally,
    /// How long the window was.
    pub elapsed: Duration,
    /// Latencies of the decisions; `None` without any.
    pub latency: Option<Percentiles>,
    /// Energy used; `None` where it was not measured.
    pub energy: Option<Energy>,
    /// Of it what is beyond idling, in millijoules; `None` where the idle power is not known.
    pub net_mj: Option<f64>,
}

impl Line {
    /// Decisions per second.
    pub fn frames_per_s(&self) -> f64 {
        let elapsed_s = self.elapsed.as_secs_f64();
        if elapsed_s > 0.0 { self.tally.decided as f64 / elapsed_s } else { 0.0 }
    }

    /// Energy per decision in millijoules; `None` without decisions or measurement.
    pub fn mj_per_frame(&self) -> Option<f64> {
        let energy = self.energy?;
        (self.tally.decided > 0).then(|| energy.energy_mj / self.tally.decided as f64)
    }

    /// Energy beyond idling per decision in millijoules; `None` without decisions or where it is not known.
    pub fn net_mj_per_frame(&self) -> Option<f64> {
        let net_mj = self.net_mj?;
        (self.tally.decided > 0).then(|| net_mj / self.tally.decided as f64)
    }
}

/// A [`Line`] without its energy, and the energy alone: for the lines of several cameras.
pub(super) struct Frames<'a>(pub(super) &'a Line);
pub(super) struct Used<'a>(pub(super) &'a Line);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", Frames(self), Used(self))
    }
}

impl fmt::Display for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(line) = self;
        let Tally { captured, dropped, decided, failed, corrupt, short, .. } = line.tally;
        write!(f, "captured {captured}, dropped {dropped}, decided {decided}, failed {failed}")?;
        match (corrupt, short) {
            (0, 0) => {}
            _ => write!(f, " ({corrupt} corrupt, {short} short)")?,
        }
        if let Some(fine) = line.tally.fine_fraction() {
            write!(f, ", fine {:.1} %", fine * 100.0)?;
        }
        if let Some(full) = line.tally.static_fraction() {
            write!(f, ", static {:.1} %", full * 100.0)?;
        }
        write!(f, ", {:.1} frames/s", line.frames_per_s())?;
        match line.latency {
            Some(Percentiles { p50_ms, p95_ms, p99_ms, .. }) => {
                write!(f, ", latency p50 {p50_ms:.1} p95 {p95_ms:.1} p99 {p99_ms:.1} ms")
            }
            None => Ok(()),
        }
    }
}

impl fmt::Display for Used<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.energy {
            Some(energy) => write!(f, "{:.0} mW", energy.mean_mw)?,
            None => return f.write_str("energy: not measured"),
        }
        match self.0.mj_per_frame() {
            Some(mj) => write!(f, ", {mj:.1} mJ/frame")?,
            None => return Ok(()),
        }
        match self.0.net_mj_per_frame() {
            Some(net) => write!(f, " (net {net:.1})"),
            None => Ok(()),
        }
    }
}

/// The whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// The numbers of the run, as of one long window.
    pub whole: Line,
    /// The same for each camera that ran at the end, by name.
    pub cameras: Vec<(String, Line)>,
    /// What measured the energy.
    pub meter: Option<String>,
    /// What stands beside the energy.
    pub power: Power,
    /// The records, where they were asked for: where to, and how many.
    pub records: Option<(String, RecordsCount)>,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { captured, decided, dropped, failed, in_flight, fine, full, .. } = self.whole.tally;
        if self.cameras.len() > 1 {
            for (name, line) in &self.cameras {
                writeln!(f, "{name}: {}", Frames(line))?;
            }
        }
        writeln!(f, "captured   {captured} frames in {:.2} s", self.whole.elapsed.as_secs_f64())?;
        writeln!(f, "decided    {decided}")?;
        writeln!(f, "dropped    {dropped}")?;
        writeln!(f, "failed     {failed}")?;
        writeln!(f, "in flight  {in_flight}")?;
        if let Some(fraction) = self.whole.tally.fine_fraction() {
            writeln!(f, "fine       {fine} of {decided} decisions ({:.1} %)", fraction * 100.0)?;
        }
        if let Some(fraction) = self.whole.tally.static_fraction() {
            writeln!(f, "static     {full} of {decided} decisions ({:.1} %)", fraction * 100.0)?;
        }
        writeln!(f, "rate       {:.1} frames/s", self.whole.frames_per_s())?;
        if let Some(Percentiles { p50_ms, p95_ms, p99_ms, max_ms, .. }) = self.whole.latency {
            writeln!(f, "latency    p50 {p50_ms:.1}, p95 {p95_ms:.1}, p99 {p99_ms:.1}, max {max_ms:.1} ms")?;
        }
        if let Some((target, count)) = &self.records {
            let RecordsCount { written, dropped } = count;
            writeln!(f, "records    {written} written to {target}, {dropped} dropped")?;
        }
        match (self.whole.energy, &self.meter) {
            (Some(energy), Some(meter)) => {
                write!(f, "energy     {:.2} J, {:.0} mW", energy.energy_mj / 1e3, energy.mean_mw)?;
                if let Some(mj) = self.whole.mj_per_frame() {
                    write!(f, ", {mj:.1} mJ/frame")?;
                }
                if let Some(net) = self.whole.net_mj_per_frame() {
                    write!(f, ", net of idling {net:.1} mJ/frame")?;
                }
                write!(f, " ({meter})")?;
            }
            _ => f.write_str("energy     not measured")?,
        }
        self.power.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Line {
        let tally =
            Tally { captured: 30, decided: 20, dropped: 8, failed: 1, in_flight: 1, fine: 5, ..Tally::default() };
        let latency = Percentiles { count: 20, p50_ms: 10.04, p95_ms: 20.0, p99_ms: 30.0, max_ms: 31.0 };
        let energy = Energy { mean_mw: 5000.0, energy_mj: 10_000.0 };
        Line { tally, elapsed: Duration::from_secs(2), latency: Some(latency), energy: Some(energy), net_mj: None }
    }

    #[test]
    fn a_line_holds_every_number_and_leaves_out_what_there_is_not() {
        assert_eq!(
            line().to_string(),
            "captured 30, dropped 8, decided 20, failed 1, fine 25.0 %, 10.0 frames/s, \
             latency p50 10.0 p95 20.0 p99 30.0 ms, 5000 mW, 500.0 mJ/frame"
        );
        let hard = Line { tally: Tally { full: 10, ..line().tally }, ..line() };
        assert!(hard.to_string().contains("fine 25.0 %, static 50.0 %, 10.0 frames/s"), "{hard}");
        let idle = Line {
            tally: Tally::default(),
            elapsed: Duration::from_secs(1),
            latency: None,
            energy: None,
            net_mj: None,
        };
        assert_eq!(idle.to_string(), "captured 0, dropped 0, decided 0, failed 0, 0.0 frames/s, energy: not measured");
        let drawing = Line { energy: line().energy, ..idle };
        assert!(drawing.to_string().ends_with("0.0 frames/s, 5000 mW"), "no frame, no energy per frame");
        let net = Line { net_mj: Some(5_200.0), ..line() };
        assert!(net.to_string().ends_with("500.0 mJ/frame (net 260.0)"), "{net}");
    }

    #[test]
    fn a_summary_tells_where_every_frame_went() {
        let count = RecordsCount { written: 19, dropped: 1 };
        let records = Some(("out.jsonl".to_owned(), count));
        let summary = Summary {
            whole: line(),
            cameras: Vec::new(),
            meter: Some("INA3221, VDD_IN".to_owned()),
            power: Power::default(),
            records,
        };
        let text = summary.to_string();
        for says in
            ["captured   30 frames in 2.00 s", "in flight  1", "5 of 20 decisions (25.0 %)", "19 written to out.jsonl"]
        {
            assert!(text.contains(says), "{text}");
        }
        assert!(text.ends_with("10.00 J, 5000 mW, 500.0 mJ/frame (INA3221, VDD_IN)"), "{text}");
        let cameras = ["front", "rear"].map(|name| (name.to_owned(), line())).into();
        let text = Summary { cameras, ..summary }.to_string();
        assert!(text.starts_with("front: captured 30, dropped 8") && text.contains("\nrear: captured 30"), "{text}");
    }
}
