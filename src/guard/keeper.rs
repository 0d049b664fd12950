//! The keeper: a thread that writes audits and states, tells of alarms, and certifies anew after one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::observe::{Audited, Order};
use super::state::State;
use super::{Camera, Counters, Settings};
use crate::calibrate::audit::{self, Header, Log, Record};
use crate::calibrate::drift::Detector;
use crate::calibrate::{Accuracy, Keys, Observation, Prefer, Request, Risk, binomial, correlation, plan, solve};
use crate::clock::{Stop, System};
use crate::episode::Episode;
use crate::error::{Error, Kind, Result};
use crate::model::package::Certificate;
use crate::power::{Meter, Monitor};

/// Records wait for so long at most before they are written.
const FLUSH: Duration = Duration::from_secs(1);
/// A state is written so often at most, alarms at once.
const SAVE: Duration = Duration::from_secs(60);
/// The keeper may take so long to end.
const GRACE: Duration = Duration::from_secs(5);

/// The thread that keeps the files, and the one that reads the meter of an energy budget.
pub struct Keeper {
    ended: Receiver<()>,
    metering: Stop,
    /// What the audits of each camera took, by its name.
    counters: Vec<(String, Arc<Counters>)>,
}

impl Keeper {
    /// Starts it. It ends when nothing sends to `kept` any more. With a `meter` also gives the energy that it sees.
    pub(super) fn start(
        mut files: Vec<CameraFiles>,
        auto: bool,
        kept: Receiver<Audited>,
        orders: Sender<Order>,
        meter: Option<Box<dyn Meter>>,
    ) -> Result<(Self, Option<Monitor>)> {
        let (end, ended) = bounded(1);
        let counters = files.iter().map(|file| (file.name.clone(), Arc::clone(&file.counters))).collect();
        let run = move || {
            keep(&mut files, auto, &kept, &orders);
            // Nobody waits any more if the run was cut short.
            let _ = end.send(());
        };
        spawn("audit", run)?;
        let metering = Stop::new();
        let monitor = meter.map(|mut meter| {
            let (monitor, stop) = (Monitor::new(Instant::now()), metering.clone());
            let samples = monitor.clone();
            spawn("budget-power", move || samples.sample(meter.as_mut(), &System, &stop)).map(|()| monitor)
        });
        Ok((Self { ended, metering, counters }, monitor.transpose()?))
    }

