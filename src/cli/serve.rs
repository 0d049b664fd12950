//! From settings to a running pipeline, and from new settings to a change of it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::session::Session;
use super::{DecisionArgs, ModelArgs};
use crate::calibrate::cost::Unit;
use crate::calibrate::{self, Keys, Standing, report};
use crate::capture::{self, Options};
use crate::cascade::Cascade;
use crate::config::{Auto, CameraSettings, Settings, StateFolder};
use crate::error::{Error, Kind, Result};
use crate::examples::{self, About, Limits, Picker, Shelf, Writer};
use crate::fallback::{Costs, Fallback, HYSTERESIS};
use crate::guard::{self, Guard, Keeper};
use crate::model::package::Certificate;
use crate::model::{Geometry, Label, StoredResults};
use crate::operator::Facts;
use crate::pipeline::{Camera, Change, Member, Pipeline, Tuning};
use crate::power;
use crate::preprocess::{Preprocess, decode};

/// What every camera of a run has in common, now and after a reload.
pub struct Common {
    geometry: Geometry,
    crop: f64,
    /// η where the settings say nothing.
    threshold: f32,
    /// The model's name.
    name: String,
    /// The classes, in class order.
    labels: Vec<Label>,
    /// What its makers measured.
    results: StoredResults,
    /// Names of the classes that are counted one by one.
    counted: Vec<String>,
    /// The certificate, and what it must be made for.
    certificate: Option<Certificate>,
    keys: Option<Keys>,
}

