//! Hostile `.safetensors` files, manifests and labels.

use std::path::{Path, PathBuf};

use cfvit::model::{Family, Geometry, expected_tensors};
use sha2::{Digest, Sha256};

use super::Random;
use super::models::List;
use super::torch::{encoded, tiny};

/// The files of an engine package.
pub struct Package {
    manifest: Vec<u8>,
    weights: Vec<u8>,
    labels: Vec<u8>,
}

impl Package {
    pub fn valid() -> Self {
        let (weights, labels) = (TensorFile::valid().bytes(), b"a\tfirst\nb\tsecond\nc\tthird\n".to_vec());
        Self { manifest: manifest(&weights, &labels).into_bytes(), weights, labels }
    }

    pub fn with_manifest(self, manifest: &[u8]) -> Self {
        Self { manifest: manifest.to_vec(), ..self }
    }

    /// With other labels, and a manifest to go with them.
    pub fn with_labels(self, labels: &[u8]) -> Self {
        Self { manifest: manifest(&self.weights, labels).into_bytes(), labels: labels.to_vec(), ..self }
    }

    /// Writes the package; gives `folder` back.
    pub fn write(&self, folder: &Path) -> PathBuf {
        std::fs::create_dir_all(folder).unwrap();
        let files =
            [("manifest.toml", &self.manifest), ("model.safetensors", &self.weights), ("labels.txt", &self.labels)];
        for (name, content) in files {
            std::fs::write(folder.join(name), content).unwrap();
        }
        folder.to_path_buf()
    }
}

