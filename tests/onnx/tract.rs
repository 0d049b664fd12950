//! The graphs in tract.

use std::io::Cursor;

use cfvit::frame::Choice;
use cfvit::gather;
use cfvit::model::Family;
use cfvit::model::onnx::{Bindings, Element, Graph, Options, Precision, bindings};
use tract_onnx::prelude::*;

use super::cases::{self, Case, close};

/// Logits of FP32 graphs.
const FP32_TOLERANCE: f32 = 1e-4;
/// Logits of FP16 graphs.
const FP16_TOLERANCE: f32 = 2e-2;

/// Runs `graph` of the case's model on `inputs`; what comes in and goes out has the shapes and types that `bindings` says.
fn run(case: &Case, options: Options, graph: Graph, inputs: Vec<Tensor>) -> Vec<Tensor> {
    let bytes = case.export(options, graph);
    let model = tract_onnx::onnx().model_for_read(&mut Cursor::new(bytes)).unwrap();
    let expected = bindings(&case.model.geometry, options, graph);
    check_names(&model, &expected);
    let model = model.into_optimized().unwrap().into_runnable().unwrap();
    let outputs = model.run(inputs.into_iter().map(Tensor::into_tvalue).collect()).unwrap();
    let outputs: Vec<Tensor> = outputs.into_iter().map(TValue::into_tensor).collect();
    assert_eq!(outputs.len(), expected.outputs.len());
    for (output, binding) in outputs.iter().zip(&expected.outputs) {
        assert_eq!(output.shape(), binding.shape, "{}: {}", case.name, binding.name);
        assert_eq!(output.datum_type(), datum_type(binding.element), "{}: {}", case.name, binding.name);
    }
    outputs
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
    tensor.cast_to::<f32>().unwrap().as_slice::<f32>().unwrap().to_vec()
}

/// All graphs of a case; the fine one with the CPU engine's cells.
fn check(case: &Case, precision: Precision, with_static: bool) {
    let options = Options { precision, batch: case.batch() };
    let tolerance = if precision == Precision::Fp32 { FP32_TOLERANCE } else { FP16_TOLERANCE };
    let what = |output: &str| format!("{} {}: {output}", case.name, precision.as_str());
    let tensor = |graph: Graph, input: usize, values: &[f32]| {
        Tensor::from_shape(&bindings(&case.model.geometry, options, graph).inputs[input].shape, values).unwrap()
    };
    let indices = |of: fn(&Choice) -> &Vec<u32>| {
        let cells = case.joined(|expected| of(&expected.choice));
        let cells: Vec<i32> = cells.into_iter().map(|cell| cell as i32).collect();
        Tensor::from_shape(&[case.batch(), cells.len() / case.batch()], &cells).unwrap()
    };
    let [coarse_image, fine_image] = case.images();

    let mut coarse = run(case, options, Graph::Coarse, vec![tensor(Graph::Coarse, 0, &coarse_image)]);
    close(&floats(&coarse[0]), &case.joined(|e| &e.coarse.logits), tolerance, &what("coarse logits"));
    check_choice(case, &floats(&coarse[1]), &what("class attention"));

    let (embedding, features) = (coarse.pop().unwrap(), coarse.pop().unwrap());
    let image = tensor(Graph::Fine, 0, &fine_image);
    let inputs = vec![image.clone(), features, embedding, indices(|c| &c.informative), indices(|c| &c.kept)];
    let fine = run(case, options, Graph::Fine, inputs);
    close(&floats(&fine[0]), &case.joined(|e| &e.fine_logits), tolerance, &what("fine logits"));

    if with_static {
        let logits = run(case, options, Graph::Static, vec![image]);
        close(&floats(&logits[0]), &case.joined(|e| &e.static_logits), tolerance, &what("static logits"));
    }
}

/// The class attention leads to the same cells.
fn check_choice(case: &Case, attention: &[f32], what: &str) {
    let cells = case.model.geometry.cells();
    assert_eq!(attention.len(), case.batch() * cells, "{what}");
    for (attention, expected) in attention.chunks_exact(cells).zip(&case.expected) {
        let mut choice = Choice::default();
        gather::choose(attention, case.model.geometry.informative(), &mut choice);
        assert_eq!(choice, expected.choice, "{what}");
    }
}

#[test]
fn golden_models_in_fp32() {
    let cases = [cases::golden("tests/data/golden"), cases::golden("../shared/golden")];
    cases.iter().flatten().for_each(|case| check(case, Precision::Fp32, true));
}

#[test]
fn golden_models_in_fp16() {
    let cases = [cases::golden("tests/data/golden"), cases::golden("../shared/golden")];
    cases.iter().flatten().for_each(|case| check(case, Precision::Fp16, true));
}

#[test]
fn full_size_deit_in_fp32() {
    [7, 9].map(|grid| check(&cases::full_size(Family::Deit, grid), Precision::Fp32, true));
}

#[test]
fn full_size_lvvit_in_fp32() {
    [7, 9].map(|grid| check(&cases::full_size(Family::Lvvit, grid), Precision::Fp32, true));
}
