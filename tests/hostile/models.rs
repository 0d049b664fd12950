//! Hostile models: damaged and lying checkpoints. Open each with [`HEADS`](super::torch::HEADS) heads. A `.toml` is a manifest and a
//! `.txt` a labels file: [`place`] puts them into a package that is valid otherwise.

use std::path::{Path, PathBuf};

use super::models_package::{self, Package};
use super::torch::{Checkpoint, Claim, Program, Zip, deflated_zeros};
use super::{Case, MAY_BE_VALID, Random, models_pickle};

/// All cases, in the same order on every machine.
pub fn corpus() -> Vec<Case> {
    let mut list = List::default();
    truncated(&mut list);
    flipped(&mut list);
    models_pickle::refused(&mut list);
    models_pickle::programs(&mut list);
    models_pickle::limits(&mut list);
    claims(&mut list);
    shapes(&mut list);
    not_finite(&mut list);
    zips(&mut list);
    foreign(&mut list);
    models_package::tensor_files(&mut list);
    models_package::manifests(&mut list);
    models_package::labels(&mut list);
    list.cases
}

/// Writes a case into `folder` and gives the path to open.
pub fn place(case: &Case, folder: &Path) -> PathBuf {
    let path = folder.join(&case.file);
    match path.extension().and_then(|e| e.to_str()) {
        Some("toml") => Package::valid().with_manifest(&case.bytes).write(&path.with_extension("")),
        Some("txt") => Package::valid().with_labels(&case.bytes).write(&path.with_extension("")),
        _ => {
            std::fs::write(&path, &case.bytes).unwrap();
            path
        }
    }
}

/// The cases so far.
#[derive(Default)]
pub struct List {
    cases: Vec<Case>,
}

impl List {
    pub fn add(&mut self, extension: &str, name: impl Into<String>, bytes: Vec<u8>, expect: &'static str) {
        let name = name.into();
        let file = format!("model-{:03}-{name}.{extension}", self.cases.len());
        self.cases.push(Case { name, file, bytes, expect });
    }

    pub fn pth(&mut self, name: impl Into<String>, bytes: Vec<u8>, expect: &'static str) {
        self.add("pth", name, bytes, expect);
    }

    /// A pickle in a zip that is valid otherwise.
    pub fn pickle(&mut self, name: impl Into<String>, program: Vec<u8>, expect: &'static str) {
        self.pth(name, Checkpoint::deit().zip_with(program).bytes(), expect);
    }

    /// A valid checkpoint that `change` has spoilt.
    pub fn changed(&mut self, name: impl Into<String>, expect: &'static str, change: impl FnOnce(&mut Checkpoint)) {
        let mut checkpoint = Checkpoint::deit();
        change(&mut checkpoint);
        self.pth(name, checkpoint.bytes(), expect);
    }

    /// The same for the zip around it.
    pub fn rezipped(&mut self, name: impl Into<String>, expect: &'static str, change: impl FnOnce(&mut Zip)) {
        let mut zip = Checkpoint::deit().zip();
        change(&mut zip);
        self.pth(name, zip.bytes(), expect);
    }
}

fn truncated(list: &mut List) {
    let (file, pickle) = (Checkpoint::deit().bytes(), Checkpoint::deit().pickle());
    for i in 1..30 {
        let cut = file.len() * i / 30;
        list.pth(format!("cut-file-at-{cut}"), file[..cut].to_vec(), "cut off");
        let cut = pickle.len() * i / 30;
        list.pickle(format!("cut-pickle-at-{cut}"), pickle[..cut].to_vec(), "the pickle ends in the middle");
    }
    for cut in 1..6 {
        list.pth(format!("cut-last-{cut}"), file[..file.len() - cut].to_vec(), "cut off");
    }
}

