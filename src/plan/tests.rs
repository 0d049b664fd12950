use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::model::onnx::Graph;
use crate::model::package::{self, ImportOptions};
use crate::model::{self};

/// A package of the bundled model with both plans installed.
fn installed(folder: &Path) -> std::path::PathBuf {
    let package = folder.join("engine");
    let model = model::open(None, None).unwrap();
    package::import(&model, &model.labels, &ImportOptions::default(), &package).unwrap();
    install(&package, &plans(&package, b"coarse bytes", b"fine bytes")).unwrap();
    package
}

fn plans(package: &Path, coarse: &[u8], fine: &[u8]) -> Vec<(Graph, Key, Vec<u8>)> {
    let weights = package::weights(package).unwrap();
    let plan = |graph: Graph, bytes: &[u8]| {
        let key = Key {
            graph: graph.as_str().into(),
            precision: "fp16".into(),
            options: "workspace 512 MiB".into(),
            onnx_sha256: "0".into(),
            weights_sha256: weights.sha256.clone(),
            heads: weights.heads,
            program: env!("CARGO_PKG_VERSION").into(),
            device: DeviceKey::sample(),
        };
        (graph, key, bytes.to_vec())
    };
    vec![plan(Graph::Coarse, coarse), plan(Graph::Fine, fine)]
}

#[test]
fn what_is_installed_is_loaded_and_no_temporary_file_stays() {
    let folder = tempfile::tempdir().unwrap();
    let package = installed(folder.path());
    let loaded = load_all(&package, &DeviceKey::sample()).unwrap();
    assert_eq!((loaded.coarse.bytes(), loaded.fine.bytes()), (&b"coarse bytes"[..], &b"fine bytes"[..]));
    assert!(loaded.full.is_none());
    assert_eq!(state(&package, &DeviceKey::sample()).unwrap(), loaded.coarse.key);
    assert_eq!(fs::read_dir(&package).unwrap().count(), 5);
}

#[test]
fn every_field_of_the_device_counts_and_both_values_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let package = installed(folder.path());
    let change = |edit: fn(&mut DeviceKey)| {
        let mut other = DeviceKey::sample();
        edit(&mut other);
        load(&package, Graph::Coarse, &other).unwrap_err().to_string()
    };
    for (edit, built, found) in [
        (
            (|d| d.tensorrt = "TensorRT 10.13.3.9".into()) as fn(&mut DeviceKey),
            "built for the library TensorRT 10.3.0.30",
            "TensorRT 10.13.3.9",
        ),
        (|d| d.driver = "13.0".into(), "12.6", "13.0"),
        (|d| d.l4t = "36.5.0".into(), "36.4.3", "36.5.0"),
        (|d| d.gpu = "Orin Nano".into(), "GPU Orin", "Orin Nano"),
        (|d| d.compute_capability = "7.2".into(), "8.7", "7.2"),
        (|d| d.sm_count = 4, "8", "4"),
        (|d| d.shim_abi = 2, "1", "2"),
    ] {
        let message = change(edit);
        assert!(message.contains(built) && message.contains(&format!("expected {found}")), "{message}");
        assert!(message.contains(&format!("`cfvit build --model {}`", package.display())), "{message}");
    }
    assert!(load_all(&package, &DeviceKey::sample()).is_ok(), "a wrong key is no damage: the plan stays");
}

