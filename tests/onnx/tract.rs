//! The graphs in tract. FP32 graphs are run; FP16 ones only read, type-checked and optimised: on x86-64 tract sums FP16 products in FP16 (the
//! logits of the golden `deit-7` are off by 0.021), where GPUs and ONNX Runtime sum in FP32, so its numbers would say nothing about the
//! graphs.

use std::io::Cursor;

use cfvit::frame::Choice;
use cfvit::gather;
use cfvit::model::Family;
use cfvit::model::onnx::{Bindings, Element, Graph, Options, Precision, bindings};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

use super::cases::{self, Case, close};

/// Logits.
const LOGIT_TOLERANCE: f32 = 1e-4;
/// Class attention, relative to its maximum.
const ATTENTION_TOLERANCE: f32 = 1e-5;

/// Reads `graph` of the case's model; what comes in and goes out has the names, types and shapes that `bindings` says.
fn optimised(case: &Case, options: Options, graph: Graph) -> TypedModel {
    let bytes = case.export(options, graph);
    let model = tract_onnx::onnx().model_for_read(&mut Cursor::new(bytes)).unwrap();
    let expected = bindings(&case.model.geometry, options, graph);
    check_names(&model, &expected);
    let model = model.into_optimized().unwrap();
    for (i, binding) in expected.outputs.iter().enumerate() {
        let fact = model.output_fact(i).unwrap();
        assert_eq!(fact.shape.as_concrete().unwrap(), binding.shape, "{}: {}", case.name, binding.name);
        assert_eq!(fact.datum_type, datum_type(binding.element), "{}: {}", case.name, binding.name);
    }
    model
}

/// All outputs of `graph`, of those `inputs`.
fn run(case: &Case, options: Options, graph: Graph, inputs: Vec<Tensor>) -> Vec<Tensor> {
    let model = optimised(case, options, graph).into_runnable().unwrap();
    let outputs = model.run(inputs.into_iter().map(Tensor::into_tvalue).collect()).unwrap();
    outputs.into_iter().map(TValue::into_tensor).collect()
}

fn check_names(model: &InferenceModel, expected: &Bindings) {
    let found = |outlets: &[OutletId]| -> Vec<(String, DatumType)> {
        let fact = |&outlet: &OutletId| model.outlet_fact(outlet).unwrap().datum_type.concretize().unwrap();
        outlets.iter().map(|outlet| (model.node(outlet.node).name.clone(), fact(outlet))).collect()
    };
    let inputs: Vec<_> = expected.inputs.iter().map(|b| (b.name.to_string(), datum_type(b.element))).collect();
    assert_eq!(found(model.input_outlets().unwrap()), inputs);
    for (outlet, binding) in model.output_outlets().unwrap().iter().zip(&expected.outputs) {
        assert_eq!(model.outlet_label(*outlet), Some(binding.name));
    }
}

fn datum_type(element: Element) -> DatumType {
    match element {
        Element::F32 => f32::datum_type(),
        Element::F16 => f16::datum_type(),
        Element::I32 => i32::datum_type(),
        Element::I64 => i64::datum_type(),
    }
}

fn floats(tensor: &Tensor) -> Vec<f32> {
    tensor.cast_to::<f32>().unwrap().to_plain_array_view::<f32>().unwrap().iter().copied().collect()
}

/// All graphs of a case in FP32; the fine one with the CPU engine's cells.
fn check(case: &Case) {
    let options = Options { precision: Precision::Fp32, batch: case.batch() };
    let what = |output: &str| format!("{}: {output}", case.name);
    let tensor = |graph: Graph, input: usize, values: &[f32]| {
        Tensor::from_shape(&bindings(&case.model.geometry, options, graph).inputs[input].shape, values).unwrap()
    };
    let indices = |of: fn(&Choice) -> &Vec<u32>| {
        let cells: Vec<i32> = case.joined(|e| of(&e.choice)).into_iter().map(|cell| cell as i32).collect();
        Tensor::from_shape(&[case.batch(), cells.len() / case.batch()], &cells).unwrap()
    };
    let [coarse_image, fine_image] = case.images();

    let mut coarse = run(case, options, Graph::Coarse, vec![tensor(Graph::Coarse, 0, &coarse_image)]);
    close(&floats(&coarse[0]), &case.joined(|e| &e.coarse.logits), LOGIT_TOLERANCE, &what("coarse logits"));
    check_attention(case, &floats(&coarse[1]), &what("class attention"));

    let (embedding, features) = (coarse.pop().unwrap(), coarse.pop().unwrap());
    let image = tensor(Graph::Fine, 0, &fine_image);
    let inputs = vec![image.clone(), features, embedding, indices(|c| &c.informative), indices(|c| &c.kept)];
    let fine = run(case, options, Graph::Fine, inputs);
    close(&floats(&fine[0]), &case.joined(|e| &e.fine_logits), LOGIT_TOLERANCE, &what("fine logits"));

    let all = run(case, options, Graph::Static, vec![image]);
    close(&floats(&all[0]), &case.joined(|e| &e.static_logits), LOGIT_TOLERANCE, &what("static logits"));
}

/// The class attention is the same, and leads to the same cells.
fn check_attention(case: &Case, attention: &[f32], what: &str) {
    let expected = case.joined(|e| &e.coarse.class_attention);
    let largest = expected.iter().copied().fold(0.0, f32::max);
    close(attention, &expected, ATTENTION_TOLERANCE * largest, what);
    for (attention, expected) in attention.chunks_exact(case.model.geometry.cells()).zip(&case.expected) {
        let mut choice = Choice::default();
        gather::choose(attention, case.model.geometry.informative(), &mut choice);
        assert_eq!(choice, expected.choice, "{what}");
    }
}

#[test]
fn golden_models() {
    let cases = [cases::golden("tests/data/golden"), cases::golden("../shared/golden"), cases::batches().into()];
    cases.iter().flatten().for_each(check);
}

#[test]
fn models_of_other_shapes() {
    [Family::Deit, Family::Lvvit].into_iter().for_each(|family| check(&cases::odd(family)));
}

#[test]
fn full_size_deit() {
    [7, 9].into_iter().for_each(|grid| check(&cases::full_size(Family::Deit, grid)));
}

#[test]
fn full_size_lvvit() {
    [7, 9].into_iter().for_each(|grid| check(&cases::full_size(Family::Lvvit, grid)));
}

#[test]
fn fp16_graphs_are_understood() {
    let cases = [cases::golden("tests/data/golden"), cases::batches().into()];
    for case in cases.iter().flatten() {
        for graph in [Graph::Coarse, Graph::Fine, Graph::Static] {
            optimised(case, Options { precision: Precision::Fp16, batch: case.batch() }, graph);
        }
    }
}
