//! Every kind of checkpoint that is well-formed: number formats, layouts, wrappers, training leftovers, packages, and the
//! published code's own files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "clippy allows them in test functions, not in their helpers")]

mod hostile;

use std::path::{Path, PathBuf};

use assert_cmd::Command;
use cfvit::model::{self, DType, Details, Family, Model, expected_tensors};
use hostile::models_package::{Package, TensorFile};
use hostile::torch::{Checkpoint, Claim, HEADS, Program, contiguous, encoded, tiny, value};
use tempfile::TempDir;

/// A folder, and a file in it.
fn file(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn open(name: &str, bytes: &[u8]) -> (Model, Details) {
    let (_folder, path) = file(name, bytes);
    model::open_with_details(Some(&path), Some(HEADS)).unwrap()
}

/// Every tensor is there with its shape and its values.
fn assert_whole(model: &Model) {
    let expected = expected_tensors(&model.geometry);
    assert_eq!(model.tensors.len(), expected.len());
    for (name, shape) in expected {
        let tensor = &model.tensors[&name];
        assert_eq!(tensor.shape, shape, "{name}");
        let values: Vec<f32> = (0..shape.iter().product()).map(value).collect();
        assert_eq!(tensor.data, values, "{name}");
    }
}

#[test]
fn every_number_format_of_both_families() {
    for (class, dtype) in [
        ("FloatStorage", DType::F32),
        ("HalfStorage", DType::F16),
        ("BFloat16Storage", DType::Bf16),
        ("DoubleStorage", DType::F64),
    ] {
        for family in [Family::Deit, Family::Lvvit] {
            let (model, details) = open("m.pth", &Checkpoint::new(&tiny(family), class).bytes());
            assert_eq!(model.geometry, tiny(family));
            assert_eq!(model.crop, family.default_crop());
            assert_eq!(details.dtypes.keys().collect::<Vec<_>>(), [&dtype]);
            assert_whole(&model);
        }
    }
    for (dtype, class) in
        [("F32", "FloatStorage"), ("F16", "HalfStorage"), ("BF16", "BFloat16Storage"), ("F64", "DoubleStorage")]
    {
        let (model, details) = open("m.safetensors", &TensorFile::new(&tiny(Family::Lvvit), dtype, class).bytes());
        assert_eq!(details.format, "safetensors");
        assert_whole(&model);
    }
}

#[test]
fn prefixes_of_data_parallel_training() {
    let mut checkpoint = Checkpoint::deit();
    checkpoint.tensors.iter_mut().for_each(|(name, _)| name.insert_str(0, "module."));
    assert_whole(&open("m.pth", &checkpoint.bytes()).0);
    let mut tensors = TensorFile::valid();
    tensors.entries.iter_mut().for_each(|entry| entry.0.insert_str(0, "module."));
    assert_whole(&open("m.safetensors", &tensors.bytes()).0);
}

#[test]
fn the_state_dict_may_be_called_otherwise_or_stand_alone() {
    let checkpoint = Checkpoint::deit();
    let alone = Program::new().state(&checkpoint.tensors).stop();
    let called = Program::new().raw(b"}").text("state_dict").state(&checkpoint.tensors).raw(b"s").stop();
    for pickle in [alone, called] {
        assert_whole(&open("m.pth", &checkpoint.zip_with(pickle).bytes()).0);
    }
}

/// A transposed weight, all tensors in one storage, a row repeated by a stride of 0.
#[test]
fn layouts_that_are_not_contiguous() {
    let mut transposed = Checkpoint::deit();
    let name = "blocks.0.attn.qkv.weight";
    let columns: Vec<f32> = (0..48).map(|i| value(i % 12 * 4 + i / 12)).collect();
    *transposed.content(name) = DType::F32.encode(&columns);
    transposed.claim(name).stride = vec![1, 12];
    assert_whole(&open("m.pth", &transposed.bytes()).0);

    let mut shared = Checkpoint::deit();
    let mut storage = Vec::new();
    for (key, content) in std::mem::take(&mut shared.storages) {
        let (_, claim) = shared.tensors.iter_mut().find(|(_, claim)| claim.key == key).unwrap();
        (claim.key, claim.offset) = ("all".into(), storage.len() as i64 / 4);
        storage.extend(content);
    }
    shared.tensors.iter_mut().for_each(|(_, claim)| claim.numel = storage.len() as i64 / 4);
    shared.storages.push(("all".into(), storage));
    assert_whole(&open("m.pth", &shared.bytes()).0);

    let mut expanded = Checkpoint::deit();
    expanded.claim("pos_embed_list.0").stride = vec![0, 0, 1];
    let (model, _) = open("m.pth", &expanded.bytes());
    let row: Vec<f32> = (0..4).map(value).collect();
    assert_eq!(model.tensors["pos_embed_list.0"].data, row.repeat(5));
}

/// Parameters instead of tensors, an untyped storage with the format beside it, protocol 4's way to import.
#[test]
fn other_ways_to_write_a_tensor() {
    let checkpoint = Checkpoint::deit();
    let mut program = Program(vec![0x80, 4, 0x95, 0, 0, 0, 0, 0, 0, 0, 0]).raw(b"}").text("model").raw(b"}(");
    for (i, (name, claim)) in checkpoint.tensors.iter().enumerate() {
        program = program.text(name);
        program = match i % 3 {
            0 => program.global("torch._utils", "_rebuild_parameter").raw(b"(").tensor(claim).raw(b"\x88}tR"),
            1 => untyped(program, claim),
            _ => {
                let import = program.text("torch._utils").text("_rebuild_tensor").raw(&[0x93, 0x94]);
                import.raw(b"(").storage(claim).int(0).ints(&claim.shape).ints(&claim.stride).raw(b"tR")
            }
        };
    }
    let (model, _) = open("m.pth", &checkpoint.zip_with(program.raw(b"us").stop()).bytes());
    assert_whole(&model);
}

fn untyped(program: Program, claim: &Claim) -> Program {
    let bytes = Claim { class: "UntypedStorage", numel: claim.numel * 4, ..claim.clone() };
    let program = program.global("torch._utils", "_rebuild_tensor_v3").raw(b"(").storage(&bytes).int(0);
    program.ints(&claim.shape).ints(&claim.stride).raw(b"\x89Nctorch\nfloat32\ntR")
}

/// What the authors' training script saves: an optimizer, the arguments of the run, a second set of weights, numpy numbers.
#[test]
fn a_training_checkpoint_with_everything_else_in_it() {
    let checkpoint = Checkpoint::deit();
    let mut ema = checkpoint.tensors.clone();
    ema.iter_mut().for_each(|(_, claim)| claim.key = "not-in-the-file".into());
    let pickle = Program::new()
        .raw(b"}(")
        .text("model_ema")
        .state(&ema)
        .text("optimizer")
        .raw(b"}")
        .text("state")
        .raw(b"}K\0")
        .tensor(&ema[1].1)
        .raw(b"ss")
        .text("args")
        .raw(b"cargparse\nNamespace\n)\x81}")
        .text("output_dir")
        .raw(b"cpathlib\nPosixPath\nX\x01\0\0\0x\x85Rsb")
        .text("acc")
        .raw(b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\nX\x02\0\0\0f8\x89\x88\x87R(K\x03NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb")
        .raw(b"c_codecs\nencode\nX\x08\0\0\0abcdefghX\x06\0\0\0latin1\x86RtR")
        .text("milestones")
        .raw(b"ccollections\nCounter\n}\x85R")
        .text("device")
        .raw(b"ctorch\ndevice\nX\x03\0\0\0cpu\x85R")
        .text("epoch")
        .raw(b"K\x07")
        .text("flop")
        .floats(&[1.1, 4.0])
        .text("anytime_classification")
        .raw(b"N")
        .text("budgeted_batch_classification")
        .raw(b"](")
        .floats(&[1.0, 2.0])
        .floats(&[70.0])
        .raw(b"e")
        .text("model")
        .state(&checkpoint.tensors)
        .raw(b"u")
        .stop();
    let (model, details) = open("m.pth", &checkpoint.zip_with(pickle).bytes());
    assert_whole(&model);
    assert_eq!(model.results.flop, Some(vec![1.1, 4.0]));
    assert_eq!((model.results.anytime, model.results.budgeted), (None, None));
    let notes = details.notes.join("\n");
    assert!(notes.contains("`model_ema` is there too") && notes.contains("`budgeted_batch_classification`"), "{notes}");
    assert_eq!(details.notes.len(), 2);
}

#[test]
fn extra_tensors_are_ignored_and_listed() {
    let mut checkpoint = Checkpoint::lvvit();
    let (class, key) = ("LongStorage", "none".to_string());
    for name in ["head_dist.weight", "patch_embed.bn1.num_batches_tracked"] {
        let claim = Claim { class, key: key.clone(), numel: 1, offset: 0, shape: vec![], stride: vec![] };
        checkpoint.tensors.push((name.into(), claim));
    }
    let (model, details) = open("m.pth", &checkpoint.bytes());
    assert_whole(&model);
    assert_eq!(details.ignored, ["head_dist.weight"], "the counter of a batch norm is part of every LV-ViT");
}

#[test]
fn heads_are_asked_for_stored_or_64_channels_each() {
    let (_folder, path) = file("m.pth", &Checkpoint::deit().bytes());
    let error = |heads| model::open(Some(&path), heads).unwrap_err();
    assert!(error(None).to_string().contains("--heads N"), "{}", error(None));
    assert!(error(Some(3)).to_string().contains("--heads 3 does not divide"), "{}", error(Some(3)));
    assert_eq!((error(None).exit_code(), error(Some(3)).exit_code(), error(Some(0)).exit_code()), (1, 2, 2));

    let geometry = model::Geometry { width: 128, heads: 2, ..tiny(Family::Deit) };
    let (_folder, path) = file("m.pth", &Checkpoint::new(&geometry, "HalfStorage").bytes());
    assert_eq!(model::open(Some(&path), None).unwrap().geometry.heads, 2);

    let mut tensors = TensorFile::valid();
    tensors.metadata = "\"__metadata__\":{\"heads\":\"4\",\"crop\":\"0.95\",\"format\":\"pt\"},".into();
    let (_folder, path) = file("m.safetensors", &tensors.bytes());
    let model = model::open(Some(&path), None).unwrap();
    assert_eq!((model.geometry.heads, model.crop), (4, 0.95));
    assert_eq!(model::open(Some(&path), Some(1)).unwrap().geometry.heads, 1);
}

#[test]
fn content_decides_not_the_extension() {
    let (model, details) = open("model.bin", &Checkpoint::deit().bytes());
    assert_eq!((model.name.as_str(), details.format), ("model", "torch checkpoint"));
    assert_eq!(open("model.pth", &TensorFile::valid().bytes()).1.format, "safetensors");
}

#[test]
fn what_is_no_file_is_refused() {
    for (path, says) in [("/dev/zero", "neither a file nor a folder"), ("/does/not/exist.pth", "No such file")] {
        let error = model::open(Some(Path::new(path)), None).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains(path), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let error = model::open(Some(folder.path()), None).unwrap_err().to_string();
    assert!(error.contains("cfvit import"), "{error}");
}

/// The checkpoints of the published code, whose parameters it has counted itself.
#[test]
fn the_golden_checkpoints() {
    for (name, family) in [("deit-7", Family::Deit), ("lvvit-7", Family::Lvvit)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/golden").join(name);
        if !folder.exists() {
            println!("skipped: {} is not there", folder.display());
            continue;
        }
        let expected: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(folder.join("expected.json")).unwrap()).unwrap();
        let number = |key: &str| expected["model"][key].as_u64().unwrap() as usize;
        let model = model::open(Some(&folder.join("checkpoint.pth")), Some(number("num_heads"))).unwrap();
        let geometry = model.geometry;
        assert_eq!(geometry.family, family);
        assert_eq!((geometry.grid, geometry.width), (number("coarse_stage_size"), number("embed_dim")));
        assert_eq!((geometry.depth, geometry.classes), (number("depth"), number("num_classes")));
        assert_eq!(geometry.hidden, number("mlp_ratio") * geometry.width);
        assert_eq!(model::parameters(&geometry), number("parameters") as u64);
        assert_eq!(model.crop, expected["model"]["crop_pct"].as_f64().unwrap());
        assert_eq!(model.results.flop, Some(vec![0.1, 0.4]));
        assert_eq!(model.results.budgeted, Some(vec![(0.1, 50.0), (0.4, 60.0)]));
    }
}

#[test]
fn the_bundled_model_is_whole() {
    let (model, details) = model::open_with_details(None, None).unwrap();
    assert_eq!(model.geometry.to_string(), "cf_deit 7×7, patch 16, width 192, depth 6, 3 heads, mlp 768, 10 classes");
    assert_eq!((model.labels[3].id.as_str(), model.labels[3].name.as_str()), ("n03000684", "chain saw"));
    assert_eq!((model.crop, model.threshold), (0.875, Some(0.5)));
    assert_eq!(model.results.budgeted.map(|curve| curve.len()), Some(100));
    assert_eq!(details.dtypes.keys().collect::<Vec<_>>(), [&DType::F16]);
    assert_eq!(model::parameters(&model.geometry), 3_163_018);
}

/// The bundled weights are those of the checkpoint, rounded to 16 bits.
#[test]
fn the_bundled_weights_are_the_rounded_ones_of_the_checkpoint() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/models/imagenette-cf-deit.pth");
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let (original, bundled) = (model::open(Some(&path), None).unwrap(), model::open(None, None).unwrap());
    for (name, tensor) in &original.tensors {
        let rounded: Vec<f32> = tensor.data.iter().map(|&v| half::f16::from_f32(v).to_f32()).collect();
        assert_eq!(bundled.tensors[name].data, rounded, "{name}");
    }
}

fn cfvit(args: &[&str], folder: &Path) -> std::process::Output {
    Command::cargo_bin("cfvit").unwrap().args(args).current_dir(folder).output().unwrap()
}

/// Runs the program in `folder`; gives what it wrote to standard output, or its exit code and error.
fn run(args: &[&str], folder: &Path) -> Result<String, (i32, String)> {
    let output = cfvit(args, folder);
    match output.status.code() {
        Some(0) => Ok(String::from_utf8(output.stdout).unwrap()),
        code => Err((code.unwrap(), String::from_utf8(output.stderr).unwrap())),
    }
}

#[test]
fn import_writes_a_package_and_replaces_one_only_when_told() {
    let (folder, _) = file("m.pth", &Checkpoint::deit().bytes());
    let folder = folder.path();
    std::fs::write(folder.join("labels.txt"), "\u{feff}n1\ttench\r\nn2\thare\r\nn3\r\n").unwrap();
    let args = ["import", "m.pth", "--heads", "2", "--labels", "labels.txt", "--out", "engines/tiny"];
    run(&[&args[..], &["--crop", "0.9", "--threshold", "0.7"]].concat(), folder).unwrap();
    let package = folder.join("engines/tiny");
    let (model, details) = model::open_with_details(Some(&package), None).unwrap();
    assert_whole(&model);
    assert_eq!((model.name.as_str(), model.crop, model.threshold), ("tiny", 0.9, Some(0.7)));
    assert_eq!((model.geometry.heads, details.has_labels), (2, true));
    assert_eq!(model.labels.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["tench", "hare", "n3"]);

    let (code, error) = run(&args, folder).unwrap_err();
    assert!(code == 2 && error.contains("--force"), "{error}");
    std::fs::write(package.join("README.md"), "mine").unwrap();
    std::fs::write(package.join("coarse.plan"), "built for the old weights").unwrap();
    run(&[&args[..], &["--force", "--dtype", "f16", "--name", "renamed"]].concat(), folder).unwrap();
    let (model, details) = model::open_with_details(Some(&package), None).unwrap();
    assert_eq!((model.name.as_str(), model.crop, model.threshold), ("renamed", 0.875, None));
    assert_eq!(details.dtypes.keys().collect::<Vec<_>>(), [&DType::F16]);
    assert_eq!(std::fs::read(package.join("README.md")).unwrap(), b"mine");
    assert!(!package.join("coarse.plan").exists());
    let left: Vec<_> = std::fs::read_dir(folder.join("engines")).unwrap().collect();
    assert_eq!(left.len(), 1, "nothing temporary stays: {left:?}");
}

#[test]
fn an_import_that_fails_leaves_what_was_there() {
    let (folder, path) = file("m.pth", &Checkpoint::deit().bytes());
    let package = Package::valid().write(&folder.path().join("p"));
    let mut large = Checkpoint::deit();
    large.content("norm.bias")[..4].copy_from_slice(&1e6f32.to_le_bytes());
    std::fs::write(folder.path().join("large.pth"), large.bytes()).unwrap();
    std::fs::write(folder.path().join("two.txt"), "a\nb\n").unwrap();
    std::fs::write(folder.path().join("three.txt"), "a\nb\nc\n").unwrap();
    std::fs::create_dir(folder.path().join("other")).unwrap();
    std::fs::write(folder.path().join("other/file"), "precious").unwrap();
    for (checkpoint, labels, more, code, says) in [
        ("m.pth", "two.txt", &["--force"][..], 1, "2 labels, the model has 3 classes"),
        ("m.pth", "none.txt", &["--force"], 1, "none.txt"),
        ("m.pth", "three.txt", &["--force", "--crop", "7"], 2, "crop ratio of 7"),
        ("m.pth", "three.txt", &["--force", "--threshold=-1"], 2, "threshold of -1"),
        ("m.pth", "three.txt", &["--force", "--name", "a\u{1b}b"], 2, "control characters"),
        ("large.pth", "three.txt", &["--force", "--dtype", "f16"], 2, "--dtype f32"),
        ("none.pth", "three.txt", &["--force"], 1, "none.pth"),
    ] {
        let args = [&["import", checkpoint, "--heads", "2", "--labels", labels, "--out", "p"], more].concat();
        let (found, error) = run(&args, folder.path()).unwrap_err();
        assert!(found == code && error.contains(says), "{found}: {error}");
        assert_eq!(model::open(Some(&package), None).unwrap().labels[0].name, "first", "{says}");
    }
    let args = ["import", "m.pth", "--heads", "2", "--labels", "three.txt", "--out", "other", "--force"];
    let (code, error) = run(&args, folder.path()).unwrap_err();
    assert!(code == 2 && error.contains("no engine package"), "{error}");
    assert_eq!(std::fs::read(folder.path().join("other/file")).unwrap(), b"precious");
    assert!(path.exists());
}

/// A published shape, 22 million parameters of zeros: the numbers of the paper.
#[test]
fn inspect_prints_the_published_costs() {
    let geometry = model::Geometry::published(Family::Deit, 7, 1000);
    let mut tensors = TensorFile { entries: Vec::new(), metadata: String::new(), data: Vec::new() };
    let mut end = 0;
    for (name, shape) in expected_tensors(&geometry) {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        tensors.entries.push((name, "F16", shape, start, end));
    }
    tensors.data = vec![0; end];
    let (folder, _) = file("zeros.safetensors", &tensors.bytes());
    let text = run(&["inspect", "zeros.safetensors"], folder.path()).unwrap();
    for says in [
        "cf_deit (published as cf_deit_small)",
        "1.10 G coarse, 2.91 G fine",
        "6 heads",
        "50 coarse, 125 fine",
        "23.25 M",
    ] {
        assert!(text.contains(says), "{says} is not in\n{text}");
    }
}

#[test]
fn inspect_shows_the_bundled_model_from_any_folder() {
    let folder = tempfile::tempdir().unwrap();
    let text = run(&["inspect"], folder.path()).unwrap();
    for says in
        ["imagenette", "tench", "0.146 G coarse, 0.411 G fine", "fast.ai", "f16 (87 tensors)", "75.69", "100 of 100"]
    {
        assert!(text.contains(says), "{says} is not in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let json: serde_json::Value = serde_json::from_str(&run(&["inspect", "--json"], folder.path()).unwrap()).unwrap();
    assert_eq!(json["geometry"]["width"], 192);
    assert_eq!(json["labels"][9]["name"], "parachute");
    assert_eq!(json["results"]["budgeted_batch_classification"][99][1], 75.694);
    assert_eq!(json["parameters"], 3_163_018);
}

/// The writer's strides agree with its shapes; else half of this file would test nothing.
#[test]
fn the_writer_makes_row_major_strides() {
    assert_eq!(contiguous(&[2, 3, 4]), [12, 4, 1]);
    assert_eq!(encoded("HalfStorage", 3).len(), 6);
}