fn sum(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn manifest(weights: &[u8], labels: &[u8]) -> String {
    let Geometry { grid, patch, width, depth, heads, hidden, classes, .. } = tiny(Family::Deit);
    format!(
        "schema = 1\nname = \"tiny\"\nfamily = \"cf_deit\"\ncrop = 0.875\nweights = \"model.safetensors\"\nlabels = \"labels.txt\"\n\n\
         [geometry]\ngrid = {grid}\npatch = {patch}\nwidth = {width}\ndepth = {depth}\nheads = {heads}\nhidden = {hidden}\n\
         classes = {classes}\n\n[gate]\nthreshold = 0.5\n\n[results]\nbudgeted_gflops = [0.1]\nbudgeted_top1 = [50.0]\n\n\
         [sha256]\n\"labels.txt\" = \"{}\"\n\"model.safetensors\" = \"{}\"\n",
        sum(labels),
        sum(weights)
    )
}

/// A `.safetensors` file, well-formed or not.
#[derive(Clone)]
pub struct TensorFile {
    /// Name, type, shape, start, end.
    pub entries: Vec<(String, &'static str, Vec<usize>, usize, usize)>,
    pub metadata: String,
    pub data: Vec<u8>,
}

impl TensorFile {
    pub fn new(geometry: &Geometry, dtype: &'static str, class: &str) -> Self {
        let mut file = Self { entries: Vec::new(), metadata: String::new(), data: Vec::new() };
        for (name, shape) in expected_tensors(geometry) {
            let start = file.data.len();
            file.data.extend(encoded(class, shape.iter().product()));
            file.entries.push((name, dtype, shape, start, file.data.len()));
        }
        file
    }

    pub fn valid() -> Self {
        Self::new(&tiny(Family::Deit), "F32", "FloatStorage")
    }

    pub fn header(&self) -> String {
        let entry = |(name, dtype, shape, start, end): &(String, &str, Vec<usize>, usize, usize)| {
            format!("\"{name}\":{{\"dtype\":\"{dtype}\",\"shape\":{shape:?},\"data_offsets\":[{start},{end}]}}")
        };
        let entries = self.entries.iter().map(entry).collect::<Vec<_>>().join(",");
        format!("{{{}{entries}}}", self.metadata)
    }

    pub fn bytes(&self) -> Vec<u8> {
        with_header(self.header().as_bytes(), &self.data)
    }
}

fn with_header(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

pub fn tensor_files(list: &mut List) {
    let valid = TensorFile::valid();
    let (bytes, header) = (valid.bytes(), valid.header());
    let mut add =
        |name: String, bytes: Vec<u8>, says| list.add("safetensors", format!("safetensors-{name}"), bytes, says);
    for i in 0..15 {
        let cut = bytes.len() * i / 15;
        add(format!("cut-at-{cut}"), bytes[..cut].to_vec(), "");
    }
    add("longer".into(), [bytes.as_slice(), b"x"].concat(), "the file has");
    for (name, length) in [
        ("0", 0),
        ("1", 1),
        ("half", header.len() as u64 / 2),
        ("past-the-end", 1 << 21),
        ("huge", 1 << 40),
        ("max", u64::MAX),
    ] {
        let mut bytes = bytes.clone();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        add(format!("header-length-{name}"), bytes, "header");
    }
    for (name, header) in [
        ("not-json", b"{not json}".to_vec()),
        ("array", b"[1,2,3]".to_vec()),
        ("number", b"{\"a\":1}".to_vec()),
        ("not-utf8", b"{\"\xff\xfe\":1}".to_vec()),
        ("deep", [b"{\"a\":".to_vec(), b"[".repeat(100_000)].concat()),
        ("unknown-type", b"{\"a\":{\"dtype\":\"Q7\",\"shape\":[],\"data_offsets\":[0,4]}}".to_vec()),
        ("negative", b"{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}".to_vec()),
        (
            "overflow",
            b"{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,16],\"data_offsets\":[0,4]}}".to_vec(),
        ),
        ("metadata-number", b"{\"__metadata__\":{\"heads\":2}}".to_vec()),
    ] {
        add(format!("header-{name}"), with_header(&header, &[0; 4]), "header");
    }
    add("header-empty-object".into(), with_header(b"{}", &[]), "among 0 tensors");
    changed_tensor_files(list);
    let mut random = Random(3);
    for i in 0..15 {
        let mut bytes = bytes.clone();
        bytes[8 + random.below(header.len())] ^= 1 << random.below(8);
        list.add("safetensors", format!("safetensors-flip-{i}"), bytes, super::MAY_BE_VALID);
    }
}

fn changed_tensor_files(list: &mut List) {
    let mut changed = |name: &str, says, change: fn(&mut TensorFile)| {
        let mut file = TensorFile::valid();
        change(&mut file);
        list.add("safetensors", format!("safetensors-{name}"), file.bytes(), says);
    };
    changed("overlap", "header", |f| f.entries[1].3 -= 4);
    changed("gap", "header", |f| f.entries[1].3 += 4);
    changed("reversed", "header", |f| (f.entries[0].3, f.entries[0].4) = (16, 0));
    changed("outside", "header", |f| f.entries.last_mut().unwrap().4 += 4);
    changed("offset-max", "header", |f| f.entries.last_mut().unwrap().4 = usize::MAX);
    changed("wrong-size", "header", |f| f.entries[0].2 = vec![1, 1, 5]);
    changed("integers", "`cls_token` holds no floats", |f| f.entries[0].1 = "I32");
    changed("wrong-shape", "`cls_token`: expected shape [1, 1, 4]", |f| f.entries[0].2 = vec![4]);
    changed("renamed", "`cls_token` is missing", |f| f.entries[0].0 = "cls".into());
    changed("two-names", "both `pos_embed_list.0` and", |f| f.entries[0].0 = "module.pos_embed_list.0".into());
    changed("nan", "`cls_token`: value 0 is NaN", |f| f.data[..4].copy_from_slice(&f32::NAN.to_le_bytes()));
    changed("heads-not-a-number", "`heads` in the metadata", |f| {
        f.metadata = "\"__metadata__\":{\"heads\":\"many\"},".into()
    });
    changed("crop-not-a-number", "crop ratio of NaN", |f| f.metadata = "\"__metadata__\":{\"crop\":\"nan\"},".into());
    changed("crop-7", "crop ratio of 7", |f| f.metadata = "\"__metadata__\":{\"crop\":\"7\"},".into());
}

pub fn manifests(list: &mut List) {
    let valid = String::from_utf8(Package::valid().manifest).unwrap();
    let mut add =
        |name: &str, text: String, says| list.add("toml", format!("manifest-{name}"), text.into_bytes(), says);
    add("empty", String::new(), "missing field");
    add("not-toml", "this is not TOML".into(), "line 1");
    add("deep", format!("a = {}", "[".repeat(100_000)), "line 1");
    add("unknown-table", format!("{valid}\n[surprise]\n"), "line 28: unknown field `surprise`");
    add("twice", format!("schema = 1\n{valid}"), "line 2");
    let mut replace = |name: &str, from: &str, to: &str, says| {
        assert!(valid.contains(from), "{from}");
        add(name, valid.replacen(from, to, 1), says);
    };
    replace("unknown-key", "crop =", "crops = 1\ncrop =", "line 4: unknown field `crops`");
    replace("unknown-geometry-key", "heads =", "head = 1\nheads =", "unknown field `head`");
    replace("unknown-gate-key", "threshold =", "treshold =", "unknown field `treshold`");
    replace("no-schema", "schema = 1\n", "", "missing field `schema`");
    replace("schema-2", "schema = 1", "schema = 2", "schema 2");
    replace("schema-text", "schema = 1", "schema = \"1\"", "line 1");
    replace("schema-huge", "schema = 1", "schema = 99999999999999999999999", "line 1");
    replace("no-family", "family = \"cf_deit\"\n", "", "missing field `family`");
    replace("other-family", "cf_deit", "resnet", "unknown family `resnet`");
    replace("wrong-family", "cf_deit", "cf_lvvit", "the weights in");
    replace("control-characters", "tiny", "\\u001b[2J", "control characters");
    for (name, crop) in [("0", "0.0"), ("negative", "-1.0"), ("2", "2.0"), ("nan", "nan"), ("inf", "inf")] {
        replace(&format!("crop-{name}"), "crop = 0.875", &format!("crop = {crop}"), "crop ratio of");
    }
    for (name, threshold) in [("negative", "-0.1"), ("nan", "nan"), ("inf", "inf"), ("beyond-f32", "1e300")] {
        replace(&format!("threshold-{name}"), "threshold = 0.5", &format!("threshold = {threshold}"), "a threshold of");
    }
    for (name, path) in [
        ("parent", "../labels.txt"),
        ("absolute", "/etc/passwd"),
        ("folder", "a/labels.txt"),
        ("hidden", ".labels"),
        ("none", ""),
        ("windows", "..\\\\x"),
    ] {
        replace(
            &format!("file-{name}"),
            "labels = \"labels.txt\"",
            &format!("labels = \"{path}\""),
            "is not the plain name",
        );
    }
    replace("sum-parent", "\"labels.txt\" =", "\"../labels.txt\" =", "is not the plain name");
    replace("file-missing", "labels = \"labels.txt\"", "labels = \"other.txt\"", "other.txt");
    replace("sum-missing", "\"labels.txt\" =", "\"manifest.toml\" =", "");
    replace("sum-of-a-missing-file", "[sha256]\n", "[sha256]\n\"coarse.onnx\" = \"00\"\n", "coarse.onnx");
    replace(
        "sum-short",
        "[sha256]\n\"labels.txt\" = \"",
        "[sha256]\n\"labels.txt\" = \"0",
        "`labels.txt` is not the file that was packed",
    );
    for key in ["grid", "patch", "width", "depth", "hidden", "classes"] {
        replace(&format!("other-{key}"), &format!("\n{key} = "), &format!("\n{key} = 1"), "the weights in");
    }
    replace("negative-depth", "depth = 4", "depth = -4", "line");
    replace("results-unequal", "budgeted_top1 = [50.0]", "budgeted_top1 = [50.0, 51.0]", "[results]");
    replace("results-inf", "budgeted_top1 = [50.0]", "budgeted_top1 = [inf]", "[results]");
    list.add("toml", "manifest-not-utf8", b"schema = \"\xff\"".to_vec(), "not UTF-8");
}

pub fn labels(list: &mut List) {
    let mut add = |name: &str, bytes: &[u8], says| list.add("txt", format!("labels-{name}"), bytes.to_vec(), says);
    add("empty", b"", "0 labels, the model has 3 classes");
    add("too-few", b"a\tx\nb\ty\n", "2 labels, the model has 3 classes");
    add("too-many", b"a\nb\nc\nd\n", "4 labels, the model has 3 classes");
    add("empty-line", b"a\n\nc\n", "line 2: no id");
    add("no-id", b"a\n\tname\nc\n", "line 2: no id");
    add("twice", b"a\nb\na\n", "line 3: the id `a`");
    add("escape", b"a\tx\x1b]0;title\x07\nb\nc\n", "line 1: `x\\u{1b}]0;title");
    add("nul", b"a\0\nb\nc\n", "control characters");
    add("right-to-left", "a\tx\u{202e}y\nb\nc\n".as_bytes(), "control characters");
    add("not-utf8", b"a\xff\nb\nc\n", "not UTF-8");
    add("long-line", &b"x".repeat(10_000), "longer than");
    add("many", "x\n".repeat(5).as_bytes(), "line 2: the id `x`");
    add("too-long", &b"x\n".repeat(3 << 20), "longer than");
}
