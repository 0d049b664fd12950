//! Batch norms as they are at inference: part of the convolution before them.

/// The epsilon of the published models' batch norms.
const EPS: f32 = 1e-5;

/// The weight and the bias of a convolution (`weight`, `[out, …]`, no bias of its own) with the batch norm after it:
/// BN(conv(x)) = conv(x) · γ/√(var + eps) + (β − mean · γ/√(var + eps)). `statistics` are γ, β, mean and var, `[out]` each.
pub(crate) fn fold(weight: &[f32], statistics: [&[f32]; 4]) -> (Vec<f32>, Vec<f32>) {
    let [gamma, beta, mean, variance] = statistics;
    let (mut weight, mut bias) = (weight.to_vec(), beta.to_vec());
    let filter = (weight.len() / bias.len().max(1)).max(1);
    for (o, filter) in weight.chunks_exact_mut(filter).enumerate() {
        let factor = gamma[o] / (variance[o] + EPS).sqrt();
        filter.iter_mut().for_each(|w| *w *= factor);
        bias[o] -= mean[o] * factor;
    }
    (weight, bias)
}
