//! Metrics for Prometheus: computed at each scrape from what is counted anyway.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::board::{Board, Channel, STEPS, unix_ms};
use super::histogram::Counted;
use crate::machine::{Memory, State};
use crate::pipeline::CameraView;
use crate::report::{CameraState, Reason};
use crate::service::last_reload_succeeded;

/// Of these there may be many on a machine or in a model; series are limited (250 with one camera, 700 with eight).
const MOST_ZONES: usize = 8;
const MOST_LIMITS: usize = 3;
const MOST_RAILS: usize = 5;
const MOST_CLASS_SERIES: usize = 120;

/// How the text is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// The one that a scraper that sends `accept` wants.
    pub fn wanted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Format::OpenMetrics } else { Format::Prometheus }
    }

    /// The media type.
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Prometheus => prometheus_client::encoding::prometheus_text::CONTENT_TYPE,
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What the board does not know.
#[derive(Clone, Debug, Default)]
pub struct Around {
    /// The machine's newest known state.
    pub machine: State,
    /// Mean power of the last second in watts, by rail, where it is measured; `total` is one of them.
    pub rails_w: Vec<(String, f64)>,
    /// Open connections, and open streams of pictures.
    pub clients: [(&'static str, usize); 2],
}

/// All metrics as text.
///
/// # Errors
/// Never with the registry that is made here; the encoder can fail.
pub fn text(board: &Arc<Board>, around: Around, format: Format) -> Result<String, fmt::Error> {
    let cameras = board.view().map(|view| view.cameras()).unwrap_or_default();
    let rails_mj = board.view().map(|view| view.rails_mj()).unwrap_or_default();
    encoded(Scrape { board: Arc::clone(board), around, cameras, rails_mj }, format)
}

fn encoded(scrape: Scrape, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::with_capacity(32 << 10);
    match format {
        Format::Prometheus => prometheus_client::encoding::prometheus_text::encode(&mut text, &registry)?,
        Format::OpenMetrics => prometheus_client::encoding::text::encode(&mut text, &registry)?,
    }
    Ok(text)
}

struct Scrape {
    board: Arc<Board>,
    around: Around,
    cameras: Vec<CameraView>,
    /// What was drawn since the run began, in millijoules by rail.
    rails_mj: Vec<(String, f64)>,
}

/// A collector must have it. Nobody asks for the content, which would bring that of the whole board.
impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").finish_non_exhaustive()
    }
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.facts(&mut out)?;
        self.frames(&mut out, &self.cameras)?;
        self.decisions(&mut out, &self.cameras)?;
        self.examples(&mut out)?;
        self.machine(&mut out)?;
        let sent = self.board.messages.all();
        let sent = sent.map(|(output, result, count)| (vec![("output", output), ("result", result)], count));
        out.counters("cfvit_output_messages", "Messages to other programs, and what became of them", sent)?;
        self.process(&mut out)
    }
}

impl Scrape {
    fn facts(&self, out: &mut Out<'_>) -> fmt::Result {
        let facts = &self.board.facts;
        let labels = vec![
            ("version", env!("CARGO_PKG_VERSION")),
            ("revision", crate::revision().unwrap_or("unknown")),
            ("engine", facts.engine.as_str()),
            ("precision", facts.precision),
            ("model", facts.model.as_str()),
        ];
        out.gauges("cfvit_build_info", "What runs", [(labels, 1u64)])?;
        let good = [(Labels::new(), u64::from(last_reload_succeeded()))];
        out.gauges("cfvit_config_last_reload_successful", "Whether the configuration read last is in force", good)
    }

    fn frames(&self, out: &mut Out<'_>, cameras: &[CameraView]) -> fmt::Result {
        let each = |of: fn(&CameraView) -> u64| cameras.iter().map(move |camera| (camera_label(camera), of(camera)));
        out.gauges("cfvit_camera_up", "Whether frames come", each(|c| u64::from(c.state == CameraState::Up)))?;
        let seen = cameras.iter().filter_map(|camera| {
            let snapshot = self.board.find(&camera.name)?.newest()?;
            Some((camera_label(camera), unix_ms(snapshot.captured) as f64 / 1e3))
        });
        out.gauges("cfvit_camera_last_frame_timestamp_seconds", "When the last decided frame was captured", seen)?;
        let returns = cameras.iter().filter_map(|camera| Some((camera_label(camera), camera.counts?.reconnects)));
        out.counters("cfvit_camera_reconnects", "How often the camera came back", returns)?;
        out.counters("cfvit_frames_captured", "Frames that the source gave", each(|c| c.tally.captured))?;
        let failed = each(|c| c.tally.lost(Reason::Undecided));
        out.counters("cfvit_frames_failed", "Frames whose decision was begun and failed", failed)?;
        out.gauges("cfvit_frames_in_flight", "Frames that wait or are being decided", each(|c| c.tally.in_flight))?;
        // Damaged frames never get to a decision, so here they are with those that got no turn; together all reasons are the tally's
        // `dropped` and `failed`.
        let dropped = cameras.iter().flat_map(|camera| {
            [Reason::Newer, Reason::Corrupt, Reason::Short].map(|reason| {
                (vec![("camera", camera.name.as_str()), ("reason", reason.as_str())], camera.tally.lost(reason))
            })
        });
        let help = "Frames that no decision was begun for: a newer one came first, or they were damaged";
        out.counters("cfvit_frames_dropped", help, dropped)
    }

