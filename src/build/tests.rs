use std::path::PathBuf;

use super::*;
use crate::engine::cpu::CpuEngine;
use crate::frame::{Choice, CoarseOutput};
use crate::model::Geometry;
use crate::model::package::ImportOptions;

/// The CPU engine, wrong by `error` in the first logit and by a share of `attention` in the first cell's class attention.
struct Wrong {
    engine: CpuEngine,
    error: f32,
    attention: f32,
}

impl Engine for Wrong {
    fn geometry(&self) -> &Geometry {
        self.engine.geometry()
    }
    fn coarse(&mut self, image: &[f32], output: &mut CoarseOutput) -> Result<()> {
        self.engine.coarse(image, output)?;
        output.logits[0] += self.error;
        let largest = output.class_attention.iter().copied().fold(0.0, f32::max);
        output.class_attention[0] += self.attention * largest;
        Ok(())
    }
    fn fine(&mut self, image: &[f32], choice: &Choice, logits: &mut Vec<f32>) -> Result<()> {
        self.engine.fine(image, choice, logits)?;
        logits[0] += self.error;
        Ok(())
    }
    fn full(&mut self, image: &[f32], logits: &mut Vec<f32>) -> Result<()> {
        self.engine.full(image, logits)
    }
    fn describe(&self) -> String {
        "wrong".into()
    }
}

/// Makes plans that are their job's name, and engines that are wrong by so much in FP16 and FP32.
struct Double {
    errors: Option<[f32; 2]>,
    /// See [`Wrong`].
    attention: f32,
    /// The most scratch space with which a build succeeds.
    memory_mib: u64,
    jobs: Vec<String>,
}

impl Double {
    fn new(errors: Option<[f32; 2]>) -> Self {
        Self { errors, attention: 0.0, memory_mib: u64::MAX, jobs: Vec::new() }
    }
}

impl Builder for Double {
    fn build(&mut self, job: &Job<'_>) -> std::result::Result<Made, Failure> {
        let name = format!("{} {} {}", job.graph.as_str(), job.precision.as_str(), job.workspace_mib);
        self.jobs.push(name.clone());
        assert!(job.onnx.is_file());
        if job.workspace_mib > self.memory_mib {
            return Err(Failure { error: Error::new(Kind::Engine, "out of memory"), retry: true });
        }
        Ok(Made { plan: name.into_bytes(), device: DeviceKey::sample(), seconds: 1.0, peak_mib: 2 })
    }

    fn open(&mut self, plans: &[(Graph, &[u8])], model: &Model) -> Result<Option<Box<dyn Engine>>> {
        let Some([fp16, fp32]) = self.errors else { return Ok(None) };
        let error = if plans[0].1.starts_with(b"coarse fp16") { fp16 } else { fp32 };
        let engine = CpuEngine::new(model.clone(), 1)?;
        Ok(Some(Box::new(Wrong { engine, error, attention: self.attention })))
    }
}

fn request(folder: &Path) -> Request {
    let package = folder.join("engine");
    let model = model::open(None, None).unwrap();
    package::import(&model, &model.labels, &ImportOptions::default(), &package).unwrap();
    Request { package, precision: Precision::Fp16, with_static: false, workspace_mib: 512, optimisation_level: None }
}

fn build(request: &Request, double: &mut Double) -> (Result<Report>, String) {
    let mut lines = String::new();
    let report = run(request, double, &mut |line| lines += &(line + "\n"));
    (report, lines)
}

fn installed(package: &Path) -> [Vec<u8>; 2] {
    let plans = plan::load_all(package, &DeviceKey::sample()).unwrap();
    [plans.coarse.bytes().to_vec(), plans.fine.bytes().to_vec()]
}

