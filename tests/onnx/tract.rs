//! The graphs in tract. On x86-64 tract sums FP16 products in FP16, where GPUs and ONNX Runtime sum in FP32, so its FP16 numbers would say
//! nothing about the graphs: an FP16 graph is read and type-checked as it is, and then run with its FP16 weights in FP32 arithmetic.

use std::io::Cursor;

use cfvit::frame::Choice;
use cfvit::gather;
use cfvit::model::Family;
use cfvit::model::onnx::{Bindings, Element, Graph, Options, Precision, bindings};
use tract_onnx::prelude::*;
use tract_onnx::tract_core::floats::FloatPrecisionTranslator;
use tract_onnx::tract_core::transform::ModelTransform;
use tract_onnx::tract_hir::infer::Factoid;

use super::cases::{self, Case, close};

/// How far logits, and the class attention relative to its maximum, may be off.
fn tolerances(precision: Precision) -> (f32, f32) {
    match precision {
        Precision::Fp32 => (1e-4, 1e-5),
        Precision::Fp16 => (2e-2, 1e-2),
    }
}

/// Reads `graph` of the case's model; what comes in and goes out has the names, types and shapes that `bindings` says.
fn optimised(case: &Case, options: Options, graph: Graph) -> TypedModel {
    let bytes = case.export(options, graph);
    let model = tract_onnx::onnx().model_for_read(&mut Cursor::new(bytes)).unwrap();
    let expected = bindings(&case.model.geometry, options, graph);
    check_names(&model, &expected);
    let mut model = model.into_typed().unwrap();
    for (i, binding) in expected.outputs.iter().enumerate() {
        let fact = model.output_fact(i).unwrap();
        assert_eq!(fact.shape.as_concrete().unwrap(), binding.shape, "{}: {}", case.name, binding.name);
        assert_eq!(fact.datum_type, datum_type(binding.element), "{}: {}", case.name, binding.name);
    }
    FloatPrecisionTranslator::new(f16::datum_type(), f32::datum_type()).transform(&mut model).unwrap();
    model.into_optimized().unwrap()
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

/// All graphs of a case in both precisions.
fn check(case: &Case) {
    [Precision::Fp32, Precision::Fp16].into_iter().for_each(|precision| check_in(case, precision));
}

/// All graphs of a case; the fine one with the CPU engine's cells.
fn check_in(case: &Case, precision: Precision) {
    let options = Options { precision, batch: case.batch() };
    let (logits, _) = tolerances(precision);
    let what = |output: &str| format!("{}, {}: {output}", case.name, precision.as_str());
    let tensor = |graph: Graph, input: usize, values: &[f32]| {
        Tensor::from_shape(&bindings(&case.model.geometry, options, graph).inputs[input].shape, values).unwrap()
    };
    let indices = |of: fn(&Choice) -> &Vec<u32>| {
        let cells: Vec<i32> = case.joined(|e| of(&e.choice)).into_iter().map(|cell| cell as i32).collect();
        Tensor::from_shape(&[case.batch(), cells.len() / case.batch()], &cells).unwrap()
    };
    let [coarse_image, fine_image] = case.images();

    let mut coarse = run(case, options, Graph::Coarse, vec![tensor(Graph::Coarse, 0, &coarse_image)]);
    close(&floats(&coarse[0]), &case.joined(|e| &e.coarse.logits), logits, &what("coarse logits"));
    check_attention(case, precision, &floats(&coarse[1]), &what("class attention"));

    let (embedding, features) = (coarse.pop().unwrap(), coarse.pop().unwrap());
    let image = tensor(Graph::Fine, 0, &fine_image);
    let inputs = vec![image.clone(), features, embedding, indices(|c| &c.informative), indices(|c| &c.kept)];
    let fine = run(case, options, Graph::Fine, inputs);
    close(&floats(&fine[0]), &case.joined(|e| &e.fine_logits), logits, &what("fine logits"));

    let all = run(case, options, Graph::Static, vec![image]);
    close(&floats(&all[0]), &case.joined(|e| &e.static_logits), logits, &what("static logits"));
}

/// The class attention is the same, and leads to the same cells.
fn check_attention(case: &Case, precision: Precision, attention: &[f32], what: &str) {
    let expected = case.joined(|e| &e.coarse.class_attention);
    let largest = expected.iter().copied().fold(0.0, f32::max);
    close(attention, &expected, tolerances(precision).1 * largest, what);
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
