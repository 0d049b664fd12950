//! Running the engines: TensorRT's plans on a CUDA device, behind the same trait as the CPU engine.
//!
//! Everything is allocated when the engine is opened: one stream, the buffers (`buffers.rs`), a CUDA graph per stage (`capture.rs`). A frame then
//! costs a copy of its picture into pinned memory, one launch, and a sleep until the device is done. The gate and the choice of cells are the
//! host's, as with every engine, so a frame that the coarse stage is sure of costs nothing of the fine one.
//!
//! After a failure of the device nothing on it can be trusted: the engine refuses all further work with [`Kind::Device`], and whoever owns it
//! opens a new one.

mod buffers;
mod capture;
mod device;
mod memory;
mod stage;

use buffers::Buffers;
pub use device::Device;
pub use memory::DeviceBuffer;
use stage::Stage;

use super::execution::Execution;
use crate::engine::{Engine, check_choice, check_image};
use crate::error::{Error, Kind, Result};
use crate::frame::{Choice, CoarseOutput};
use crate::model::Geometry;
use crate::model::onnx::{self, Element, Graph};

/// The loaded plans of one model.
pub struct Executions {
    /// The coarse stage's.
    pub coarse: Execution,
    /// The fine stage's.
    pub fine: Execution,
    /// The static baseline's, where the package has one.
    pub full: Option<Execution>,
}

/// Both stages on a GPU.
pub struct TensorRtEngine {
    // Dropped in this order: what runs before the memory it runs on, memory before the device.
    coarse: Stage,
    fine: Stage,
    full: Option<Stage>,
    buffers: Buffers,
    device: Device,
    geometry: Geometry,
    /// TensorRT's version and the precision, for people.
    about: String,
    /// What the plans were built from and for, where that is known.
    identity: Option<String>,
    /// Whether a coarse pass has left its features on the device.
    ready: bool,
    /// Why it refuses to work.
    failure: Option<String>,
    device_ms: Option<f32>,
}

impl TensorRtEngine {
    /// Binds the plans, allocates everything, warms up, and captures and verifies the CUDA graphs. `about` says what computes, for people.
    ///
    /// # Errors
    /// [`Kind::Model`] when a plan is not for a model of this `geometry`, [`Kind::Device`] when the device fails.
    pub fn new(device: Device, executions: Executions, geometry: Geometry, about: String) -> Result<Self> {
        let Executions { coarse, fine, full } = executions;
        let features = coarse.tensors().iter().find(|tensor| tensor.name == onnx::COARSE_FEATURES);
        let element = features.and_then(|tensor| tensor.element).unwrap_or(Element::F32);
        let buffers = Buffers::new(&device, &geometry, element)?;
        let stage = |graph, execution| Stage::new(graph, execution, &buffers, &geometry);
        let (coarse, fine) = (stage(Graph::Coarse, coarse)?, stage(Graph::Fine, fine)?);
        let full = full.map(|execution| stage(Graph::Static, execution)).transpose()?;
        let mut engine = Self {
            coarse,
            fine,
            full,
            buffers,
            device,
            geometry,
            about,
            identity: None,
            ready: false,
            failure: None,
            device_ms: None,
        };
        engine.prepare()?;
        Ok(engine)
    }

    /// The same, with what tells its plans from others: see [`Engine::identity`].
    #[must_use]
    pub fn identified_by(self, identity: String) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// Warms up and captures. The coarse stage comes first: its features are what the fine stage needs.
    fn prepare(&mut self) -> Result<()> {
        let Self { coarse, fine, full, buffers, device, geometry, .. } = self;
        capture::prepare(coarse, device, buffers, |buffers, picture| {
            noise(buffers.coarse_image.as_mut_slice(), picture);
        })?;
        let cells = geometry.cells() as i32;
        let show_fine = |buffers: &mut Buffers, picture| {
            noise(buffers.fine_image.as_mut_slice(), picture);
            // The first cells, then the last.
            let order = |i: usize| if picture == 0 { i as i32 } else { cells - 1 - i as i32 };
            let chosen = buffers.informative.as_mut_slice();
            let count = chosen.len();
            chosen.iter_mut().enumerate().for_each(|(i, cell)| *cell = order(i));
            chosen.sort_unstable();
            let kept = buffers.kept.as_mut_slice();
            kept.iter_mut().enumerate().for_each(|(i, cell)| *cell = order(count + i));
            kept.sort_unstable();
        };
        capture::prepare(fine, device, buffers, show_fine)?;
        if let Some(full) = full {
            capture::prepare(full, device, buffers, show_fine)?;
        }
        Ok(())
    }

    /// Whether coarse and fine stage run as CUDA graphs.
    pub fn captured(&self) -> [bool; 2] {
        [self.coarse.is_captured(), self.fine.is_captured()]
    }