fn flipped(list: &mut List) {
    let mut random = Random(1);
    let checkpoint = Checkpoint::deit();
    let (file, pickle) = (checkpoint.bytes(), checkpoint.pickle());
    let flip = |bytes: &[u8], at: usize, bit: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 1 << bit;
        bytes
    };
    for i in 0..30 {
        let (at, bit) = (random.below(pickle.len()), random.below(8));
        list.pickle(format!("flip-pickle-{i}"), flip(&pickle, at, bit), MAY_BE_VALID);
        let (at, bit) = (random.below(file.len()), random.below(8));
        list.pth(format!("flip-file-{i}"), flip(&file, at, bit), MAY_BE_VALID);
    }
    // The directory and the end record are the last fifth of this small file.
    for i in 0..20 {
        let (at, bit) = (file.len() - 1 - random.below(file.len() / 5), random.below(8));
        list.pth(format!("flip-directory-{i}"), flip(&file, at, bit), MAY_BE_VALID);
    }
    // Values are under a checksum, so every flip there is seen.
    let start = file.windows(8).position(|w| w == b"m/data/0").unwrap() + 8;
    for i in 0..8 {
        list.pth(format!("flip-value-{i}"), flip(&file, start + i, random.below(8)), "is damaged");
    }
}

/// Tensors that claim what their storages do not hold. The error must name the tensor.
fn claims(list: &mut List) {
    let name = "blocks.1.mlp.fc1.weight";
    let mut claim = |case: &str, expect, change: fn(&mut Claim)| {
        list.changed(format!("claim-{case}"), expect, |checkpoint| change(checkpoint.claim(name)));
    };
    const OUTSIDE: &str = "tensor `blocks.1.mlp.fc1.weight` (";
    claim("offset-1", OUTSIDE, |c| c.offset = 1);
    claim("offset-max", OUTSIDE, |c| c.offset = i64::MAX);
    claim("offset-negative", "a negative offset", |c| c.offset = -1);
    claim("shape-negative", "a negative shape", |c| c.shape = vec![-6, 4]);
    claim("stride-negative", "a negative stride", |c| c.stride = vec![-4, 1]);
    claim("stride-outside", OUTSIDE, |c| c.stride = vec![5, 1]);
    claim("stride-max", OUTSIDE, |c| c.stride = vec![i64::MAX, 1]);
    claim("stride-overflow", OUTSIDE, |c| (c.offset, c.stride) = (i64::MAX, vec![i64::MAX, i64::MAX]));
    claim("shape-max", "expected shape [6, 4]", |c| c.shape = vec![i64::MAX, i64::MAX]);
    claim("shape-rank-9", "9 dimensions", |c| (c.shape, c.stride) = (vec![1; 9], vec![1; 9]));
    claim("shape-scalar", "expected shape [6, 4], found []", |c| (c.shape, c.stride) = (vec![], vec![]));
    claim("stride-count", "2 dimensions and 1 strides", |c| c.stride = vec![1]);
    claim("numel-0", OUTSIDE, |c| c.numel = 0);
    claim("numel-short", OUTSIDE, |c| c.numel = 23);
    claim("numel-negative", "a negative number of values", |c| c.numel = -1);
    claim("storage-missing", "`m/data/none` in the zip is missing", |c| c.key = "none".into());
    claim("storage-outside", "in the zip is missing", |c| c.key = "../../../etc/passwd".into());
    claim("storage-of-another", OUTSIDE, |c| (c.key, c.numel) = ("0".into(), 24));
    claim("storage-wider", OUTSIDE, |c| c.class = "DoubleStorage");
    claim("storage-integers", "`blocks.1.mlp.fc1.weight` holds no floats", |c| c.class = "LongStorage");
    claim("storage-bytes", "`blocks.1.mlp.fc1.weight` holds no floats", |c| c.class = "UntypedStorage");
    list.changed("claim-storage-empty", OUTSIDE, |c| c.content(name).clear());
    list.changed("claim-storage-short", OUTSIDE, |c| _ = c.content(name).pop());
}