/// A slot that no run reaches the end of.
const NEVER: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Common {
    /// Opens the model that `settings` name, on its engine.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open(settings: &Settings, heads: Option<usize>) -> Result<(Self, Cascade, Vec<String>)> {
        let model = &settings.model;
        let args = ModelArgs {
            model: model.path.clone(),
            heads,
            threads: model.threads,
            backend: model.backend,
            precision: model.precision,
        };
        // The threshold is each camera's own, so here it is the certificate's or the model's.
        let gate = &settings.gate;
        let decision = DecisionArgs {
            threshold: None,
            crop: model.crop,
            certificate: gate.certificate.clone(),
            allow_uncertified: gate.allow_uncertified,
        };
        let keyed = gate.budget.is_some()
            || settings.audit.slot_s.is_some() && state_folder(&settings.audit.folder).is_some()
            || examples_folder(settings).is_some();
        let mut session = Session::open_keyed(&args, &decision, keyed)?;
        let common = Self {
            geometry: *session.geometry(),
            crop: session.crop,
            threshold: session.threshold(),
            name: session.name.clone(),
            labels: session.labels.clone(),
            results: std::mem::take(&mut session.results),
            counted: settings.web.classes.clone(),
            certificate: session.certificate.take(),
            keys: session.keys.take(),
        };
        if let (Some(certificate), Standing::Certified) = (&common.certificate, &session.in_force.standing) {
            log::info!("certificate: {}", report::sentence(certificate));
            if gate.static_fallback {
                log::warn!("answers of the static pass are outside of what the certificate promises");
            }
        }
        let threshold = settings.gate.threshold.unwrap_or(common.threshold);
        log::info!("model: {}, threshold {threshold}; engine: {}", session.name, session.cascade.engine().describe());
        let labels = session.labels.into_iter().map(|label| label.name).collect();
        Ok((common, session.cascade, labels))
    }

    /// What an operator's board shows of the model.
    pub fn facts(&self, pipeline: &Pipeline) -> Facts {
        Facts {
            model: self.name.clone(),
            engine: pipeline.cascade.engine().describe().to_string(),
            precision: pipeline.cascade.engine().precision(),
            counted: self.counted(&pipeline.labels),
            labels: pipeline.labels.clone(),
            grid: self.geometry.grid,
            crop: self.crop,
            accuracy: fine_share_to_top1(&self.results),
            promise: self.certificate.as_ref().map(report::sentence),
        }
    }

    /// Where examples are put, if anywhere: the shelf, what watches the decisions, where that is wanted, and the thread that writes.
    pub fn examples(&self, settings: &Settings) -> Examples {
        let collect = &settings.collect;
        let writes = collect.auto != Auto::Off;
        let Some(root) = examples_folder(settings) else {
            if writes {
                log::warn!("no examples are collected: there is no folder for them (collect.folder)");
            }
            return Examples::default();
        };
        let mib = |mib: u64| mib << 20;
        let limits = Limits {
            max_bytes: mib(collect.max_mib),
            max_files: collect.max_files,
            min_free_bytes: mib(collect.min_free_mib),
        };
        let about = About {
            model: self.name.clone(),
            engine_sha256: self.keys.as_ref().map(|keys| keys.engine_sha256.clone()),
            labels: self.labels.clone(),
            crop: self.crop,
            grid: self.geometry.grid,
        };
        let place = root.display().to_string();
        match examples::start(root, limits, about, writes) {
            Ok((shelf, writer)) => {
                if let Some((word, _)) = Auto::WORDS.iter().find(|(_, auto)| writes && *auto == collect.auto) {
                    log::info!(
                        "examples: {word}, at most one of a camera in {} s, kept in {place}",
                        collect.interval_s
                    );
                }
                let picker = writes.then(|| Picker::new(collect.clone(), Arc::clone(&shelf)));
                Examples { shelf: Some(shelf), picker, writer }
            }
            Err(error) => {
                log::warn!("no examples are collected: {error}; frames go on");
                Examples::default()
            }
        }
    }

    /// The classes that are counted one by one. A name that is no class of this model is told and left out.
    fn counted(&self, labels: &[String]) -> Vec<usize> {
        let find = |name: &String| {
            let class = labels.iter().position(|label| label == name);
            if class.is_none() {
                log::warn!("web.classes: {name:?} is no class of this model and is not counted");
            }
            class
        };
        self.counted.iter().filter_map(find).collect()
    }

    /// Opens one camera.
    ///
    /// # Errors
    /// When its source cannot be opened; the error names the camera where there are several.
    pub fn camera(&self, camera: &CameraSettings, settings: &Settings) -> Result<Camera> {
        let wanted_side = (self.geometry.fine_side() as f64 / self.crop) as usize;
        let options = Options { fps: camera.fps, repeat: camera.repeat, wanted_side: Some(wanted_side) };
        let several = settings.cameras.0.len() > 1;
        let within = |error: crate::error::Error| match several {
            true => error.within(format!("camera {}", camera.name)),
            false => error,
        };
        let source = capture::open(OsStr::new(&camera.source), options, Box::new(decode::read)).map_err(within)?;
        match several {
            true => log::info!("camera {}: {}", camera.name, source.describe()),
            false => log::info!("source: {}", source.describe()),
        }
        let mut preprocess = Preprocess::new(&self.geometry, self.crop)?;
        Ok(Camera {
            name: camera.name.clone(),
            source,
            prepare: Box::new(move |picture, inputs, for_each| preprocess.run_on(picture, inputs, for_each)),
            tuning: self.tuning(camera, settings),
        })
    }

    /// What watches over the cameras, where there is anything to watch: a promise, a budget, or an audit to keep.
    ///
    /// # Errors
    /// When an audit cannot be written, or an energy budget has no meter.
    pub fn guard(&self, settings: &Settings) -> Result<Option<(Guard, Keeper)>> {
        let Some(keys) = &self.keys else { return Ok(None) };
        let (folder, slot_s) = (state_folder(&settings.audit.folder), settings.audit.slot_s);
        let gate = &settings.gate;
        let cameras: Vec<guard::Camera> = settings.cameras.0.iter().map(|c| self.guarded(c, settings)).collect();
        let watched = cameras.iter().any(|camera| camera.promise.is_some()) || folder.is_some();
        if gate.budget.is_none() && !(watched && slot_s.is_some()) {
            return Ok(None);
        }
        let meter = match gate.budget {
            Some(budget) if budget.unit == Unit::Mj => Some(power::open(Path::new("/sys")).ok_or_else(|| {
                Error::new(
                    Kind::Config,
                    "gate.budget: this machine has no power meter that can be read, so no energy can be kept",
                )
            })?),
            _ => None,
        };
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        let settings = guard::Settings {
            slot: slot_s.map_or(NEVER, Duration::from_secs_f64),
            folder: folder.filter(|_| slot_s.is_some()),
            auto: settings.calibration.auto,
            budget: gate.budget,
            budget_first: gate.budget_first,
            seed,
        };
        if let Some(slot_s) = slot_s.filter(|_| watched) {
            let place = settings.folder.as_ref().map_or("nowhere".into(), |folder| folder.display().to_string());
            log::info!("audit: one frame of every {slot_s} s gets both stages, kept {}", place);
        }
        guard::start(&settings, cameras, keys, self.geometry.classes, meter).map(Some)
    }

    /// What `camera`'s threshold rests on.
    fn guarded(&self, camera: &CameraSettings, settings: &Settings) -> guard::Camera {
        let asked = camera.threshold.or(settings.gate.threshold);
        let promised = self.certificate.as_ref().zip(self.keys.as_ref());
        let in_force = calibrate::in_force(asked, promised, self.threshold, settings.gate.allow_uncertified);
        if let (Some(_), Some(warning)) = (asked, in_force.warning()) {
            log::warn!("camera {}: {warning}", camera.name);
        }
        let mut promise = self.certificate.clone().filter(|_| in_force.standing == Standing::Certified);
        if settings.gate.budget.is_some() && settings.gate.budget_first && promise.is_some() {
            log::warn!("camera {}: uncertified: the budget may break what the certificate promises", camera.name);
            promise = None;
        }
        guard::Camera { name: camera.name.clone(), promise, threshold: in_force.threshold }
    }

    /// How the frames of `camera` are decided.
    fn tuning(&self, camera: &CameraSettings, settings: &Settings) -> Tuning {
        Tuning {
            threshold: camera.threshold.or(settings.gate.threshold).unwrap_or(self.threshold),
            smoothing: settings.report.smoothing,
        }
    }

    /// What changes a run with the settings `old`, of which the cameras called `ended` have ended, into one with the settings `new`:
    /// cameras that are the same and run go on, the others are opened here.
    ///
    /// # Errors
    /// When a new camera cannot be opened. Nothing has changed then.
    pub fn change(&self, (old, ended): (&Settings, &[String]), new: &Settings) -> Result<Change> {
        let member = |camera: &CameraSettings| {
            if old.cameras.0.iter().any(|known| known.is_same(camera)) && !ended.contains(&camera.name) {
                return Ok(Member::Keep { name: camera.name.clone(), tuning: self.tuning(camera, new) });
            }
            self.camera(camera, new).map(Member::Start)
        };
        Ok(Change {
            cameras: new.cameras.0.iter().map(member).collect::<Result<_>>()?,
            report_interval: Duration::from_secs_f64(new.report.interval_s),
        })
    }
}