    fn decisions(&self, out: &mut Out<'_>, cameras: &[CameraView]) -> fmt::Result {
        let stages = cameras.iter().flat_map(|camera| {
            let tally = camera.tally;
            let coarse = tally.decided.saturating_sub(tally.fine + tally.full);
            [("coarse", coarse), ("fine", tally.fine), ("static", tally.full)]
                .map(|(stage, count)| (vec![("camera", camera.name.as_str()), ("stage", stage)], count))
        });
        out.counters("cfvit_decisions", "Frames decided, by the stage that answered", stages)?;
        let steps = STEPS.iter().zip(&self.board.steps).map(|(step, times)| (vec![("stage", *step)], times.counted()));
        out.histograms("cfvit_stage_duration_seconds", "Time of a step, where it ran", steps)?;
        let channels: Vec<_> =
            cameras.iter().filter_map(|camera| Some((camera, self.board.find(&camera.name)?))).collect();
        self.classes(out, &channels)?;
        let ages = channels.iter().map(|(camera, channel)| (camera_label(camera), channel.age.counted()));
        out.histograms("cfvit_frame_age_seconds", "From the capture to the decision", ages)?;
        let sure = channels.iter().map(|(camera, channel)| (camera_label(camera), channel.confidence.counted()));
        out.histograms("cfvit_coarse_confidence_ratio", "What the gate compared with the threshold", sure)?;
        let thresholds = channels
            .iter()
            .filter_map(|(camera, channel)| Some((camera_label(camera), f64::from(channel.threshold().in_force()?))));
        out.gauges("cfvit_threshold_ratio", "Confidence from which the coarse answer is final", thresholds)?;
        let promises = cameras.iter().filter_map(|camera| {
            let degraded = self.board.promises.is_degraded(&camera.name)?;
            Some((camera_label(camera), u64::from(degraded)))
        });
        let help =
            "Whether an alarm for drift has ended what the camera's certificate promises: every frame is refined";
        out.gauges("cfvit_calibration_degraded", help, promises)
    }

    /// Decisions by class. So that many cameras do not make too many series, each may list fewer classes the more there are; the rest, and
    /// what is not listed, count as `other`.
    fn classes(&self, out: &mut Out<'_>, channels: &[(&CameraView, Arc<Channel>)]) -> fmt::Result {
        let listed = self.board.facts.counted.len().min(MOST_CLASS_SERIES / channels.len().max(1));
        let counts =
            channels.iter().filter(|(_, channel)| !channel.by_class.is_empty()).flat_map(|(camera, channel)| {
                let count = |at: usize| channel.by_class.get(at).map_or(0, |count| count.load(Relaxed));
                let other = (listed..channel.by_class.len()).map(count).sum::<u64>();
                let named = self.board.facts.counted.iter().take(listed).enumerate();
                let named = named.map(move |(at, &class)| (self.board.label(class), count(at)));
                named
                    .chain([("other", other)])
                    .map(|(class, count)| (vec![("camera", camera.name.as_str()), ("class", class)], count))
                    .collect::<Vec<_>>()
            });
        out.counters("cfvit_decisions_by_class", "Frames decided, by the class that was answered", counts)
    }

    fn machine(&self, out: &mut Out<'_>) -> fmt::Result {
        let machine = &self.around.machine;
        let mode = machine.power_mode.as_deref().map(|mode| (vec![("mode", mode)], 1u64));
        out.gauges("cfvit_power_mode_info", "The power mode in force", mode)?;
        let joules = by_rail(&self.rails_mj).map(|(rail, energy_mj)| (rail, energy_mj / 1e3));
        out.counters("cfvit_energy_joules", "Energy drawn since the run began; rails may overlap", joules)?;
        let watts = by_rail(&self.around.rails_w);
        out.gauges("cfvit_power_watts", "Mean power of the last second; rails may overlap", watts)?;
        let zones = machine.zones_celsius.iter().take(MOST_ZONES);
        let zones = zones.map(|(zone, celsius)| (vec![("zone", zone.as_str())], *celsius));
        out.gauges("cfvit_temperature_celsius", "Temperature of a thermal zone", zones)?;
        self.throttling(out)?;
        let clocks = [("cpu", machine.clock_mhz), ("gpu", machine.gpu_clock_mhz)];
        let clocks = clocks.into_iter().filter_map(|(unit, mhz)| Some((vec![("unit", unit)], mhz? * 1e6)));
        out.gauges("cfvit_clock_hertz", "Mean clock", clocks)?;
        let clients = self.around.clients.iter().map(|(kind, count)| (vec![("kind", *kind)], *count as u64));
        out.gauges("cfvit_web_clients", "Open connections, and streams of pictures among them", clients)
    }