/// Tensors that are missing, too many or of other shapes.
fn shapes(list: &mut List) {
    // Each leaves out or reshapes one tensor; the error must name it. `&'static str` wants them spelt out.
    for name in [
        "cls_token",
        "pos_embed_list.0",
        "pos_embed_list.1",
        "patch_embed.proj.weight",
        "patch_embed.proj.bias",
        "blocks.0.norm1.weight",
        "blocks.0.attn.qkv.weight",
        "blocks.1.attn.qkv.bias",
        "blocks.2.attn.proj.weight",
        "blocks.3.mlp.fc2.bias",
        "norm.bias",
        "head.weight",
        "head.bias",
        "reuse_block.0.weight",
        "reuse_block.1.fc1.weight",
        "reuse_block.1.fc2.bias",
    ] {
        list.changed(format!("missing-{name}"), name, |c| c.tensors.retain(|(known, _)| known != name));
        list.changed(format!("reshaped-{name}"), name, |c| c.reshape(name, &[1, 7, 1, 3, 2]));
    }
    for name in ["patch_embed.bn2.running_var", "patch_embed.conv3.weight", "aux_head.bias", "patch_embed.proj.weight"]
    {
        let mut checkpoint = Checkpoint::lvvit();
        checkpoint.tensors.retain(|(known, _)| known != name);
        list.pth(format!("missing-lvvit-{name}"), checkpoint.bytes(), name);
    }
    let mut geometry = |case: &str, expect, name: &str, shape: &[i64]| {
        list.changed(format!("geometry-{case}"), expect, |c| c.reshape(name, shape));
    };
    geometry("grid-not-square", "expected 1 + g²", "pos_embed_list.0", &[1, 7, 4]);
    geometry("grid-0", "expected 1 + g²", "pos_embed_list.0", &[1, 1, 4]);
    geometry("tokens-0", "expected 1 + g²", "pos_embed_list.0", &[1, 0, 4]);
    geometry("grid-65", "at most 64", "pos_embed_list.0", &[1, 1 + 65 * 65, 4]);
    geometry("width-0", "a width of 0", "pos_embed_list.0", &[1, 5, 0]);
    geometry("width-3", "does not divide", "pos_embed_list.0", &[1, 5, 3]);
    geometry("width-5000", "at most 4096", "pos_embed_list.0", &[1, 5, 5000]);
    geometry("classes-0", "number of classes of 0", "head.weight", &[0, 4]);
    geometry("hidden-0", "hidden width of 0", "reuse_block.1.fc1.weight", &[0, 4]);
    geometry("patch-0", "patch side of 0", "patch_embed.proj.weight", &[4, 3, 0, 0]);
    geometry("patch-not-square", "expected shape [4, 3, 2, 2]", "patch_embed.proj.weight", &[4, 3, 2, 3]);
    geometry("patch-65", "at most 64", "patch_embed.proj.weight", &[4, 3, 65, 65]);
    let mut rename = |case: &str, expect, from: &str, to: &str| {
        list.changed(format!("names-{case}"), expect, |c| {
            for (name, _) in &mut c.tensors {
                *name = name.replace(from, to);
            }
        });
    };
    rename("plain-vit", "plain vision transformer", "pos_embed_list.0", "pos_embed");
    rename("other-model", "no CF-ViT", "pos_embed_list", "embeddings.position");
    rename("block-gap", "blocks.3.", "blocks.3.", "blocks.9.");
    rename("block-129", "blocks, expected 4 to 128", "blocks.3.", "blocks.129.");
    rename("block-huge", "blocks, expected 4 to 128", "blocks.3.", "blocks.18446744073709551615.");
    rename("block-too-huge", "3 blocks, expected 4", "blocks.3.", "blocks.99999999999999999999.");
    rename("control-characters", "no CF-ViT", "", "\u{1b}[2J");
    list.changed("names-both-with-and-without-prefix", "both `cls_token` and", |c| {
        let (_, claim) = c.tensors[0].clone();
        c.tensors.push(("module.cls_token".into(), claim));
    });
    expanded(list);
}

