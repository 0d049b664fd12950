//! The constructors that a pickle may call: tensors out of storages, dicts, and nothing else.

use super::super::DType;
use super::super::limits::MAX_RANK;
use super::super::strided::View;
use super::globals::Callable;
use super::machine::Machine;
use super::{Id, Storage, TensorRef, Value, text_at};
use crate::error::Result;

impl Machine<'_> {
    /// The result of calling `callable` with the first (at most 8) `arguments`.
    pub(super) fn call(&mut self, callable: Callable, arguments: &[Id]) -> Result<Id> {
        match callable {
            Callable::Tensor => self.tensor(arguments, 4),
            Callable::TensorV2 => self.tensor(arguments, 6),
            Callable::TensorV3 => self.tensor_with_dtype(arguments),
            Callable::Parameter => self.first(arguments, |value| matches!(value, Value::Tensor(_))),
            Callable::Size => self.first(arguments, |value| matches!(value, Value::Tuple(_))),
            Callable::OrderedDict => self.ordered_dict(arguments),
            Callable::EmptyDict => self.make(Value::Dict(Vec::new())),
            Callable::Inert => self.make(Value::Inert),
        }
    }

    /// The first argument itself, which must be what `expected` says.
    fn first(&self, arguments: &[Id], expected: fn(&Value) -> bool) -> Result<Id> {
        match arguments.first() {
            Some(&id) if expected(&self.values[id as usize]) => Ok(id),
            _ => Err(self.error("a parameter or size is made from something else than a tensor or a tuple")),
        }
    }

    /// `OrderedDict()` or `OrderedDict([(key, value), …])`.
    fn ordered_dict(&mut self, arguments: &[Id]) -> Result<Id> {
        let mut pairs = Vec::new();
        if let Some(&id) = arguments.first() {
            let Value::List(items) = &self.values[id as usize] else {
                return Err(self.error("an OrderedDict is made from something else than a list"));
            };
            let count = items.len();
            self.charge(count)?;
            let Value::List(items) = &self.values[id as usize] else { return self.make(Value::Inert) };
            for &item in items {
                match &self.values[item as usize] {
                    Value::Tuple(pair) | Value::List(pair) if pair.len() == 2 => pairs.push((pair[0], pair[1])),
                    _ => return Err(self.error("an OrderedDict is made from something else than pairs")),
                }
            }
        }
        self.make(Value::Dict(pairs))
    }

    /// `(storage, offset, size, stride, …)`, at least `required` arguments.
    fn tensor(&mut self, arguments: &[Id], required: usize) -> Result<Id> {
        if arguments.len() < required {
            return Err(self.error(format!("a tensor from {} arguments, expected {required}", arguments.len())));
        }
        let Value::Storage(storage) = &self.values[arguments[0] as usize] else {
            return Err(self.error("a tensor whose first argument is not a storage"));
        };
        let storage = storage.clone();
        let view = View {
            offset: self.count(arguments[1], "offset")?,
            shape: self.counts(arguments[2], "shape")?,
            stride: self.counts(arguments[3], "stride")?,
        };
        if view.shape.len() != view.stride.len() {
            let (shape, stride) = (view.shape.len(), view.stride.len());
            return Err(self.error(format!("a tensor with {shape} dimensions and {stride} strides")));
        }
        self.make(Value::Tensor(Box::new(TensorRef { storage, view })))
    }

    /// The third version: an untyped storage, counted in bytes, and the number format as the seventh argument.
    fn tensor_with_dtype(&mut self, arguments: &[Id]) -> Result<Id> {
        let Some(&Value::DType(dtype)) = arguments.get(6).and_then(|&id| self.values.get(id as usize)) else {
            return Err(self.error("a tensor (version 3) without a number format"));
        };
        let id = self.tensor(arguments, 7)?;
        if let Value::Tensor(tensor) = &mut self.values[id as usize]
            && tensor.storage.dtype == DType::Other
        {
            tensor.storage.dtype = dtype;
            tensor.storage.numel /= dtype.size().unwrap_or(1);
        }
        Ok(id)
    }

    /// BINPERSID: `("storage", class, key, location, numel)`.
    pub(super) fn persistent_id(&mut self) -> Result<()> {
        let id = self.pop()?;
        let Value::Tuple(parts) = &self.values[id as usize] else {
            return Err(self.error("a persistent id that is not a tuple"));
        };
        let &[kind, class, key, _, numel] = parts.as_slice() else {
            return Err(self.error(format!("a persistent id of {} parts, expected 5", parts.len())));
        };
        let value = |id: Id| &self.values[id as usize];
        let (Value::Text(kind), &Value::DType(dtype), Value::Text(key)) = (value(kind), value(class), value(key))
        else {
            return Err(self.error("a persistent id that is not (\"storage\", class, key, location, number of values)"));
        };
        if text_at(self.bytes, kind) != "storage" {
            return Err(self.error("a persistent id that is not a storage"));
        }
        let storage = Storage { key: key.clone(), dtype, numel: self.count(numel, "number of values")? };
        self.push(Value::Storage(storage)).map(drop)
    }

    /// A number that counts something: not negative.
    fn count(&self, id: Id, what: &str) -> Result<usize> {
        match self.values[id as usize] {
            Value::Int(i) => usize::try_from(i).map_err(|_| self.error(format!("a negative {what}: {i}"))),
            _ => Err(self.error(format!("a {what} that is not an integer"))),
        }
    }

    /// A tuple or list of such numbers, one per dimension.
    fn counts(&self, id: Id, what: &str) -> Result<Vec<usize>> {
        match &self.values[id as usize] {
            Value::Tuple(ids) | Value::List(ids) if ids.len() <= MAX_RANK => {
                ids.iter().map(|&id| self.count(id, what)).collect()
            }
            Value::Tuple(ids) | Value::List(ids) => {
                Err(self.error(format!("a {what} of {} dimensions, at most {MAX_RANK} make sense", ids.len())))
            }
            _ => Err(self.error(format!("a {what} that is not a tuple"))),
        }
    }
}
