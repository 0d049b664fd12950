//! Checkpoints of random weights: for builds, benchmarks and tests that need a model's size and not its knowledge.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::Dtype;

use super::tensor_file::HEADS_KEY;
use super::weights::expected_tensors;
use super::{DType, Geometry};
use crate::error::Result;
use crate::files;

/// Writes a `.safetensors` checkpoint of 32-bit floats with random weights for `geometry` to `path`. The bytes depend on the
/// geometry and the `seed` only, not on the machine. One tensor at a time is in memory.
///
/// The weights have a trained model's character: activations of about unit size, attention that prefers some cells, logits that
/// differ. What they answer means nothing.
///
/// # Errors
/// [`Kind::Io`](crate::error::Kind::Io) when the file cannot be written; an old one is untouched then.
pub fn write_random(path: &Path, geometry: &Geometry, seed: u64) -> Result<()> {
    let tensors: Vec<_> = expected_tensors(geometry)
        .into_iter()
        .map(|(name, shape)| (name.clone(), RandomTensor { name, shape, seed }))
        .collect();
    let metadata = HashMap::from([(HEADS_KEY.to_string(), geometry.heads.to_string())]);
    files::replace(path, |temporary| {
        safetensors::serialize_to_file(tensors, Some(metadata), temporary).map_err(std::io::Error::other)
    })
}

/// A tensor that is made when its turn comes to be written.
struct RandomTensor {
    name: String,
    shape: Vec<usize>,
    seed: u64,
}

impl RandomTensor {
    fn len(&self) -> usize {
        self.shape.iter().product()
    }

    fn values(&self) -> Vec<f32> {
        let Distribution { mean, deviation, uniform } = Distribution::of(&self.name, &self.shape);
        let mut random = Random::new(self.seed, &self.name);
        let value = |_| mean + deviation * if uniform { random.uniform() } else { random.normal() };
        (0..self.len()).map(value).collect()
    }
}

impl safetensors::View for RandomTensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        DType::F32.encode(&self.values()).into()
    }

    fn data_len(&self) -> usize {
        self.len() * size_of::<f32>()
    }
}

/// How the values of a tensor are spread.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Distribution {
    mean: f32,
    deviation: f32,
    /// Uniform in `mean .. mean + deviation`; else normal.
    uniform: bool,
}

impl Distribution {
    fn of(name: &str, shape: &[usize]) -> Self {
        let normal = |mean, deviation| Self { mean, deviation, uniform: false };
        let last = name.rsplit('.').next().unwrap_or(name);
        match (name, last, shape) {
            ("cls_token", ..) => normal(0.0, 1.0),
            (_, "running_var", _) => Self { mean: 0.5, deviation: 1.0, uniform: true },
            (_, "bias" | "running_mean", _) => normal(0.0, 0.1),
            (_, "weight", [_]) => normal(1.0, 0.2),
            (_, "weight", [_, inputs @ ..]) => {
                let fan_in: usize = inputs.iter().product();
                normal(0.0, gain(name) / (fan_in as f32).sqrt())
            }
            _ => normal(0.0, 0.4), // the positions
        }
    }
}

/// By how much a layer enlarges what it reads.
fn gain(name: &str) -> f32 {
    if name.ends_with("attn.qkv.weight") {
        1.4
    } else if name.starts_with("patch_embed.conv") {
        1.5 // half of what it makes falls to the ReLU
    } else if name.starts_with("patch_embed.") {
        2.0
    } else if name.starts_with("head.") || name.starts_with("aux_head.") {
        3.0
    } else {
        1.0
    }
}

/// The SplitMix64 generator (Steele, Lea, Flood, 2014). Only integer arithmetic and single roundings of IEEE 754, no library
/// function, so every machine makes the same numbers.
struct Random(u64);

impl Random {
    /// A stream of its own for each `name`, so that tensors can be made in any order: FNV-1a over the name.
    fn new(seed: u64, name: &str) -> Self {
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let mut mixed = Self(seed ^ name.bytes().fold(0xcbf2_9ce4_8422_2325, hash));
        Self(mixed.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0 .. 1`.
    fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u32 << 24) as f32
    }

    /// Close to a normal variable of mean 0 and variance 1: the sum of four 16-bit integers, within ±3.47.
    fn normal(&mut self) -> f32 {
        /// The standard deviation of that sum, `√((2³² − 1) / 3)`.
        const DEVIATION: f32 = 37_837.227;
        let bits = self.next();
        let sum: i64 = (0..4).map(|i| (bits >> (16 * i) & 0xffff) as i64).sum();
        (sum - 2 * 0xffff) as f32 / DEVIATION
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Family, open, open_with_details};
    use super::*;
    use sha2::{Digest, Sha256};

    fn tiny(family: Family) -> Geometry {
        let stem = if family == Family::Lvvit { 8 } else { 0 };
        Geometry { family, grid: 3, patch: 4, width: 24, depth: 4, heads: 3, hidden: 48, classes: 7, stem }
    }

    fn sum(geometry: &Geometry, seed: u64) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("random.safetensors");
        write_random(&path, geometry, seed).unwrap();
        let digest = Sha256::digest(std::fs::read(&path).unwrap());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The sums were taken on x86-64; whatever else runs this test must come to the same.
    #[test]
    fn the_bytes_are_the_same_on_every_machine() {
        assert_eq!(sum(&tiny(Family::Deit), 7), "fad545c005c866a8cecf12aeae1f822baa998cf15c4a96ab0e46bb0ce03abc52");
        assert_eq!(sum(&tiny(Family::Lvvit), 7), "bbb77f7a3a0cc9bcc899973fbbc36f0d219f29963f09f551ea2cd265fd698e93");
        assert_ne!(sum(&tiny(Family::Deit), 8), sum(&tiny(Family::Deit), 7));
    }

    #[test]
    fn a_file_of_either_family_opens_as_the_model_that_was_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        for family in [Family::Deit, Family::Lvvit] {
            let path = folder.path().join(family.as_str());
            write_random(&path, &tiny(family), 1).unwrap();
            let (model, details) = open_with_details(Some(&path), None).unwrap();
            assert_eq!(model.geometry, tiny(family), "the head count comes from the metadata");
            assert!(details.ignored.is_empty());
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn values_have_the_spread_that_was_meant() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("random.safetensors");
        let geometry = Geometry { width: 64, heads: 1, hidden: 256, depth: 4, ..tiny(Family::Lvvit) };
        write_random(&path, &geometry, 3).unwrap();
        let tensors = open(Some(&path), None).unwrap().tensors;
        let spread = |name: &str| {
            let values = &tensors[name].data;
            let mean = values.iter().sum::<f32>() / values.len() as f32;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / values.len() as f32;
            (mean, variance.sqrt())
        };
        let near = |(mean, deviation): (f32, f32), expected: (f32, f32)| {
            (mean - expected.0).abs() < 0.1 * expected.1.max(0.01) && (deviation / expected.1 - 1.0).abs() < 0.05
        };
        assert!(near(spread("blocks.1.mlp.fc1.weight"), (0.0, 0.125)));
        assert!(near(spread("blocks.1.attn.qkv.weight"), (0.0, 1.4 / 8.0)));
        assert!(tensors["patch_embed.bn1.running_var"].data.iter().all(|v| (0.5..1.5).contains(v)));
        assert!((spread("norm.weight").0 - 1.0).abs() < 0.1);
    }
}
