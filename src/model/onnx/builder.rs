//! A graph under construction: values with their shapes, and one function per operator, which works out the shape of its result.

use std::borrow::Cow;
use std::ops::Range;

use super::file::{Initializer, OnnxFile, Values};
use super::proto::{
    ATTRIBUTE_INT, ATTRIBUTE_INTS, AttributeProto, DimensionProto, GraphProto, NodeProto, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto,
};
use super::{Binding, Element};

/// A tensor in the graph: an input, a constant, or what a node gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Unique in the graph.
    pub name: String,
    /// The number format.
    pub element: Element,
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
}

/// A graph under construction.
#[derive(Default)]
pub struct Builder<'a> {
    graph: GraphProto,
    initializers: Vec<Initializer<'a>>,
    /// Put before the names of new nodes: the part of the model that they belong to.
    pub scope: String,
}

impl<'a> Builder<'a> {
    /// Declares an input of the graph.
    pub fn input(&mut self, binding: &Binding) -> Value {
        let &Binding { name, element, ref shape } = binding;
        let value = Value { name: name.into(), element, shape: shape.clone() };
        self.graph.input.push(value_info(&value));
        value
    }

    /// Makes `value`, which a node gives, an output of the graph under another `name`.
    pub fn output(&mut self, name: &str, mut value: Value) {
        for node in &mut self.graph.node {
            let named = node.input.iter_mut().chain(&mut node.output).filter(|n| **n == value.name);
            named.for_each(|n| *n = name.into());
        }
        value.name = name.into();
        self.graph.output.push(value_info(&value));
    }

