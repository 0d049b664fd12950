//! The model once more, as plainly as it can be written: 64-bit floats, no savings, no packing. The oracle of the engine's tests.

use std::collections::BTreeMap;

use crate::frame::Choice;
use crate::gather::fine_patches;
use crate::model::{Family, Geometry, Tensor, Tensors, expected_tensors};

type Rows = Vec<Vec<f64>>;

/// Numbers that are the same in every run: a linear congruential generator, uniform in −1 ..= 1.
pub struct Noise(pub u64);

impl Noise {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    pub fn vec(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }
}

/// Tensors of `geometry` that give lively activations: fan-in scaled weights, norms near one, positive variances.
pub fn random_tensors(geometry: &Geometry, seed: u64) -> Tensors {
    let mut noise = Noise(seed);
    let tensor = |(name, shape): (String, Vec<usize>)| {
        let fan_in = shape.iter().skip(1).product::<usize>().max(1) as f32;
        let mut data = noise.vec(shape.iter().product());
        let (mid, spread) = match name.as_str() {
            _ if name.ends_with("running_var") => (1.0, 0.5),
            _ if name.contains("norm") && name.ends_with("weight")
                || name.contains(".bn") && name.ends_with("weight") =>
            {
                (1.0, 0.3)
            }
            _ if name.contains("qkv.weight") => (0.0, 4.0 / fan_in.sqrt()),
            _ if shape.len() == 1 || name.contains("token") || name.contains("pos_embed") => (0.0, 0.5),
            _ => (0.0, 2.0 / fan_in.sqrt()),
        };
        data.iter_mut().for_each(|x| *x = mid + spread * *x);
        (name, Tensor { shape, data })
    };
    expected_tensors(geometry).into_iter().map(tensor).collect()
}

/// What the reference's coarse stage gives.
pub struct Coarse {
    pub logits: Vec<f64>,
    pub class_attention: Vec<f64>,
    features: Rows,
    embedding: Rows,
}

pub struct Reference<'a> {
    pub geometry: Geometry,
    pub tensors: &'a BTreeMap<String, Tensor>,
}

