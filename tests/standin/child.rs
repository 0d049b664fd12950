//! Tests of the library, run by those of `tensorrt.rs`, each in a process of its own that has the stand-in's libraries on its path.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use cfvit::cascade::Cascade;
use cfvit::engine::tensorrt::build::{BuildOptions, build};
use cfvit::engine::tensorrt::execution::Execution;
use cfvit::engine::tensorrt::library::Library;
use cfvit::engine::tensorrt::runtime::{Device, DeviceBuffer};
use cfvit::engine::tensorrt::{self, cuda};
use cfvit::engine::{self, Backend, Engine, Options};
use cfvit::error::{Kind, Result};
use cfvit::frame::{Choice, CoarseOutput, Inputs, Picture};
use cfvit::model::onnx::Graph;
use cfvit::model::{self, onnx};
use cfvit::plan::{self, Key};
use cfvit::preprocess::{Preprocess, decode};

/// Counts what Rust code allocates; the stand-in has an allocator of its own.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: hands everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn package() -> PathBuf {
    std::env::var_os("CFVIT_STANDIN_MODEL").expect("run by another test, on the stand-in").into()
}

fn open() -> Result<Box<dyn Engine>> {
    let package = package();
    let model = model::open(Some(&package), None)?;
    engine::open_on(
        model,
        &Options { backend: Backend::TensorRt, threads: None, package: Some(&package), precision: None },
    )
}

/// The tensors of a picture that needs the fine stage.
fn hard(engine: &dyn Engine) -> Inputs {
    let (mut picture, mut inputs) = (Picture::default(), Inputs::default());
    decode::read(super::HARD.as_ref(), &mut picture).unwrap();
    Preprocess::new(engine.geometry(), 0.875).unwrap().run(&picture, &mut inputs).unwrap();
    inputs
}

/// Switches faults while the process runs.
fn set_fault(faults: &str) {
    // SAFETY: the process runs one test, and nothing else reads or writes the environment meanwhile.
    unsafe { std::env::set_var("CFVIT_STANDIN_FAULT", faults) }
}

/// What `cfvit build` does, less the self-test: exports, has the stand-in build, installs.
#[test]
#[ignore = "run by other tests, on the stand-in"]
fn build_and_install() {
    let package = package();
    let library = Library::open(None).unwrap();
    let device = tensorrt::device_key(library, &cuda::gpu().unwrap());
    let model = model::open(Some(&package), None).unwrap();
    let weights = model::package::weights(&package).unwrap();
    let precision = onnx::Precision::Fp16;
    let options =
        BuildOptions { precision, workspace_bytes: 1 << 28, optimisation_level: None, compute_capability: None };
    let plans = [Graph::Coarse, Graph::Fine, Graph::Static].map(|graph| {
        let mut onnx = Vec::new();
        onnx::export(&model, onnx::Options { precision, batch: 1 }, graph, &mut onnx).unwrap();
        let built = build(library, &onnx, &options, None).unwrap();
        assert_eq!(built.timing_cache.as_deref(), Some(&b"timings"[..]));
        let key = Key {
            graph: graph.as_str().into(),
            precision: precision.as_str().into(),
            options: "of the tests".into(),
            onnx_sha256: String::new(),
            weights_sha256: weights.sha256.clone(),
            heads: weights.heads,
            program: env!("CARGO_PKG_VERSION").into(),
            device: device.clone(),
        };
        (graph, key, built.plan)
    });
    plan::install(&package, &plans).unwrap();
}

/// `CFVIT_STANDIN_MODEL` is the timings.
#[test]
#[ignore = "run by another test, on the stand-in"]
fn a_build_uses_the_timings_that_it_is_given() {
    let precision = onnx::Precision::Fp32;
    let options =
        BuildOptions { precision, workspace_bytes: 1 << 28, optimisation_level: None, compute_capability: None };
    let mut onnx = Vec::new();
    let model = model::open(None, None).unwrap();
    onnx::export(&model, onnx::Options { precision, batch: 1 }, Graph::Coarse, &mut onnx).unwrap();
    let timings = package().into_os_string().into_encoded_bytes();
    let built = build(Library::open(None).unwrap(), &onnx, &options, Some(&timings)).unwrap();
    assert_eq!(built.timing_cache.as_deref(), Some(&b"timings"[..]));
}

