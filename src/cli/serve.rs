//! From settings to a running pipeline, and from new settings to a change of it.

use std::ffi::OsStr;
use std::time::Duration;

use super::session::Session;
use super::{DecisionArgs, ModelArgs};
use crate::capture::{self, Options};
use crate::cascade::Cascade;
use crate::config::{CameraSettings, Settings};
use crate::error::Result;
use crate::fallback::{Costs, Fallback, HYSTERESIS};
use crate::model::Geometry;
#[cfg(feature = "web")]
use crate::operator::Facts;
#[cfg(feature = "web")]
use crate::pipeline::Pipeline;
use crate::pipeline::{Camera, Change, Member, Tuning};
use crate::preprocess::{Preprocess, decode};

/// What every camera of a run has in common, now and after a reload.
pub struct Common {
    geometry: Geometry,
    crop: f64,
    /// η where the settings say nothing.
    threshold: f32,
    /// The model's name.
    #[cfg_attr(not(feature = "web"), allow(dead_code, reason = "only the operator's board shows it"))]
    name: String,
}

impl Common {
    /// Opens the model that `settings` name, on its engine.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn open(settings: &Settings, heads: Option<usize>) -> Result<(Self, Cascade, Vec<String>)> {
        let model = &settings.model;
        let args = ModelArgs { model: model.path.clone(), heads, threads: model.threads, backend: model.backend };
        // The threshold is each camera's own, so here it is the model's.
        let session = Session::open(&args, &DecisionArgs { threshold: None, crop: model.crop })?;
        let common = Self {
            geometry: *session.geometry(),
            crop: session.crop,
            threshold: session.threshold(),
            name: session.name.clone(),
        };
        let threshold = settings.gate.threshold.unwrap_or(common.threshold);
        log::info!("model: {}, threshold {threshold}; engine: {}", session.name, session.cascade.engine().describe());
        let labels = session.labels.into_iter().map(|label| label.name).collect();
        Ok((common, session.cascade, labels))
    }

    /// What an operator's board shows of the model.
    #[cfg(feature = "web")]
    pub fn facts(&self, pipeline: &Pipeline) -> Facts {
        Facts {
            model: self.name.clone(),
            engine: pipeline.cascade.engine().describe().to_string(),
            labels: pipeline.labels.clone(),
            grid: self.geometry.grid,
            crop: self.crop,
        }
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
            prepare: Box::new(move |picture, inputs| preprocess.run(picture, inputs)),
            tuning: self.tuning(camera, settings),
        })
    }

    /// How the frames of `camera` are decided.
    fn tuning(&self, camera: &CameraSettings, settings: &Settings) -> Tuning {
        Tuning {
            threshold: camera.threshold.or(settings.gate.threshold).unwrap_or(self.threshold),
            smoothing: settings.report.smoothing,
        }
    }

    /// What changes a run with the settings `old` into one with the settings `new`: cameras that are the same go on, the others are
    /// opened here.
    ///
    /// # Errors
    /// When a new camera cannot be opened. Nothing has changed then.
    pub fn change(&self, old: &Settings, new: &Settings) -> Result<Change> {
        let member = |camera: &CameraSettings| {
            if old.cameras.0.iter().any(|known| known.is_same(camera)) {
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
