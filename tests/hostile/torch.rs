//! A small writer of what `torch.save` writes, well-formed or not: pickle programs, state dicts over storages, and the zip
//! around them.

use cfvit::model::{Family, Geometry, expected_tensors};
use half::{bf16, f16};

/// The smallest CF-ViTs. Their head count is not 64 channels each: open them with `HEADS`.
pub const HEADS: usize = 2;

pub fn tiny(family: Family) -> Geometry {
    let stem = if family == Family::Lvvit { 2 } else { 0 };
    Geometry { family, grid: 2, patch: 2, width: 4, depth: 4, heads: HEADS, hidden: 6, classes: 3, stem }
}

/// The value `i` of every tensor: multiples of 1/64 in ±1, exact in every format.
pub fn value(i: usize) -> f32 {
    (i * 37 % 127) as f32 / 64.0 - 63.0 / 64.0
}

/// `count` such values in the format of a storage class.
pub fn encoded(class: &str, count: usize) -> Vec<u8> {
    let values = (0..count).map(value);
    match class {
        "HalfStorage" => values.flat_map(|v| f16::from_f32(v).to_le_bytes()).collect(),
        "BFloat16Storage" => values.flat_map(|v| bf16::from_f32(v).to_le_bytes()).collect(),
        "DoubleStorage" => values.flat_map(|v| f64::from(v).to_le_bytes()).collect(),
        _ => values.flat_map(f32::to_le_bytes).collect(),
    }
}

/// A pickle program, opcode after opcode.
#[derive(Clone)]
pub struct Program(pub Vec<u8>);

