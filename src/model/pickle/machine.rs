//! The stack machine: one opcode after another, each checked. Opcode names and bytes are those of Python's `pickletools`.

use std::collections::HashMap;

use super::super::limits::{MAX_GLOBAL_NAME, MAX_PICKLE_MARKS, MAX_PICKLE_VALUES};
use super::super::shown;
use super::globals::{Callable, resolve};
use super::{Id, Text, Value, error_at, text_at};
use crate::error::Result;

/// Runs the pickle in `bytes`; gives all values and the one it stands for.
pub(super) fn run(bytes: &[u8]) -> Result<(Vec<Value>, Id)> {
    let mut machine = Machine::new(bytes);
    loop {
        if let Some(root) = machine.step()? {
            return Ok((machine.values, root));
        }
    }
}

/// The state between two opcodes.
pub(super) struct Machine<'a> {
    pub bytes: &'a [u8],
    /// The next byte.
    at: usize,
    /// Where the opcode at work began: what errors name.
    pub op_at: usize,
    pub values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// Container elements that may still be made.
    elements_left: usize,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            op_at: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            elements_left: MAX_PICKLE_VALUES,
        }
    }

    /// One opcode. `Some` when it was STOP.
    fn step(&mut self) -> Result<Option<Id>> {
        self.op_at = self.at;
        let op = self.u8()?;
        match op {
            b'.' => return self.pop().map(Some),
            0x80 => self.protocol()?,
            0x95 => _ = self.take(8)?,
            b'(' => self.mark()?,
            b'0' => self.pop_or_mark()?,
            b'1' => _ = self.pop_to_mark()?,
            b'2' => self.top().and_then(|id| self.push_id(id))?,
            b'q' | b'r' | b'h' | b'j' | 0x94 => self.memo_op(op)?,
            b'c' => self.global()?,
            0x93 => self.stack_global()?,
            b'i' => self.instance()?,
            b'R' | 0x81 => self.reduce()?,
            0x92 => self.new_object_with_keywords()?,
            b'b' => self.build()?,
            b'Q' => self.persistent_id()?,
            b'a' | b'e' | b's' | b'u' | 0x90 => self.fill(op)?,
            b't' | 0x85..=0x87 | b')' | b'l' | b']' | b'd' | b'}' | 0x8f | 0x91 => self.container(op)?,
            _ => self.scalar(op)?,
        }
        Ok(None)
    }

    /// Opcodes that push one plain value.
    fn scalar(&mut self, op: u8) -> Result<()> {
        let value = match op {
            b'N' => Value::None,
            0x88 | 0x89 => Value::Inert,
            b'K' => Value::Int(self.u8()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            0x8a => {
                let len = self.u8()?.into();
                self.long(len)?
            }
            0x8b => {
                let len = self.length(4)?;
                self.long(len)?
            }
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            b'X' => self.unicode(4)?,
            0x8c => self.unicode(1)?,
            0x8d => self.unicode(8)?,
            // Python 2's byte strings: text where they are text.
            b'T' => self.text(4)?.unwrap_or(Value::Inert),
            b'U' => self.text(1)?.unwrap_or(Value::Inert),
            b'B' => self.blob(4)?,
            b'C' => self.blob(1)?,
            0x8e | 0x96 => self.blob(8)?,
            _ => return Err(self.error(format!("opcode 0x{op:02x}, which torch.save does not write"))),
        };
        self.push(value).map(drop)
    }

    /// Opcodes that make a container: from the stack down to the mark, from the top 1 to 3 values, or empty.
    fn container(&mut self, op: u8) -> Result<()> {
        let value = match op {
            b't' => Value::Tuple(self.pop_to_mark()?),
            0x85..=0x87 => Value::Tuple(self.pop_many(usize::from(op - 0x84))?),
            b')' => Value::Tuple(Vec::new()),
            b'l' => Value::List(self.pop_to_mark()?),
            b']' => Value::List(Vec::new()),
            b'd' => {
                let items = self.pop_to_mark()?;
                Value::Dict(self.pairs(&items)?)
            }
            b'}' => Value::Dict(Vec::new()),
            0x91 => {
                self.pop_to_mark()?;
                Value::Inert
            }
            _ => Value::Inert,
        };
        self.push(value).map(drop)
    }

    /// Opcodes that add to the container beneath: APPEND, APPENDS, SETITEM, SETITEMS, ADDITEMS.
    fn fill(&mut self, op: u8) -> Result<()> {
        let items = match op {
            b'a' => self.pop_many(1)?,
            b's' => self.pop_many(2)?,
            _ => self.pop_to_mark()?,
        };
        let target = self.top()?;
        let pairs = if matches!(op, b's' | b'u') { self.pairs(&items)? } else { Vec::new() };
        match (op, &mut self.values[target as usize]) {
            (b'a' | b'e', Value::List(list)) => list.extend(items),
            (b's' | b'u', Value::Dict(dict)) => dict.extend(pairs),
            (_, Value::Inert) => {}
            _ => return Err(self.error("adds items to something that cannot hold them")),
        }
        Ok(())
    }

    fn protocol(&mut self) -> Result<()> {
        match self.u8()? {
            2..=5 => Ok(()),
            other => Err(self.error(format!("pickle protocol {other}, expected 2 to 5"))),
        }
    }

    fn mark(&mut self) -> Result<()> {
        if self.marks.len() >= MAX_PICKLE_MARKS {
            return Err(self.error(format!("more than {MAX_PICKLE_MARKS} containers nested")));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// BINPUT, LONG_BINPUT, MEMOIZE keep the top under a number; BINGET, LONG_BINGET push it again.
    fn memo_op(&mut self, op: u8) -> Result<()> {
        let index = match op {
            b'q' | b'h' => self.u8()?.into(),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            _ => self.memo.len() as u32,
        };
        if matches!(op, b'h' | b'j') {
            let id = self.memo.get(&index).copied();
            return match id {
                Some(id) => self.push_id(id),
                None => Err(self.error(format!("memo {index} was never set"))),
            };
        }
        if self.memo.len() >= MAX_PICKLE_VALUES {
            return Err(self.error(format!("more than {MAX_PICKLE_VALUES} memo entries")));
        }
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn global(&mut self) -> Result<()> {
        let module = self.line()?;
        let name = self.line()?;
        self.push_global(&module, &name)
    }

    fn stack_global(&mut self) -> Result<()> {
        let ids = self.pop_many(2)?;
        let text = |id: Id| match &self.values[id as usize] {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        };
        match (text(ids[0]), text(ids[1])) {
            (Some(module), Some(name)) => self.push_global(&module, &name),
            _ => Err(self.error("a global whose name is not a string")),
        }
    }

    /// INST, an old way to import and call in one: never written by protocol 2 and later, but named when it is refused.
    fn instance(&mut self) -> Result<()> {
        self.global()?;
        Err(self.error("opcode INST, which torch.save does not write"))
    }

    fn push_global(&mut self, module: &Text, name: &Text) -> Result<()> {
        let (module, name) = (text_at(self.bytes, module), text_at(self.bytes, name));
        match resolve(module, name) {
            Some(value) => self.push(value).map(drop),
            None => Err(self.error(format!(
                "refuses `{}`: it is no tensor and no plain container, and a pickle may run anything. If the file is yours, \
                 save the weights alone: torch.save({{\"model\": model.state_dict()}}, path)",
                shown(&format!("{module}.{name}"))
            ))),
        }
    }

    /// NEWOBJ_EX: like NEWOBJ, with a dict of keyword arguments on top that no constructor of ours takes.
    fn new_object_with_keywords(&mut self) -> Result<()> {
        self.pop()?;
        self.reduce()
    }

    /// REDUCE and NEWOBJ: `callable(*arguments)`.
    fn reduce(&mut self) -> Result<()> {
        let ids = self.pop_many(2)?;
        let callable = match self.values[ids[0] as usize] {
            Value::Callable(callable) => callable,
            Value::DType(_) | Value::Inert => Callable::Inert,
            _ => return Err(self.error("calls something that is not callable")),
        };
        let Value::Tuple(arguments) = &self.values[ids[1] as usize] else {
            return Err(self.error("calls with arguments that are not a tuple"));
        };
        // Constructors read at most 8 arguments; a copy of all of them could be made to cost more than the file is long.
        let arguments: Vec<Id> = arguments.iter().copied().take(8).collect();
        let id = self.call(callable, &arguments)?;
        self.push_id(id)
    }

    /// BUILD: gives the object beneath its attributes, which nothing here needs (`OrderedDict._metadata`, a `Namespace`'s content).
    fn build(&mut self) -> Result<()> {
        self.pop()?;
        let target = self.top()?;
        match self.values[target as usize] {
            Value::Dict(_) | Value::Tensor(_) | Value::Inert => Ok(()),
            _ => Err(self.error("sets attributes of something that has none")),
        }
    }

    /// The pairs in a flat list of keys and values.
    pub fn pairs(&mut self, items: &[Id]) -> Result<Vec<(Id, Id)>> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.error("a key without a value"));
        }
        Ok(pairs.iter().map(|&[k, v]| (k, v)).collect())
    }

    /// Adds a value to the list and to the stack.
    pub fn push(&mut self, value: Value) -> Result<Id> {
        let id = self.make(value)?;
        self.push_id(id)?;
        Ok(id)
    }

    /// Adds a value to the list.
    pub fn make(&mut self, value: Value) -> Result<Id> {
        if self.values.len() >= MAX_PICKLE_VALUES {
            return Err(self.error(format!("more than {MAX_PICKLE_VALUES} values")));
        }
        self.values.push(value);
        Ok((self.values.len() - 1) as Id)
    }

    fn push_id(&mut self, id: Id) -> Result<()> {
        if self.stack.len() >= MAX_PICKLE_VALUES {
            return Err(self.error(format!("more than {MAX_PICKLE_VALUES} values on the stack")));
        }
        self.stack.push(id);
        Ok(())
    }

    /// The lowest stack slot that may be popped: the innermost mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub fn top(&self) -> Result<Id> {
        let above = self.stack.get(self.floor()..).unwrap_or_default();
        above.last().copied().ok_or_else(|| self.error("needs a value and the stack is empty"))
    }

    pub fn pop(&mut self) -> Result<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    /// POP: takes the mark itself away when nothing lies above it.
    fn pop_or_mark(&mut self) -> Result<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Id>> {
        match self.stack.len().checked_sub(count) {
            Some(start) if start >= self.floor() => self.split(start),
            _ => Err(self.error(format!("needs {count} values and the stack has fewer"))),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        match self.marks.pop() {
            Some(start) => self.split(start),
            None => Err(self.error("needs a mark and there is none")),
        }
    }

    /// Takes everything above `start` from the stack.
    fn split(&mut self, start: usize) -> Result<Vec<Id>> {
        let items = self.stack.split_off(start.min(self.stack.len()));
        self.charge(items.len())?;
        Ok(items)
    }

    /// Counts container elements, which may be fewer bytes in the file than in memory.
    pub fn charge(&mut self, elements: usize) -> Result<()> {
        match self.elements_left.checked_sub(elements) {
            Some(left) => self.elements_left = left,
            None => return Err(self.error(format!("containers with more than {MAX_PICKLE_VALUES} elements"))),
        }
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let found = self.bytes.get(self.at..).and_then(|rest| rest.get(..len));
        let found = found.ok_or_else(|| self.error("the pickle ends in the middle"))?;
        self.at += len;
        Ok(found)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// A little-endian length of `width` bytes.
    fn length(&mut self, width: usize) -> Result<usize> {
        let mut array = [0; 8];
        array[..width].copy_from_slice(self.take(width)?);
        usize::try_from(u64::from_le_bytes(array)).map_err(|_| self.error("a length beyond the memory of this machine"))
    }

    fn unicode(&mut self, width: usize) -> Result<Value> {
        self.text(width)?.ok_or_else(|| self.error("a string that is not UTF-8"))
    }

    /// A string behind its length of `width` bytes, `None` when it is not UTF-8.
    fn text(&mut self, width: usize) -> Result<Option<Value>> {
        let len = self.length(width)?;
        let start = self.at;
        let valid = std::str::from_utf8(self.take(len)?).is_ok();
        Ok(valid.then_some(Value::Text(start as u32..self.at as u32)))
    }

    fn blob(&mut self, width: usize) -> Result<Value> {
        let len = self.length(width)?;
        self.take(len)?;
        Ok(Value::Inert)
    }

    /// LONG1, LONG4: a little-endian integer; longer than 64 bits becomes inert.
    fn long(&mut self, len: usize) -> Result<Value> {
        let bytes = self.take(len)?;
        if len > 8 {
            return Ok(Value::Inert);
        }
        let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
        let mut array = [fill; 8];
        array[..len].copy_from_slice(bytes);
        Ok(Value::Int(i64::from_le_bytes(array)))
    }

    /// Text up to the end of the line, for GLOBAL.
    fn line(&mut self) -> Result<Text> {
        let start = self.at;
        let rest = &self.bytes[start..];
        let window = &rest[..rest.len().min(MAX_GLOBAL_NAME + 1)];
        let Some(len) = window.iter().position(|&b| b == b'\n') else {
            return Err(match rest.len() > MAX_GLOBAL_NAME {
                true => self.error(format!("a name without an end in {MAX_GLOBAL_NAME} bytes")),
                false => self.error("the pickle ends in the middle"),
            });
        };
        if std::str::from_utf8(&window[..len]).is_err() {
            return Err(self.error("a name that is not UTF-8"));
        }
        self.at += len + 1;
        Ok(start as u32..(start + len) as u32)
    }

    /// An error at the opcode at work.
    pub fn error(&self, message: impl std::fmt::Display) -> crate::error::Error {
        error_at(self.op_at, message)
    }
}