    fn examples(&self, out: &mut Out<'_>) -> fmt::Result {
        let Some(shelf) = &self.board.examples else { return Ok(()) };
        let reasons = |(reason, count): (&'static str, u64)| (vec![("reason", reason)], count);
        out.counters("cfvit_examples", "Pictures kept for training", shelf.counts.saved().map(reasons))?;
        let skipped = shelf.counts.skipped().into_iter().map(reasons);
        out.counters("cfvit_examples_skipped", "Wanted pictures that were not kept", skipped)?;
        let bytes = [(Labels::new(), shelf.usage().bytes)];
        out.gauges("cfvit_examples_bytes", "Bytes of the pictures kept", bytes)
    }

    /// Where the machine tells nothing about it there is no series. `any` is always there where it does, so that 0 can be told from unknown.
    fn throttling(&self, out: &mut Out<'_>) -> fmt::Result {
        let machine = &self.around.machine;
        let (heat, current) = (machine.throttled, machine.over_current);
        let tells = !machine.zones_celsius.is_empty() || heat.or(current).is_some() || !machine.limited_by.is_empty();
        let any = tells.then(|| (vec![("reason", "any")], u64::from(!machine.limited_by.is_empty())));
        // Two devices may have one name, and a series may be there only once.
        let reasons: BTreeSet<&str> = machine.limited_by.iter().map(String::as_str).filter(|r| *r != "any").collect();
        let limits = reasons.into_iter().take(MOST_LIMITS).map(|reason| (vec![("reason", reason)], 1u64));
        out.gauges(
            "cfvit_throttled",
            "Whether anything holds the clocks back now, and what",
            any.into_iter().chain(limits),
        )?;
        let events = [("heat", heat), ("over_current", current)];
        let events = events.into_iter().filter_map(|(reason, count)| Some((vec![("reason", reason)], count?)));
        out.counters("cfvit_throttle_events", "How often clocks were held back since the machine started", events)
    }

    fn process(&self, out: &mut Out<'_>) -> fmt::Result {
        let root = std::path::Path::new("/");
        // Linux counts a process's time in hundredths of a second everywhere that this runs.
        let own_s = State::read_ticks(root).map(|ticks| (Labels::new(), ticks.own as f64 / 100.0));
        out.counters("process_cpu_seconds", "Processor time of this process", own_s)?;
        let memory = Memory::read(root);
        let resident = memory.resident_kib.map(|kib| (Labels::new(), kib * 1024));
        out.gauges("process_resident_memory_bytes", "Resident memory of this process", resident)?;
        let peak = memory.peak_kib.map(|kib| (Labels::new(), kib * 1024));
        out.gauges("process_resident_memory_peak_bytes", "The most that was ever resident of this process", peak)?;
        let counts = [
            ("process_open_fds", "Open files of this process", "proc/self/fd"),
            ("process_threads", "Threads of this process", "proc/self/task"),
        ];
        for (name, help, folder) in counts {
            let entries =
                std::fs::read_dir(root.join(folder)).ok().map(|entries| (Labels::new(), entries.count() as u64));
            out.gauges(name, help, entries)?;
        }
        let started = [(Labels::new(), unix_ms(self.board.started) as f64 / 1e3)];
        out.gauges("process_start_time_seconds", "When the run began", started)
    }
}

/// The first rails, of which `total` is one.
fn by_rail(rails: &[(String, f64)]) -> impl Iterator<Item = (Labels<'_>, f64)> {
    rails.iter().take(MOST_RAILS).map(|(rail, value)| (vec![("rail", rail.as_str())], *value))
}

fn camera_label(camera: &CameraView) -> Labels<'_> {
    vec![("camera", camera.name.as_str())]
}

/// Writes families; one without a series is left out.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn counters<'l, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> fmt::Result {
        self.family((name, help, MetricType::Counter), series, |out, value| {
            out.encode_counter::<Labels<'_>, V, f64>(&value, None)
        })
    }

    fn gauges<'l, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l>, V)>,
    ) -> fmt::Result {
        self.family((name, help, MetricType::Gauge), series, |out, value| out.encode_gauge(&value))
    }

    fn histograms<'l>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'l>, Counted)>,
    ) -> fmt::Result {
        self.family((name, help, MetricType::Histogram), series, |out, counted| {
            out.encode_histogram::<Labels<'_>>(counted.sum, counted.count(), &counted.buckets, None)
        })
    }

    fn family<'l, V>(
        &mut self,
        (name, help, kind): (&str, &str, MetricType),
        series: impl IntoIterator<Item = (Labels<'l>, V)>,
        encode: impl Fn(&mut MetricEncoder<'_>, V) -> fmt::Result,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        series.try_for_each(|(labels, value)| match labels.is_empty() {
            true => encode(&mut family, value),
            false => encode(&mut family.encode_family(&labels)?, value),
        })
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