    /// The finished graph, called `name`.
    pub fn finish(mut self, name: &str, about: String) -> OnnxFile<'a> {
        self.graph.name = Some(name.into());
        OnnxFile { about, graph: self.graph, initializers: self.initializers }
    }

    /// A constant whose values are made when they are written.
    pub fn constant(
        &mut self,
        name: &str,
        element: Element,
        shape: &[usize],
        values: impl Fn() -> Cow<'a, [f32]> + 'a,
    ) -> Value {
        self.initializer(name, element, shape, || Values::Floats(Box::new(values)))
    }

    /// Constant indices.
    pub fn indices(&mut self, name: &str, shape: &[usize], values: Vec<i64>) -> Value {
        self.initializer(name, Element::I32, shape, || Values::Integers(values))
    }

    /// A constant for elementwise operations.
    pub fn scalar(&mut self, value: f32, element: Element) -> Value {
        let name = format!("constant.{}.{value:?}", element.as_str());
        self.initializer(&name, element, &[], || Values::Floats(Box::new(move || Cow::Owned(vec![value]))))
    }

    /// A list of sizes or axes, which ONNX wants as 64-bit integers.
    fn sizes(&mut self, values: &[usize]) -> Value {
        let words: Vec<String> = values.iter().map(usize::to_string).collect();
        let name = format!("constant.int64.{}", words.join("x"));
        let values: Vec<i64> = values.iter().map(|&v| v as i64).collect();
        self.initializer(&name, Element::I64, &[values.len()], || Values::Integers(values.clone()))
    }

    /// The constant called `name`; the first call makes it.
    fn initializer(
        &mut self,
        name: &str,
        element: Element,
        shape: &[usize],
        values: impl FnOnce() -> Values<'a>,
    ) -> Value {
        if !self.initializers.iter().any(|known| known.name == name) {
            let values = values();
            self.initializers.push(Initializer { name: name.into(), element, shape: shape.into(), values });
        }
        Value { name: name.into(), element, shape: shape.into() }
    }

    /// Adds a node that gives one value.
    fn node(
        &mut self,
        op: &str,
        inputs: &[&Value],
        attributes: Vec<AttributeProto>,
        result: (Element, Vec<usize>),
    ) -> Value {
        let name = format!("{}/{op}_{}", self.scope, self.graph.node.len());
        self.push(op, &name, inputs, vec![name.clone()], attributes);
        Value { name, element: result.0, shape: result.1 }
    }

    fn push(&mut self, op: &str, name: &str, inputs: &[&Value], output: Vec<String>, attribute: Vec<AttributeProto>) {
        let input = inputs.iter().map(|value| value.name.clone()).collect();
        self.graph.node.push(NodeProto { input, output, name: Some(name.into()), op_type: Some(op.into()), attribute });
    }

    /// `x` in another number format; no node where it has it already.
    pub fn cast(&mut self, x: &Value, element: Element) -> Value {
        if x.element == element {
            return x.clone();
        }
        self.node("Cast", &[x], vec![int("to", element.data_type().into())], (element, x.shape.clone()))
    }

    /// An elementwise operation of one value: `Relu`, `Erf`, `Sqrt`.
    pub fn unary(&mut self, op: &str, x: &Value) -> Value {
        self.node(op, &[x], vec![], (x.element, x.shape.clone()))
    }

    /// An elementwise operation of two values with broadcasting: `Add`, `Sub`, `Mul`, `Div`.
    pub fn binary(&mut self, op: &str, a: &Value, b: &Value) -> Value {
        debug_assert_eq!(a.element, b.element, "{op} of {} and {}", a.name, b.name);
        self.node(op, &[a, b], vec![], (a.element, broadcast(&a.shape, &b.shape)))
    }

    /// [`Builder::binary`] with a constant.
    pub fn with_scalar(&mut self, op: &str, x: &Value, constant: f32) -> Value {
        let constant = self.scalar(constant, x.element);
        self.binary(op, x, &constant)
    }

    /// The matrix product over the last two axes; the axes before them are broadcast.
    pub fn matmul(&mut self, a: &Value, b: &Value) -> Value {
        debug_assert_eq!(a.element, b.element, "MatMul of {} and {}", a.name, b.name);
        let ((outer_a, [rows, depth]), (outer_b, [depth_b, columns])) = (matrix(&a.shape), matrix(&b.shape));
        debug_assert_eq!(depth, depth_b, "MatMul of {} and {}", a.name, b.name);
        let shape = [&broadcast(outer_a, outer_b)[..], &[rows, columns]].concat();
        self.node("MatMul", &[a, b], vec![], (a.element, shape))
    }

    /// The softmax over the last axis.
    pub fn softmax(&mut self, x: &Value) -> Value {
        self.node("Softmax", &[x], vec![int("axis", -1)], (x.element, x.shape.clone()))
    }

    /// The mean over an axis, which stays with size 1 if `keep` says so.
    pub fn reduce_mean(&mut self, x: &Value, axis: usize, keep: bool) -> Value {
        self.reduce("ReduceMean", x, axis, keep)
    }

    /// The largest over an axis, which goes.
    pub fn reduce_max(&mut self, x: &Value, axis: usize) -> Value {
        self.reduce("ReduceMax", x, axis, false)
    }

    fn reduce(&mut self, op: &str, x: &Value, axis: usize, keep: bool) -> Value {
        let attributes = vec![ints("axes", &[axis]), int("keepdims", keep.into())];
        self.node(op, &[x], attributes, (x.element, reduced(&x.shape, axis, keep)))
    }

    /// The sum over an axis, which goes. Unlike the other reductions' in opset 17, its axes are an input.
    pub fn reduce_sum(&mut self, x: &Value, axis: usize) -> Value {
        let axes = self.sizes(&[axis]);
        self.node("ReduceSum", &[x, &axes], vec![int("keepdims", 0)], (x.element, reduced(&x.shape, axis, false)))
    }

    /// The same values in another shape.
    pub fn reshape(&mut self, x: &Value, shape: &[usize]) -> Value {
        debug_assert_eq!(x.shape.iter().product::<usize>(), shape.iter().product::<usize>(), "Reshape of {}", x.name);
        let sizes = self.sizes(shape);
        self.node("Reshape", &[x, &sizes], vec![], (x.element, shape.into()))
    }

    /// Axis `i` of the result is axis `order[i]` of `x`.
    pub fn transpose(&mut self, x: &Value, order: &[usize]) -> Value {
        let shape = order.iter().filter_map(|&axis| x.shape.get(axis).copied()).collect();
        self.node("Transpose", &[x], vec![ints("perm", order)], (x.element, shape))
    }

    /// `parts`, one after the other along `axis`.
    pub fn concat<const N: usize>(&mut self, parts: [&Value; N], axis: usize) -> Value {
        let mut shape = parts[0].shape.clone();
        shape[axis] = parts.iter().map(|part| part.shape[axis]).sum();
        self.node("Concat", &parts, vec![int("axis", axis as i64)], (parts[0].element, shape))
    }

    /// The places `range` of `axis`; no node where those are all.
    pub fn slice(&mut self, x: &Value, axis: usize, range: Range<usize>) -> Value {
        if range == (0..x.shape[axis]) {
            return x.clone();
        }
        let bounds = [range.start, range.end, axis].map(|bound| self.sizes(&[bound]));
        let mut shape = x.shape.clone();
        shape[axis] = range.len();
        self.node("Slice", &[x, &bounds[0], &bounds[1], &bounds[2]], vec![], (x.element, shape))
    }

    /// `N` equal parts of the last axis.
    pub fn split<const N: usize>(&mut self, x: &Value) -> [Value; N] {
        let axis = x.shape.len() - 1;
        let name = format!("{}/Split_{}", self.scope, self.graph.node.len());
        let mut shape = x.shape.clone();
        shape[axis] /= N;
        let parts =
            std::array::from_fn(|i| Value { name: format!("{name}.{i}"), element: x.element, shape: shape.clone() });
        // Without sizes among its inputs the node makes equal parts.
        let outputs = parts.iter().map(|part: &Value| part.name.clone()).collect();
        self.push("Split", &name, &[x], outputs, vec![int("axis", axis as i64)]);
        parts
    }

    /// The entries of `x`'s first axis that `indices` name: `[..indices, ..rest of x]`.
    pub fn gather(&mut self, x: &Value, indices: &Value) -> Value {
        let shape = [&indices.shape, &x.shape[1..]].concat();
        self.node("Gather", &[x, indices], vec![int("axis", 0)], (x.element, shape))
    }

    /// A convolution with a zero border of `pad` on every side.
    pub fn convolution(&mut self, x: &Value, weight: &Value, bias: &Value, stride: usize, pad: usize) -> Value {
        let window = [weight.shape[2], weight.shape[3]];
        let attributes = vec![
            ints("dilations", &[1, 1]),
            int("group", 1),
            ints("kernel_shape", &window),
            ints("pads", &[pad; 4]),
            ints("strides", &[stride; 2]),
        ];
        let side = |axis: usize| (x.shape[axis + 2] + 2 * pad - window[axis]) / stride + 1;
        let shape = vec![x.shape[0], weight.shape[0], side(0), side(1)];
        self.node("Conv", &[x, weight, bias], attributes, (x.element, shape))
    }
}

