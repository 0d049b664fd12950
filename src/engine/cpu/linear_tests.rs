//! The packed product against a naive one, and against `rten-gemm`, on every instruction set of this CPU.

use super::super::kernels::supported;
use super::super::memory::Matrix;
use super::super::pool::Pool;
use super::super::reference::Noise;
use super::*;
use rten_gemm::{GemmExecutor, GemmInputA, GemmInputB, GemmOptions};
use rten_tensor::prelude::*;
use rten_tensor::{NdTensor, NdTensorView};

/// `x · wᵀ` by `rten-gemm`.
fn oracle(x: &[f32], w: &[f32], m: usize, n: usize, k: usize) -> Vec<f32> {
    let transposed = NdTensorView::from_data([n, k], w).transposed().to_tensor();
    let x = NdTensor::from_data([m, k], x.to_vec());
    let gemm = GemmExecutor::<f32>::new();
    let packed = gemm.prepack_b(transposed.view());
    let mut out = vec![0.0; m * n];
    let (a, b) = (GemmInputA::Unpacked(x.view()), GemmInputB::Packed(&packed));
    gemm.gemm(&mut out, a, b, GemmOptions::default()).unwrap();
    out
}

#[test]
fn every_kernel_equals_rten_gemm_at_the_model_s_shapes_and_at_awkward_ones() {
    let mut noise = Noise(5);
    for (m, k, n) in [(50, 384, 1152), (125, 384, 384), (3, 1536, 384), (1, 384, 1000), (17, 21, 33), (29, 97, 5)] {
        let (x, w, bias) = (noise.vec(m * k), noise.vec(n * k), noise.vec(n));
        let product = oracle(&x, &w, m, n, k);
        let mut input = Matrix::new(m, k);
        (0..m).for_each(|i| input.row_mut(i).copy_from_slice(&x[i * k..][..k]));
        for kernels in supported() {
            for (how, part_scale) in [(Epilogue::STORE, 1.0), (Epilogue::ADD, 0.5), (Epilogue::RELU, 1.0)] {
                let mut exec = Exec::new(Pool::new(2).unwrap(), kernels, 1, 1);
                let part = Part { weight: &w, bias: Some(&bias), scale: part_scale };
                let layer = Linear::Single(Packed::new(&mut Arena::default(), kernels, k, &[part]));
                let mut out = Matrix::new(m, layer.columns());
                let old = noise.vec(m * n);
                (0..m).for_each(|i| out.row_mut(i)[..n].copy_from_slice(&old[i * n..][..n]));
                exec.linear(&layer, input.rows(0..m), out.rows_mut(0..m), how, None);
                for (i, (&p, &old)) in product.iter().zip(&old).enumerate() {
                    let mut expected = (p + bias[i % n]) * part_scale;
                    expected = if how.accumulate { expected + old } else { expected };
                    expected = if how.activation == Activation::Relu { expected.max(0.0) } else { expected };
                    let got = out.row(i / n)[i % n];
                    let tolerance = 2e-6 * (k as f32).sqrt() * 2.0;
                    assert!((got - expected).abs() < tolerance, "{} {m}×{k}×{n} [{i}]: {got} {expected}", kernels.name);
                }
                assert!((0..m).all(|i| out.row(i)[n..].iter().all(|&pad| pad == 0.0)), "the padding stays zero");
            }
        }
    }
}

#[test]
fn depth_is_cut_into_equal_blocks() {
    for (k, blocks) in [(384, 1), (768, 2), (1536, 4), (1152, 3), (4096, 16), (21, 1), (97, 1)] {
        assert_eq!(depth_blocks(k, 384), blocks, "{k}");
        assert_eq!(k % depth_blocks(k, 384), 0);
    }
}