#[test]
#[ignore = "run by a test of the same name, on the stand-in"]
fn the_static_baseline_is_the_cpu_engines() {
    let mut engine = open().unwrap();
    let inputs = hard(engine.as_ref());
    let mut cpu = engine::open(model::open(None, None).unwrap(), Some(1)).unwrap();
    let (mut found, mut expected, mut output) = (Vec::new(), Vec::new(), CoarseOutput::default());
    engine.coarse(&inputs.coarse, &mut output).unwrap();
    engine.full(&inputs.fine, &mut found).unwrap();
    cpu.full(&inputs.fine, &mut expected).unwrap();
    assert_eq!(found, expected);
    // The features of the coarse pass are still there.
    let mut choice = Choice::default();
    cfvit::gather::choose(&output.class_attention, 25, &mut choice);
    engine.fine(&inputs.fine, &choice, &mut found).unwrap();
    cpu.coarse(&inputs.coarse, &mut output).unwrap();
    cpu.fine(&inputs.fine, &choice, &mut expected).unwrap();
    assert_eq!(found, expected);
}

#[test]
#[ignore = "run by a test of the same name, on the stand-in"]
fn frames_allocate_nothing() {
    let engine = open().unwrap();
    let inputs = hard(engine.as_ref());
    let mut cascade = Cascade::new(engine, 2.0);
    cascade.decide(&inputs).unwrap();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    for _ in 0..10 {
        cascade.decide(&inputs).unwrap();
    }
    assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0);
    assert!(cascade.engine().device_ms().is_some_and(|milliseconds| milliseconds > 0.0));
}

#[test]
#[ignore = "run by a test of the same name, on the stand-in"]
fn an_engine_that_failed_refuses_work_until_it_is_opened_anew() {
    let mut engine = open().unwrap();
    let inputs = hard(engine.as_ref());
    let mut output = CoarseOutput::default();
    let error = engine.coarse(&inputs.coarse, &mut output).unwrap_err();
    assert!(error.kind() == Kind::Device && error.to_string().contains("enqueueV3"), "{error}");
    let (mut logits, mut choice) = (Vec::new(), Choice::default());
    cfvit::gather::choose(&[0.0; 49], 25, &mut choice);
    for error in [
        engine.coarse(&inputs.coarse, &mut output).unwrap_err(),
        engine.fine(&inputs.fine, &choice, &mut logits).unwrap_err(),
        engine.full(&inputs.fine, &mut logits).unwrap_err(),
    ] {
        assert!(error.kind() == Kind::Device && error.to_string().contains("must be opened anew"), "{error}");
        assert!(error.to_string().contains("enqueueV3"), "the first failure is told: {error}");
    }
    let mut engine = open().unwrap();
    engine.coarse(&inputs.coarse, &mut output).unwrap();
    engine.fine(&inputs.fine, &choice, &mut logits).unwrap();
    assert_eq!((output.logits.len(), logits.len()), (10, 10));
}