#[test]
fn damage_anywhere_is_noticed_and_put_aside_and_the_other_plan_stays() {
    let folder = tempfile::tempdir().unwrap();
    let package = installed(folder.path());
    let file = path(&package, Graph::Coarse);
    let whole = fs::read(&file).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let longer = [&whole[..], b"x"].concat();
    let mut damaged = vec![Vec::new(), b"cfvit plan 1\n\xff\xff\xff\xff".to_vec(), longer];
    damaged.extend((0..whole.len()).step_by(7).map(|length| whole[..length].to_vec()));
    damaged.extend([0, 13, whole.len() - 1].map(flipped));
    for bytes in damaged {
        fs::write(&file, &bytes).unwrap();
        let message = load(&package, Graph::Coarse, &DeviceKey::sample()).unwrap_err().to_string();
        assert!(message.contains("damaged") && message.contains("coarse.plan.bad"), "{message}");
        assert!(!file.exists());
        assert_eq!(fs::read(package.join("coarse.plan.bad")).unwrap(), bytes);
        assert!(load(&package, Graph::Fine, &DeviceKey::sample()).is_ok());
    }
    let missing = load(&package, Graph::Coarse, &DeviceKey::sample()).unwrap_err().to_string();
    assert!(missing.contains("coarse.plan: not built yet") && missing.contains("cfvit build"), "{missing}");
    install(&package, &plans(&package, b"coarse bytes", b"fine bytes")).unwrap();
    assert!(load_all(&package, &DeviceKey::sample()).is_ok());
}

#[test]
fn plans_of_two_builds_other_weights_or_another_graph_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let package = installed(folder.path());
    let (coarse, fine) = (path(&package, Graph::Coarse), path(&package, Graph::Fine));
    let old = fs::read(&coarse).unwrap();
    install(&package, &plans(&package, b"coarse bytes 2", b"fine bytes 2")).unwrap();
    fs::write(&coarse, &old).unwrap();
    let message = load_all(&package, &DeviceKey::sample()).unwrap_err().to_string();
    assert!(message.contains("fine.plan: of another build"), "{message}");
    assert!(state(&package, &DeviceKey::sample()).is_err());

    fs::copy(&fine, &coarse).unwrap();
    let message = load(&package, Graph::Coarse, &DeviceKey::sample()).unwrap_err().to_string();
    assert!(message.contains("built for the graph fine, expected coarse"), "{message}");

    let mut other = plans(&package, b"c", b"f");
    other[0].1.weights_sha256 = "other".into();
    install(&package, &other).unwrap();
    let message = load(&package, Graph::Coarse, &DeviceKey::sample()).unwrap_err().to_string();
    assert!(message.contains("weights of sha256 other, expected "), "{message}");

    // Heads change what a plan computes, and nothing that TensorRT could see.
    install(&package, &plans(&package, b"c", b"f")).unwrap();
    let manifest = package.join(package::MANIFEST);
    let text = fs::read_to_string(&manifest).unwrap();
    let (heads, other) = ("heads = 3", "heads = 6");
    assert!(text.contains(heads), "{text}");
    fs::write(&manifest, text.replace(heads, other)).unwrap();
    let message = load(&package, Graph::Coarse, &DeviceKey::sample()).unwrap_err().to_string();
    assert!(message.contains("built for number of heads 3, expected 6"), "{message}");
}

#[test]
fn a_plan_that_anybody_can_write_is_not_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let package = installed(folder.path());
    let file = path(&package, Graph::Coarse);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let message = load(&package, Graph::Coarse, &DeviceKey::sample()).unwrap_err().to_string();
    assert!(message.contains("written by everybody"), "{message}");
}

#[test]
fn a_failed_installation_leaves_the_old_plans() {
    let folder = tempfile::tempdir().unwrap();
    let package = installed(folder.path());
    // A folder where the temporary file of the second plan would be.
    fs::create_dir(crate::files::beside(&path(&package, Graph::Fine))).unwrap();
    assert!(install(&package, &plans(&package, b"new", b"new")).is_err());
    assert_eq!(load_all(&package, &DeviceKey::sample()).unwrap().coarse.bytes(), b"coarse bytes");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200), header in ".{0,100}") {
        let _ = super::file::split(&bytes);
        let framed = [b"cfvit plan 1\n", &(header.len() as u32).to_le_bytes()[..], header.as_bytes(), &bytes].concat();
        let _ = super::file::split(&framed);
    }
}