impl Program {
    pub fn new() -> Self {
        Self(vec![0x80, 2])
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub fn text(self, text: &str) -> Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    pub fn int(self, n: i64) -> Self {
        self.raw(&[0x8a, 8]).raw(&n.to_le_bytes())
    }

    pub fn float(self, x: f64) -> Self {
        self.raw(b"G").raw(&x.to_be_bytes())
    }

    pub fn ints(self, numbers: &[i64]) -> Self {
        numbers.iter().fold(self.raw(b"("), |program, &n| program.int(n)).raw(b"t")
    }

    pub fn floats(self, numbers: &[f64]) -> Self {
        numbers.iter().fold(self.raw(b"]("), |program, &x| program.float(x)).raw(b"e")
    }

    pub fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    /// The storage of `claim`.
    pub fn storage(self, claim: &Claim) -> Self {
        let module = if claim.class == "UntypedStorage" { "torch.storage" } else { "torch" };
        let program = self.raw(b"(").text("storage").global(module, claim.class).text(&claim.key);
        program.text("cpu").int(claim.numel).raw(b"tQ")
    }

    /// The tensor of `claim`, as the second version of the constructor makes it.
    pub fn tensor(self, claim: &Claim) -> Self {
        let program = self.global("torch._utils", "_rebuild_tensor_v2").raw(b"(").storage(claim).int(claim.offset);
        program.ints(&claim.shape).ints(&claim.stride).raw(b"\x89ccollections\nOrderedDict\n)RtR")
    }

    /// A dict of tensors.
    pub fn state(self, tensors: &[(String, Claim)]) -> Self {
        let start = self.raw(b"ccollections\nOrderedDict\n)R(");
        tensors.iter().fold(start, |program, (name, claim)| program.text(name).tensor(claim)).raw(b"u")
    }

    pub fn stop(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

/// What a pickle says about a tensor.
#[derive(Clone)]
pub struct Claim {
    pub class: &'static str,
    pub key: String,
    pub numel: i64,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub stride: Vec<i64>,
}

/// A checkpoint on its way into a file.
#[derive(Clone)]
pub struct Checkpoint {
    pub tensors: Vec<(String, Claim)>,
    /// Key and content.
    pub storages: Vec<(String, Vec<u8>)>,
}

impl Checkpoint {
    /// A valid one, each tensor in its own contiguous storage of `class`.
    pub fn new(geometry: &Geometry, class: &'static str) -> Self {
        let mut checkpoint = Self { tensors: Vec::new(), storages: Vec::new() };
        for (i, (name, shape)) in expected_tensors(geometry).into_iter().enumerate() {
            let count: usize = shape.iter().product();
            let key = i.to_string();
            let shape: Vec<i64> = shape.into_iter().map(|d| d as i64).collect();
            let stride = contiguous(&shape);
            checkpoint.storages.push((key.clone(), encoded(class, count)));
            checkpoint.tensors.push((name, Claim { class, key, numel: count as i64, offset: 0, shape, stride }));
        }
        checkpoint
    }

    pub fn deit() -> Self {
        Self::new(&tiny(Family::Deit), "FloatStorage")
    }

    pub fn lvvit() -> Self {
        Self::new(&tiny(Family::Lvvit), "FloatStorage")
    }

    /// The claim of the tensor `name`.
    pub fn claim(&mut self, name: &str) -> &mut Claim {
        &mut self.tensors.iter_mut().find(|(known, _)| known == name).unwrap().1
    }

    /// The bytes of the storage of the tensor `name`.
    pub fn content(&mut self, name: &str) -> &mut Vec<u8> {
        let key = self.claim(name).key.clone();
        &mut self.storages.iter_mut().find(|(known, _)| *known == key).unwrap().1
    }

    /// Gives the tensor `name` another shape and a storage to go with it.
    pub fn reshape(&mut self, name: &str, shape: &[i64]) {
        let count: i64 = shape.iter().product();
        *self.content(name) = encoded("FloatStorage", count as usize);
        let claim = self.claim(name);
        (claim.numel, claim.shape, claim.stride) = (count, shape.to_vec(), contiguous(shape));
    }

    /// `{"model": state dict}`.
    pub fn pickle(&self) -> Vec<u8> {
        Program::new().raw(b"}").text("model").state(&self.tensors).raw(b"s").stop()
    }

    /// The zip around `pickle`.
    pub fn zip_with(&self, pickle: Vec<u8>) -> Zip {
        let mut zip = Zip::new();
        zip.add("m/data.pkl", pickle);
        zip.add("m/byteorder", b"little".to_vec());
        for (key, content) in &self.storages {
            zip.add(&format!("m/data/{key}"), content.clone());
        }
        zip.add("m/version", b"3\n".to_vec());
        zip
    }

    pub fn zip(&self) -> Zip {
        self.zip_with(self.pickle())
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.zip().bytes()
    }
}

/// The row-major strides of a shape.
pub fn contiguous(shape: &[i64]) -> Vec<i64> {
    let mut stride = vec![1; shape.len()];
    for d in (1..shape.len()).rev() {
        stride[d - 1] = stride[d] * shape[d].max(1);
    }
    stride
}

/// A zip with nothing compressed, unless an entry says so.
#[derive(Clone, Default)]
pub struct Zip {
    pub entries: Vec<Entry>,
    /// What the end record says about the number of entries, when not the truth.
    pub claimed_entries: Option<u16>,
}

/// An entry, with lies.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub bytes: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    /// The uncompressed size, when not that of `bytes`.
    pub size: Option<u32>,
    /// The size in the file, when not that of `bytes`.
    pub compressed_size: Option<u32>,
    /// Where the directory says that the local header is.
    pub header_at: Option<u32>,
}

impl Zip {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn add(&mut self, name: &str, bytes: Vec<u8>) {
        let name = name.to_string();
        self.entries.push(Entry {
            name,
            bytes,
            method: 0,
            flags: 0,
            size: None,
            compressed_size: None,
            header_at: None,
        });
    }

    pub fn entry(&mut self, name: &str) -> &mut Entry {
        self.entries.iter_mut().find(|entry| entry.name == name).unwrap()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let (mut file, mut directory) = (Vec::new(), Vec::new());
        for entry in &self.entries {
            let header_at = entry.header_at.unwrap_or(file.len() as u32);
            let common = entry.common();
            file.extend([b"PK\x03\x04".as_slice(), &common, entry.name.as_bytes(), &entry.bytes].concat());
            directory.extend([b"PK\x01\x02\x14\0".as_slice(), &common, &[0; 10], &header_at.to_le_bytes()].concat());
            directory.extend(entry.name.as_bytes());
        }
        let count = self.claimed_entries.unwrap_or(self.entries.len() as u16).to_le_bytes();
        let (size, at) = ((directory.len() as u32).to_le_bytes(), (file.len() as u32).to_le_bytes());
        file.extend(directory);
        file.extend([b"PK\x05\x06\0\0\0\0".as_slice(), &count, &count, &size, &at, &[0, 0]].concat());
        file
    }
}

impl Entry {
    /// What the local header and the directory have in common: version needed, flags, method, time, checksum, sizes, lengths.
    fn common(&self) -> Vec<u8> {
        let stored = self.bytes.len() as u32;
        let checksum = crc32(&self.bytes).to_le_bytes();
        let mut common = vec![20, 0];
        common.extend([self.flags.to_le_bytes(), self.method.to_le_bytes(), [0, 0], [0x21, 0]].concat());
        common.extend(checksum);
        common.extend(self.compressed_size.unwrap_or(stored).to_le_bytes());
        common.extend(self.size.unwrap_or(stored).to_le_bytes());
        common.extend((self.name.len() as u16).to_le_bytes());
        common.extend([0, 0]);
        common
    }
}

pub fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    })
}

/// A deflate stream of about `len` zero bytes, 13 bits for every 258 of them: one block with the fixed codes.
pub fn deflated_zeros(len: usize) -> Vec<u8> {
    // Bits in the order in which they are written: final block, fixed codes, literal 0, then copies, end of block.
    let mut bits: Vec<u8> = vec![1, 1, 0];
    bits.extend([0, 0, 1, 1, 0, 0, 0, 0]);
    for _ in 0..len / 258 {
        bits.extend([1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0]);
    }
    bits.extend([0; 7]);
    bits.chunks(8).map(|byte| byte.iter().enumerate().fold(0, |sum, (i, bit)| sum | bit << i)).collect()
}
