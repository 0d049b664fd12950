//! The names that a pickle may mention, and what they become here. Nothing is imported and nothing is called: a known name
//! selects one of our own constructors, or an inert value. Every other name is refused.

use super::super::DType;
use super::Value;

/// What a known name constructs when the pickle calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Callable {
    /// `_rebuild_tensor(storage, offset, size, stride)`.
    Tensor,
    /// `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks, [metadata])`.
    TensorV2,
    /// `_rebuild_tensor_v3(storage, offset, size, stride, requires_grad, hooks, dtype, [metadata])`.
    TensorV3,
    /// `_rebuild_parameter[_with_state](tensor, …)`: the tensor.
    Parameter,
    /// `OrderedDict([pairs])`.
    OrderedDict,
    /// `defaultdict(factory)`, `Counter()`: an empty dict.
    EmptyDict,
    /// `torch.Size(tuple)`: the tuple.
    Size,
    /// Anything harmless that we do not need: an inert value, whatever the arguments.
    Inert,
}

/// What `module.name` stands for, or `None` for a name that is refused.
pub(super) fn resolve(module: &str, name: &str) -> Option<Value> {
    let value = match (module, name) {
        ("torch._utils", "_rebuild_tensor") => Value::Callable(Callable::Tensor),
        ("torch._utils", "_rebuild_tensor_v2") => Value::Callable(Callable::TensorV2),
        ("torch._utils", "_rebuild_tensor_v3") => Value::Callable(Callable::TensorV3),
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
            Value::Callable(Callable::Parameter)
        }
        ("collections", "OrderedDict") => Value::Callable(Callable::OrderedDict),
        ("collections", "defaultdict" | "Counter") => Value::Callable(Callable::EmptyDict),
        ("torch", "Size") => Value::Callable(Callable::Size),
        ("torch" | "torch.storage", name) => return torch_name(name),
        _ if is_inert(module, name) => Value::Callable(Callable::Inert),
        _ => return None,
    };
    Some(value)
}

/// Names of `torch` itself: classes of storages, number formats, and a few inert ones.
fn torch_name(name: &str) -> Option<Value> {
    let dtype = match name {
        "FloatStorage" | "float32" | "float" => DType::F32,
        "HalfStorage" | "float16" | "half" => DType::F16,
        "BFloat16Storage" | "bfloat16" => DType::Bf16,
        "DoubleStorage" | "float64" | "double" => DType::F64,
        "LongStorage" | "IntStorage" | "ShortStorage" | "CharStorage" | "ByteStorage" | "BoolStorage" => DType::Other,
        "ComplexFloatStorage" | "ComplexDoubleStorage" | "UntypedStorage" => DType::Other,
        "int64" | "int32" | "int16" | "int8" | "uint8" | "uint16" | "uint32" | "uint64" | "bool" => DType::Other,
        "complex32" | "complex64" | "complex128" => DType::Other,
        "float8_e4m3fn" | "float8_e5m2" | "float8_e4m3fnuz" | "float8_e5m2fnuz" => DType::Other,
        "device" | "strided" | "contiguous_format" | "preserve_format" => {
            return Some(Value::Callable(Callable::Inert));
        }
        _ => return None,
    };
    Some(Value::DType(dtype))
}

/// Names that training checkpoints hold and that are harmless as inert values: the arguments of the run (`argparse.Namespace`
/// with paths and dates inside), numpy numbers among the results, Python's plain types.
fn is_inert(module: &str, name: &str) -> bool {
    match module {
        "argparse" => name == "Namespace",
        "types" => name == "SimpleNamespace",
        "pathlib" | "pathlib._local" => {
            matches!(name, "Path" | "PosixPath" | "PurePath" | "PurePosixPath" | "WindowsPath" | "PureWindowsPath")
        }
        "datetime" => matches!(name, "datetime" | "date" | "time" | "timedelta" | "timezone"),
        // Protocol 2 writes bytes as `_codecs.encode(text, "latin1")`.
        "_codecs" => name == "encode",
        "builtins" | "__builtin__" => matches!(
            name,
            "list"
                | "dict"
                | "tuple"
                | "set"
                | "frozenset"
                | "int"
                | "float"
                | "bool"
                | "str"
                | "bytes"
                | "bytearray"
                | "complex"
        ),
        "numpy" => {
            matches!(name, "dtype" | "ndarray" | "float64" | "float32" | "float16" | "int64" | "int32" | "bool_")
        }
        "numpy.core.multiarray" | "numpy._core.multiarray" => matches!(name, "scalar" | "_reconstruct"),
        _ => false,
    }
}