#[test]
#[ignore = "run by a test of the same name, on the stand-in"]
fn a_lost_device_stays_lost_for_the_process() {
    let mut engine = open().unwrap();
    let inputs = hard(engine.as_ref());
    let error = engine.coarse(&inputs.coarse, &mut CoarseOutput::default()).unwrap_err();
    assert!(error.kind() == Kind::Device && error.to_string().contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{error}");
    drop(engine);
    let error = open().err().unwrap();
    assert!(error.to_string().contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{error}");
}

#[test]
#[ignore = "run by a test of the same name, on the stand-in"]
fn only_a_good_engine_replaces_the_one_in_service() {
    let engine = open().unwrap();
    let inputs = hard(engine.as_ref());
    let mut cascade = Cascade::new(engine, 2.0);
    let answer = |cascade: &mut Cascade| cascade.decide(&inputs).unwrap().fine_logits.clone();
    let expected = answer(&mut cascade);
    for (faults, says) in [("memory", "cuMemAlloc"), ("context", "createExecutionContext")] {
        set_fault(faults);
        let error = cascade.replace_engine(open).unwrap_err().to_string();
        assert!(error.contains("the old one stays") && error.contains(says), "{error}");
        set_fault("");
        assert_eq!(answer(&mut cascade), expected, "after {faults}");
    }
    // Right while it is opened, wrong in its test.
    let opens_and_fails = || {
        let engine = open()?;
        set_fault("wrong:1");
        Ok(engine)
    };
    let error = cascade.replace_engine(opens_and_fails).unwrap_err().to_string();
    assert!(error.contains("fails its test; the old one stays"), "{error}");
    set_fault("");
    assert_eq!(answer(&mut cascade), expected);
    cascade.replace_engine(open).unwrap();
    assert_eq!(answer(&mut cascade), expected);
}

#[test]
#[ignore = "run by a test of the same name, on the stand-in"]
fn wrong_use_is_refused_and_harms_nothing() {
    let mut engine = open().unwrap();
    assert!(engine.describe().contains("CUDA graphs"), "{}", engine.describe());
    assert_eq!(engine.device_ms(), None);
    let inputs = hard(engine.as_ref());
    let (mut output, mut logits, mut choice) = (CoarseOutput::default(), Vec::new(), Choice::default());
    cfvit::gather::choose(&[0.0; 49], 25, &mut choice);
    let early = engine.fine(&inputs.fine, &choice, &mut logits).unwrap_err();
    assert!(early.to_string().contains("needs the coarse pass"), "{early}");
    let short = engine.coarse(&inputs.coarse[1..], &mut output).unwrap_err();
    assert!(short.to_string().contains("expected 3×112×112"), "{short}");
    engine.coarse(&inputs.coarse, &mut output).unwrap();
    choice.informative[0] = 49;
    let foreign = engine.fine(&inputs.fine, &choice, &mut logits).unwrap_err();
    assert!(foreign.to_string().contains("all below 49"), "{foreign}");
    let absent = engine.full(&inputs.fine, &mut logits).unwrap_err();
    assert!(absent.to_string().contains("cfvit build --static"), "{absent}");
    assert!([early, short, foreign, absent].iter().all(|error| error.kind() == Kind::Engine));
    choice.informative[0] = 0;
    engine.fine(&inputs.fine, &choice, &mut logits).unwrap();
    assert!(logits.iter().all(|x| x.is_finite()));
}

#[test]
#[ignore = "breaks the stand-in's rules on purpose"]
fn an_engine_is_forgotten() {
    std::mem::forget(open().unwrap());
}

/// The coarse plan, loaded and not bound to any memory.
fn unbound(library: &'static Library) -> Execution {
    let device = tensorrt::device_key(library, &cuda::gpu().unwrap());
    let plan = plan::load(&package(), Graph::Coarse, &device).unwrap();
    Execution::load(library, plan.bytes()).unwrap()
}

#[test]
#[ignore = "breaks the stand-in's rules on purpose"]
fn a_plan_is_run_without_addresses() {
    let device = Device::open().unwrap();
    let mut execution = unbound(Library::open(None).unwrap());
    // SAFETY: not sound on a GPU: the addresses are missing, which the stand-in must see before it does anything.
    let _ = device.run(|| unsafe { execution.enqueue(device.stream()) });
}

#[test]
#[ignore = "breaks the stand-in's rules on purpose"]
fn an_address_has_too_little_memory() {
    let device = Device::open().unwrap();
    let mut execution = unbound(Library::open(None).unwrap());
    let small = DeviceBuffer::zeroed(&device, 16).unwrap();
    // SAFETY: not sound on a GPU: the memory is too small, which the stand-in must see.
    let _ = unsafe { execution.set_address(onnx::COARSE_IMAGE, small.address()) };
}
