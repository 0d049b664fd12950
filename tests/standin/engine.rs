//! What the stand-in for TensorRT computes with: cfvit's CPU engine behind two C functions, as a shared library.
//!
//! The features and embeddings of a coarse pass stay inside the CPU engine. What goes through the "device" memory in their place is a pattern
//! made from the coarse picture: the fine pass runs only if both buffers still hold the whole pattern of the picture that the engine saw last.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "test code: a violation ends the process")]

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt::Write;
use std::path::Path;
use std::sync::Mutex;

use cfvit::engine::{self, Engine};
use cfvit::frame::{Choice, CoarseOutput};
use prost::Message;

/// `RawTensor` in `nvinfer.cc`.
#[repr(C)]
pub struct RawTensor {
    name: *const c_char,
    data: *mut c_void,
    bytes: usize,
    /// `nvinfer1::DataType`: 0 FP32, 1 FP16, 3 INT32.
    element: c_int,
}

/// A model and what its last coarse pass saw.
struct Loaded {
    engine: Box<dyn Engine>,
    /// A hash of the picture.
    seen: u64,
}

static MODELS: Mutex<BTreeMap<String, Loaded>> = Mutex::new(BTreeMap::new());

/// Runs `stage` (`coarse`, `fine`, `static`) of the model at the path `model`. 0 when it was run.
///
/// # Safety
/// The strings end with a zero byte; `tensors` are `count` tensors whose `data` are `bytes` bytes, aligned to their elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cfvit_standin_run(
    stage: *const c_char,
    model: *const c_char,
    tensors: *const RawTensor,
    count: usize,
) -> c_int {
    // SAFETY: as the caller promises.
    let (stage, model, tensors) =
        unsafe { (CStr::from_ptr(stage), CStr::from_ptr(model), std::slice::from_raw_parts(tensors, count)) };
    let (stage, model) = (stage.to_str().unwrap(), model.to_str().unwrap());
    let mut models = MODELS.lock().unwrap();
    let loaded = models.entry(model.to_owned()).or_insert_with(|| {
        let loaded = cfvit::model::open(Some(Path::new(model)), None).unwrap();
        Loaded { engine: engine::open(loaded, Some(1)).unwrap(), seen: 0 }
    });
    let tensors = Tensors(tensors);
    let done = match stage {
        "coarse" => loaded.coarse(&tensors),
        "fine" => loaded.fine(&tensors),
        "static" => loaded.full(&tensors),
        _ => Err(format!("no stage {stage}")),
    };
    match done {
        Ok(()) => 0,
        Err(message) => {
            eprintln!("stand-in: {stage}: {message}");
            1
        }
    }
}

impl Loaded {
    fn coarse(&mut self, tensors: &Tensors<'_>) -> Result<(), String> {
        let mut output = CoarseOutput::default();
        let image = tensors.floats("coarse_image")?;
        self.engine.coarse(image, &mut output).map_err(|e| e.to_string())?;
        tensors.floats_mut("coarse_logits")?.copy_from_slice(&output.logits);
        tensors.floats_mut("class_attention")?.copy_from_slice(&output.class_attention);
        self.seen = image.iter().fold(1, |hash: u64, x| (hash ^ u64::from(x.to_bits())).wrapping_mul(0x100_0000_01b3));
        for name in ["coarse_features", "coarse_embedding"] {
            let (element, bytes) = tensors.bytes_mut(name)?;
            let values = pattern(self.seen, element, bytes.len());
            bytes.copy_from_slice(&values);
        }
        Ok(())
    }

    fn fine(&mut self, tensors: &Tensors<'_>) -> Result<(), String> {
        for name in ["coarse_features", "coarse_embedding"] {
            let (element, bytes) = tensors.bytes_mut(name)?;
            if *bytes != *pattern(self.seen, element, bytes.len()) {
                return Err(format!("{name} is not what the last coarse pass gave"));
            }
        }
        let choice = Choice { informative: tensors.cells("informative")?, kept: tensors.cells("kept")? };
        let mut logits = Vec::new();
        self.engine.fine(tensors.floats("fine_image")?, &choice, &mut logits).map_err(|e| e.to_string())?;
        tensors.floats_mut("fine_logits")?.copy_from_slice(&logits);
        Ok(())
    }

    fn full(&mut self, tensors: &Tensors<'_>) -> Result<(), String> {
        let mut logits = Vec::new();
        self.engine.full(tensors.floats("fine_image")?, &mut logits).map_err(|e| e.to_string())?;
        tensors.floats_mut("static_logits")?.copy_from_slice(&logits);
        Ok(())
    }
}

/// The `bytes` bytes that a coarse pass leaves as features of this `element`, after the picture of this hash: numbers from 1 to 2 whose other
/// bits are anything, as a real pass gives them. Read in another format than their own, many are no numbers.
fn pattern(seen: u64, element: c_int, bytes: usize) -> Vec<u8> {
    let mut state = seen;
    let mut mantissa = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as u32
    };
    match element {
        0 => (0..bytes / 4).flat_map(|_| (0x3f80_0000 | mantissa() & 0x7f_ffff).to_ne_bytes()).collect(),
        _ => (0..bytes / 2).flat_map(|_| (0x3c00 | mantissa() as u16 & 0x3ff).to_ne_bytes()).collect(),
    }
}

struct Tensors<'a>(&'a [RawTensor]);