/// One value, repeated by strides of 0 until it would fill gigabytes.
fn expanded(list: &mut List) {
    const FAR: &str = "far more than a file of";
    let mut add = |name: &str, expect, width: i64, hidden: i64, depth: usize| {
        let mut checkpoint = Checkpoint { tensors: Vec::new(), storages: vec![("0".into(), vec![0; 4])] };
        let (width, hidden) = (width as usize, hidden as usize);
        let geometry =
            cfvit::model::Geometry { width, hidden, depth, ..super::torch::tiny(cfvit::model::Family::Deit) };
        for (tensor, shape) in cfvit::model::expected_tensors(&geometry) {
            let shape: Vec<i64> = shape.into_iter().map(|d| d as i64).collect();
            let stride = vec![0; shape.len()];
            let claim = Claim { class: "FloatStorage", key: "0".into(), numel: 1, offset: 0, shape, stride };
            checkpoint.tensors.push((tensor, claim));
        }
        list.pth(format!("expanded-{name}"), checkpoint.bytes(), expect);
    };
    add("100-mb", FAR, 1024, 2048, 4);
    add("800-mb", FAR, 2048, 8192, 4);
    add("terabytes", "the most that is read", 4096, 16384, 128);
}

fn not_finite(list: &mut List) {
    const SAYS: &str = "tensor `blocks.2.norm2.weight`: value 1 is";
    let mut add = |name: &str, class: &'static str, at: usize, bytes: &[u8]| {
        let mut checkpoint = Checkpoint::new(&super::torch::tiny(cfvit::model::Family::Deit), class);
        checkpoint.content("blocks.2.norm2.weight")[at..at + bytes.len()].copy_from_slice(bytes);
        list.pth(format!("not-finite-{name}"), checkpoint.bytes(), SAYS);
    };
    add("f32-nan", "FloatStorage", 4, &f32::NAN.to_le_bytes());
    add("f32-inf", "FloatStorage", 4, &f32::INFINITY.to_le_bytes());
    add("f64-nan", "DoubleStorage", 8, &f64::NAN.to_le_bytes());
    add("f64-beyond-f32", "DoubleStorage", 8, &1e300f64.to_le_bytes());
    add("f16-inf", "HalfStorage", 2, &0xfc00u16.to_le_bytes());
    add("bf16-nan", "BFloat16Storage", 2, &0x7fc1u16.to_le_bytes());
}