impl Reference<'_> {
    pub fn coarse(&self, image: &[f32]) -> Coarse {
        let embedding = self.embed(image, 0);
        let (features, class_attention) = self.trunk(embedding.clone());
        let mut logits = self.logits(&features);
        if self.geometry.family == Family::Lvvit {
            logits.iter_mut().for_each(|x| *x /= 1.25);
        }
        Coarse { logits, class_attention, features, embedding }
    }

    pub fn fine(&self, image: &[f32], choice: &Choice, coarse: &Coarse) -> Vec<f64> {
        let tokens = self.embed(image, 1);
        let mut sequence = vec![tokens[0].clone()];
        for &cell in &choice.informative {
            let feature = coarse.features[1 + cell as usize].clone();
            let hidden = self.linear("reuse_block.1.fc1", &self.norm("reuse_block.0", &[feature]));
            let reused = self.linear("reuse_block.1.fc2", &gelu(hidden)).remove(0);
            for patch in fine_patches(cell, self.geometry.grid as u32) {
                sequence.push(add(&tokens[1 + patch as usize], &reused, 1.0));
            }
        }
        sequence.extend(choice.kept.iter().map(|&cell| coarse.embedding[1 + cell as usize].clone()));
        self.logits(&self.trunk(sequence).0)
    }

    pub fn full(&self, image: &[f32]) -> Vec<f64> {
        self.logits(&self.trunk(self.embed(image, 1)).0)
    }

    fn get(&self, name: &str) -> Vec<f64> {
        self.tensors[name].data.iter().map(|&x| x as f64).collect()
    }

    fn linear(&self, name: &str, x: &Rows) -> Rows {
        let weight = self.get(&format!("{name}.weight"));
        let bias = self.tensors.contains_key(&format!("{name}.bias")).then(|| self.get(&format!("{name}.bias")));
        let product = |row: &Vec<f64>| {
            let columns = weight.chunks_exact(row.len()).enumerate();
            columns.map(|(n, w)| dot(w, row) + bias.as_ref().map_or(0.0, |b| b[n])).collect()
        };
        x.iter().map(product).collect()
    }

    fn norm(&self, name: &str, x: &[Vec<f64>]) -> Rows {
        let (gamma, beta) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias")));
        let normed = |row: &Vec<f64>| {
            let n = row.len() as f64;
            let mean = row.iter().sum::<f64>() / n;
            let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            let scale = (variance + self.geometry.family.layer_norm_eps() as f64).sqrt();
            (0..row.len()).map(|i| (row[i] - mean) / scale * gamma[i] + beta[i]).collect()
        };
        x.iter().map(normed).collect()
    }

    fn embed(&self, image: &[f32], stage: usize) -> Rows {
        let Geometry { patch, width, family, .. } = self.geometry;
        let positions = self.get(&format!("pos_embed_list.{stage}"));
        let image: Vec<f64> = image.iter().map(|&x| x as f64).collect();
        let patches = match family {
            Family::Deit => self.convolution("proj", &image, 3, patch, patch, 0),
            Family::Lvvit => {
                let mut map = self.convolution("conv1", &image, 3, 7, 2, 3);
                self.batch_norm_relu(1, &mut map);
                for i in [2, 3] {
                    map = self.convolution(&format!("conv{i}"), &map, self.geometry.stem, 3, 1, 1);
                    self.batch_norm_relu(i, &mut map);
                }
                self.convolution("proj", &map, self.geometry.stem, patch / 2, patch / 2, 0)
            }
        };
        let cells = patches.len() / width;
        let mut tokens = vec![add(&self.get("cls_token"), &positions[..width], 1.0)];
        for cell in 0..cells {
            let token: Vec<f64> = (0..width).map(|c| patches[c * cells + cell]).collect();
            tokens.push(add(&token, &positions[(1 + cell) * width..][..width], 1.0));
        }
        tokens
    }

    /// A convolution over planes; gives planes.
    fn convolution(&self, name: &str, x: &[f64], channels: usize, k: usize, step: usize, border: usize) -> Vec<f64> {
        let side = (x.len() / channels).isqrt();
        let out = (side + 2 * border - k) / step + 1;
        let weight = self.get(&format!("patch_embed.{name}.weight"));
        let bias_name = format!("patch_embed.{name}.bias");
        let bias = self.tensors.contains_key(&bias_name).then(|| self.get(&bias_name));
        let mut planes = Vec::new();
        for (n, filter) in weight.chunks_exact(channels * k * k).enumerate() {
            for (oy, ox) in (0..out * out).map(|i| (i / out, i % out)) {
                let mut sum = bias.as_ref().map_or(0.0, |b| b[n]);
                for (i, w) in filter.iter().enumerate() {
                    let (c, ky, kx) = (i / (k * k), i / k % k, i % k);
                    let (y, x_at) = (oy * step + ky, ox * step + kx);
                    if (border..side + border).contains(&y) && (border..side + border).contains(&x_at) {
                        sum += w * x[(c * side + y - border) * side + x_at - border];
                    }
                }
                planes.push(sum);
            }
        }
        planes
    }

    fn batch_norm_relu(&self, i: usize, planes: &mut [f64]) {
        let get = |part: &str| self.get(&format!("patch_embed.bn{i}.{part}"));
        let (gamma, beta, mean, variance) = (get("weight"), get("bias"), get("running_mean"), get("running_var"));
        let area = planes.len() / gamma.len();
        for (c, plane) in planes.chunks_exact_mut(area).enumerate() {
            let scale = gamma[c] / (variance[c] + 1e-5).sqrt();
            plane.iter_mut().for_each(|x| *x = ((*x - mean[c]) * scale + beta[c]).max(0.0));
        }
    }

    fn trunk(&self, mut x: Rows) -> (Rows, Vec<f64>) {
        let divisor = self.geometry.family.residual_divisor() as f64;
        let mut average = vec![0.0; x.len()];
        for i in 0..self.geometry.depth {
            let (mixed, cls) = self.attention(i, &self.norm(&format!("blocks.{i}.norm1"), &x));
            if i >= 3 {
                average.iter_mut().zip(cls).for_each(|(a, c)| *a = 0.99 * *a + 0.01 * c);
            }
            let branch = self.linear(&format!("blocks.{i}.attn.proj"), &mixed);
            x.iter_mut().zip(branch).for_each(|(x, b)| *x = add(x, &b, 1.0 / divisor));
            let hidden = self.linear(&format!("blocks.{i}.mlp.fc1"), &self.norm(&format!("blocks.{i}.norm2"), &x));
            let branch = self.linear(&format!("blocks.{i}.mlp.fc2"), &gelu(hidden));
            x.iter_mut().zip(branch).for_each(|(x, b)| *x = add(x, &b, 1.0 / divisor));
        }
        (self.norm("norm", &x), average[1..].to_vec())
    }

    fn attention(&self, block: usize, normed: &Rows) -> (Rows, Vec<f64>) {
        let Geometry { width, heads, .. } = self.geometry;
        let dim = width / heads;
        let qkv = self.linear(&format!("blocks.{block}.attn.qkv"), normed);
        let mut out = vec![vec![0.0; width]; normed.len()];
        let mut cls = vec![0.0; normed.len()];
        for first in (0..width).step_by(dim) {
            for (t, out) in out.iter_mut().enumerate() {
                let q = &qkv[t][first..][..dim];
                let scores = qkv.iter().map(|k| dot(q, &k[width + first..][..dim]) / (dim as f64).sqrt());
                let scores: Vec<f64> = scores.collect();
                let max = scores.iter().copied().fold(f64::MIN, f64::max);
                let e: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
                let total: f64 = e.iter().sum();
                for (u, weight) in e.iter().map(|e| e / total).enumerate() {
                    for d in 0..dim {
                        out[first + d] += weight * qkv[u][2 * width + first + d];
                    }
                    if t == 0 {
                        cls[u] += weight / heads as f64;
                    }
                }
            }
        }
        (out, cls)
    }

    fn logits(&self, features: &Rows) -> Vec<f64> {
        let mut logits = self.linear("head", &features[..1].to_vec()).remove(0);
        if self.geometry.family == Family::Lvvit {
            let aux = self.linear("aux_head", &features[1..].to_vec());
            for (class, logit) in logits.iter_mut().enumerate() {
                *logit += 0.25 * aux.iter().map(|row| row[class]).fold(f64::MIN, f64::max);
            }
        }
        logits
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(a: &[f64], b: &[f64], factor: f64) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + factor * b).collect()
}

fn gelu(mut x: Rows) -> Rows {
    let erf = |x: f64| {
        let (mut term, mut sum) = (x, x);
        for n in 1..100 {
            term *= -x * x / n as f64;
            sum += term / (2 * n + 1) as f64;
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    };
    for v in x.iter_mut().flatten() {
        let z = *v / 2f64.sqrt();
        *v *= 0.5 * (1.0 + if z.abs() < 3.5 { erf(z) } else { z.signum() });
    }
    x
}