/// The shape of an elementwise operation's result: shapes are aligned at their ends, and 1 fits everything.
fn broadcast(a: &[usize], b: &[usize]) -> Vec<usize> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let mut shape = long.to_vec();
    for (size, &other) in shape.iter_mut().rev().zip(short.iter().rev()) {
        debug_assert!(*size == other || *size == 1 || other == 1, "{a:?} does not broadcast with {b:?}");
        *size = (*size).max(other);
    }
    shape
}

/// The outer axes and the last two.
fn matrix(shape: &[usize]) -> (&[usize], [usize; 2]) {
    match shape {
        [outer @ .., rows, columns] => (outer, [*rows, *columns]),
        _ => (&[], [1, shape.iter().product()]),
    }
}

fn reduced(shape: &[usize], axis: usize, keep: bool) -> Vec<usize> {
    let mut shape = shape.to_vec();
    if keep {
        shape[axis] = 1;
    } else {
        shape.remove(axis);
    }
    shape
}

fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), i: Some(value), r#type: Some(ATTRIBUTE_INT), ..Default::default() }
}

fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|&v| v as i64).collect();
    AttributeProto { name: Some(name.into()), ints, r#type: Some(ATTRIBUTE_INTS), ..Default::default() }
}

fn value_info(value: &Value) -> ValueInfoProto {
    let dim = value.shape.iter().map(|&d| DimensionProto { dim_value: Some(d as i64) }).collect();
    let tensor = TensorTypeProto { elem_type: Some(value.element.data_type()), shape: Some(TensorShapeProto { dim }) };
    let r#type = Some(TypeProto { tensor_type: Some(tensor) });
    ValueInfoProto { name: Some(value.name.clone()), r#type }
}
