//! The number formats that weights are stored in, and their way to and from 32-bit floats.

use half::{bf16, f16};

/// How a tensor's values are stored in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DType {
    /// IEEE half precision.
    F16,
    /// The upper half of an `f32`.
    Bf16,
    /// IEEE single precision.
    F32,
    /// IEEE double precision.
    F64,
    /// Integers, booleans and everything else that is never a weight.
    Other,
}

impl DType {
    /// `f16`, `bf16`, `f32`, `f64` or `other`.
    pub fn as_str(self) -> &'static str {
        match self {
            DType::F16 => "f16",
            DType::Bf16 => "bf16",
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::Other => "other",
        }
    }

    /// Bytes of one value; `None` for [`DType::Other`], which is never read.
    pub fn size(self) -> Option<usize> {
        match self {
            DType::F16 | DType::Bf16 => Some(2),
            DType::F32 => Some(4),
            DType::F64 => Some(8),
            DType::Other => None,
        }
    }

    /// The values in `bytes` (little-endian, a remainder shorter than one value is left out) as 32-bit floats. An `f64` beyond
    /// the range of `f32` becomes infinite, and [`DType::Other`] gives nothing.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        fn each<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            bytes.as_chunks::<N>().0.iter().map(|&chunk| value(chunk)).collect()
        }
        match self {
            DType::F16 => each(bytes, |b| f16::from_le_bytes(b).to_f32()),
            DType::Bf16 => each(bytes, |b| bf16::from_le_bytes(b).to_f32()),
            DType::F32 => each(bytes, f32::from_le_bytes),
            DType::F64 => each(bytes, |b| f64::from_le_bytes(b) as f32),
            DType::Other => Vec::new(),
        }
    }

    /// `values` as little-endian bytes, rounded to the nearest; [`DType::Other`] gives nothing.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            DType::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            DType::Bf16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
            DType::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            DType::F64 => values.iter().flat_map(|&v| f64::from(v).to_le_bytes()).collect(),
            DType::Other => Vec::new(),
        }
    }
}
