//! The memory behind every input and output of the engines, by the names that the graphs give them.

use std::ffi::c_void;

use half::f16;

use super::device::Device;
use super::memory::{DeviceBuffer, HostUse, Pinned};
use crate::error::{Error, Kind, Result};
use crate::model::Geometry;
use crate::model::onnx::{self, Element, Options};

/// All inputs and outputs, allocated once. Pictures, choices and answers lie in pinned memory that both sides use in place; features and
/// embedding go from the coarse engine to the fine one without ever leaving the device.
pub struct Buffers {
    /// `[3, gP, gP]`
    pub coarse_image: Pinned<f32>,
    /// `[classes]`
    pub coarse_logits: Pinned<f32>,
    /// `[g²]`
    pub class_attention: Pinned<f32>,
    /// `[g², C]`
    pub coarse_features: DeviceBuffer,
    /// `[g², C]`, FP32
    pub coarse_embedding: DeviceBuffer,
    /// `[3, 2gP, 2gP]`: the fine and the static engine's.
    pub fine_image: Pinned<f32>,
    /// `[k]`
    pub informative: Pinned<i32>,
    /// `[g² − k]`
    pub kept: Pinned<i32>,
    /// `[classes]`
    pub fine_logits: Pinned<f32>,
    /// `[classes]`
    pub static_logits: Pinned<f32>,
    /// Of the features.
    element: Element,
}

impl Buffers {
    /// Zeros for engines of a model of this `geometry`, whose features are of `element`.
    ///
    /// # Errors
    /// [`Kind::Device`] when there is not enough memory.
    pub fn new(device: &Device, geometry: &Geometry, element: Element) -> Result<Self> {
        let (cells, informative) = (geometry.cells(), geometry.informative());
        let image = |side: usize| Pinned::zeroed(device, 3 * side * side, HostUse::Writes);
        let indices = |count| Pinned::zeroed(device, count, HostUse::Writes);
        let answer = |count| Pinned::zeroed(device, count, HostUse::Reads);
        let tokens = |element: Element| DeviceBuffer::zeroed(device, cells * geometry.width * element.size());
        Ok(Self {
            coarse_image: image(geometry.coarse_side())?,
            coarse_logits: answer(geometry.classes)?,
            class_attention: answer(cells)?,
            coarse_features: tokens(element)?,
            coarse_embedding: tokens(Element::F32)?,
            fine_image: image(geometry.fine_side())?,
            informative: indices(informative)?,
            kept: indices(cells - informative)?,
            fine_logits: answer(geometry.classes)?,
            static_logits: answer(geometry.classes)?,
            element,
        })
    }

    /// What the graphs of these engines were made for.
    pub fn options(&self) -> Options {
        let precision = if self.element == Element::F16 { onnx::Precision::Fp16 } else { onnx::Precision::Fp32 };
        Options { precision, batch: 1 }
    }

    /// Where the device finds the tensor called `name`.
    ///
    /// # Errors
    /// [`Kind::Model`] for a name that no graph has.
    pub fn address(&self, name: &str) -> Result<*mut c_void> {
        Ok(match name {
            onnx::COARSE_IMAGE => self.coarse_image.address(),
            onnx::COARSE_FEATURES => self.coarse_features.address(),
            onnx::COARSE_EMBEDDING => self.coarse_embedding.address(),
            onnx::FINE_IMAGE => self.fine_image.address(),
            onnx::INFORMATIVE => self.informative.address(),
            onnx::KEPT => self.kept.address(),
            _ => self.answer(name)?.address(),
        })
    }

    /// The values of the output called `name`, as the last run left them.
    ///
    /// # Errors
    /// [`Kind::Device`] when device memory cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        let (buffer, element) = match name {
            onnx::COARSE_FEATURES => (&self.coarse_features, self.element),
            onnx::COARSE_EMBEDDING => (&self.coarse_embedding, Element::F32),
            _ => return Ok(self.answer(name)?.as_slice().to_vec()),
        };
        let bytes = buffer.read()?;
        Ok(match element {
            Element::F16 => bytes.chunks_exact(2).map(|b| f16::from_ne_bytes([b[0], b[1]]).to_f32()).collect(),
            _ => bytes.chunks_exact(4).map(|b| f32::from_ne_bytes([b[0], b[1], b[2], b[3]])).collect(),
        })
    }

    /// Fills the output called `name` with NaN, so that a run that does not write it cannot look right.
    ///
    /// # Errors
    /// [`Kind::Device`] when device memory cannot be written.
    pub fn poison(&mut self, name: &str) -> Result<()> {
        match name {
            // All bits set are a NaN in either format.
            onnx::COARSE_FEATURES => self.coarse_features.fill(0xff),
            onnx::COARSE_EMBEDDING => self.coarse_embedding.fill(0xff),
            _ => {
                self.answer_mut(name)?.as_mut_slice().fill(f32::NAN);
                Ok(())
            }
        }
    }

    fn answer(&self, name: &str) -> Result<&Pinned<f32>> {
        Ok(match name {
            onnx::COARSE_LOGITS => &self.coarse_logits,
            onnx::CLASS_ATTENTION => &self.class_attention,
            onnx::FINE_LOGITS => &self.fine_logits,
            onnx::STATIC_LOGITS => &self.static_logits,
            _ => return Err(unknown(name)),
        })
    }

    fn answer_mut(&mut self, name: &str) -> Result<&mut Pinned<f32>> {
        Ok(match name {
            onnx::COARSE_LOGITS => &mut self.coarse_logits,
            onnx::CLASS_ATTENTION => &mut self.class_attention,
            onnx::FINE_LOGITS => &mut self.fine_logits,
            onnx::STATIC_LOGITS => &mut self.static_logits,
            _ => return Err(unknown(name)),
        })
    }
}

fn unknown(name: &str) -> Error {
    Error::new(Kind::Model, format!("no input or output of a cfvit engine is called `{name}`"))
}
