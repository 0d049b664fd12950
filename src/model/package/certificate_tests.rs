use super::*;
use crate::model::package;

/// A certificate that passes its check.
pub(crate) fn sample() -> Certificate {
    let eta = 0.873_124_7_f32;
    Certificate {
        eta: eta.to_string().parse().unwrap(),
        eta_bits: bits(eta),
        target: Target::Disagreement,
        limit: 0.01,
        confidence: 0.95,
        n: 3000,
        n_eff: 2870.0,
        k_allowed: 20,
        k_seen: 20,
        upper: 0.0097,
        drift_limit: 0.01,
        fine_share: [0.68, 0.71, 0.73],
        engine: "CPU, AVX-512, 2 threads, f32".into(),
        engine_sha256: "e".repeat(64),
        preprocess_sha256: "p".repeat(64),
        data_sha256: "d".repeat(64),
        power_mode: "none".into(),
        created: "2026-11-24T22:00:00Z".into(),
        span_h: Some(26.0),
        slot_s: Some(10.0),
        assumption: "slots independent".into(),
        attempts: 1,
        floor_bits: None,
        budget: None,
    }
}

fn with_budget() -> Certificate {
    let terms = BudgetTerms {
        target: Target::Latency,
        limit: 20.0,
        coarse: 4.0,
        coarse_upper: 4.1,
        fine: 20.0,
        fine_upper: 20.5,
        share: 0.7756,
    };
    Certificate { budget: Some(terms), floor_bits: Some(bits(0.5)), ..sample() }
}

#[test]
fn a_file_gives_back_the_certificate_and_eta_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    // Neighbours of an awkward number, the ends, and the one that refines even a confidence of 1.
    let awkward = 0.1_f32;
    for eta in [awkward, awkward.next_up(), awkward.next_down(), 0.0, 1.0, 1.0_f32.next_up(), f32::MIN_POSITIVE, 2.0] {
        let mut certificate = with_budget();
        certificate.eta = eta.to_string().parse().unwrap();
        certificate.eta_bits = bits(eta);
        certificate.floor_bits = Some(bits(eta / 2.0));
        certificate.write(&path).unwrap();
        let read = Certificate::read(&path).unwrap();
        assert_eq!(read, certificate);
        assert_eq!((read.threshold().to_bits(), read.floor().to_bits()), (eta.to_bits(), (eta / 2.0).to_bits()));
    }
}

#[test]
fn the_floor_is_eta_unless_something_else_is_said() {
    assert_eq!(sample().floor(), sample().threshold());
    assert_eq!(with_budget().floor(), 0.5);
    assert_eq!(Certificate { target: Target::Latency, limit: 20.0, ..sample() }.floor(), 0.0);
}

#[test]
fn an_edited_or_damaged_certificate_is_refused_by_name() {
    type Edit = fn(&mut Certificate);
    let edits: [(Edit, &str); 9] = [
        (|c| c.eta = 0.5, "`eta` is 0.5"),
        (|c| c.eta = f64::NAN, "`eta` is NaN"),
        (|c| c.eta_bits = "0x7fc00000".into(), "`eta_bits`"),
        (|c| c.eta_bits = "0xbf000000".into(), "`eta_bits`"),
        (|c| c.floor_bits = Some(bits(0.9)), "`floor_bits`"),
        (|c| c.limit = 1.5, "`limit`"),
        (|c| c.confidence = f64::INFINITY, "`confidence`"),
        (|c| c.k_allowed = 3001, "`k_allowed`"),
        (|c| c.engine.push('\u{1b}'), "control characters"),
    ];
    for (edit, expected) in edits {
        let mut certificate = sample();
        edit(&mut certificate);
        let error = certificate.check().unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(certificate.threshold() > 0.0, "never answers coarsely by accident");
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("c.toml");
    for (text, expected) in [
        ("", "calibration"),
        ("[calibration]\neta = 1\n", "line"),
        ("[calibration]\n\u{0}", "line 2"),
        (&"x".repeat(70_000), "65536"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Certificate::read(&path).unwrap_err();
        assert_eq!(error.kind(), Kind::Model);
        assert!(error.to_string().contains(expected) && error.to_string().contains("c.toml"), "{error}");
    }
    assert!(Certificate::read(&folder.path().join("none")).is_err());
    assert!(Certificate::read(folder.path()).is_err());
}

#[test]
fn a_package_takes_one_certificate_and_keeps_the_rest_of_its_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let package = folder.path();
    let engines = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("engines/imagenette");
    for name in ["manifest.toml", "model.safetensors", "labels.txt"] {
        std::fs::copy(engines.join(name), package.join(name)).unwrap();
    }
    let manifest = package.join("manifest.toml");
    let before = format!("# ours\n{}", std::fs::read_to_string(&manifest).unwrap());
    std::fs::write(&manifest, &before).unwrap();
    assert_eq!(package::certificate(package).unwrap(), None);
    for certificate in [with_budget(), sample()] {
        package::certify(package, &certificate).unwrap();
        assert_eq!(package::certificate(package).unwrap(), Some(certificate.clone()));
        let (model, _) = crate::model::open_with_details(Some(package), None).unwrap();
        assert_eq!((model.certificate, model.threshold), (Some(certificate), Some(0.5)));
    }
    let after = std::fs::read_to_string(&manifest).unwrap();
    assert!(after.starts_with(before.trim_end()), "{after}");
    assert_eq!(after.matches("[calibration").count(), 1, "the first one's budget is gone");
    assert!(package::certify(&package.join("none"), &sample()).is_err());
}