#[test]
fn exact_engines_are_installed_in_the_precision_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let request = request(folder.path());
    let (report, lines) = build(&request, &mut Double::new(Some([0.01, 0.0])));
    let report = report.unwrap();
    let tested = report.tested.unwrap();
    assert_eq!((report.precision, tested.passes, tested.pictures), (Precision::Fp16, 24, 12));
    assert!((tested.logit_error - 0.01).abs() < 1e-4 && tested.same_choice == 12, "{tested}");
    assert!(
        lines.contains("self-test passed: 24 passes") && lines.contains("the bounds: logit error at most 0.1,"),
        "{lines}"
    );
    assert_eq!(installed(&request.package), [&b"coarse fp16 512"[..], b"fine fp16 512"]);
    assert_eq!(fs::read_dir(&request.package).unwrap().count(), 7, "three files of the model, two graphs, two plans");
    let key = plan::load(&request.package, Graph::Fine, &DeviceKey::sample()).unwrap().key;
    assert_eq!(key.onnx_sha256, files::sha256(&fs::read(request.package.join("fine.onnx")).unwrap()));
    assert_eq!(key.options, "workspace 512 MiB, optimisation level default");
}

#[test]
fn inexact_fp16_falls_back_to_fp32_and_inexact_fp32_is_refused_with_the_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let request = request(folder.path());
    let (report, lines) = build(&request, &mut Double::new(Some([0.5, 0.001])));
    assert_eq!(report.unwrap().precision, Precision::Fp32);
    assert!(lines.contains("fp16: refused: 24 passes") && lines.contains("0.5000"), "{lines}");
    let good = [b"coarse fp32 512".to_vec(), b"fine fp32 512".to_vec()];
    assert_eq!(installed(&request.package), good);

    for error in [0.5, f32::NAN] {
        let message = build(&request, &mut Double::new(Some([error; 2]))).0.unwrap_err().to_string();
        let shown = if error.is_nan() { "inf" } else { "0.5000" };
        assert!(message.contains(&format!("logit error at most {shown}")) && message.contains("0.01"), "{message}");
        assert_eq!(installed(&request.package), good, "the last good plans stay");
    }
}

/// Right logits would not show it: the test's fine passes take the CPU engine's cells.
#[test]
fn wrong_class_attention_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let request = request(folder.path());
    for (attention, refused) in [(0.004, false), (0.5, true), (f32::NAN, true)] {
        let (report, lines) = build(&request, &mut Double { attention, ..Double::new(Some([0.0; 2])) });
        assert_eq!(report.is_err(), refused, "{lines}");
        let shown = if attention.is_nan() { "inf %".into() } else { format!("{:.2} %", attention * 100.0) };
        assert!(lines.contains(&format!("class attention off by at most {shown}")), "{lines}");
        assert_eq!(lines.contains("fp16: refused") && lines.contains("fp32: refused"), refused, "{lines}");
    }
}

#[test]
fn less_scratch_space_is_tried_down_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let request = request(folder.path());
    let mut double = Double { memory_mib: 200, ..Double::new(None) };
    let (report, lines) = build(&request, &mut double);
    assert!(report.unwrap().tested.is_none() && lines.contains("self-test skipped"), "{lines}");
    let tried =
        ["coarse fp16 512", "coarse fp16 256", "coarse fp16 128", "fine fp16 512", "fine fp16 256", "fine fp16 128"];
    assert_eq!(double.jobs, tried);

    let mut double = Double { memory_mib: 10, ..Double::new(None) };
    let message = build(&request, &mut double).0.unwrap_err().to_string();
    assert_eq!(double.jobs.len(), 4);
    assert!(message.contains("cannot build the coarse engine: out of memory"), "{message}");
    assert_eq!(installed(&request.package), [&b"coarse fp16 128"[..], b"fine fp16 128"]);
}

#[test]
fn fp32_is_not_tried_twice() {
    let folder = tempfile::tempdir().unwrap();
    let request = Request { precision: Precision::Fp32, ..request(folder.path()) };
    let mut double = Double::new(Some([0.0, 1.0]));
    assert!(build(&request, &mut double).0.is_err());
    assert_eq!(double.jobs, ["coarse fp32 512", "fine fp32 512"]);
}

#[test]
fn a_package_that_is_none_is_an_error() {
    let request = Request {
        package: PathBuf::from("/nonexistent"),
        precision: Precision::Fp16,
        with_static: false,
        workspace_mib: 512,
        optimisation_level: None,
    };
    assert!(build(&request, &mut Double::new(None)).0.is_err());
}
