//! What the graphs are made of. What they compute is in `tests/onnx`.

use std::collections::{BTreeMap, BTreeSet};

use super::file::OnnxFile;
use super::proto::NodeProto;
use super::*;
use crate::gather::fine_patches;
use crate::model::{FIRST_ATTENTION_BLOCK, Family, open, write_random};

const GRAPHS: [Graph; 3] = [Graph::Coarse, Graph::Fine, Graph::Static];

fn tiny(family: Family) -> Model {
    let stem = if family == Family::Lvvit { 8 } else { 0 };
    let geometry = Geometry { family, grid: 3, patch: 4, width: 24, depth: 5, heads: 3, hidden: 48, classes: 7, stem };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.safetensors");
    write_random(&path, &geometry, 1).unwrap();
    open(Some(&path), None).unwrap()
}

/// All graphs of both families.
fn each(check: impl Fn(&Model, Options, Graph, OnnxFile<'_>)) {
    for model in [Family::Deit, Family::Lvvit].map(tiny) {
        for (precision, batch) in [(Precision::Fp16, 1), (Precision::Fp32, 3)] {
            let options = Options { precision, batch };
            for graph in GRAPHS {
                check(&model, options, graph, graphs::build(&model, options, graph).unwrap());
            }
        }
    }
}

fn op(node: &NodeProto) -> &str {
    node.op_type.as_deref().unwrap()
}

fn count(file: &OnnxFile<'_>, name: &str) -> usize {
    file.graph.node.iter().filter(|node| op(node) == name).count()
}

/// Names, types and shapes of all inputs or outputs.
fn declared(values: &[proto::ValueInfoProto]) -> Vec<(String, i32, Vec<usize>)> {
    let of = |value: &proto::ValueInfoProto| {
        let tensor = value.r#type.clone().unwrap().tensor_type.unwrap();
        let shape = tensor.shape.unwrap().dim.iter().map(|d| d.dim_value.unwrap() as usize).collect();
        (value.name.clone().unwrap(), tensor.elem_type.unwrap(), shape)
    };
    values.iter().map(of).collect()
}

#[test]
fn inputs_and_outputs_are_what_bindings_says() {
    each(|model, options, graph, file| {
        let bound = bindings(&model.geometry, options, graph);
        let of = |all: &[Binding]| -> Vec<_> {
            all.iter().map(|b| (b.name.to_string(), b.element.data_type(), b.shape.clone())).collect()
        };
        assert_eq!(declared(&file.graph.input), of(&bound.inputs));
        assert_eq!(declared(&file.graph.output), of(&bound.outputs));
    });
}

/// ONNX wants nodes in an order in which everything is made before it is read, and every name made once.
#[test]
fn every_value_is_made_once_before_it_is_read_and_read_afterwards() {
    each(|_, _, graph, file| {
        let mut made: BTreeSet<String> = declared(&file.graph.input).into_iter().map(|(name, ..)| name).collect();
        let constants = file.initializers.iter().map(|i| i.name.clone());
        constants.for_each(|name| assert!(made.insert(name.clone()), "{graph:?}: {name} twice"));
        let mut read: BTreeSet<String> = declared(&file.graph.output).into_iter().map(|(name, ..)| name).collect();
        for node in &file.graph.node {
            node.input.iter().for_each(|name| assert!(made.contains(name), "{graph:?}: {name} is read too early"));
            node.output.iter().for_each(|name| assert!(made.insert(name.clone()), "{graph:?}: {name} twice"));
            read.extend(node.input.iter().cloned());
        }
        assert_eq!(made.difference(&read).collect::<Vec<_>>(), Vec::<&String>::new(), "{graph:?}: made for nobody");
    });
}

/// TensorRT 8.5 parses these (so no `LayerNormalization` and no `Gelu`), and no 64-bit integer but sizes and axes.
#[test]
fn only_operators_of_tensorrt_8_5_and_no_64_bit_indices() {
    const KNOWN: [&str; 20] = [
        "Add",
        "Cast",
        "Concat",
        "Conv",
        "Div",
        "Erf",
        "Gather",
        "MatMul",
        "Mul",
        "ReduceMax",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Slice",
        "Softmax",
        "Split",
        "Sqrt",
        "Sub",
        "Transpose",
    ];
    each(|_, _, _, file| {
        let wide: Vec<&str> =
            file.initializers.iter().filter(|i| i.element == Element::I64).map(|i| i.name.as_str()).collect();
        for node in &file.graph.node {
            assert!(KNOWN.contains(&op(node)), "{}", op(node));
            let takes_sizes = matches!(op(node), "Reshape" | "Slice" | "ReduceSum");
            let reads_wide = node.input.iter().any(|name| wide.contains(&name.as_str()));
            assert!(takes_sizes || !reads_wide, "{node:?}");
        }
    });
}

/// The attention fuses where its scores go through one softmax into one product: nothing else may read either (casts are absorbed). The
/// class attention has softmaxes of its own.
#[test]
fn attention_scores_have_one_reader() {
    each(|model, options, graph, file| {
        let mut readers: BTreeMap<&str, Vec<&NodeProto>> = BTreeMap::new();
        for node in &file.graph.node {
            node.input.iter().for_each(|name| readers.entry(name).or_default().push(node));
        }
        let makers: BTreeMap<&str, &NodeProto> =
            file.graph.node.iter().flat_map(|node| node.output.iter().map(move |o| (o.as_str(), node))).collect();
        let only_reader = |node: &NodeProto| match readers[node.output[0].as_str()][..] {
            [reader] => reader,
            ref all => panic!("{node:?} has {} readers", all.len()),
        };
        let casts = options.precision == Precision::Fp16;
        let mut fusible = 0;
        for softmax in file.graph.node.iter().filter(|node| op(node) == "Softmax") {
            let mut before = makers[softmax.input[0].as_str()];
            if op(before) == "ReduceSum" {
                continue; // the class attention's
            }
            let mut after = only_reader(softmax);
            if casts {
                assert_eq!((op(before), op(after)), ("Cast", "Cast"));
                (before, after) = (makers[before.input[0].as_str()], only_reader(after));
            }
            assert_eq!((op(before), op(after)), ("MatMul", "MatMul"));
            assert_eq!(op(only_reader(before)), if casts { "Cast" } else { "Softmax" });
            fusible += 1;
        }
        assert_eq!(fusible, model.geometry.depth);
        let observed = if graph == Graph::Coarse { model.geometry.depth - FIRST_ATTENTION_BLOCK } else { 0 };
        assert_eq!(count(&file, "Softmax"), fusible + observed);
    });
}

/// In FP16 graphs 32-bit weights are the last LayerNorm's, the head's, biases, what starts the residual stream, those around the first
/// attention, and single constants; in FP32 graphs nothing is 16 bits wide.
#[test]
fn precision_is_where_it_should_be() {
    each(|_, options, graph, file| {
        for initializer in &file.initializers {
            let starts = ["norm.", "head.", "cls_token", "pos_embed_list.", "patch_embed.proj.", "blocks.0.attn."];
            let name = &initializer.name;
            let wide = starts.iter().any(|start| name.starts_with(start));
            let bias = name.contains(".bias");
            match (options.precision, initializer.element) {
                (Precision::Fp32, element) => assert_ne!(element, Element::F16, "{}", initializer.name),
                (_, Element::F32) => {
                    assert!(wide || bias || initializer.shape.is_empty(), "{graph:?}: {}", initializer.name)
                }
                (_, Element::F16) => assert!(!wide, "{graph:?}: {}", initializer.name),
                _ => {}
            }
        }
    });
}

#[test]
fn the_table_of_fine_patches_is_the_gather_steps() {
    let model = tiny(Family::Deit);
    let options = Options { precision: Precision::Fp16, batch: 1 };
    let file = graphs::build(&model, options, Graph::Fine).unwrap();
    let table = file.initializers.iter().find(|i| i.name == "constant.patches_of_cells").unwrap();
    let expected: Vec<i64> = (0..9).flat_map(|cell| fine_patches(cell, 3)).map(i64::from).collect();
    assert!(matches!(&table.values, file::Values::Integers(values) if *values == expected));
}

#[test]
fn weights_beyond_fp16_are_refused_and_the_old_file_stays() {
    let mut model = tiny(Family::Deit);
    model.tensors.get_mut("blocks.2.mlp.fc2.weight").unwrap().data[5] = -70_000.0;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coarse.onnx");
    std::fs::write(&path, "old").unwrap();
    let options = Options { precision: Precision::Fp16, batch: 1 };
    let error = export_to_file(&model, options, Graph::Coarse, &path).unwrap_err();
    let said = error.to_string();
    assert_eq!(error.kind(), Kind::Model);
    for part in ["coarse.onnx", "blocks.2.mlp.fc2.weight", "-70000", "65504", "--precision fp32"] {
        assert!(said.contains(part), "no `{part}` in {said}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    let options = Options { precision: Precision::Fp32, ..options };
    let bytes = export_to_file(&model, options, Graph::Coarse, &path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), bytes);
}

#[test]
fn a_model_that_does_not_fit_its_geometry_is_refused() {
    let options = Options { precision: Precision::Fp32, batch: 1 };
    let mut model = tiny(Family::Lvvit);
    model.tensors.get_mut("aux_head.bias").unwrap().data.pop();
    let error = export(&model, options, Graph::Fine, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("aux_head.bias has 6 values, expected 7"), "{error}");
    model.tensors.remove("patch_embed.bn2.running_var");
    let error = export(&model, options, Graph::Fine, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("patch_embed.bn2.running_var is missing"), "{error}");
    for batch in [0, MAX_BATCH + 1] {
        let error = export(&model, Options { batch, ..options }, Graph::Coarse, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage, "{error}");
    }
}

/// A full disk in the middle of the weights.
#[test]
fn a_writer_that_fails_is_an_error() {
    let model = tiny(Family::Deit);
    let options = Options { precision: Precision::Fp32, batch: 1 };
    let mut room = [0; 50_000];
    let error = export(&model, options, Graph::Coarse, &mut room.as_mut_slice()).unwrap_err();
    assert_eq!(error.kind(), Kind::Io, "{error}");
}