/// What collects examples in a run, as far as it is wanted.
#[derive(Default)]
pub struct Examples {
    /// Where they are put.
    pub shelf: Option<Arc<Shelf>>,
    /// What chooses frames by itself, where that is wanted.
    pub picker: Option<Picker>,
    /// The thread that writes those.
    pub writer: Option<Writer>,
}

/// Where examples are kept, if anywhere.
fn examples_folder(settings: &Settings) -> Option<PathBuf> {
    let folder = state_folder(&settings.collect.folder)?;
    Some(if settings.collect.folder == StateFolder::Service { folder.join("examples") } else { folder })
}

/// Top-1 in percent over the share of fine, from what the model's makers measured of both over the cost; nothing where they tell too little.
fn fine_share_to_top1(results: &StoredResults) -> Vec<(f64, f64)> {
    let (Some([coarse, both]), Some(curve)) = (results.flop.as_deref(), &results.budgeted) else { return Vec::new() };
    if both <= coarse {
        return Vec::new();
    }
    let mut points: Vec<(f64, f64)> =
        curve.iter().map(|(cost, top1)| ((cost - coarse) / (both - coarse), *top1)).collect();
    points.retain(|(share, top1)| (-0.01..=1.01).contains(share) && top1.is_finite());
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points.dedup_by(|a, b| a.0 == b.0);
    points
}

/// A folder of the settings, if it is any.
pub fn state_folder(folder: &StateFolder) -> Option<PathBuf> {
    match folder {
        StateFolder::Nowhere => None,
        StateFolder::At(folder) => Some(folder.clone()),
        // Several folders are separated by colons.
        StateFolder::Service => {
            let folders = std::env::var("STATE_DIRECTORY").ok()?;
            folders.split(':').next().filter(|folder| !folder.is_empty()).map(PathBuf::from)
        }
    }
}

/// Measures what the passes cost here and lets the cascade fall back to the static one.
///
/// # Errors
/// When the engine fails.
pub fn set_fallback(cascade: &mut Cascade) -> Result<()> {
    let costs =
        Costs::measure(cascade.engine_mut()).map_err(|e| e.within("the static fallback needs a static pass"))?;
    let Costs { static_ms, coarse_ms, fine_ms } = costs;
    let limit = costs.break_even();
    let then = match limit + HYSTERESIS {
        limit if limit >= 1.0 => "no share of fine is dear enough to leave the cascade".to_owned(),
        limit if limit < 0.0 => "the coarse stage alone costs more than the static pass".to_owned(),
        limit => format!("above {:.0} % the frames go static", 100.0 * limit),
    };
    log::info!(
        "fallback: static {static_ms:.1} ms, coarse {coarse_ms:.1} ms, fine {fine_ms:.1} ms, break-even {:.0} %: {then}",
        100.0 * limit
    );
    cascade.set_fallback(Fallback::new(limit));
    Ok(())
}