impl Tensors<'_> {
    fn find(&self, name: &str, element: Option<c_int>) -> Result<&RawTensor, String> {
        // SAFETY: the names end with a zero byte.
        let named = |tensor: &&RawTensor| unsafe { CStr::from_ptr(tensor.name) }.to_bytes() == name.as_bytes();
        let tensor = self.0.iter().find(named).ok_or_else(|| format!("no tensor {name}"))?;
        match element.is_none_or(|element| element == tensor.element) {
            true => Ok(tensor),
            false => Err(format!("{name} has the elements {}", tensor.element)),
        }
    }

    fn floats(&self, name: &str) -> Result<&[f32], String> {
        Ok(self.floats_mut(name)?)
    }

    #[allow(clippy::mut_from_ref, reason = "every tensor is asked for once, and tensors do not overlap")]
    fn floats_mut(&self, name: &str) -> Result<&mut [f32], String> {
        let tensor = self.find(name, Some(0))?;
        // SAFETY: as the caller of `cfvit_standin_run` promises.
        Ok(unsafe { std::slice::from_raw_parts_mut(tensor.data.cast(), tensor.bytes / 4) })
    }

    #[allow(clippy::mut_from_ref, reason = "as in floats_mut")]
    fn bytes_mut(&self, name: &str) -> Result<(c_int, &mut [u8]), String> {
        let tensor = self.find(name, None)?;
        // SAFETY: as the caller of `cfvit_standin_run` promises.
        Ok((tensor.element, unsafe { std::slice::from_raw_parts_mut(tensor.data.cast(), tensor.bytes) }))
    }

    fn cells(&self, name: &str) -> Result<Vec<u32>, String> {
        let tensor = self.find(name, Some(3))?;
        // SAFETY: as the caller of `cfvit_standin_run` promises.
        let cells: &[i32] = unsafe { std::slice::from_raw_parts(tensor.data.cast(), tensor.bytes / 4) };
        cells.iter().map(|&cell| u32::try_from(cell).map_err(|_| format!("{name} holds the cell {cell}"))).collect()
    }
}

/// "Builds" a plan: hands its text to `take`, made from the graph's inputs and outputs and the model that `CFVIT_STANDIN_MODEL` names. 0 when
/// that is a graph of cfvit's.
///
/// # Safety
/// `onnx` are `bytes` bytes; `take` may be called with `to`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cfvit_standin_plan(
    onnx: *const u8,
    bytes: usize,
    to: *mut c_void,
    take: unsafe extern "C" fn(*mut c_void, *const u8, usize),
) -> c_int {
    // SAFETY: as the caller promises.
    let onnx = unsafe { std::slice::from_raw_parts(onnx, bytes) };
    let Ok(Some(graph)) = OnnxModel::decode(onnx).map(|model| model.graph) else {
        eprintln!("stand-in: not an ONNX graph");
        return 1;
    };
    let plan = plan_of(&graph);
    // SAFETY: as the caller promises.
    unsafe { take(to, plan.as_ptr(), plan.len()) };
    0
}

fn plan_of(graph: &OnnxGraph) -> String {
    let names = |values: &[OnnxValue]| values.iter().map(|value| value.name.clone()).collect::<Vec<_>>();
    let stage = match names(&graph.output) {
        outputs if outputs.iter().any(|name| name == "coarse_logits") => "coarse",
        outputs if outputs.iter().any(|name| name == "fine_logits") => "fine",
        _ => "static",
    };
    let model =
        std::env::var("CFVIT_STANDIN_MODEL").expect("CFVIT_STANDIN_MODEL names the model that a plan is built for");
    let half = graph.initializer.iter().any(|tensor| tensor.data_type == 10);
    let precision = if half { "fp16" } else { "fp32" };
    let mut plan = format!("cfvit stand-in plan 1\nstage {stage}\nmodel {model}\nprecision {precision}\n");
    for (direction, values) in [("input", &graph.input), ("output", &graph.output)] {
        for value in values {
            let tensor = value.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()).expect("a typed value");
            let element = match tensor.elem_type {
                1 => "f32",
                6 => "i32",
                10 => "f16",
                other => panic!("{} has the element type {other}", value.name),
            };
            write!(plan, "{direction} {} {element}", value.name).unwrap();
            for dimension in &tensor.shape.as_ref().expect("a shape").dim {
                write!(plan, " {}", dimension.dim_value).unwrap();
            }
            plan.push('\n');
        }
    }
    plan + "end\n"
}

/// The part of ONNX's schema that the stand-in reads.
#[derive(Clone, PartialEq, Message)]
struct OnnxModel {
    #[prost(message, optional, tag = "7")]
    graph: Option<OnnxGraph>,
}

#[derive(Clone, PartialEq, Message)]
struct OnnxGraph {
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<OnnxTensor>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<OnnxValue>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<OnnxValue>,
}

#[derive(Clone, PartialEq, Message)]
struct OnnxTensor {
    #[prost(int32, tag = "2")]
    data_type: i32,
}

#[derive(Clone, PartialEq, Message)]
struct OnnxValue {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<OnnxType>,
}

#[derive(Clone, PartialEq, Message)]
struct OnnxType {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<OnnxTensorType>,
}

#[derive(Clone, PartialEq, Message)]
struct OnnxTensorType {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<OnnxShape>,
}

#[derive(Clone, PartialEq, Message)]
struct OnnxShape {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<OnnxDimension>,
}

#[derive(Clone, PartialEq, Message)]
struct OnnxDimension {
    #[prost(int64, tag = "1")]
    dim_value: i64,
}