    /// Waits, after the run has ended, until everything is written, for some seconds at most; then tells what the audits took, their energy
    /// at the mean power of the run, `mean_mw`, where that was measured.
    pub fn finish(self, mean_mw: Option<f64>) {
        self.metering.request();
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(GRACE) {
            log::warn!("the audit could not be written in {} s and is left behind", GRACE.as_secs());
        }
        for (name, counters) in self.counters {
            log::info!("audit of camera {name}: {}", counters.text(mean_mw));
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let started = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map(|_| ()).map_err(|e| Error::caused(Kind::Io, format!("cannot start the {name} thread"), e))
}

fn keep(files: &mut [CameraFiles], auto: bool, kept: &Receiver<Audited>, orders: &Sender<Order>) {
    loop {
        match kept.recv_timeout(FLUSH) {
            Ok(audited) => {
                if let Some(file) = files.get_mut(audited.camera) {
                    file.take(audited);
                }
                // A few at a time, as they come in bursts only where slots are very short.
                if !kept.is_empty() && files.iter().all(|file| file.waiting.len() < super::QUEUE) {
                    continue;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        for (camera, file) in files.iter_mut().enumerate() {
            file.flush(false);
            if let Some(eta) = auto.then(|| file.certify()).flatten() {
                // The guard takes orders at its next audit; one that is lost is found again after a restart.
                let _ = orders.try_send(Order { camera, eta });
            }
        }
    }
    for file in files {
        file.flush(true);
    }
}

/// What is kept of one camera.
pub(super) struct CameraFiles {
    name: String,
    certificate: Option<Certificate>,
    log: Option<Log>,
    audit_path: Option<PathBuf>,
    state_path: Option<PathBuf>,
    state: Option<State>,
    fresh: Option<Detector>,
    saved: Instant,
    unsaved: bool,
    waiting: Vec<Record>,
    /// Records since the alarm, and how many are wanted to certify anew.
    since_alarm: u64,
    wanted: u64,
    trouble: Episode,
    pub(super) counters: Arc<Counters>,
}

impl CameraFiles {
    /// Opens the files of `camera`; `fresh` is the detector that its promise begins with.
    pub(super) fn open(
        settings: &Settings,
        camera: &Camera,
        fresh: Option<Detector>,
        keys: &Keys,
        classes: usize,
    ) -> Result<Self> {
        let path =
            |end: &str| settings.folder.as_ref().map(|folder| folder.join(format!("audit-{}.{end}", camera.name)));
        let (audit_path, state_path) = (path("log"), path("state"));
        let header = Header::new(&camera.name, settings.slot.as_secs_f64(), classes, keys);
        let log = audit_path.as_ref().map(|path| Log::open(path, &header)).transpose()?;
        let promise = camera.promise.as_ref().zip(fresh);
        let known = promise.as_ref().zip(state_path.as_ref());
        let known = known.and_then(|((certificate, fresh), path)| State::read(path, certificate, fresh));
        let state = known.or(promise.as_ref().map(|(certificate, fresh)| State::new(certificate, *fresh)));
        let mut files = Self {
            name: camera.name.clone(),
            certificate: camera.promise.clone(),
            log,
            audit_path,
            state_path,
            state,
            fresh,
            saved: Instant::now(),
            unsaved: false,
            waiting: Vec::with_capacity(super::QUEUE),
            since_alarm: 0,
            wanted: u64::MAX,
            trouble: Episode::default(),
            counters: Arc::default(),
        };
        if let Some(since) = files.state.as_ref().and_then(|state| state.degraded_since_ms) {
            log::error!(
                "camera {}: degraded since an alarm for drift before the restart: every frame is refined",
                camera.name
            );
            files.since_alarm = files.records_since(since).map_or(0, |records| records.len() as u64);
            files.wanted = files.enough();
        }
        Ok(files)
    }

    /// The state at the start.
    pub(super) fn state(&self) -> Option<State> {
        self.state.clone()
    }

    /// Takes an audited frame.
    fn take(&mut self, audited: Audited) {
        self.waiting.push(audited.record);
        let (Some(state), Some(detector)) = (&mut self.state, audited.detector) else { return };
        (state.detector, self.unsaved) = (detector, true);
        if audited.alarm {
            state.alarms += 1;
            state.degraded_since_ms = Some(audited.record.time_ms);
            self.since_alarm = 0;
            self.wanted = self.enough();
            let limit = self.certificate.as_ref().map_or(0.0, |certificate| certificate.drift_limit);
            log::error!(
                "camera {}: drift: more than {:.2} % of the frames get another answer than refining would give, so the certified promise no \
                 longer holds; state degraded, every frame is refined until it is calibrated anew",
                self.name,
                100.0 * limit
            );
            self.flush(true);
        } else if state.degraded_since_ms.is_some() {
            self.since_alarm += 1;
        }
    }

    /// Writes what waits; the state only where it is time, or `now`.
    fn flush(&mut self, now: bool) {
        let mut result = match &mut self.log {
            Some(log) if !self.waiting.is_empty() => log.append(&self.waiting),
            _ => Ok(()),
        };
        if result.is_err() {
            Counters::add(&self.counters.lost, self.waiting.len() as u64);
        }
        self.waiting.clear();
        if self.unsaved && (now || self.saved.elapsed() >= SAVE) {
            (self.saved, self.unsaved) = (Instant::now(), false);
            if let (Some(state), Some(path)) = (&self.state, &self.state_path) {
                result = result.and(state.write(path));
            }
        }
        match result {
            Ok(()) => _ = self.trouble.recovers(),
            Err(error) if self.trouble.fails() => log::error!("camera {}: {error}", self.name),
            Err(_) => {}
        }
    }

    /// The audited frames from `since` on.
    fn records_since(&self, since_ms: u64) -> Option<Vec<Record>> {
        let audit = audit::read(self.audit_path.as_ref()?).map_err(|error| log::error!("{error}")).ok()?;
        Some(audit.records.into_iter().filter(|record| record.time_ms > since_ms).collect())
    }

    /// δ of the certificate after this alarm: δ/(j(j+1)), so that all of them together stay below δ.
    fn delta(&self) -> Option<f64> {
        let (certificate, state) = (self.certificate.as_ref()?, self.state.as_ref()?);
        let j = f64::from(state.alarms.max(1));
        Some((1.0 - certificate.confidence) / (j * (j + 1.0)))
    }

    /// How many frames a new certificate takes.
    fn enough(&self) -> u64 {
        let wanted = self.certificate.as_ref().zip(self.delta());
        wanted
            .map_or(u64::MAX, |(certificate, delta)| binomial::comfortable(certificate.drift_limit, delta, plan::ROOM))
    }

    /// After an alarm and enough audited frames: the threshold that keeps the limit from now on.
    fn certify(&mut self) -> Option<f32> {
        let since = self.state.as_ref()?.degraded_since_ms?;
        if self.since_alarm < self.wanted {
            return None;
        }
        let (records, delta) = (self.records_since(since)?, self.delta()?);
        let limit = self.certificate.as_ref()?.drift_limit;
        let (kept, step, _) = correlation::thin(&records, |record| Observation::from(*record));
        let observations: Vec<Observation> = kept.into_iter().map(Observation::from).collect();
        let accuracy = Some(Accuracy { risk: Risk::Disagreement, limit });
        let request = Request { accuracy, budget: None, delta, prefer: Prefer::Cheap };
        match solve(&observations, &request, None) {
            Ok(solution) => {
                log::warn!(
                    "camera {}: certified anew on {} audited frames (one in {step}): η = {}, {:.0} % fine, at most {:.2} % get another answer \
                     with {:.2} % confidence; no longer degraded",
                    self.name,
                    observations.len(),
                    solution.eta,
                    100.0 * solution.fine_share[1],
                    100.0 * limit,
                    100.0 * (1.0 - delta)
                );
                let fresh = self.fresh?;
                let state = self.state.as_mut()?;
                (state.degraded_since_ms, state.eta_bits, state.detector) = (None, Some(solution.eta.to_bits()), fresh);
                (self.unsaved, self.wanted) = (true, u64::MAX);
                self.flush(true);
                Some(solution.eta)
            }
            Err(error) => {
                log::info!("camera {}: not certified yet: {error}", self.name);
                self.wanted = self.since_alarm.saturating_mul(2);
                None
            }
        }
    }
}
