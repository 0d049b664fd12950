//! Metrics for Prometheus: computed at each scrape from what is counted anyway.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::board::{Board, STEPS, unix_ms};
use super::histogram::Counted;
use crate::machine::{Memory, State};
use crate::pipeline::CameraView;
use crate::report::{CameraState, Reason};

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
    /// Mean power of the last second in watts, where it is measured.
    pub power_w: Option<f64>,
    /// Open connections, and open streams of pictures.
    pub clients: [(&'static str, usize); 2],
}

/// All metrics as text.
///
/// # Errors
/// Never with the registry that is made here; the encoder can fail.
pub fn text(board: &Arc<Board>, around: Around, format: Format) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Scrape { board: Arc::clone(board), around }));
    let mut text = String::with_capacity(32 << 10);
    match format {
        Format::Prometheus => prometheus_client::encoding::prometheus_text::encode(&mut text, &registry)?,
        Format::OpenMetrics => prometheus_client::encoding::text::encode(&mut text, &registry)?,
    }
    Ok(text)
}

#[derive(Debug)]
struct Scrape {
    board: Arc<Board>,
    around: Around,
}

type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let cameras = self.board.view().map(|view| view.cameras()).unwrap_or_default();
        let mut out = Out(encoder);
        self.facts(&mut out)?;
        self.frames(&mut out, &cameras)?;
        self.decisions(&mut out, &cameras)?;
        self.examples(&mut out)?;
        self.machine(&mut out)?;
        self.process(&mut out)
    }
}

impl Scrape {
    fn facts(&self, out: &mut Out<'_>) -> fmt::Result {
        let facts = &self.board.facts;
        let labels = vec![
            ("version", env!("CARGO_PKG_VERSION")),
            ("engine", facts.engine.as_str()),
            ("model", facts.model.as_str()),
        ];
        out.gauges("cfvit_build_info", "What runs", [(labels, 1u64)])
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
        out.counters("cfvit_frames_failed", "Frames that could not be decided", each(|c| c.tally.failed))?;
        out.gauges("cfvit_frames_in_flight", "Frames that wait or are being decided", each(|c| c.tally.in_flight))?;
        let dropped = cameras.iter().map(|camera| {
            let labels = vec![("camera", camera.name.as_str()), ("reason", Reason::Newer.as_str())];
            (labels, camera.tally.dropped)
        });
        out.counters("cfvit_frames_dropped", "Frames that got no turn", dropped)
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
        let ages = channels.iter().map(|(camera, channel)| (camera_label(camera), channel.age.counted()));
        out.histograms("cfvit_frame_age_seconds", "From the capture to the decision", ages)?;
        let sure = channels.iter().map(|(camera, channel)| (camera_label(camera), channel.confidence.counted()));
        out.histograms("cfvit_coarse_confidence_ratio", "What the gate compared with the threshold", sure)?;
        let thresholds = channels
            .iter()
            .filter_map(|(camera, channel)| Some((camera_label(camera), f64::from(channel.threshold().in_force()?))));
        out.gauges("cfvit_threshold_ratio", "Confidence from which the coarse answer is final", thresholds)
    }

    fn machine(&self, out: &mut Out<'_>) -> fmt::Result {
        let machine = &self.around.machine;
        let mode = machine.power_mode.as_deref().map(|mode| (vec![("mode", mode)], 1u64));
        out.gauges("cfvit_power_mode_info", "The power mode in force", mode)?;
        let total = || vec![("rail", "total")];
        let energy = self.board.view().and_then(|view| view.energy());
        let joules = energy.map(|energy| (total(), energy.energy_mj / 1e3));
        out.counters("cfvit_energy_joules", "Energy drawn since the run began", joules)?;
        let watts = self.around.power_w.map(|power_w| (total(), power_w));
        out.gauges("cfvit_power_watts", "Mean power of the last second", watts)?;
        let zones = machine.zones_celsius.iter().take(20);
        let zones = zones.map(|(zone, celsius)| (vec![("zone", zone.as_str())], *celsius));
        out.gauges("cfvit_temperature_celsius", "Temperature of a thermal zone", zones)?;
        let limits = machine.limited_by.iter().take(20).map(|reason| (vec![("reason", reason.as_str())], 1u64));
        out.gauges("cfvit_throttled", "What holds the clocks back now", limits)?;
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

    fn process(&self, out: &mut Out<'_>) -> fmt::Result {
        let root = std::path::Path::new("/");
        // Linux counts a process's time in hundredths of a second everywhere that this runs.
        let own_s = State::read_ticks(root).map(|ticks| (Labels::new(), ticks.own as f64 / 100.0));
        out.counters("process_cpu_seconds", "Processor time of this process", own_s)?;
        let resident = Memory::read(root).resident_kib.map(|kib| (Labels::new(), kib * 1024));
        out.gauges("process_resident_memory_bytes", "Resident memory of this process", resident)?;
        let started = [(Labels::new(), unix_ms(self.board.started) as f64 / 1e3)];
        out.gauges("process_start_time_seconds", "When the run began", started)
    }
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