/// Zips that are not what they seem.
fn zips(list: &mut List) {
    const COMPRESSED: &str = "is compressed or encrypted";
    list.rezipped("zip-bomb-pickle", COMPRESSED, |zip| bomb(zip, "m/data.pkl", None));
    list.rezipped("zip-bomb-storage", COMPRESSED, |zip| bomb(zip, "m/data/3", None));
    list.rezipped("zip-bomb-4-gb", COMPRESSED, |zip| bomb(zip, "m/data/3", Some(u32::MAX - 1)));
    list.rezipped("zip-bomb-byteorder", COMPRESSED, |zip| bomb(zip, "m/byteorder", Some(u32::MAX - 1)));
    for (name, method) in [("bzip2", 12), ("lzma", 14), ("zstd", 93), ("unknown", 4711)] {
        list.rezipped(format!("zip-{name}"), "", |zip| zip.entry("m/data.pkl").method = method);
    }
    list.rezipped("zip-encrypted", COMPRESSED, |zip| zip.entry("m/data.pkl").flags = 1);
    list.rezipped("zip-same-name-twice", "two entries of the same name", |zip| zip.add("m/data.pkl", vec![b'.']));
    list.rezipped("zip-overlap", "overlap", |zip| zip.entry("m/data/3").header_at = Some(0));
    list.rezipped("zip-header-outside", "", |zip| zip.entry("m/data/3").header_at = Some(u32::MAX - 1));
    list.rezipped("zip-size-outside", "", |zip| {
        (zip.entry("m/data/3").size, zip.entry("m/data/3").compressed_size) = (Some(1 << 30), Some(1 << 30));
    });
    list.rezipped("zip-size-lie", COMPRESSED, |zip| zip.entry("m/data/3").size = Some(1 << 30));
    list.rezipped("zip-size-short", COMPRESSED, |zip| zip.entry("m/data/3").size = Some(1));
    list.rezipped("zip-more-entries-claimed", "", |zip| zip.claimed_entries = Some(65_534));
    list.rezipped("zip-fewer-entries-claimed", "", |zip| zip.claimed_entries = Some(3));
    list.rezipped("zip-no-pickle", "without <folder>/data.pkl", |zip| _ = zip.entries.remove(0));
    list.rezipped("zip-pickle-in-the-root", "without <folder>/data.pkl", |zip| {
        zip.entry("m/data.pkl").name = "data.pkl".into()
    });
    list.rezipped("zip-pickle-too-deep", "without <folder>/data.pkl", |zip| {
        zip.entry("m/data.pkl").name = "a/b/data.pkl".into()
    });
    list.rezipped("zip-torchscript", "TorchScript", |zip| zip.add("m/constants.pkl", vec![]));
    list.rezipped("zip-big-endian", "byte order is `big`", |zip| zip.entry("m/byteorder").bytes = b"big".to_vec());
    list.rezipped("zip-odd-byte-order", "byte order is `\\u{1b}", |zip| {
        zip.entry("m/byteorder").bytes = b"\x1b[2J".to_vec()
    });
    list.rezipped("zip-long-byte-order", "at most 64", |zip| zip.entry("m/byteorder").bytes = vec![b' '; 1000]);
    list.pth("zip-empty", Zip::new().bytes(), "without <folder>/data.pkl");
    list.pth("zip-only-a-local-header", b"PK\x03\x04".to_vec(), "cut off");
    list.pth("zip-only-an-end", b"PK\x05\x06".to_vec(), "cut off");
    list.pth(
        "zip-zip64-nonsense",
        [b"PK\x03\x04".as_slice(), &[0xff; 200], b"PK\x06\x07", &[0xff; 16], b"PK\x05\x06", &[0xff; 18]].concat(),
        "",
    );
    let shifted = [&[0; 100], Checkpoint::deit().bytes().as_slice()].concat();
    list.pth("zip-behind-something", shifted, "no kind of file");
    let mut many = Checkpoint::deit().zip();
    // Past the 16 bits of the end record, so a correct reader takes only the first of them; the directory is larger than any limit.
    for i in 0..60_000 {
        many.add(
            &format!("m/data/a-storage-with-a-long-name-that-fills-the-directory-with-nothing-of-any-use-{i}"),
            vec![],
        );
    }
    list.pth("zip-huge-directory", many.bytes(), "the directory is larger");
}

fn bomb(zip: &mut Zip, name: &str, size: Option<u32>) {
    let entry = zip.entry(name);
    let zeros = 8 << 20;
    (entry.bytes, entry.method, entry.size) = (deflated_zeros(zeros), 8, size.or(Some(zeros as u32)));
}

/// Files of other kinds.
fn foreign(list: &mut List) {
    let mut random = Random(2);
    let noise: Vec<u8> = (0..4096).map(|_| random.next() as u8 | 1).collect();
    let legacy = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.".to_vec();
    list.pth("foreign-empty", vec![], "the file is empty");
    list.pth("foreign-one-byte", vec![b'P'], "no kind of file");
    list.pth("foreign-noise", noise.clone(), "no kind of file");
    list.pth("foreign-legacy-pickle", legacy, "torch.save(torch.load(");
    list.pth("foreign-bare-pickle", Program::new().global("os", "system").stop(), "bare pickle");
    list.pth("foreign-web-page", b"<!DOCTYPE html><html>".to_vec(), "web page");
    list.pth("foreign-lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0".to_vec(), "git lfs pull");
    list.pth("foreign-gzip", b"\x1f\x8b\x08\0\0\0\0\0".to_vec(), "gzip");
    list.pth("foreign-hdf5", b"\x89HDF\r\n\x1a\n\0\0\0\0".to_vec(), "HDF5");
    list.pth("foreign-gguf", b"GGUF\x03\0\0\0\0\0\0\0".to_vec(), "GGUF");
    list.pth("foreign-elf", b"\x7fELF\x02\x01\x01\0\0\0\0\0".to_vec(), "a program");
    list.pth("foreign-text", b"import torch\n".to_vec(), "no kind of file");
    list.add("safetensors", "foreign-noise-safetensors", noise, "header claims");
    list.add("safetensors", "foreign-empty-safetensors", vec![], "header is cut off");
}
