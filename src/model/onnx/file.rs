//! Writing an ONNX file as a stream. Protobuf puts a message's length before its content, so every length is computed first; then the
//! weights go to the file one tensor at a time.

use std::borrow::Cow;
use std::io::Write;

use half::f16;
use half::slice::HalfFloatSliceExt;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::Element;
use super::proto::{
    GRAPH_INITIALIZER, GraphProto, MODEL_GRAPH, ModelProto, OperatorSetIdProto, TENSOR_RAW_DATA, TensorProto,
};
use crate::error::{Error, Kind, Result};

/// The operator set of the graphs: the newest that TensorRT 8.5 parses.
const OPSET: i64 = 17;
/// The version of the file format that came with that operator set.
const IR_VERSION: i64 = 8;
/// Protobuf readers refuse messages of 2 GiB and more.
const MAX_FILE_BYTES: u64 = i32::MAX as u64;
/// Values that are converted at a time.
const CHUNK: usize = 1 << 14;

/// A constant of a graph.
pub struct Initializer<'a> {
    /// Unique in the graph.
    pub name: String,
    /// How its values are stored.
    pub element: Element,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// As many as the shape says.
    pub values: Values<'a>,
}

/// The values of an [`Initializer`].
pub enum Values<'a> {
    /// Made when their turn comes to be written, so that only one tensor's copy is in memory at a time.
    Floats(Box<dyn Fn() -> Cow<'a, [f32]> + 'a>),
    /// Indices and shapes.
    Integers(Vec<i64>),
}

/// A whole graph, ready to be written.
pub struct OnnxFile<'a> {
    /// What it is, for people.
    pub about: String,
    /// Everything but the constants.
    pub graph: GraphProto,
    /// The constants, in the order in which they are written.
    pub initializers: Vec<Initializer<'a>>,
}

impl OnnxFile<'_> {
    /// Writes the file and gives its length in bytes. The bytes depend on the graph only.
    ///
    /// # Errors
    /// [`Kind::Model`] for a weight that its number format does not hold, and for a file of 2 GiB or more; [`Kind::Io`] when
    /// `out` fails.
    pub fn write(&self, out: &mut dyn Write) -> Result<u64> {
        let model = ModelProto {
            ir_version: Some(IR_VERSION),
            producer_name: Some(env!("CARGO_PKG_NAME").into()),
            producer_version: Some(env!("CARGO_PKG_VERSION").into()),
            doc_string: Some(self.about.clone()),
            opset_import: vec![OperatorSetIdProto { domain: Some(String::new()), version: Some(OPSET) }],
        };
        let graph_len =
            self.graph.encoded_len() as u64 + self.initializers.iter().map(Initializer::field_len).sum::<u64>();
        let mut head = model.encode_to_vec();
        begin_field(MODEL_GRAPH, graph_len, &mut head);
        let total = head.len() as u64 + graph_len;
        if total > MAX_FILE_BYTES {
            let message = format!("the graph would take {total} bytes, an ONNX file holds less than 2 GiB");
            return Err(Error::new(Kind::Model, message));
        }
        head.append(&mut self.graph.encode_to_vec());
        out.write_all(&head).map_err(write_error)?;
        self.initializers.iter().try_for_each(|initializer| initializer.write(out))?;
        out.flush().map_err(write_error)?;
        Ok(total)
    }
}

impl Initializer<'_> {
    fn message(&self) -> TensorProto {
        TensorProto {
            dims: self.shape.iter().map(|&d| d as i64).collect(),
            data_type: Some(self.element.data_type()),
            name: Some(self.name.clone()),
        }
    }

    /// Bytes of the values.
    fn raw_len(&self) -> u64 {
        self.element.bytes(&self.shape)
    }

    /// Bytes of the tensor's message.
    fn message_len(&self) -> u64 {
        let raw = self.raw_len();
        self.message().encoded_len() as u64 + (key_len(TENSOR_RAW_DATA) + encoded_len_varint(raw)) as u64 + raw
    }

    /// Bytes of the graph's field that holds the tensor.
    fn field_len(&self) -> u64 {
        let message = self.message_len();
        (key_len(GRAPH_INITIALIZER) + encoded_len_varint(message)) as u64 + message
    }

    fn write(&self, out: &mut dyn Write) -> Result<()> {
        let mut head = Vec::new();
        begin_field(GRAPH_INITIALIZER, self.message_len(), &mut head);
        head.append(&mut self.message().encode_to_vec());
        begin_field(TENSOR_RAW_DATA, self.raw_len(), &mut head);
        out.write_all(&head).map_err(write_error)?;
        match &self.values {
            Values::Floats(make) => self.write_floats(&make(), out),
            Values::Integers(values) => self.write_integers(values, out),
        }
    }

    fn write_floats(&self, values: &[f32], out: &mut dyn Write) -> Result<()> {
        self.check_count(values.len())?;
        let (mut halves, mut bytes) = (Vec::new(), Vec::new());
        for chunk in values.chunks(CHUNK) {
            bytes.clear();
            if self.element == Element::F16 {
                halves.resize(chunk.len(), f16::ZERO);
                halves.convert_from_f32_slice(chunk);
                if let Some(at) = halves.iter().position(|half| !half.is_finite()) {
                    return Err(self.out_of_range(chunk[at]));
                }
                bytes.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
            } else {
                bytes.extend(chunk.iter().flat_map(|value| value.to_le_bytes()));
            }
            out.write_all(&bytes).map_err(write_error)?;
        }
        Ok(())
    }

    fn write_integers(&self, values: &[i64], out: &mut dyn Write) -> Result<()> {
        self.check_count(values.len())?;
        let bytes: Vec<u8> = match self.element {
            Element::I64 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            _ => values.iter().flat_map(|&value| (value as i32).to_le_bytes()).collect(),
        };
        out.write_all(&bytes).map_err(write_error)
    }

    /// A wrong count would make the lengths that are written already wrong.
    fn check_count(&self, found: usize) -> Result<()> {
        let expected: usize = self.shape.iter().product();
        if found == expected {
            return Ok(());
        }
        let message = format!("{}: {found} values, expected {expected} for shape {:?}", self.name, self.shape);
        Err(Error::new(Kind::Model, message))
    }

    fn out_of_range(&self, value: f32) -> Error {
        let message = format!(
            "{}: the value {value} (with what is folded in) does not fit FP16, which ends at {}: export with --precision fp32",
            self.name,
            f16::MAX
        );
        Error::new(Kind::Model, message)
    }
}

/// The key and the length of a field of `len` bytes that follow.
fn begin_field(tag: u32, len: u64, out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(len, out);
}

fn write_error(cause: std::io::Error) -> Error {
    Error::caused(Kind::Io, "cannot write the graph", cause)
}