    /// What TensorRT's inspector tells of each plan's layers, as JSON, where it tells anything.
    pub fn layers(&self) -> Vec<(Graph, String)> {
        let stages = [Some(&self.coarse), Some(&self.fine), self.full.as_ref()];
        stages.into_iter().flatten().filter_map(|stage| Some((stage.graph(), stage.layers()?))).collect()
    }

    /// Refuses to go on after a failure.
    fn check_alive(&self) -> Result<()> {
        match &self.failure {
            None => Ok(()),
            Some(failure) => {
                let message = format!("the engine stopped at an earlier failure and must be opened anew: {failure}");
                Err(Error::new(Kind::Device, message))
            }
        }
    }

    /// Notes how a run ended.
    fn finish(&mut self, run: Result<f32>) -> Result<()> {
        match run {
            Ok(milliseconds) => {
                self.device_ms = Some(milliseconds);
                Ok(())
            }
            Err(error) => {
                self.ready = false;
                self.failure = Some(error.to_string());
                Err(error)
            }
        }
    }
}

impl Engine for TensorRtEngine {
    fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    fn coarse(&mut self, image: &[f32], output: &mut CoarseOutput) -> Result<()> {
        self.check_alive()?;
        check_image(image, self.geometry.coarse_side())?;
        self.buffers.coarse_image.as_mut_slice().copy_from_slice(image);
        self.ready = false;
        let run = self.coarse.run(&self.device);
        self.finish(run)?;
        self.ready = true;
        refill(&mut output.logits, self.buffers.coarse_logits.as_slice());
        refill(&mut output.class_attention, self.buffers.class_attention.as_slice());
        Ok(())
    }

    fn fine(&mut self, image: &[f32], choice: &Choice, logits: &mut Vec<f32>) -> Result<()> {
        self.check_alive()?;
        check_image(image, self.geometry.fine_side())?;
        check_choice(choice, &self.geometry)?;
        if !self.ready {
            return Err(Error::new(Kind::Engine, "a fine pass needs the coarse pass of the same frame before it"));
        }
        self.buffers.fine_image.as_mut_slice().copy_from_slice(image);
        copy_cells(&choice.informative, self.buffers.informative.as_mut_slice());
        copy_cells(&choice.kept, self.buffers.kept.as_mut_slice());
        let run = self.fine.run(&self.device);
        self.finish(run)?;
        refill(logits, self.buffers.fine_logits.as_slice());
        Ok(())
    }

    fn full(&mut self, image: &[f32], logits: &mut Vec<f32>) -> Result<()> {
        self.check_alive()?;
        check_image(image, self.geometry.fine_side())?;
        let Some(full) = &mut self.full else {
            let message = "the package has no plan of the static baseline: build it with `cfvit build --static`";
            return Err(Error::new(Kind::Engine, message));
        };
        self.buffers.fine_image.as_mut_slice().copy_from_slice(image);
        let run = full.run(&self.device);
        self.finish(run)?;
        refill(logits, self.buffers.static_logits.as_slice());
        Ok(())
    }

    fn device_ms(&self) -> Option<f32> {
        self.device_ms
    }

    fn precision(&self) -> &'static str {
        self.buffers.options().precision.as_str()
    }

    fn identity(&self) -> String {
        self.identity.clone().unwrap_or_else(|| self.describe())
    }

    fn describe(&self) -> String {
        let how = match self.captured() {
            [true, true] => "CUDA graphs",
            [false, false] => "no CUDA graphs",
            [coarse, _] => {
                if coarse {
                    "a CUDA graph for the coarse stage only"
                } else {
                    "a CUDA graph for the fine stage only"
                }
            }
        };
        format!("{}, {}, {how}", self.device.name(), self.about)
    }
}

/// Copies cells of a choice that fits the geometry.
fn copy_cells(from: &[u32], to: &mut [i32]) {
    for (to, &cell) in to.iter_mut().zip(from) {
        *to = cell as i32;
    }
}

/// Makes `to` a copy of `from`, in its own memory.
fn refill(to: &mut Vec<f32>, from: &[f32]) {
    to.clear();
    to.extend_from_slice(from);
}

/// Fills `image` with test picture `number`: what a normalised picture may hold, another for each number.
fn noise(image: &mut [f32], number: usize) {
    let mut state = 0x9e37_79b9_u32.wrapping_mul(number as u32 + 1);
    for value in image {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *value = (state >> 8) as f32 / (1 << 22) as f32 - 2.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_pictures_differ_and_are_like_normalised_ones() {
        let mut pictures = [vec![0.0; 1000], vec![0.0; 1000]];
        for (number, picture) in pictures.iter_mut().enumerate() {
            noise(picture, number);
        }
        assert!(pictures.iter().flatten().all(|x| (-2.0..=2.0).contains(x)));
        assert_ne!(pictures[0], pictures[1]);
    }
}
