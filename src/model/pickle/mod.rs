//! A restricted reader of the pickles that `torch.save` writes (protocols 2 to 5). Pickle is a language whose programs may
//! call anything; this reader builds tensors and plain containers, and nothing in the file is ever executed. A name outside
//! [`globals`]' list is refused by name, and [`limits`](super::limits) bound what a pickle may build. Values live in one flat list
//! and refer to each other by index, so cycles are harmless and nothing here recurses.

mod globals;
mod machine;
mod rebuild;

use std::ops::Range;

use super::limits::MAX_PICKLE_BYTES;
use super::{DType, strided::View};
use crate::error::{Error, Kind, Result};
use globals::Callable;

/// A value's index in its [`Pickle`].
pub(super) type Id = u32;

/// Bytes of the pickle that hold a string.
pub(super) type Text = Range<u32>;

/// What a pickle can build.
#[derive(Clone, Debug)]
pub(super) enum Value {
    /// `None`.
    None,
    /// An integer of at most 64 bits.
    Int(i64),
    /// A float.
    Float(f64),
    /// A string, valid UTF-8.
    Text(Text),
    /// A tuple, or a `torch.Size`.
    Tuple(Vec<Id>),
    /// A list.
    List(Vec<Id>),
    /// A `dict`, `OrderedDict` or `defaultdict`: pairs in the order of insertion, a later one of the same key wins.
    Dict(Vec<(Id, Id)>),
    /// A number format, as a value (`torch.float32`) or as the class of a storage (`torch.FloatStorage`).
    DType(DType),
    /// A storage: a file in the zip.
    Storage(Storage),
    /// A view into a storage.
    Tensor(Box<TensorRef>),
    /// Something that may be called, from the list of names that we know.
    Callable(Callable),
    /// Something harmless that we do not need (a boolean, a set, bytes, an `argparse.Namespace`, a numpy scalar …), without its content.
    Inert,
}

/// A storage as the pickle names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Storage {
    /// The file `data/<key>` in the zip.
    pub key: Text,
    /// How its values are stored.
    pub dtype: DType,
    /// How many values it claims to hold.
    pub numel: usize,
}

/// A tensor as the pickle names it: nothing has been read from its storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TensorRef {
    /// Where its values are.
    pub storage: Storage,
    /// Which of them.
    pub view: View,
}

/// A pickle that has been read: its values and the root among them.
pub(super) struct Pickle {
    bytes: Vec<u8>,
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Reads a whole pickle.
    ///
    /// # Errors
    /// [`Kind::Model`], with the position, when it is damaged, beyond the limits, or asks for a name that is not on the list.
    pub fn read(bytes: Vec<u8>) -> Result<Self> {
        if bytes.len() as u64 > MAX_PICKLE_BYTES {
            return Err(error_at(0, format!("{} bytes, at most {MAX_PICKLE_BYTES} are read", bytes.len())));
        }
        let (values, root) = machine::run(&bytes)?;
        Ok(Self { bytes, values, root })
    }

    /// What the pickle stands for.
    pub fn root(&self) -> Id {
        self.root
    }

    /// The value of `id`.
    pub fn value(&self, id: Id) -> &Value {
        // Every id comes from this pickle's own machine; `Inert` stands in for one that does not.
        self.values.get(id as usize).unwrap_or(&Value::Inert)
    }

    /// The string at `text`.
    pub fn text(&self, text: &Text) -> &str {
        text_at(&self.bytes, text)
    }

    /// The string that `id` is, if it is one.
    pub fn as_text(&self, id: Id) -> Option<&str> {
        match self.value(id) {
            Value::Text(text) => Some(self.text(text)),
            _ => None,
        }
    }

    /// The number that `id` is, if it is one.
    pub fn as_number(&self, id: Id) -> Option<f64> {
        match *self.value(id) {
            Value::Int(i) => Some(i as f64),
            Value::Float(f) => Some(f),
            _ => None,
        }
    }

    /// The elements of the list or tuple `id`, if it is one.
    pub fn as_sequence(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::List(items) | Value::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// The pairs of the dict `id` that have a string for a key, if it is a dict.
    pub fn as_dict(&self, id: Id) -> Option<impl Iterator<Item = (&str, Id)>> {
        match self.value(id) {
            Value::Dict(pairs) => Some(pairs.iter().filter_map(|&(k, v)| Some((self.as_text(k)?, v)))),
            _ => None,
        }
    }

    /// What the dict `id` holds under `key`: the last such pair.
    pub fn get(&self, id: Id, key: &str) -> Option<Id> {
        self.as_dict(id)?.filter(|&(k, _)| k == key).last().map(|(_, v)| v)
    }
}

/// The string in `bytes` at `text`; empty for one that does not lie there (the machine makes only valid ones).
fn text_at<'a>(bytes: &'a [u8], text: &Text) -> &'a str {
    bytes.get(text.start as usize..text.end as usize).and_then(|b| std::str::from_utf8(b).ok()).unwrap_or("")
}

/// An error at byte `at` of the pickle.
fn error_at(at: usize, message: impl std::fmt::Display) -> Error {
    Error::new(Kind::Model, format!("data.pkl, byte {at}: {message}"))
}

#[cfg(test)]
mod tests;
